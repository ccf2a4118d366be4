#!/usr/bin/env bash
# The one command for a machine with a GPU: verifies and times everything, in parts that do not depend on one another.
# Brings nothing along and builds nothing: a GPU machine may have no compiler and no network.
#
# Built elsewhere, with a toolkit (scripts/cuda-toolkit.sh):
#   export CUDA_HOME=$(scripts/cuda-toolkit.sh --print)
#   cargo build --release --locked --features cuda
#   cargo test --release --locked --package sconce-kernels --features cuda,emulate --lib --no-run
# Carried over: scripts/, target/release/sconce, and the test program whose name the last line prints
# (target/release/deps/sconce_kernels-...). The test program needs libstdc++, the other nothing but glibc; both open the
# driver's libcuda.so.1 when they run, and libcublasLt.so.13 where there is one.
set -uo pipefail

# What to run. Everything that depends on the program's own flags is here.
device_flags=(--device cuda)
reference_flags=(--device cpu)
# Only what runs on the device: other tests of the crate pass without one.
kernel_test_flags=(gpu::)
# Passes without a word of the GPU in a program that was built without `cuda`: it has to be among those that passed.
kernel_test_needed=gpu::on_cuda::a_gpu_that_is_there_is_opened
# One line a run: its name, settings of the environment if any, then the arguments behind `sconce bench engine`.
bench_runs=(
    "7b-bf16 --random qwen2.5-coder-7b --batch 1,16,128 --context 2048 --prefill 2048"
    "7b-fp8 --random qwen2.5-coder-7b --quantize fp8 --batch 1,16 --context 2048 --prefill 2048"
    "7b-int4 --random qwen2.5-coder-7b --quantize int4 --batch 1,16 --context 2048 --prefill 2048"
    "1.5b-bf16 --random qwen2.5-coder-1.5b --batch 1,16 --context 2048 --prefill 2048"
    "7b-bf16-invariant SCONCE__ENGINE__BATCH_INVARIANT=on --random qwen2.5-coder-7b --batch 1,16,128 \
        --context 2048 --prefill 2048"
    "mistral-7b-bf16 --random mistral-7b --batch 100 --context 700 --prefill 700"
)
bench_flags=(--device cuda)
# Seconds that one run may take, so that one which hangs leaves time for the others.
bench_run_limit=90
# Seconds; the sum is below ten minutes.
declare -A limits=([machine]=20 [kernels]=120 [tokens]=100 [bench]=270 [transformers]=70)
parts=(machine kernels tokens bench transformers)
# A part that cannot be tried ends with this; 124 and 137 come from `timeout`.
cannot=77
# A comparison that cannot be made is no fault.
skipped=76

usage() {
    cat <<'TEXT'
usage: scripts/gpu_check.sh [--binary FILE] [--kernel-tests FILE] [--model NAME=PATH] [--only PART,...]
                            [--logs FOLDER] [--json FILE]

On a machine with an NVIDIA GPU, in at most ten minutes:
  machine   what the GPU, its driver and the host are
  kernels   every kernel on the device against its reference
  tokens    greedy answers of a model on the GPU against those on the CPU, over HTTP
  bench     the table of `sconce bench engine`, with random weights
  transformers  what Hugging Face transformers reaches in the same place, where it is installed
Each part has a time limit, a part that fails stops no other, and a table of all comes last. Exits with 1 unless
everything passed or, as the last may be, was skipped.

  --binary FILE        built with the feature `cuda` (default: target/release/sconce)
  --kernel-tests FILE  the kernels' test program, built with it (default: the newest below target/)
  --model NAME=PATH    compare the answers of this model instead of the built-in one
  --only PART,...      run these parts
  --logs FOLDER        keep what the parts print there (default: a new folder below /tmp)
  --json FILE          write results and figures there as well

Built elsewhere, with a toolkit (scripts/cuda-toolkit.sh), and carried over together with scripts/:
  cargo build --release --locked --features cuda
  cargo test --release --locked --package sconce-kernels --features cuda,emulate --lib --no-run
TEXT
}

# ---- what the parts share ----

# The last line that a part notes is its line of the table.
note() {
    printf '%s\n' "$*" >"$logs/$part.note"
    printf '%s\n' "$*"
}

# nvidia-smi is not in every container that has a driver.
has_driver() {
    nvidia-smi --list-gpus 2>/dev/null | grep --quiet GPU ||
        { [ -e /dev/nvidiactl ] && ldconfig -p 2>/dev/null | grep --quiet 'libcuda\.so\.1'; }
}

need_driver() {
    has_driver || { note "no NVIDIA driver"; exit 1; }
}

need_file() {
    [ -x "$1" ] || { note "$2 is missing: ${1:-none was found}"; exit "$cannot"; }
}

# ---- the parts: each one existing command ----

part_machine() {
    need_driver
    echo "host: $(nproc) CPUs, $(sed -n 's/^MemTotal: *//p' /proc/meminfo), $(uname -sr)"
    sed -n 's/^model name[^:]*: /cpu: /p' /proc/cpuinfo | head -n 1
    local fields=name,driver_version,memory.total,compute_cap,pcie.link.gen.max,clocks.max.sm,power.limit
    local found
    if found=$(nvidia-smi --query-gpu="$fields" --format=csv,noheader 2>&1); then
        nvidia-smi
        note "$(printf '%s' "$found" | head -n 1)$(others "$found")"
    else
        note "a driver, but no nvidia-smi that says more: $(printf '%s' "$found" | head -n 1)"
    fi
}

others() {
    local count
    count=$(printf '%s\n' "$1" | wc -l)
    [ "$count" -le 1 ] || printf ' (first of %s)' "$count"
}

part_kernels() {
    need_driver
    need_file "$kernel_tests" "the kernels' test program"
    local status=0 summary
    "$kernel_tests" "${kernel_test_flags[@]}" 2>&1 | tee "$logs/kernels.out" || status=1
    summary=$(sed -n 's/^test result: [a-zA-Z]*\. //p' "$logs/kernels.out" | tail -n 1)
    note "${summary:-no result was printed}"
    # A filter that matches nothing passes as well, and so does a program that knows only the emulation.
    case $summary in "" | "0 passed"*) status=1 ;; esac
    if ! grep --quiet "^test $kernel_test_needed \.\.\. ok" "$logs/kernels.out"; then
        note "the GPU was not opened by $kernel_tests: ${summary:-no result was printed}"
        status=1
    fi
    return "$status"
}

part_tokens() {
    need_driver
    need_file "$binary" "the program"
    command -v python3 >/dev/null || { note "python3 is missing, which compares the answers"; exit "$cannot"; }
    local model=()
    [ -z "$served_model" ] || model=(--model "$served_model")
    start_server reference "${reference_flags[@]}" "${model[@]}" || return 1
    start_server device "${device_flags[@]}" "${model[@]}" || return 1
    local status=0
    python3 "$scripts/same_tokens.py" "$(address reference)" "$(address device)" --json >"$logs/tokens.json" || status=1
    note "$(tokens_summary)"
    return "$status"
}

tokens_summary() {
    python3 - "$logs/tokens.json" 2>/dev/null <<'PYTHON' || echo "the answers could not be compared"
import json, sys
found = json.load(open(sys.argv[1]))
count = found["prompts"]
print(f"{sum(count.values())} prompts: {count['same']} the same, {count['tie']} parted at a tie, "
      f"{count['fault']} at fault, {count['refused']} not for this model; {found['tokens_equal']} tokens equal")
PYTHON
}

address() { sed -n 's/^ *listening *//p' "$logs/$1.banner"; }

# On a free port of this machine's own loopback. The limit of the part ends the servers too: they are of its group.
start_server() {
    local name=$1 server
    shift
    SCONCE__METRICS__LISTEN=off "$binary" serve --listen 127.0.0.1:0 "$@" >"$logs/$name.banner" 2>"$logs/$name.log" &
    server=$!
    servers+=("$server")
    until [ -n "$(address "$name")" ]; do
        if ! kill -0 "$server" 2>/dev/null; then
            note "the $name server did not start: $(tail -n 1 "$logs/$name.log")"
            return 1
        fi
        sleep 0.1
    done
}

part_bench() {
    need_driver
    need_file "$binary" "the program"
    local run name words word settings arguments status=0 num_done=0
    for run in "${bench_runs[@]}"; do
        read -r name words <<<"$run"
        settings=() arguments=()
        for word in $words; do
            case $word in
                SCONCE__*=*) settings+=("$word") ;;
                *) arguments+=("$word") ;;
            esac
        done
        echo "-- $name"
        if timeout --foreground --kill-after=5 "$bench_run_limit" env "${settings[@]}" \
            "$binary" bench engine "${bench_flags[@]}" "${arguments[@]}" --json >"$logs/bench.part"; then
            num_done=$((num_done + 1))
            mv "$logs/bench.part" "$logs/bench.$name.json"
        else
            echo "$name failed with status $?"
            status=1
        fi
        note "$num_done of ${#bench_runs[@]} runs"
    done
    return "$status"
}

part_transformers() {
    need_driver
    command -v python3 >/dev/null || { note "python3 is missing"; exit "$skipped"; }
    # Less than the part has, so that there is time to say so.
    if ! timeout --foreground --kill-after=5 $((limits[transformers] - 10)) \
        python3 "$scripts/transformers_bench.py" --shape qwen2.5-coder-7b --context 2048 \
        >"$logs/transformers.json" 2>"$logs/transformers.err"; then
        rm -f "$logs/transformers.json"
        note "not compared: $(tail -n 1 "$logs/transformers.err" | grep . || echo "no answer in time")"
        exit "$skipped"
    fi
    cat "$logs/transformers.json"
    note "$(python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))
print("{:.0f} tokens/s of {} by {}".format(found["tokens_per_s"]["median"], found["shape"], found["way"]))' \
        "$logs/transformers.json")"
}

# ---- running them, and the table ----

# A part in a process of its own, so that its limit ends all that it started.
run_part() {
    local part=$1 limit=${limits[$1]} begun=$SECONDS status result said
    printf '\n== %s (at most %s s)\n' "$part" "$limit"
    timeout --kill-after=10 "$limit" "$BASH" "$0" "${forwarded[@]}" --part "$part" 2>&1 | tee "$logs/$part.log"
    status=${PIPESTATUS[0]}
    case $status in
        0) result=pass ;;
        "$cannot") result=missing ;;
        "$skipped") result=skipped ;;
        124 | 137) result=timeout ;;
        *) result=fail ;;
    esac
    said=$(cat "$logs/$part.note" 2>/dev/null || tail -n 1 "$logs/$part.log")
    rows+=("$part"$'\t'"$result"$'\t'"$((SECONDS - begun))"$'\t'"$said")
    case $result in pass | skipped) ;; *) failed=1 ;; esac
}

print_table() {
    printf '\n%-14s%-9s%8s  %s\n' part result seconds found
    local row part result seconds said
    for row in "${rows[@]}"; do
        IFS=$'\t' read -r part result seconds said <<<"$row"
        printf '%-14s%-9s%8s  %s\n' "$part" "$result" "$seconds" "$said"
    done
    printf '\nlogs: %s\n' "$logs"
}

json_string() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=$(printf '%s' "$text" | tr '\000-\037' ' ')
    printf '"%s"' "$text"
}

# The figures of every run that ended, in one table.
print_figures() {
    [ -n "$(find "$logs" -name 'bench.*.json')" ] || return
    python3 - "$logs/transformers.json" "$logs"/bench.*.json <<'PYTHON' ||
import json, os, sys

def show(value, form, scale=1):
    return "-" if value is None else format(value * scale, form)

line = "{:18}{:>12}{:>10}{:>10}{:>9}{:>8}".format
print()
print(line("run", "what", "tokens/s", "of best", "host us", "idle"))
for path in sys.argv[2:]:
    found = json.load(open(path))
    name = os.path.basename(path).removeprefix("bench.").removesuffix(".json")
    for row in found["decode"]:
        print(line(name, f"batch {row['batch']}", show(row["tokens_per_s"]["median"], ".0f"),
                   show(row["share_of_bound"], ".0%"), show(row["host_us_per_step"], ".0f"),
                   show(row["device_idle_share"], ".0%")))
    prefill = found["prefill"]
    first = show(prefill["time_to_first_token_ms"]["median"], ".1f")
    print(line(name, f"{prefill['tokens']} prompt", show(prefill["tokens_per_s"]["median"], ".0f"),
               show(prefill["share_of_arithmetic"], ".0%"), "", ""), f" first token after {first} ms")
if os.path.exists(sys.argv[1]):
    compared = json.load(open(sys.argv[1]))
    print(line("transformers 7b", "batch 1", show(compared["tokens_per_s"]["median"], ".0f"), "", "", ""),
          f" by {compared['way']}")
device = found["device"]
print(f"\nmeasured in the last run: "
      f"{show(device['bandwidth_bytes_per_s'], '.0f', 1e-9)} GB/s {device['bandwidth_kind']}, "
      f"{show(device['arithmetic_operations_per_s'], '.1f', 1e-12)} T operations/s in {device['arithmetic_kind']}")
PYTHON
        echo "the figures could not be read: see $logs/bench.*.json"
}

# What a command printed as JSON goes in as it is.
json_figures() {
    local file separator=
    for file in "$logs/tokens.json" "$logs/transformers.json" "$logs"/bench.*.json; do
        [ -s "$file" ] || continue
        printf '%s%s: ' "$separator" "$(json_string "$(basename "$file" .json)")"
        cat "$file"
        separator=', '
    done
}

write_json() {
    local row part result seconds said separator=
    {
        printf '{"passed": %s, "parts": [' "$([ "$failed" = 0 ] && echo true || echo false)"
        for row in "${rows[@]}"; do
            IFS=$'\t' read -r part result seconds said <<<"$row"
            printf '%s{"part": "%s", "result": "%s", "seconds": %s, "found": %s}' \
                "$separator" "$part" "$result" "$seconds" "$(json_string "$said")"
            separator=', '
        done
        printf '], "figures": {'
        json_figures
        printf '}}\n'
    } >"$json"
}

newest_kernel_tests() {
    find "$project"/target/*/deps -maxdepth 1 -name 'sconce_kernels-*' -perm -u+x -type f -printf '%T@ %p\n' \
        2>/dev/null | sort --numeric-sort --reverse | sed -n '1s/^[^ ]* //p'
}

scripts=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$scripts")
binary=$project/target/release/sconce
kernel_tests=
served_model=
only=
logs=
json=
part=
forwarded=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --binary | --kernel-tests | --model | --only | --logs | --json | --part)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            case $1 in
                --binary) binary=$2 ;;
                --kernel-tests) kernel_tests=$2 ;;
                --model) served_model=$2 ;;
                --only) only=$2 ;;
                --logs) logs=$2 ;;
                --json) json=$2 ;;
                --part) part=$2 ;;
            esac
            shift 2
            ;;
        *) usage >&2; exit 2 ;;
    esac
done
[ -n "$kernel_tests" ] || kernel_tests=$(newest_kernel_tests)
[ -n "$logs" ] || logs=$(mktemp -d)
mkdir -p "$logs" || exit 1

if [ -n "$part" ]; then
    servers=()
    trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null' EXIT
    case $part in
        machine) part_machine ;;
        kernels) part_kernels ;;
        tokens) part_tokens ;;
        bench) part_bench ;;
        transformers) part_transformers ;;
    esac
    exit
fi

for name in ${only//,/ }; do
    case " ${parts[*]} " in
        *" $name "*) ;;
        *) echo "gpu_check: there is no part $name; parts are ${parts[*]}" >&2; exit 2 ;;
    esac
done
rm -f "$logs"/*.note "$logs"/tokens.json "$logs"/transformers.json "$logs"/bench.*
forwarded=(--binary "$binary" --kernel-tests "$kernel_tests" --model "$served_model" --logs "$logs")
rows=()
failed=0
for name in "${parts[@]}"; do
    case ",${only:-$name}," in *",$name,"*) run_part "$name" ;; esac
done
print_figures
print_table
[ -z "$json" ] || write_json
exit "$failed"
