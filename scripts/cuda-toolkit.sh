#!/usr/bin/env bash
# Assembles a CUDA 13.0 toolkit from packages of the Python index, for a machine that has none. Enough of one to
# compile the kernels: the gateway links no CUDA library, so a compiler and its headers are all it takes.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/cuda-toolkit.sh [--print] [--with-disassembler] [TARGET_FOLDER]

Assembles a CUDA 13.0 toolkit in TARGET_FOLDER (default: target/cuda-toolkit of this project) that serves as
CUDA_HOME: nvcc, ptxas and their headers, from packages with pinned versions and hashes. About 100 MB are fetched
with pip, by pip's own configuration; 250 MB stay on the disk. A finished folder is checked and kept.

  --print               write nothing but the folder's path to stdout, for CUDA_HOME=$(scripts/cuda-toolkit.sh --print)
  --with-disassembler   add cuobjdump and nvdisasm
  --help                this text

Needs Linux on x86-64, Python 3 with pip (or venv), and a C++ compiler for nvcc (g++). Needs no GPU and no driver.
Exits with 3 where a toolkit cannot be had (one of these is missing, or no package index answers), with 1 if something
is wrong with the toolkit or its folder.
TEXT
}

# The packages, in one place. nvcc finds crt and nvvm beside itself; the runtime gives the headers that it includes
# unasked. Left out on purpose: cccl, which plain kernels do not need (but cuda_fp16.h and cuda_bf16.h do), and every
# library.
packages() {
    cat <<'TEXT'
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
TEXT
    if [ "$with_disassembler" = yes ]; then
        # The oldest that the index has; they read what 13.0 compiles.
        cat <<'TEXT'
nvidia-cuda-cuobjdump==13.2.51 --hash=sha256:95c69d3ddf0c2c1f535ec44c3433a66aeee19f588d9d22f73356e20b25f12b50
nvidia-cuda-nvdisasm==13.2.51 --hash=sha256:5a7acf77c55d6d2911ed6155d4d5bc156ffadf9df7a68a89b0c1155f4b13688c
TEXT
    fi
}

capabilities="sm_80 sm_89 sm_90a"

say() { printf 'cuda-toolkit: %s\n' "$*" >&2; }

die() {
    say "$1"
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit "${code:-1}"
}

# For what is missing on the machine or around it, rather than wrong.
unavailable() { code=3 die "$@"; }

check_machine() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        unavailable "the pinned packages are for Linux on x86-64, this is $(uname -s) on $(uname -m)" \
            "install CUDA 13.0 from NVIDIA and set CUDA_HOME to its folder"
    command -v g++ >/dev/null ||
        unavailable "there is no g++, which nvcc needs beside itself" "Debian, Ubuntu: apt-get install g++"
    command -v python3 >/dev/null ||
        unavailable "there is no python3, which fetches the packages" \
            "Debian, Ubuntu: apt-get install python3 python3-venv"
}

# Leaves the command in `pip`: the one of python3, or of a throw-away environment where python3 comes without.
find_pip() {
    pip=(python3 -m pip)
    if "${pip[@]}" --version >/dev/null 2>&1; then
        return
    fi
    say "python3 has no pip; making a throw-away environment that has one"
    python3 -m venv "$work/venv" >"$work/log" 2>&1 ||
        unavailable "python3 has neither pip nor a venv that works: $(tail -n 1 "$work/log")" \
            "Debian, Ubuntu: apt-get install python3-pip, or python3-venv"
    pip=("$work/venv/bin/python" -m pip)
}

fetch() {
    say "fetching $(wc -l <"$work/packages.txt") packages, about 100 MB"
    # On stderr, because stdout is for the path. `--target` touches nothing that is installed.
    if PIP_ROOT_USER_ACTION=ignore "${pip[@]}" install --disable-pip-version-check --no-warn-script-location --no-deps \
        --only-binary=:all: --require-hashes --requirement "$work/packages.txt" --target "$work/site" \
        --log "$work/log" >&2; then
        return
    fi
    if grep --quiet "DO NOT MATCH THE HASHES" "$work/log"; then
        die "the index has other files under these names than those that were pinned; pip says which above"
    fi
    unavailable "the packages could not be fetched; pip says why above" \
        "without a network, or behind a proxy: pip's own settings decide (pip config, PIP_INDEX_URL, HTTPS_PROXY)," \
        "or carry a finished folder over from another machine and give it as CUDA_HOME"
}

# Moves the packages' common folder to its place in one step, so that a run that was cut short leaves nothing half done.
assemble() {
    local made="$work/site/nvidia/cu13"
    [ -x "$made/bin/nvcc" ] || die "the packages hold no nvidia/cu13/bin/nvcc, which the pinned versions do"
    mkdir "$made/licences"
    for info in "$work"/site/*.dist-info; do
        mv "$info" "$made/licences/"
    done
    [ -e "$made/lib64" ] || ln -s lib "$made/lib64" # where build scripts look
    cp "$work/packages.txt" "$made/packages.txt"
    if [ -e "$target" ]; then
        mv "$target" "$work/old"
    fi
    mv "$made" "$target"
}

# A folder that holds something else is not ours to replace.
check_target() {
    if [ -e "$target" ] && [ ! -f "$target/packages.txt" ] && [ -n "$(ls -A "$target" 2>/dev/null || echo file)" ]; then
        die "$target exists and is no toolkit of this script" "name another folder, or remove it"
    fi
}

# Made of the pinned packages, and perhaps of more? Leaves their list in the work folder.
is_current() {
    packages >"$work/packages.txt"
    [ -x "$target/bin/nvcc" ] && [ -f "$target/packages.txt" ] &&
        ! grep --quiet --invert-match --line-regexp --fixed-strings --file="$target/packages.txt" "$work/packages.txt"
}

verify() {
    cat >"$work/probe.cu" <<'TEXT'
extern "C" __global__ void probe(const float* x, float* y, unsigned int count) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = sqrtf(x[i]);
}
TEXT
    for capability in $capabilities; do
        rm -f "$work/probe.cubin"
        if ! "$target/bin/nvcc" -arch="$capability" -cubin -o "$work/probe.cubin" "$work/probe.cu" >"$work/log" 2>&1 ||
            [ ! -s "$work/probe.cubin" ]; then
            die "nvcc of $target does not compile a small kernel for $capability:" "$(cat "$work/log")" \
                "if the folder is damaged, remove it and run this script again"
        fi
    done
    if [ "$with_disassembler" = yes ]; then
        PATH="$target/bin:$PATH" "$target/bin/cuobjdump" -sass "$work/probe.cubin" >"$work/log" 2>&1 ||
            die "cuobjdump of $target does not read a small kernel:" "$(cat "$work/log")"
    fi
    say "$("$target/bin/nvcc" --version | sed -n 's/^Cuda compilation tools, //p'): compiles for $capabilities"
}

print_only=no
with_disassembler=no
target=
for argument in "$@"; do
    case $argument in
        --help | -h) usage; exit 0 ;;
        --print) print_only=yes ;;
        --with-disassembler) with_disassembler=yes ;;
        -*) usage >&2; exit 2 ;;
        *)
            [ -z "$target" ] || { usage >&2; exit 2; }
            target=$argument
            ;;
    esac
done
target=${target:-"$(dirname "$0")/../target/cuda-toolkit"}
mkdir -p "$(dirname "$target")"
target="$(cd "$(dirname "$target")" && pwd -P)/$(basename "$target")"

check_machine
check_target
# Beside the target, so that the last move does not leave the file system.
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
if is_current; then
    say "$target is complete already"
else
    find_pip
    fetch
    assemble
fi
verify
if [ "$print_only" = yes ]; then
    echo "$target"
else
    say "done; to build with it:"
    printf 'export CUDA_HOME=%q\n' "$target"
fi
