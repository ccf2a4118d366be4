"""Turns documents into rows of token ids, one sample a row: plain text, fill in the middle (both orders) and chat.

    samples.py WORK WIDTH SEED PART OF     writes WORK/rows-WIDTH-SEED-PART.npy, uint16 [rows, WIDTH + 1], shuffled
    samples.py WORK WIDTH SEED chat        writes WORK/rows-WIDTH-SEED-chat.npy

A row never holds two documents, so attention never crosses from one to another; a short one is padded with `<|fim_pad|>`, which the loss
passes over. The documents are dealt into OF parts, 0 to OF - 1, so that training can begin before all are cut. Another seed cuts the same
documents elsewhere, so that a second pass over the corpus shows new borders.
"""

import ast
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

PLAIN_SHARE = 0.25
SPM_SHARE = 0.70           # of the fill-in-the-middle samples; the rest is PSM
EMPTY_SUFFIX_SHARE = 0.12
LINES_MAX = 14             # of a multi-line middle
REQUESTS = [
    "Write a {language} function `{name}`. {what}", "Write a {language} function that does this: {what}", "{what}\n\nImplement `{name}` in {language}.",
    "Please implement a {language} function called {name}: {what}", "How do I write a function {name} in {language}? {what}",
    "Can you write {name} for me in {language}?\n{what}", "Complete this {language} function:\n```{fence}\n{signature}\n```\n{what}",
    "I need a {language} function. {what}", "{language}: {what} Call it {name}.", "Show me code in {language} for this. {what}",
]
SYSTEMS = ["You are a helpful coding assistant.", "You are a helpful assistant.", "Answer with code only."]
EXPLANATIONS = ["Here is {name}:\n\n", "", "", "Here it is:\n\n", "You can write it like this:\n\n"]
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
BORDER = re.compile(r"[\s.(\[{,=:]")     # a person who stops typing mostly does so behind one of these


def depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def block_end(lines: list[str], first: int) -> int:
    """The last line (inclusive) of the block that `first` stands in: what is indented as deep, at most LINES_MAX lines."""
    last, opens = first, depth(lines[first])
    for index in range(first + 1, min(len(lines), first + LINES_MAX)):
        if lines[index].strip() and depth(lines[index]) < opens:
            break
        if lines[index].strip():
            last = index
    return last


class Document:
    def __init__(self, text: str):
        self.text, self.lines = text, text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def cut(self, begin: int, end: int, rng: random.Random) -> tuple[int, int]:
        """Where a middle begins and ends, its first line between the characters `begin` and `end`: the way a person types."""
        first, last = (int(np.searchsorted(self.starts, at, "right")) - 1 for at in (begin, end))
        candidates = [index for index in range(first, min(last + 1, len(self.lines))) if self.lines[index].strip()]
        if not candidates or rng.random() < 0.05:      # any span
            start = rng.randrange(begin, max(begin + 1, end))
            return start, min(len(self.text), start + rng.randint(1, 100))
        index = rng.choice(candidates)
        for _ in range(2):                             # rather a line with a name that the text nearby holds as well
            around = self.text[max(0, self.starts[index] - 1200):self.starts[index]] + self.text[self.starts[index + 1]:self.starts[index + 1] + 500]
            if any(word in around for word in WORD.findall(self.lines[index])):
                break
            index = rng.choice(candidates)
        line = self.lines[index]
        indent, kind, where = depth(line), rng.random(), rng.random()
        if where < 0.35:
            column = indent                            # a fresh line, indented by the editor
        elif where < 0.42:
            column = len(line)                         # whole lines follow
        else:
            column = rng.randint(indent, max(indent, len(line) - 1))
            if where < 0.75:
                border = BORDER.search(line, column)
                column = min(border.end(), len(line) - 1) if border else column
        start = self.starts[index] + column
        if column == len(line):
            last = block_end(self.lines, min(index + 1, len(self.lines) - 1)) if rng.random() < 0.5 else min(len(self.lines) - 1, index + rng.randint(1, 4))
            return start, self.starts[last] + len(self.lines[last])
        if kind < 0.68:                                # to the end of the line
            stop = self.starts[index] + len(line)
            closing = re.search(r"[)\]}>\"';,:]+$", line[column:])
            if closing and rng.random() < 0.15:        # the editor has already closed the brackets
                stop -= len(closing[0])
            return start, stop
        last = block_end(self.lines, index) if rng.random() < 0.7 else min(len(self.lines) - 1, index + rng.randint(1, 6))
        return start, self.starts[last] + len(self.lines[last])


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


COMMENTED = {   # a comment, then a function: language -> name, fence, and the pattern of both
    "rust": ("Rust", "rust", re.compile(r"((?:^///.*\n)++)((?:^#\[.*\]\n)*^(?:pub )?(?:const )?fn (\w+)[^;{]*\{\n(?:.*\n){1,24}?^\}$)", re.M)),
    "go": ("Go", "go", re.compile(r"((?:^//.*\n)++)(^func (\w+)\([^{]*\{\n(?:.*\n){1,24}?^\}$)", re.M)),
    "javascript": ("JavaScript", "js", re.compile(r"(^/\*\*(?:[^*]|\*(?!/))*\*/\n)(^(?:export )?(?:async )?function (\w+)[^{]*\{\n(?:.*\n){1,24}?^\}$)", re.M)),
    "typescript": ("TypeScript", "ts", re.compile(r"(^/\*\*(?:[^*]|\*(?!/))*\*/\n)(^(?:export )?(?:async )?function (\w+)[^{]*\{\n(?:.*\n){1,24}?^\}$)", re.M)),
}


def pairs_of(document: dict):
    if document["language"] == "python":
        yield from python_pairs(document["text"])
    elif document["language"] in COMMENTED:
        name, fence, pattern = COMMENTED[document["language"]]
        for found in pattern.finditer(document["text"]):
            lines = [re.sub(r"^\s*(///?|/\*\*|\*/|\*)\s?|\*/$", "", line).strip() for line in found[1].splitlines()]
            what = " ".join(" ".join(lines).strip().split(" @")[0].split(" # ")[0].split()).split("  ")[0]
            if 20 <= len(what) <= 240:
                yield name, fence, found[3], what, found[2].split("\n")[0], found[2]


class Cutter:
    def __init__(self, work: Path, width: int, seed: int):
        self.tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        self.width, self.rng, self.rows = width, random.Random(f"{seed} {width}"), []
        ids = {name: self.tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "im_start", "im_end")}
        self.end, self.prefix, self.suffix, self.middle, self.pad = (ids[name] for name in ("endoftext", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad"))
        self.im_start, self.im_end = ids["im_start"], ids["im_end"]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        return [one.ids for one in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def put(self, ids: list[int]) -> None:
        row = np.full(self.width + 1, self.pad, dtype=np.uint16)
        row[:len(ids)] = ids[:self.width + 1]
        self.rows.append(row)

    def put_infill(self, prefix: list[int], middle: list[int], suffix: list[int]) -> None:
        room = self.width + 1 - 4 - len(middle)
        if room < 8:
            return
        wanted = 0 if self.rng.random() < EMPTY_SUFFIX_SHARE else int(room * self.rng.uniform(0.1, 0.5))
        keep = min(len(suffix), max(wanted, room - len(prefix)) if wanted else 0)
        suffix = suffix[:keep]
        prefix = prefix[max(0, len(prefix) - (room - len(suffix))):]
        if self.rng.random() < SPM_SHARE:
            self.put([self.suffix, *suffix, self.prefix, *prefix, self.middle, *middle, self.end])
        else:
            self.put([self.prefix, *prefix, self.suffix, *suffix, self.middle, *middle, self.end])

    def document(self, text: str) -> None:
        """One sample for every stretch of a document that would fill a row."""
        document, stretch, reach = Document(text), int(3.2 * self.width), 6 * self.width
        jobs, texts = [], []
        for begin in range(0, max(1, len(text) - stretch // 3), stretch):
            end = min(len(text), begin + stretch)
            if self.rng.random() < PLAIN_SHARE:
                jobs.append((len(texts), end + reach >= len(text)))
                texts.append(text[begin:begin + reach])
                continue
            start, stop = document.cut(begin, end, self.rng)
            jobs.append((len(texts), None))
            texts += [text[max(0, start - reach):start], text[start:stop], text[stop:stop + reach]]
        ids = self.encode_all(texts)
        for at, is_last in jobs:
            if is_last is None:
                self.put_infill(ids[at], ids[at + 1], ids[at + 2])
            else:
                self.put(ids[at] + ([self.end] if is_last else []))

    def chat(self, pair) -> None:
        language, fence, name, what, signature, source = pair
        request = self.rng.choice(REQUESTS).format(language=language, fence=fence, name=name, what=what, signature=signature)
        answer = self.rng.choice(EXPLANATIONS).format(name=f"`{name}`") + f"```{fence}\n{source}\n```"
        turns = [("system", self.rng.choice(SYSTEMS))] if self.rng.random() < 0.4 else []
        turns += [("user", request), ("assistant", answer)]
        newline, = self.encode_all(["\n"])
        ids = []
        for (role, _), content in zip(turns, self.encode_all([f"{role}\n{content}" for role, content in turns])):
            ids += [self.im_start, *content, self.im_end, *newline]
        if len(ids) <= self.width:
            self.put(ids + [self.end])


def build(work: Path, width: int, seed: int, part: str, parts: int = 1) -> None:
    cutter = Cutter(work, width, seed)
    lines = (work / "corpus/train.jsonl").read_text().splitlines()
    random.Random(seed).shuffle(lines)
    if part == "chat":
        pairs = [pair for line in lines for pair in pairs_of(json.loads(line))]
        cutter.rng.shuffle(pairs)
        for pair in pairs[:12_000]:
            cutter.chat(pair)
    else:
        for line in lines[int(part)::parts]:
            cutter.document(json.loads(line)["text"])
    rows = np.stack(cutter.rows)
    np.random.default_rng(seed).shuffle(rows)
    np.save(work / f"rows-{width}-{seed}-{part}.npy", rows)
    print(f"rows-{width}-{seed}-{part}: {len(rows)} rows, {rows.size / 1e6:.1f} M tokens, {(rows == cutter.pad).mean():.1%} padding")


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:6]))
