"""Turns documents into packed rows of token ids: plain text, fill in the middle (both orders) and chat.

    samples.py WORK SEED CONTEXT PART OF     writes WORK/rows-SEED-CONTEXT-PART.npy, uint16 [rows, CONTEXT + 1], shuffled

The documents are dealt into OF parts, 0 to OF - 1, so that training can begin before all are cut.

Another seed cuts the same documents elsewhere, so that a second pass over the corpus shows new borders.
"""

import ast
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

PLAIN_SHARE, CHAT_SHARE = 0.14, 0.04
SPM_SHARE = 0.70           # of the fill-in-the-middle samples; the rest is PSM
EMPTY_SUFFIX_SHARE = 0.18
LINES_MAX = 14             # of a multi-line middle
# How often a document of a language is shown; what is not code is thinned.
SHARE = {"python": 1.0, "rust": 1.0, "javascript": 0.7, "typescript": 0.7, "go": 1.0, "c": 0.6, "markdown": 0.5, "toml": 0.5}
REQUESTS = [
    "Write a {language} function `{name}`. {what}", "Write a {language} function that does this: {what}", "{what}\n\nImplement `{name}` in {language}.",
    "Please implement a {language} function called {name}: {what}", "How do I write a function {name} in {language}? {what}",
    "Can you write {name} for me in {language}?\n{what}", "Complete this {language} function:\n```{fence}\n{signature}\n```\n{what}",
    "I need a {language} function. {what}", "{language}: {what} Call it {name}.", "Show me code in {language} for this. {what}",
]
SYSTEMS = ["You are a helpful coding assistant.", "You are a helpful assistant.", "Answer with code only."]
EXPLANATIONS = ["Here is {name}:\n\n", "", "", "Here it is:\n\n", "You can write it like this:\n\n"]


def block_end(lines: list[str], first: int) -> int:
    """The last line (inclusive) of the block that starts at `first`: what is indented as deep, at most LINES_MAX lines."""
    def depth(line: str) -> int:
        return len(line) - len(line.lstrip())

    last, opens = first, depth(lines[first])
    for index in range(first + 1, min(len(lines), first + LINES_MAX)):
        if lines[index].strip() and depth(lines[index]) < opens:
            break
        if lines[index].strip():
            last = index
    return last


def cut(text: str, rng: random.Random) -> tuple[str, str, str]:
    """Prefix, middle, suffix of one window, cut by character, mostly as an editor would ask: from the cursor to the end of a line."""
    lines = text.split("\n")
    starts = np.cumsum([0] + [len(line) + 1 for line in lines])
    candidates = [index for index, line in enumerate(lines) if line.strip()]
    kind = rng.random()
    if kind < 0.12 or not candidates:  # any span
        begin = rng.randrange(len(text))
        end = min(len(text), begin + rng.randint(1, 160))
        return text[:begin], text[begin:end], text[end:]
    index = rng.choice(candidates)
    line = lines[index]
    indent = len(line) - len(line.lstrip())
    where = rng.random()
    if where < 0.20:
        column = indent                       # a fresh line, indented by the editor
    elif where < 0.25:
        column = 0
    elif where < 0.30:
        column = len(line)                    # nothing is missing, or whole lines follow
    else:
        column = rng.randint(indent, max(indent, len(line) - 1))
    begin = int(starts[index]) + column
    if kind < 0.70:                           # to the end of the line
        end = int(starts[index]) + len(line)
        closing = re.search(r"[)\]}>\"';,:]+$", line[column:])
        if closing and rng.random() < 0.15:   # the editor has already closed the brackets
            end -= len(closing[0])
    else:                                     # a block
        last = block_end(lines, index) if rng.random() < 0.7 else min(len(lines) - 1, index + rng.randint(1, 6))
        end = int(starts[last]) + len(lines[last])
    return text[:begin], text[begin:end], text[end:]


def python_pairs(text: str):
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and 3 <= node.end_lineno - node.lineno <= 24:
            what = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ").strip()
            if 20 <= len(what) <= 240:
                source = ast.get_source_segment(text, node)
                yield "Python", "python", node.name, what, source.split("\n")[0], source


RUST_FUNCTION = re.compile(r"((?:^///.*\n)++)((?:^#\[.*\]\n)*^(?:pub )?(?:const )?fn (\w+)[^;{]*\{\n(?:.*\n){1,24}?^\}$)", re.M)


def rust_pairs(text: str):
    for found in RUST_FUNCTION.finditer(text):
        what = " ".join(line[3:].strip() for line in found[1].split("\n\n")[0].splitlines()).split("  ")[0].split(" # ")[0].strip()
        if 20 <= len(what) <= 240:
            yield "Rust", "rust", found[3], what, found[2].split("\n")[0], found[2]


class Packer:
    """Fills rows of `width` ids with samples; a sample too long for the rest of a row loses the far ends of prefix and suffix."""

    def __init__(self, tokenizer: Tokenizer, width: int, rng: random.Random):
        self.width, self.rng = width, rng
        self.rows, self.row = [], []
        self.encode_all = lambda texts: [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]
        ids = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "fim_prefix", "fim_suffix", "fim_middle", "im_start", "im_end")}
        self.end, self.prefix, self.suffix, self.middle = (ids[name] for name in ("endoftext", "fim_prefix", "fim_suffix", "fim_middle"))
        self.im_start, self.im_end = ids["im_start"], ids["im_end"]
        self.spare: list[int] = []  # plain text, to fill the end of a row

    def room(self) -> int:
        return self.width - len(self.row)

    def put(self, ids: list[int]) -> None:
        self.row, rest = self.row + ids[:self.room()], ids[self.room():]
        self.spare = self.spare if len(self.spare) > 4000 else self.spare + rest
        if self.room() < 96:
            if len(self.spare) < 96:
                self.row += [self.end] * self.room()
            else:
                filler, self.spare = self.spare[:self.room()], self.spare[self.room():]
                self.row += filler
        if not self.room():
            self.rows.append(np.array(self.row, dtype=np.uint16))
            self.row = []

    def put_infill(self, prefix: list[int], middle: list[int], suffix: list[int]) -> None:
        excess = len(prefix) + len(middle) + len(suffix) + 4 - self.room()
        if excess > 0:  # as a server trims: the suffix to a third of what is left, then the prefix
            keep = max(0, len(suffix) - excess, min(len(suffix), (self.room() - 4 - len(middle)) // 3))
            suffix = suffix[:keep]
            keep = self.room() - 4 - len(middle) - len(suffix)
            if keep < 0:
                self.spare += prefix[-200:] + middle
                return
            prefix = prefix[max(0, len(prefix) - keep):]
        if self.rng.random() < SPM_SHARE:
            self.put([self.suffix, *suffix, self.prefix, *prefix, self.middle, *middle, self.end])
        else:
            self.put([self.prefix, *prefix, self.suffix, *suffix, self.middle, *middle, self.end])

    def put_chat(self, pair) -> None:
        language, fence, name, what, signature, source = pair
        request = self.rng.choice(REQUESTS).format(language=language, fence=fence, name=name, what=what, signature=signature)
        answer = self.rng.choice(EXPLANATIONS).format(name=f"`{name}`") + f"```{fence}\n{source}\n```"
        turns = [("system", self.rng.choice(SYSTEMS))] if self.rng.random() < 0.4 else []
        turns += [("user", request), ("assistant", answer)]
        newline, = self.encode_all(["\n"])
        ids = []
        for (role, _), content in zip(turns, self.encode_all([f"{role}\n{content}" for role, content in turns])):
            ids += [self.im_start, *content, self.im_end, *newline]
        if len(ids) < self.room():
            self.put(ids + [self.end])


def windows(text: str, width: int, rng: random.Random):
    """Consecutive windows of a document, of varied size; most begin at the start of a line."""
    begin = 0
    while begin < len(text):
        size = int(rng.choice([0.35, 0.6, 1.0, 1.0]) * 3.4 * width * rng.uniform(0.6, 1.0))
        end = begin + size
        if end < len(text) and rng.random() < 0.9:
            newline = text.find("\n", end)
            end = newline + 1 if newline >= 0 else len(text)
        if len(text) - end < 200:
            end = len(text)
        yield text[begin:end], end >= len(text)
        begin = end


def build(work: Path, seed: int, context: int, part: int, parts: int) -> None:
    rng = random.Random(seed)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    packer = Packer(tokenizer, context + 1, rng)
    lines = (work / "corpus/train.jsonl").read_text().splitlines()
    rng.shuffle(lines)
    lines = lines[part::parts]
    pairs, pairs_put, samples = [], 0, 0
    for line in lines:
        document = json.loads(line)
        text = document["text"]
        if rng.random() > SHARE[document["language"]]:
            continue
        if document["language"] == "python":
            pairs += python_pairs(text)
        elif document["language"] == "rust":
            pairs += rust_pairs(text)
        jobs, texts = [], []
        for window, is_last in windows(text, context, rng):
            if rng.random() < PLAIN_SHARE or len(window) < 40:
                jobs.append((len(texts), is_last))
                texts.append(window)
                continue
            prefix, middle, suffix = cut(window, rng)
            if rng.random() < EMPTY_SUFFIX_SHARE:
                suffix = ""
            jobs.append((len(texts), None))
            texts += [prefix, middle, suffix]
        ids = packer.encode_all(texts)
        for at, is_last in jobs:
            samples += 1
            if is_last is None:
                packer.put_infill(ids[at], ids[at + 1], ids[at + 2])
            else:
                plain = ids[at] + ([packer.end] if is_last else [])
                packer.put(plain)
        while pairs and pairs_put < CHAT_SHARE * samples:
            packer.put_chat(pairs.pop(rng.randrange(len(pairs))))
            pairs_put += 1
    rows = np.stack(packer.rows)
    np.random.default_rng(seed).shuffle(rows)
    np.save(work / f"rows-{seed}-{context}-{part}.npy", rows)
    print(f"{len(rows)} rows, {rows.size / 1e6:.1f} M tokens, {samples} samples, {pairs_put} chat pairs")


if __name__ == "__main__":
    build(Path(sys.argv[1]), *map(int, sys.argv[2:6]))
