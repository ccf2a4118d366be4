"""Trains the decoder in resumable legs; the schedule follows the clock, so that the decay ends when the minutes do.

    train.py WORK --minutes 75 --rows rows-1-1024.npy [rows-2-1024.npy …]

Every worker is a process of one thread that takes small batches off a common counter: on a machine shared with others, two threads that
meet after every operation wait for each other most of the time, two processes that meet once a step hardly do.

Runs on from WORK/checkpoint.pt if it exists (weights, optimiser, minutes used, place in the data). Every leg ends at the budget, after
--leg minutes, or on SIGTERM, always with a checkpoint. A file WORK/budget, if present, holds a number of minutes that replaces
--minutes on the run: a way to let the decay begin early.
"""

import argparse
import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from model import Decoder, HeadLoss, Shape

SEED = 20
TOKENS_PER_STEP, TOKENS_PER_BATCH = 8_192, 2_048
WARMUP, DECAY_FROM = 0.015, 0.30         # shares of the budget; between them the rate is flat, after them it falls to zero
MUON_RATE, ADAM_RATE, WEIGHT_DECAY = 0.02, 3e-3, 0.05
AVERAGE = 0.985                          # of the weights, per step, for exports before the end


def orthogonalise(matrices):
    """Newton-Schulz iteration of Muon (Jordan et al. 2024) on a stack `[n, rows, columns]` in bf16."""
    x = matrices.bfloat16()
    transposed = x.shape[1] > x.shape[2]
    if transposed:
        x = x.transpose(1, 2)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.transpose(1, 2) if transposed else x).float()


class Muon:
    """Momentum, orthogonalised, for the matrices of the blocks; equal shapes are worked together."""

    def __init__(self, parameters):
        self.groups = {}
        for parameter in parameters:
            self.groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self.momentum = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float, momentum: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([parameter.grad for parameter in group])
            average = self.momentum[shape].lerp_(gradient, 1 - momentum)
            update = orthogonalise(gradient.lerp(average, momentum))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, change in zip(group, update):
                parameter.mul_(1 - rate * WEIGHT_DECAY).add_(change, alpha=-rate * scale)


def rate_at(share: float) -> float:
    if share < WARMUP:
        return share / WARMUP
    return 1.0 if share < DECAY_FROM else max(0.0, (1 - share) / (1 - DECAY_FROM))


def load_rows(work: Path, names: list[str]):
    return [np.load(work / name, mmap_mode="r") for name in names]


def flat_views(flat, parameters):
    """Cuts a flat tensor into one view per parameter."""
    views, begin = [], 0
    for parameter in parameters:
        views.append(flat[begin:begin + parameter.numel()].view(parameter.shape))
        begin += parameter.numel()
    return views


class Shared:
    """What the workers share: bf16 weights, one f32 gradient and loss per worker, and the place of the step in the data."""

    def __init__(self, numbers: int, workers: int, context):
        self.weights = torch.zeros(numbers, dtype=torch.bfloat16).share_memory_()
        self.gradients = torch.zeros(workers, numbers).share_memory_()
        self.losses = torch.zeros(workers).share_memory_()
        self.plan = torch.zeros(3, dtype=torch.int64).share_memory_()   # file, first row, stop
        self.taken = context.Value("i", 0)
        self.start, self.done = context.Barrier(workers), context.Barrier(workers)


class Worker:
    """Forward and backward of small batches, by one thread."""

    def __init__(self, shared: Shared, rank: int, shape: Shape, rows, compiled: bool):
        torch.set_num_threads(1)
        self.shared, self.rank, self.rows = shared, rank, rows
        self.model = Decoder(shape).bfloat16()
        parameters = list(self.model.parameters())
        for parameter, view in zip(parameters, flat_views(shared.weights, parameters)):
            parameter.data = view
        self.gradients = flat_views(shared.gradients[rank], parameters)
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        if compiled:
            HeadLoss.kernel = staticmethod(torch.compile(HeadLoss.kernel, dynamic=False))

    def work(self) -> None:
        """Small batches of the planned step until none is left."""
        file, first, _ = self.shared.plan.tolist()
        rows = self.rows[file]
        width = rows.shape[1] - 1
        small = max(1, TOKENS_PER_BATCH // width)
        while True:
            with self.shared.taken.get_lock():
                index = self.shared.taken.value
                self.shared.taken.value += 1
            if index * small * width >= TOKENS_PER_STEP:
                return
            batch = torch.from_numpy(rows[first + index * small:first + (index + 1) * small].astype(np.int64))
            hidden = self.forward(batch[:, :-1].contiguous()).reshape(-1, self.model.shape.hidden)
            loss = HeadLoss.apply(hidden, self.model.token_embd.weight, batch[:, 1:].reshape(-1), 1 / TOKENS_PER_STEP)
            loss.backward()
            self.shared.losses[self.rank] += loss.detach()
            for gradient, parameter in zip(self.gradients, self.model.parameters()):
                gradient.add_(parameter.grad)
                parameter.grad = None


def serve_worker(shared: Shared, rank: int, shape: Shape, work: Path, names: list[str], compiled: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(shared, rank, shape, load_rows(work, names), compiled)
    while True:
        shared.start.wait()
        if shared.plan[2]:
            return
        worker.work()
        shared.done.wait()


class Trainer:
    """f32 master weights, both optimisers, the running average of the weights, and the clock."""

    def __init__(self, shape: Shape, work: Path):
        self.model, self.work = Decoder(shape), work
        named = dict(self.model.named_parameters())
        matrices = [name for name, p in named.items() if name.startswith("blk.") and p.dim() == 2]
        self.others = [p for name, p in named.items() if name not in matrices]
        self.muon = Muon([named[name] for name in matrices])
        self.adam = torch.optim.AdamW(self.others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, eps=1e-10)
        self.average = {name: p.detach().clone() for name, p in named.items()}
        self.state = {"step": 0, "seconds": 0.0, "tokens": 0, "file": 0, "row": 0}

    def load(self) -> None:
        saved = torch.load(self.work / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(saved["weights"])
        self.adam.load_state_dict(saved["adam"])
        for shape, tensor in saved["muon"].items():
            self.muon.momentum[shape].copy_(tensor)
        self.average, self.state = saved["average"], saved["state"]
        print(f"resumed at step {self.state['step']}, minute {self.state['seconds'] / 60:.1f}", flush=True)

    def save(self) -> None:
        target = self.work / "checkpoint.pt"
        torch.save({"weights": self.model.state_dict(), "adam": self.adam.state_dict(), "muon": self.muon.momentum, "average": self.average,
                    "state": self.state, "shape": self.model.shape.as_dict()}, target.with_suffix(".new"))
        os.replace(target.with_suffix(".new"), target)

    def publish(self, shared: Shared) -> None:
        parameters = list(self.model.parameters())
        for view, parameter in zip(flat_views(shared.weights, parameters), parameters):
            view.copy_(parameter.detach())

    def step(self, gradient, rate: float) -> None:
        parameters = list(self.model.parameters())
        for parameter, view in zip(parameters, flat_views(gradient, parameters)):
            parameter.grad = view
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        self.muon.step(MUON_RATE * rate, min(0.95, 0.85 + self.state["step"] / 3000))
        self.adam.param_groups[0]["lr"] = ADAM_RATE * rate
        self.adam.step()
        share = 1 - min(AVERAGE, self.state["step"] / (self.state["step"] + 10))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, share)

    def plan(self, shared: Shared, files) -> None:
        """Rows in order through the files (each is shuffled already), then round again."""
        state = self.state
        if state["file"] >= len(files):      # the leg before ended in the long rows, and a larger budget begins with the short ones again
            state["file"], state["row"] = 0, 0
        needed = TOKENS_PER_STEP // (files[state["file"]].shape[1] - 1)
        if state["row"] + needed > len(files[state["file"]]):
            state["file"], state["row"] = (state["file"] + 1) % len(files), 0
            needed = TOKENS_PER_STEP // (files[state["file"]].shape[1] - 1)
        shared.plan[0], shared.plan[1] = state["file"], state["row"]
        state["row"] += needed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--leg", type=float, default=1e9)
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--long-rows", help="another file of rows, wider, for the last --long-share of the minutes")
    parser.add_argument("--long-share", type=float, default=0.12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    work, shape = arguments.work, Shape()
    names = arguments.rows + ([arguments.long_rows] if arguments.long_rows else [])
    trainer = Trainer(shape, work)
    if (work / "checkpoint.pt").exists():
        trainer.load()
    state = trainer.state

    context = torch.multiprocessing.get_context("spawn")
    shared = Shared(sum(p.numel() for p in trainer.model.parameters()), arguments.workers, context)
    compiled = not arguments.no_compile
    others = [context.Process(target=serve_worker, args=(shared, rank, shape, work, names, compiled)) for rank in range(1, arguments.workers)]
    for process in others:
        process.start()
    files = load_rows(work, names)
    worker = Worker(shared, 0, shape, files, compiled)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    log = open(work / "train-log.jsonl", "a")
    budget_file = work / "budget"
    leg_began = saved_at = since = time.monotonic()
    losses, is_compiled = [], False
    while True:
        began = time.monotonic()
        budget = 60 * (float(budget_file.read_text()) if budget_file.exists() else arguments.minutes)
        share = state["seconds"] / budget
        if share >= 1 or stopping or began - leg_began > 60 * arguments.leg:
            break
        if arguments.long_rows and share > 1 - arguments.long_share:
            if state["file"] != len(files) - 1:
                state["file"], state["row"] = len(files) - 1, 0
            trainer.plan(shared, files)
        else:
            trainer.plan(shared, files[:len(arguments.rows)])
        trainer.publish(shared)
        shared.gradients.zero_()
        shared.losses.zero_()
        shared.taken.value = 0
        shared.start.wait()
        worker.work()
        shared.done.wait()
        trainer.step(shared.gradients.sum(0), rate_at(share))

        losses.append(shared.losses.sum().item())
        state["step"] += 1
        state["tokens"] += TOKENS_PER_STEP
        seconds = time.monotonic() - began
        state["seconds"] += seconds if is_compiled else 0   # compiling is not training
        is_compiled = True
        if not math.isfinite(losses[-1]):
            raise SystemExit("the loss is not finite")
        if state["step"] % 20 == 0:
            row = {"step": state["step"], "minute": round(state["seconds"] / 60, 2), "tokens": state["tokens"], "loss": round(sum(losses) / len(losses), 4),
                   "rate": round(rate_at(share), 4), "tokens_per_second": round(len(losses) * TOKENS_PER_STEP / (time.monotonic() - since))}
            print(row, flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            losses, since = [], time.monotonic()
        if time.monotonic() - saved_at > 180:
            trainer.save()
            saved_at = time.monotonic()
    trainer.save()
    shared.plan[2] = 1
    shared.start.wait()
    print(f"leg over at step {state['step']}, minute {state['seconds'] / 60:.1f}, {state['tokens'] / 1e6:.1f} M tokens", flush=True)


if __name__ == "__main__":
    main()
