"""Makes the checkpoint that training begins with out of a smaller model's.

    grow.py WORK OLD.pt

OLD.pt holds `weights` and `shape` of a decoder with the same vocabulary and width. Its blocks become the last ones, with a wider feed-forward
whose new part writes nothing yet; the two new blocks before them hold a copying circuit (`Decoder.plant_copying`).
"""

import sys
from pathlib import Path

import torch

from model import Decoder, Shape
from train import Trainer


@torch.no_grad()
def grow(old: dict, model: Decoder) -> None:
    new = dict(model.named_parameters())
    ahead = model.shape.layers - old["shape"]["layers"]
    for name, value in old["weights"].items():
        if name.startswith("blk."):
            _, index, rest = name.split(".", 2)
            name = f"blk.{int(index) + ahead}.{rest}"
        target = new[name]
        if name.endswith("ffn_down.weight"):
            target.zero_()
        target[tuple(slice(0, size) for size in value.shape)] = value
    model.plant_copying()


if __name__ == "__main__":
    torch.manual_seed(20)
    trainer = Trainer(Shape(), Path(sys.argv[1]), "cpu")
    grow(torch.load(sys.argv[2], weights_only=True, map_location="cpu"), trainer.model)
    trainer.save()
