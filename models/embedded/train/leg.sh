#!/bin/bash
# One leg of training, politely: low priority, and an allocator that keeps its pages (a third of the time went into page faults without).
#   leg.sh WORK [arguments of train.py …]
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=536870912 GLIBC_TUNABLES=glibc.malloc.hugetlb=1
export OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1
cd "$(dirname "$0")" && exec nice -n 5 "${PYTHON:-python3}" train.py "$@"
