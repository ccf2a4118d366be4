"""Trains the decoder in resumable legs; the schedule follows the clock, so that the decay ends when the minutes do.

    train.py WORK --minutes 33 --peak 0.6 --phase 0.8 'rows-512-*.npy' --phase 1 'rows-1024-*.npy' rows-256-2-chat.npy@0.08

A phase lasts until its share of the minutes and names the files of rows it draws from; `@` gives the share of the steps that a file
(or all that a pattern matches, one after the other) is drawn for. Rows are taken in order, each file keeps its own place.

On a CPU every worker is a process of one thread that takes small batches off a common counter: on a machine shared with others, two threads
that meet after every operation wait for each other most of the time, two processes that meet once a step hardly do. With `--device cuda`
there is one process, one worker and larger batches; that path was written for a short loan of a GPU and has not run on one yet.

Runs on from WORK/checkpoint if it exists (weights, optimiser, minutes used, places in the data; parts of at most 15 MB). Every leg ends at
the budget, after --leg minutes, or on SIGTERM, always with a checkpoint. A file WORK/budget, if present, holds a number of minutes that
replaces --minutes on the run.
"""

import argparse
import io
import json
import math
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from model import Decoder, HeadLoss, Shape

SEED = 20
TOKENS_PER_STEP, TOKENS_PER_BATCH = {"cpu": 12_288, "cuda": 65_536}, {"cpu": 2_048, "cuda": 32_768}
WARMUP, DECAY_FROM = 0.03, 0.15          # shares of the budget; between them the rate is flat, after them it falls to zero
MIDDLE_WEIGHT = 3.0                      # of the loss of a token between `<|fim_middle|>` and the end, against any other
MUON_RATE, ADAM_RATE, WEIGHT_DECAY = 0.02, 3e-3, 0.05
PART_BYTES = 15_000_000


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
        self.momentum = {shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self.groups.items()}

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


def position_weights(rows, special: dict):
    """Weights of the targets `rows[:, 1:]`: none for padding, more for a middle and the end that closes it."""
    inputs, targets = rows[:, :-1], rows[:, 1:]
    middle = (inputs == special["fim_middle"]).cumsum(1) > 0
    weights = torch.where(middle, MIDDLE_WEIGHT, 1.0)
    return weights.masked_fill(targets == special["fim_pad"], 0.0), middle & (targets != special["fim_pad"])


class Phases:
    """What the steps draw from: `[(until, [(share, [files])])]`, from the arguments of --phase."""

    def __init__(self, work: Path, arguments: list[list[str]]):
        self.phases, self.files = [], []
        for until, *sources in arguments:
            parsed = []
            for source in sources:
                pattern, _, share = source.partition("@")
                names = sorted(path.name for path in work.glob(pattern))
                assert names, f"no file is called {pattern}"
                parsed.append((float(share) if share else None, names))
                self.files += [name for name in names if name not in self.files]
            rest = 1 - sum(share for share, _ in parsed if share)
            self.phases.append((float(until), [(rest if share is None else share, names) for share, names in parsed]))
        self.rows = [np.load(work / name, mmap_mode="r") for name in self.files]

    def draw(self, share: float, step: int, places: dict, tokens: int) -> tuple[int, int, int]:
        """File, first row and number of rows of a step; moves the place of the file on."""
        sources = next((sources for until, sources in self.phases if share < until), self.phases[-1][1])
        (_, names), = random.Random(step).choices(sources, [weight for weight, _ in sources])
        for name in names:
            index = self.files.index(name)
            needed = tokens // (self.rows[index].shape[1] - 1)
            if places.get(name, 0) + needed <= len(self.rows[index]):
                break
        else:
            for name in names:   # all are read: round again
                places[name] = 0
            index = self.files.index(names[0])
        name, first = self.files[index], places.get(self.files[index], 0)
        places[name] = first + needed
        return index, first, needed


def flat_views(flat, parameters):
    """Cuts a flat tensor into one view per parameter."""
    views, begin = [], 0
    for parameter in parameters:
        views.append(flat[begin:begin + parameter.numel()].view(parameter.shape))
        begin += parameter.numel()
    return views


class Shared:
    """What the workers share: bf16 weights, one f32 gradient and loss per worker, and the place of the step in the data."""

    def __init__(self, numbers: int, workers: int, device: str, context):
        self.weights = torch.zeros(numbers if device == "cpu" else 0, dtype=torch.bfloat16).share_memory_()
        self.gradients = torch.zeros(workers, numbers).share_memory_() if device == "cpu" else torch.zeros(workers, numbers, device=device)
        self.losses = torch.zeros(workers, 4).share_memory_()           # sums and counts: outside of middles, inside
        self.plan = torch.zeros(4, dtype=torch.int64).share_memory_()   # file, first row, rows, stop
        self.taken = context.Value("i", 0)
        self.start, self.done = context.Barrier(workers), context.Barrier(workers)


class Worker:
    """Forward and backward of small batches, by one thread or one GPU."""

    def __init__(self, shared: Shared, rank: int, shape: Shape, rows, special: dict, device: str, compiled: bool):
        self.shared, self.rank, self.rows, self.special, self.device = shared, rank, rows, special, device
        self.model = Decoder(shape).bfloat16().to(device)
        self.parameters = list(self.model.parameters())
        if device == "cpu":
            torch.set_num_threads(1)
            for parameter, view in zip(self.parameters, flat_views(shared.weights, self.parameters)):
                parameter.data = view
        self.gradients = flat_views(shared.gradients[rank], self.parameters)
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        if compiled:
            HeadLoss.kernel = staticmethod(torch.compile(HeadLoss.kernel, dynamic=False))

    def work(self) -> None:
        """Small batches of the planned step until none is left."""
        file, first, count, _ = self.shared.plan.tolist()
        rows = self.rows[file]
        width = rows.shape[1] - 1
        small = max(1, TOKENS_PER_BATCH[self.device] // width)
        while True:
            with self.shared.taken.get_lock():
                index = self.shared.taken.value
                self.shared.taken.value += 1
            if index * small >= count:
                return
            batch = torch.from_numpy(rows[first + index * small:first + (index + 1) * small].astype(np.int64)).to(self.device)
            weights, middle = position_weights(batch, self.special)
            hidden = self.forward(batch[:, :-1].contiguous()).reshape(-1, self.model.shape.hidden)
            HeadLoss.apply(hidden, self.model.token_embd.weight, batch[:, 1:].reshape(-1), weights.reshape(-1) / (count * width)).backward()
            losses, middle, counted = HeadLoss.last, middle.reshape(-1), weights.reshape(-1) > 0
            outside = counted & ~middle
            self.shared.losses[self.rank] += torch.stack([(losses * outside).sum(), outside.sum(), (losses * middle).sum(), middle.sum()]).cpu()
            for gradient, parameter in zip(self.gradients, self.parameters):
                gradient.add_(parameter.grad)
                parameter.grad = None


def serve_worker(shared: Shared, rank: int, shape: Shape, work: Path, phases: list[list[str]], special: dict, compiled: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(shared, rank, shape, Phases(work, phases).rows, special, "cpu", compiled)
    while True:
        shared.start.wait()
        if shared.plan[3]:
            return
        worker.work()
        shared.done.wait()


def load_checkpoint(work: Path) -> dict:
    parts = sorted((work / "checkpoint").glob("part-*"))
    return torch.load(io.BytesIO(b"".join(part.read_bytes() for part in parts)), weights_only=True, map_location="cpu")


class Trainer:
    """f32 master weights, both optimisers, and the clock."""

    def __init__(self, shape: Shape, work: Path, device: str):
        self.model, self.work = Decoder(shape), work
        self.model.to(device)
        named = dict(self.model.named_parameters())
        matrices = [name for name, p in named.items() if name.startswith("blk.") and p.dim() == 2]
        self.others = [p for name, p in named.items() if name not in matrices]
        self.muon = Muon([named[name] for name in matrices])
        self.adam = torch.optim.AdamW(self.others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, eps=1e-10)
        self.state = {"step": 0, "seconds": 0.0, "tokens": 0, "places": {}}

    def load(self) -> None:
        saved = load_checkpoint(self.work)
        self.model.load_state_dict(saved["weights"])
        self.adam.load_state_dict(saved["adam"])
        for shape, tensor in saved["muon"].items():
            self.muon.momentum[shape].copy_(tensor)
        self.state = saved["state"]
        print(f"resumed at step {self.state['step']}, minute {self.state['seconds'] / 60:.1f}", flush=True)

    def save(self) -> None:
        """Parts of at most PART_BYTES in a folder that takes the old one's place when it is complete."""
        buffer = io.BytesIO()
        momentum = {shape: tensor.bfloat16() for shape, tensor in self.muon.momentum.items()}
        torch.save({"weights": self.model.state_dict(), "adam": self.adam.state_dict(), "muon": momentum,
                    "state": self.state, "shape": self.model.shape.as_dict()}, buffer)
        target, fresh, old = (self.work / name for name in ("checkpoint", "checkpoint.new", "checkpoint.old"))
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
        fresh.mkdir()
        for index, begin in enumerate(range(0, buffer.tell(), PART_BYTES)):
            (fresh / f"part-{index:02}").write_bytes(buffer.getbuffer()[begin:begin + PART_BYTES])
        if target.exists():
            target.rename(old)
        fresh.rename(target)

    def publish(self, shared: Shared, worker: Worker) -> None:
        parameters = list(self.model.parameters())
        views = flat_views(shared.weights, parameters) if worker.device == "cpu" else worker.parameters
        with torch.no_grad():
            for view, parameter in zip(views, parameters):
                view.copy_(parameter)

    def step(self, gradient, rate: float) -> None:
        parameters = list(self.model.parameters())
        for parameter, view in zip(parameters, flat_views(gradient, parameters)):
            parameter.grad = view
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        self.muon.step(MUON_RATE * rate, min(0.95, 0.85 + self.state["step"] / 3000))
        self.adam.param_groups[0]["lr"] = ADAM_RATE * rate
        self.adam.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--leg", type=float, default=1e9)
    parser.add_argument("--phase", nargs="+", action="append", required=True, metavar=("UNTIL", "ROWS"))
    parser.add_argument("--peak", type=float, default=1.0, help="times the rates of this file; less for a model that knows something already")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    work, shape, device, compiled = arguments.work, Shape(), arguments.device, not arguments.no_compile
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    special = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("fim_middle", "fim_pad")}
    phases = Phases(work, arguments.phase)
    trainer = Trainer(shape, work, device)
    if (work / "checkpoint").exists():
        trainer.load()
    else:
        trainer.model.plant_copying()
    state = trainer.state

    context = torch.multiprocessing.get_context("spawn")
    workers = arguments.workers if device == "cpu" else 1
    shared = Shared(sum(p.numel() for p in trainer.model.parameters()), workers, device, context)
    others = [context.Process(target=serve_worker, args=(shared, rank, shape, work, arguments.phase, special, compiled)) for rank in range(1, workers)]
    for process in others:
        process.start()
    worker = Worker(shared, 0, shape, phases.rows, special, device, compiled)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    log = open(work / "train-log.jsonl", "a")
    budget_file = work / "budget"
    leg_began = saved_at = since = time.monotonic()
    seen = 0
    losses, compiled_files = torch.zeros(4), set()
    while True:
        began = time.monotonic()
        budget = 60 * (float(budget_file.read_text()) if budget_file.exists() else arguments.minutes)
        share = state["seconds"] / budget
        if share >= 1 or stopping or began - leg_began > 60 * arguments.leg:
            break
        file, first, count = phases.draw(share, state["step"], state["places"], TOKENS_PER_STEP[device])
        shared.plan[0], shared.plan[1], shared.plan[2] = file, first, count
        trainer.publish(shared, worker)
        shared.gradients.zero_()
        shared.losses.zero_()
        shared.taken.value = 0
        shared.start.wait()
        worker.work()
        shared.done.wait()
        trainer.step(shared.gradients.sum(0), arguments.peak * rate_at(share))

        losses += shared.losses.sum(0)
        if not math.isfinite(losses.sum().item()):
            raise SystemExit("the loss is not finite")
        width = phases.rows[file].shape[1] - 1
        state["step"] += 1
        state["tokens"] += count * width
        seen += count * width
        if width in compiled_files:
            state["seconds"] += time.monotonic() - began     # compiling is not training
        compiled_files.add(width)
        if state["step"] % 20 == 0:
            text, middle = losses[0] / losses[1], losses[2] / losses[3].clamp(min=1)
            row = {"step": state["step"], "minute": round(state["seconds"] / 60, 2), "tokens": state["tokens"], "loss": round(text.item(), 4),
                   "middle": round(middle.item(), 4), "width": width, "rate": round(arguments.peak * rate_at(share), 4), "tokens_per_second": round(seen / (time.monotonic() - since))}
            print(row, flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            losses, since, seen = torch.zeros(4), time.monotonic(), 0
        if time.monotonic() - saved_at > 180:
            trainer.save()
            saved_at = time.monotonic()
    trainer.save()
    shared.plan[3] = 1
    shared.start.wait()
    print(f"leg over at step {state['step']}, minute {state['seconds'] / 60:.1f}, {state['tokens'] / 1e6:.1f} M tokens", flush=True)


if __name__ == "__main__":
    main()
