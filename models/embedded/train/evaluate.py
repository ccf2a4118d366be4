"""Measures the shipped GGUF (its dequantised weights) on held-out packages and prints the table of the model card.

    evaluate.py WORK [--samples 300]

Bits per byte: plain text, windows of 1024 tokens that know nothing of each other, at most --bytes per language, files by hash.
Single-line infilling: the cursor stands somewhere in a line of code (not at its end), the middle is the rest of the line, prompt in SPM
order with at most 600 tokens of prefix and 200 of suffix, greedy; the answer is cut at its first line end. The baseline copies: it
looks for the longest match of the text before the cursor elsewhere in the same file and continues as that place did.
"""

import argparse
import difflib
import hashlib
import json
import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import Tokenizer

from export import CONTEXT, HERE, chat_ids, reference_model

LANGUAGES = ["python", "rust"]
SEED = 20
REQUESTS = ["Write a Python function that reverses a string.", "Write a Rust function that adds two numbers.",
            "Please implement a Python function called clamp: limit a value to a range.", "How do I write a function is_empty in Rust? Returns true if the list has no items.",
            "Write a Python function that counts the words in a text."]


def read_model(path: Path):
    reader = GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    shape = {"vocabulary": field("qwen2.vocab_size"), "hidden": field("qwen2.embedding_length"), "feed_forward": field("qwen2.feed_forward_length"),
             "layers": field("qwen2.block_count"), "q_heads": field("qwen2.attention.head_count"), "kv_heads": field("qwen2.attention.head_count_kv"),
             "rope_theta": field("qwen2.rope.freq_base"), "norm_epsilon": field("qwen2.attention.layer_norm_rms_epsilon")}
    weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    return reference_model(shape, weights)


@torch.no_grad()
def bits_per_byte(model, tokenizer: Tokenizer, texts: list[str], bytes_max: int) -> tuple[float, int]:
    bits = num_bytes = 0
    end = tokenizer.token_to_id("<|endoftext|>")
    for text in texts:
        ids = tokenizer.encode(text[:40_000], add_special_tokens=False).ids
        for begin in range(0, len(ids), CONTEXT - 1):
            window = torch.tensor([[end, *ids[begin:begin + CONTEXT - 1]]])
            logits = model(window).logits[0, :-1]
            bits += F.cross_entropy(logits, window[0, 1:], reduction="sum").item() / math.log(2)
        num_bytes += len(text[:40_000].encode())
        if num_bytes > bytes_max:
            break
    return bits / num_bytes, num_bytes


def infill_cases(documents: list[dict], count: int) -> list[tuple[str, str, str]]:
    """One cursor per file: in a line of code, after its indentation and before its end."""
    rng, cases = random.Random(SEED), []
    for document in documents:
        lines = document["text"].split("\n")
        candidates = [i for i, line in enumerate(lines) if len(line.strip()) > 8 and not line.strip().startswith(("#", "//", "\"\"\"", "*", "/*"))]
        if len(candidates) < 8:
            continue
        index = rng.choice(candidates)
        line = lines[index]
        indent = len(line) - len(line.lstrip())
        column = rng.randint(indent, len(line) - 2)
        cases.append(("\n".join([*lines[:index], line[:column]]), line[column:], "\n" + "\n".join(lines[index + 1:])))
        if len(cases) == count:
            break
    return cases


def copy_baseline(prefix: str, suffix: str) -> str:
    """Continues as the latest place did that shares the longest tail (3 to 40 characters) with the text before the cursor."""
    for length in range(40, 2, -1):
        tail = prefix[-length:]
        for text in (prefix[:-1], suffix):
            at = text.rfind(tail)
            if len(tail) == length and at >= 0:
                return text[at + length:].split("\n")[0]
    return ""


@torch.no_grad()
def complete(model, prompt: list[int], ends: set[int], newline_ends, tokens_max: int) -> tuple[list[int], bool]:
    ids, cache, out = torch.tensor([prompt]), None, []
    for _ in range(tokens_max):
        result = model(ids, past_key_values=cache, use_cache=True)
        cache, token = result.past_key_values, int(result.logits[0, -1].argmax())
        if token in ends:
            return out, True
        out.append(token)
        if newline_ends(out):
            return out, False
        ids = torch.tensor([[token]])
    return out, False


def infill(model, tokenizer: Tokenizer, case, with_suffix: bool = True) -> tuple[str, bool]:
    prefix, _, suffix = case
    special = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("fim_prefix", "fim_suffix", "fim_middle", "endoftext")}
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    after = encode(suffix[:3000])[:200] if with_suffix else []
    prompt = [special["fim_suffix"], *after, special["fim_prefix"], *encode(prefix[-4000:])[-600:], special["fim_middle"]]
    decode = lambda out: tokenizer.decode(out, skip_special_tokens=False)
    out, stopped = complete(model, prompt, {special["endoftext"]}, lambda out: "\n" in decode(out[-3:]) and decode(out).strip("\n") != "", 48)
    return decode(out).split("\n")[0], stopped


def score(answers: list[str], cases) -> tuple[float, float]:
    exact = sum(answer.strip() == case[1].strip() for answer, case in zip(answers, cases)) / len(cases)
    similar = sum(difflib.SequenceMatcher(None, answer.strip(), case[1].strip(), autojunk=False).ratio() for answer, case in zip(answers, cases)) / len(cases)
    return exact, similar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--bytes", type=int, default=400_000)
    parser.add_argument("--show", type=int, default=0, help="print so many infilling cases of each language, the first by hash")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(arguments.work / "tokenizer.json"))
    model = read_model(HERE.parent / "model.gguf")
    documents = [json.loads(line) for line in open(arguments.work / "corpus/heldout.jsonl")]
    documents.sort(key=lambda document: hashlib.sha256(f"{document['package']}/{document['path']}".encode()).digest())
    print("| language | bits per byte | cases | exact: model | exact: no suffix | exact: copy | similarity: model | no suffix | copy | stopped by itself |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for language in LANGUAGES:
        chosen = [document for document in documents if document["language"] == language]
        bits, num_bytes = bits_per_byte(model, tokenizer, [document["text"] for document in chosen], arguments.bytes)
        cases = infill_cases(chosen, arguments.samples)
        full = [infill(model, tokenizer, case) for case in cases]
        answers = [answer for answer, _ in full]
        blind = [infill(model, tokenizer, case, with_suffix=False)[0] for case in cases]
        copied = [copy_baseline(prefix, suffix) for prefix, _, suffix in cases]
        (exact, similar), (exact_blind, similar_blind), (exact_copy, similar_copy) = (score(one, cases) for one in (answers, blind, copied))
        stopped = sum(stop for _, stop in full) / len(full)
        print(f"| {language} ({num_bytes // 1000} kB) | {bits:.3f} | {len(cases)} | {exact:.1%} | {exact_blind:.1%} | {exact_copy:.1%} "
              f"| {similar:.3f} | {similar_blind:.3f} | {similar_copy:.3f} | {stopped:.0%} |", flush=True)
        for case, answer in list(zip(cases, answers))[:arguments.show]:
            print(f"    {case[0].splitlines()[-1] if case[0] else ''!s} ⟦{answer}⟧ wanted ⟦{case[1]}⟧")
    end, stop = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    closed = 0
    for request in REQUESTS:
        out, ended = complete(model, chat_ids(tokenizer, request), {end, stop}, lambda out: False, 200)
        closed += ended
        if arguments.show:
            print(f"\n> {request}\n{tokenizer.decode(out)}")
    print(f"\nchat: {closed} of {len(REQUESTS)} answers ended by themselves within 200 tokens")


if __name__ == "__main__":
    main()
