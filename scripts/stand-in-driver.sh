#!/usr/bin/env bash
# Builds a stand-in for NVIDIA's libcuda.so.1, so that the code that talks to the CUDA driver is tested without a GPU.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/stand-in-driver.sh [FOLDER]

Compiles kernels/emulate into FOLDER/libcuda.so.1 (default: target/stand-in-driver of this project) and prints FOLDER.
The library runs kernels on the CPU, slowly. It is for tests of this project and is never installed anywhere:

  export LD_LIBRARY_PATH=$(scripts/stand-in-driver.sh)
  cargo test --package sconce-kernels --features cuda,emulate -- --include-ignored

Needs g++ and nothing of CUDA. What kernels/emulate/driver/driver.h calls settings can be given by environment
variables: SCONCE_STAND_IN_CAPABILITY=80 and so on.
TEXT
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }

project=$(cd "$(dirname "$0")/.." && pwd -P)
folder=${1:-$project/target/stand-in-driver}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd -P)
kernels=$project/kernels
work=$(mktemp -d "$folder/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The flags of kernels/build.rs, and what a library needs. Its own symbols win over those of a program that holds the
# emulation as well.
compiler=(g++ -std=c++17 -O2 -fPIC -fvisibility=hidden -ftls-model=initial-exec -Wall -Wextra -Wno-unknown-pragmas
    -ffp-contract=off -fno-strict-aliasing -pthread -I "$kernels/emulate" -I "$kernels/cuda")

# Each file of kernels behind a table of its kernels, as kernels/build.rs does it.
write_table() {
    local file=$1 table=$2
    printf '#include "%s"\nnamespace sconce {\nextern const Kernel %s[];\nconst Kernel %s[] = {\n' \
        "$file" "$table" "$table"
    sed -nE 's/^KERNEL(_BOUNDS)?\(([a-z0-9_]+).*/    kernel<\&::\2>("\2", ::\2_threads_max),/p' "$file"
    printf '    {nullptr, nullptr, 0, 0, nullptr},\n};\n}\n'
}

declarations=
rows=
for file in "$kernels"/cuda/*.cu; do
    table=kernels_of_$(basename "$file" .cu)
    write_table "$file" "$table" >"$work/$table.cpp"
    declarations+="extern const Kernel ${table}[];"$'\n'
    rows+="    {$table, true},"$'\n'
done
{
    printf '#include "emulate.h"\nnamespace sconce {\n%s' "$declarations"
    printf 'const KernelTable KERNEL_TABLES[] = {\n%s    {nullptr, false},\n};\n}\n' "$rows"
} >"$work/kernel_tables.cpp"

sources=("$work"/*.cpp "$kernels"/emulate/{context,emulate,machine}.cpp "$kernels"/emulate/driver/*.cpp)
for index in "${!sources[@]}"; do
    # As many at once as there are processors; one that fails ends the script.
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    "${compiler[@]}" -c -o "$work/$index.o" "${sources[$index]}" &
done
while [ -n "$(jobs -p)" ]; do wait -n; done
g++ -shared -pthread -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic -Wl,--no-undefined -o "$work/libcuda.so.1" "$work"/*.o
# In one step: a program that runs with the old one keeps it.
mv "$work/libcuda.so.1" "$folder/libcuda.so.1"
echo "$folder"
