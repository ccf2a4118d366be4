"""Rows for the first minutes of training: a stretch of one row comes again later in another, so that copying pays at once.

    copies.py WORK ROWS COUNT     reads WORK/ROWS (of samples.py), writes WORK/rows-WIDTH-copy.npy
"""

import sys
from pathlib import Path

import numpy as np

work, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows, rng = np.load(work / name, mmap_mode="r"), np.random.default_rng(20)
width = rows.shape[1] - 1
made = np.empty((count, width + 1), dtype=np.uint16)
for row in made:
    row[:] = rows[rng.integers(len(rows))]
    size = int(rng.integers(width // 8, width // 2))
    first = int(rng.integers(0, width + 1 - 2 * size))
    second = int(rng.integers(first + size, width + 2 - size))
    row[second:second + size] = row[first:first + size]
np.save(work / f"rows-{width}-copy.npy", made)
