"""Takes a model some way back towards the one that its training began with, which remembers what the training forgot.

    blend.py OUT BEGAN ENDED SHARE     folders with a checkpoint each; weights (1 - SHARE) * BEGAN + SHARE * ENDED
"""

import io
import shutil
import sys
from pathlib import Path

import torch

from train import PART_BYTES, load_checkpoint

out, began, ended, share = Path(sys.argv[1]), load_checkpoint(Path(sys.argv[2])), load_checkpoint(Path(sys.argv[3])), float(sys.argv[4])
ended["weights"] = {name: (1 - share) * began["weights"][name] + share * value for name, value in ended["weights"].items()}
buffer = io.BytesIO()
torch.save({key: ended[key] for key in ("weights", "state", "shape")}, buffer)
target = out / "checkpoint"
shutil.rmtree(target, ignore_errors=True)
target.mkdir(parents=True)
for index, begin in enumerate(range(0, buffer.tell(), PART_BYTES)):
    (target / f"part-{index:02}").write_bytes(buffer.getbuffer()[begin:begin + PART_BYTES])
