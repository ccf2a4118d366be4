#!/usr/bin/env python3
"""How fast does Hugging Face transformers decode on this GPU? The figure beside that of `sconce bench engine`.

One sequence, bf16, random weights of the same shape, a static cache, and each step replayed as a CUDA graph: the
fastest that transformers does without another engine. Needs PyTorch and transformers, and no network: weights are made
on the device.

Three ways are tried in turn, and the one that works is named: a graph captured here; `torch.compile` in the mode
"reduce-overhead", which needs a compiler on the machine; and steps launched one by one.

Exits with 77 and one line of words where the comparison cannot be made.
"""

import argparse
import inspect
import json
import statistics
import sys
import time

CANNOT = 77

# The published config.json of each model, cut down to what decides its speed: as in `sconce bench engine --random`.
SHAPES = {
    "qwen2.5-coder-1.5b": dict(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True,
    ),
    "qwen2.5-coder-7b": dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, vocab_size=152064, tie_word_embeddings=False,
    ),
}


class CannotCompare(Exception):
    """There is nothing to compare with here."""


def libraries():
    try:
        import torch
        import transformers
    except ImportError as error:
        raise CannotCompare(f"{error.name or error} is not installed") from error
    if not torch.cuda.is_available():
        raise CannotCompare("PyTorch sees no GPU")
    return torch, transformers


def make_model(torch, transformers, shape):
    """Made on the device, in bf16, by the initialisation of transformers itself."""
    config = transformers.Qwen2Config(**SHAPES[shape], max_position_embeddings=32768, rope_theta=1000000.0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.Qwen2ForCausalLM(config)
    return model.eval()


def make_cache(torch, transformers, model, length):
    """The arguments of the class have changed from version to version."""
    offered = {
        "config": model.config, "max_batch_size": 1, "batch_size": 1, "max_cache_len": length,
        "device": "cuda", "dtype": torch.bfloat16,
    }
    taken = inspect.signature(transformers.StaticCache.__init__).parameters
    if "max_batch_size" in taken:
        offered.pop("batch_size")
    return transformers.StaticCache(**{name: value for name, value in offered.items() if name in taken})


class Decoder:
    """One sequence: what a step reads and writes lies in the same place every time."""

    def __init__(self, torch, transformers, model, context, steps):
        self.model, self.context, self.is_filled = model, context, False
        # Only the last row's logits are wanted, where this version can be told so.
        can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if can_keep else {}
        # A multiple of 64, as the documentation of static caches advises.
        self.cache = make_cache(torch, transformers, model, -(-(context + steps + 8) // 64) * 64)
        self.prompt = (torch.arange(context, device="cuda") * 7919 % model.config.vocab_size).unsqueeze(0)
        self.prompt_positions = torch.arange(context, device="cuda")
        self.token = torch.zeros((1, 1), dtype=torch.long, device="cuda")
        self.position = torch.full((1,), context, dtype=torch.long, device="cuda")

    def forward(self, tokens, positions):
        return self.model(
            input_ids=tokens, position_ids=positions.unsqueeze(0), cache_position=positions,
            past_key_values=self.cache, use_cache=True, **self.last_only,
        ).logits

    def prefill(self):
        if self.is_filled:
            self.cache.reset()
        self.is_filled = True
        logits = self.forward(self.prompt, self.prompt_positions)
        self.token.copy_(logits[:, -1:].argmax(-1))
        self.position.fill_(self.context)

    def step(self):
        logits = self.forward(self.token, self.position)
        self.token.copy_(logits[:, -1:].argmax(-1))
        self.position.add_(1)


def captured(torch, decoder):
    """A graph of one step, captured by hand."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            decoder.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decoder.step()
    return graph.replay


def compiled(torch, decoder):
    eager = decoder.model.forward
    decoder.model.forward = torch.compile(eager, mode="reduce-overhead", fullgraph=True)
    try:
        for _ in range(4):
            decoder.step()
    except BaseException:
        decoder.model.forward = eager
        raise
    return decoder.step


def one_by_one(_torch, decoder):
    decoder.step()
    return decoder.step


WAYS = (("captured graph", captured), ("torch.compile", compiled), ("steps one by one", one_by_one))


def first_way(torch, decoder):
    """The first way that works, and why those before it did not."""
    reasons = {}
    for name, way in WAYS:
        decoder.prefill()
        try:
            step = way(torch, decoder)
            torch.cuda.synchronize()
            return name, step, reasons
        except Exception as error:  # Whatever a version of either library raises.
            reasons[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    raise CannotCompare("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def seconds_of(torch, work):
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(arguments):
    torch, transformers = libraries()
    with torch.inference_mode():
        model = make_model(torch, transformers, arguments.shape)
        decoder = Decoder(torch, transformers, model, arguments.context, arguments.steps)
        prefills = [seconds_of(torch, decoder.prefill) for _ in range(3)]
        way, step, reasons = first_way(torch, decoder)
        runs = []
        for _ in range(arguments.repeat + 1):
            decoder.prefill()
            runs.append(seconds_of(torch, lambda: [step() for _ in range(arguments.steps)]))
        # The first run of each does not count.
        rates = [arguments.steps / seconds for seconds in runs[1:]]
    return {
        "bench": "transformers",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name(),
        "shape": arguments.shape,
        "way": way,
        "did_not_work": reasons,
        "context_tokens": arguments.context,
        "decode_steps": arguments.steps,
        "tokens_per_s": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "prefill_tokens_per_s": arguments.context / statistics.median(prefills[1:]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-coder-7b")
    parser.add_argument("--context", type=int, default=2048, help="tokens behind the sequence (default 2048)")
    parser.add_argument("--steps", type=int, default=32, help="decode steps in one run (default 32)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median is taken (default 5)")
    arguments = parser.parse_args()
    try:
        print(json.dumps(measure(arguments), indent=2))
    except CannotCompare as reason:
        print(reason, file=sys.stderr)
        return CANNOT
    except Exception as error:  # A comparison that cannot be made is no fault of what is checked.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
