"""Measures a GGUF file on held-out packages and prints the tables of the model card.

    evaluate.py WORK BINARY [--model FILE.gguf] [--samples 200] [--only bits,infill,syntax,chat,latency,examples]

Bits per byte: the reference library in f32 on the dequantised weights; plain text, windows of 1024 tokens that know nothing of each other,
at most --bytes per language, files in the order of the hashes of their names. All else goes through BINARY, a `sconce` that is started
with the file on a port of its own: what is measured is what a person gets.

Single-line infilling: the cursor stands in a line of code (behind its indentation, before its end), the middle is the rest of the line, at
most 600 tokens of prefix and 200 of suffix, greedy, cut at the first line end. Two baselines: `copy` continues as the latest place of the
same file did that shares the longest tail with the text before the cursor, and the model without its suffix.

Syntax: the cursor stands where a statement of a function begins, the middle is the rest of its block of two to twelve lines; what the model
answers in at most 96 tokens is put in the place of the middle and the whole file is parsed, Python by `ast`, Rust by `syn` (`parses/`, built
by cargo, no part of Sconce). An empty answer is a failure. `raw` is /v1/completions, `trimmed` is /v2/code/completions, behind its
post-processing.
"""

import argparse
import ast
import concurrent.futures
import difflib
import hashlib
import json
import math
import os
import random
import re
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
import torch.nn.functional as F
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import Tokenizer

from export import CONTEXT, HERE, reference_model
from samples import BORDER, block_end, depth

LANGUAGES = ["python", "rust", "javascript", "typescript", "go", "ruby", "c", "markdown"]
PREFIX_TOKENS, SUFFIX_TOKENS, BLOCK_TOKENS = 600, 200, 96
SEED = 20
COMMENTS = ("#", "//", "\"\"\"", "*", "/*", "'''")
FILE_NAMES = {"python": "a.py", "rust": "a.rs", "javascript": "a.js", "typescript": "a.ts", "go": "a.go", "ruby": "a.rb", "c": "a.c", "markdown": "a.md"}
REQUESTS = ["Write a Python function that reverses a string.", "Write a Rust function that adds two numbers.",
            "Please implement a Python function called clamp: limit a value to a range.", "How do I write a function is_empty in Rust? Returns true if the list has no items.",
            "Write a JavaScript function that returns the last item of an array."]


# ---------------------------------------------------------------- the reference library

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
        text = text[:12_000]
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        for begin in range(0, len(ids), CONTEXT - 1):
            window = torch.tensor([[end, *ids[begin:begin + CONTEXT - 1]]])
            logits = model(window).logits[0, :-1]
            bits += F.cross_entropy(logits, window[0, 1:], reduction="sum").item() / math.log(2)
        num_bytes += len(text.encode())
        if num_bytes > bytes_max:
            break
    return bits / num_bytes, num_bytes


# ---------------------------------------------------------------- the binary

class Server:
    """A `sconce serve` with one model, on two free ports, ended when the block is left."""

    def __init__(self, binary: str, model: Path, answers_gitlab: bool):
        self.binary, self.model, self.answers_gitlab = binary, model, answers_gitlab

    def __enter__(self):
        ports = []
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
        self.address = f"http://127.0.0.1:{ports[0]}"
        arguments = ["--model", f"sconce={self.model}"]
        environment = dict(os.environ, SCONCE__METRICS__LISTEN=f"127.0.0.1:{ports[1]}", SCONCE__LOG__LEVEL="error")
        if self.answers_gitlab:
            environment["SCONCE__GITLAB__BYPASS_EXTERNAL"] = "true"
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([self.binary, "serve", "--listen", f"127.0.0.1:{ports[0]}", *arguments], stdout=self.log, stderr=self.log, env=environment)
        for _ in range(200):
            try:
                if urllib.request.urlopen(f"{self.address}/monitoring/ready", timeout=1).status == 200:
                    return self
            except OSError:
                time.sleep(0.1)
        self.log.seek(0)
        raise SystemExit(f"{self.binary} did not start:\n{self.log.read()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(f"{self.address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json", "X-Sconce-Deadline-Ms": "60000"})
        try:
            return json.load(urllib.request.urlopen(request, timeout=90))
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{path}: {error.code} {error.read().decode()[:500]}")

    def infill(self, prefix: str, suffix: str, max_tokens: int, **more) -> str:
        if not prefix and not suffix:
            return ""
        body = {"model": "sconce", "prompt": prefix, "suffix": suffix, "max_tokens": max_tokens, "temperature": 0, **more}
        return self.post("/v1/completions", body)["choices"][0]["text"]

    def trimmed(self, file_name: str, prefix: str, suffix: str) -> str:
        body = {"prompt_version": 1, "project_path": "", "project_id": 0, "stream": False,
                "current_file": {"file_name": file_name, "content_above_cursor": prefix, "content_below_cursor": suffix}}
        choices = self.post("/v2/code/completions", body)["choices"]
        return choices[0]["text"] if choices else ""


def at_once(function, cases: list) -> list:
    """Four requests in flight: the answers do not depend on the company."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(function, cases))


def near(tokenizer: Tokenizer, prefix: str, suffix: str) -> tuple[str, str]:
    """The part of the file that a prompt has room for."""
    before = tokenizer.encode(prefix[-6000:], add_special_tokens=False).ids[-PREFIX_TOKENS:]
    after = tokenizer.encode(suffix[:2000], add_special_tokens=False).ids[:SUFFIX_TOKENS]
    return tokenizer.decode(before).replace("\ufffd", ""), tokenizer.decode(after).replace("\ufffd", "")


# ---------------------------------------------------------------- cases

def infill_cases(documents: list[dict], count: int, at_border: bool = False) -> list[tuple[str, str, str]]:
    """One cursor per file, in a line of code, after its indentation and before its end; a second round where files are few."""
    rng, cases = random.Random(SEED), []
    for document in documents * 4:
        lines = document["text"].split("\n")
        candidates = [i for i, line in enumerate(lines) if len(line.strip()) > 8 and not line.strip().startswith(COMMENTS)]
        if len(candidates) < 8:
            continue
        index = rng.choice(candidates)
        line = lines[index]
        column = rng.randint(depth(line), len(line) - 2)
        if at_border:
            column = rng.choice([depth(line)] + [found.end() for found in BORDER.finditer(line, depth(line)) if found.end() < len(line) - 1])
        cases.append(("\n".join([*lines[:index], line[:column]]), line[column:], "\n" + "\n".join(lines[index + 1:])))
        if len(cases) == count:
            break
    return cases


def block_cases(documents: list[dict], language: str, count: int, parses) -> list[tuple[str, str, str]]:
    """One block per file: from the first non-blank column of a statement inside a function to the end of what is indented as deep."""
    rng, cases = random.Random(SEED), []
    for document in documents:
        lines = document["text"].split("\n")
        found = []
        for index in range(1, len(lines)):
            line, last = lines[index], block_end(lines, index)
            opens = re.match(r"\s*(async )?def .*:$" if language == "python" else r"\s*(pub(\(\w+\))? )?(const |async )?fn .*\{$", lines[index - 1])
            if opens and line.strip() and not line.strip().startswith(COMMENTS) and 2 <= last - index + 1 <= 12 and depth(line) > depth(lines[index - 1]):
                ended = next((later for later in lines[last + 1:] if later.strip()), "")
                if depth(ended) < depth(line):
                    found.append((index, last))
        if not found:
            continue
        index, last = rng.choice(found)
        prefix = "\n".join([*lines[:index], lines[index][:depth(lines[index])]])
        middle = "\n".join([lines[index][depth(lines[index]):], *lines[index + 1:last + 1]])
        cases.append((prefix, middle, "\n" + "\n".join(lines[last + 1:])))
        if len(cases) == 3 * count:
            break
    whole = parses(["".join(case) for case in cases])
    return [case for case, good in zip(cases, whole) if good][:count]


def copy_baseline(prefix: str, suffix: str) -> str:
    """Continues as the latest place did that shares the longest tail (3 to 40 characters) with the text before the cursor."""
    for length in range(40, 2, -1):
        tail = prefix[-length:]
        for text in (prefix[:-1], suffix):
            at = text.rfind(tail)
            if len(tail) == length and at >= 0:
                return text[at + length:].split("\n")[0]
    return ""


def score(answers: list[str], cases) -> tuple[float, float]:
    exact = sum(answer.strip() == case[1].strip() for answer, case in zip(answers, cases)) / len(cases)
    similar = sum(difflib.SequenceMatcher(None, answer.strip(), case[1].strip(), autojunk=False).ratio() for answer, case in zip(answers, cases)) / len(cases)
    return exact, similar


def python_parses(texts: list[str]) -> list[bool]:
    def one(text: str) -> bool:
        try:
            ast.parse(text)
            return True
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return [one(text) for text in texts]


def rust_parses(texts: list[str]) -> list[bool]:
    command = ["cargo", "run", "-q", "--release", "--manifest-path", str(HERE / "parses/Cargo.toml")]
    done = subprocess.run(command, input="\n".join(json.dumps(text) for text in texts), capture_output=True, text=True, check=True)
    return [line == "1" for line in done.stdout.split()]


# ---------------------------------------------------------------- tables

def bits(work: Path, model: Path, by_language: dict, arguments) -> None:
    tokenizer, reference = Tokenizer.from_file(str(work / "tokenizer.json")), read_model(model)
    print("\n| language | bits per byte | of kB |\n|---|---|---|")
    for language, documents in by_language.items():
        value, num_bytes = bits_per_byte(reference, tokenizer, [document["text"] for document in documents], arguments.bytes)
        print(f"| {language} | {value:.3f} | {num_bytes // 1000} |", flush=True)


def infill(server: Server, tokenizer: Tokenizer, by_language: dict, arguments) -> None:
    for label, at_border in (("anywhere", False), ("behind a space, a bracket or other punctuation, or on a fresh line", True)):
        print(f"\nThe cursor stands {label}:\n\n| language | cases | exact: model | without suffix | copy | similarity: model | without suffix | copy |\n|---|---|---|---|---|---|---|---|")
        for language, documents in by_language.items():
            if language == "markdown":
                continue
            cases = infill_cases(documents, arguments.samples, at_border)
            seen = [near(tokenizer, prefix, suffix) for prefix, _, suffix in cases]
            answers = at_once(lambda one: server.infill(one[0], one[1], 48, stop=["\n"]), seen)
            blind = at_once(lambda one: server.infill(one[0], "", 48, stop=["\n"]), seen)
            copied = [copy_baseline(prefix, suffix) for prefix, _, suffix in cases]
            (exact, similar), (exact_blind, similar_blind), (exact_copy, similar_copy) = (score(one, cases) for one in (answers, blind, copied))
            print(f"| {language} | {len(cases)} | {exact:.1%} | {exact_blind:.1%} | {exact_copy:.1%} | {similar:.3f} | {similar_blind:.3f} | {similar_copy:.3f} |", flush=True)
            for case, answer in list(zip(cases, answers))[:arguments.show]:
                print(f"    {case[0].splitlines()[-1] if case[0] else ''!s} ⟦{answer}⟧ wanted ⟦{case[1]}⟧")


def syntax(server: Server, tokenizer: Tokenizer, by_language: dict, arguments) -> None:
    print("\n| language | cases | parse: raw | trimmed | empty: raw | trimmed | lines asked for, mean |\n|---|---|---|---|---|---|---|")
    for language, parses in (("python", python_parses), ("rust", rust_parses)):
        cases = block_cases(by_language[language], language, arguments.samples // 2, parses)
        seen = [near(tokenizer, prefix, suffix) for prefix, _, suffix in cases]
        figures = []
        for kind in ("raw", "trimmed"):
            if kind == "trimmed" and arguments.raw_only:
                figures.append(("not measured", "not measured"))
                continue
            ask = (lambda one: server.infill(one[0], one[1], BLOCK_TOKENS)) if kind == "raw" else (lambda one: server.trimmed(FILE_NAMES[language], one[0], one[1]))
            answers = at_once(ask, seen)
            good = parses([prefix + answer + suffix for answer, (prefix, _, suffix) in zip(answers, cases)])
            empty = [not answer.strip() for answer in answers]
            figures.append((f"{sum(g and not e for g, e in zip(good, empty)) / len(cases):.1%}", f"{sum(empty) / len(cases):.1%}"))
            for (prefix, middle, _), answer, fits in list(zip(cases, answers, good))[:arguments.show]:
                print(f"    [{kind}, parses: {fits}] {prefix.splitlines()[-2].strip()!r} ⟦{answer}⟧ wanted ⟦{middle}⟧")
        lines = statistics.mean(middle.count("\n") + 1 for _, middle, _ in cases)
        print(f"| {language} | {len(cases)} | {figures[0][0]} | {figures[1][0]} | {figures[0][1]} | {figures[1][1]} | {lines:.1f} |", flush=True)


def chat(server: Server) -> None:
    for request in REQUESTS:
        answer = server.post("/v1/chat/completions", {"model": "sconce", "messages": [{"role": "user", "content": request}], "max_tokens": 200, "temperature": 0})
        choice = answer["choices"][0]
        print(f"\n> {request}\n{choice['message']['content']}\n[{choice['finish_reason']}]")


def examples(binary: str, model: Path, by_language: dict) -> None:
    """`sconce complete` in the first file by hash of each of five languages, at the first cursor of `infill_cases`: nobody chose them."""
    for language in ("python", "rust", "javascript", "go", "ruby"):
        documents = by_language[language]
        (prefix, middle, suffix), = infill_cases(documents, 1)
        document = next(one for one in documents if one["text"] == prefix + middle + suffix)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE_NAMES[language]
            file.write_text(prefix + suffix)
            lines = prefix.split("\n")
            place = f"{file}:{len(lines)}:{len(lines[-1]) + 1}"
            answer = subprocess.run([binary, "complete", place, "--model", str(model), "--max-tokens", "64"], capture_output=True, text=True, check=True).stdout
        print(f"\n{language}: {document['package']}, {document['path']}, line {len(lines)}, {middle.strip()!r} was there")
        print("\n".join(lines[-6:]) + f"⟦{answer}⟧" + "\n".join(suffix.split("\n")[:4]))


def latency(server: Server, tokenizer: Tokenizer, by_language: dict) -> None:
    """Streams one request at a time; every prompt is new, so that no prefix cache helps; the end token is barred, so that 32 tokens come."""
    documents = [document["text"] for language in ("python", "rust", "javascript", "go") for document in by_language[language] if len(document["text"]) > 1500 and document["text"].isascii()][:400]
    end = tokenizer.token_to_id("<|endoftext|>")
    barred = {str(tokenizer.token_to_id(f"<|{name}|>")): -100 for name in ("endoftext", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "im_start", "im_end")}
    print("\n| prompt | requests | first token, median | 95 % | 32 tokens, median | 95 % |\n|---|---|---|---|---|---|")
    for label, before, after in (("200 characters typed", 200, 0), ("200 before, 200 behind", 200, 200), ("1200 before, 400 behind", 1200, 400)):
        rng, firsts, wholes = random.Random(f"{SEED} {label}"), [], []
        for text in rng.sample(documents, 40):
            at = min(len(text) - 1, max(before, len(text) // 2))
            body = {"model": "sconce", "prompt": text[max(0, at - before):at], "suffix": text[at:at + after], "max_tokens": 32, "temperature": 0, "stream": True, "logit_bias": barred}
            request = urllib.request.Request(f"{server.address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
            began, first = time.perf_counter(), None
            with urllib.request.urlopen(request, timeout=30) as reply:
                for line in reply:
                    if line.startswith(b"data: {") and not first:
                        first = time.perf_counter() - began
            firsts.append(1000 * first)
            wholes.append(1000 * (time.perf_counter() - began))
        late = lambda values: sorted(values)[int(0.95 * len(values)) - 1]
        print(f"| {label} | {len(firsts)} | {statistics.median(firsts):.1f} ms | {late(firsts):.1f} ms | {statistics.median(wholes):.1f} ms | {late(wholes):.1f} ms |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("binary")
    parser.add_argument("--model", type=Path, default=HERE.parent / "model.gguf")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--bytes", type=int, default=250_000)
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    parser.add_argument("--only", default="bits,infill,syntax,chat,latency,examples")
    parser.add_argument("--raw-only", action="store_true", help="for a binary without /v2/code/completions")
    parser.add_argument("--show", type=int, default=0, help="print so many cases of each language, the first by hash")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(arguments.work / "tokenizer.json"))
    documents = [json.loads(line) for line in open(arguments.work / "corpus/heldout.jsonl")]
    documents.sort(key=lambda document: hashlib.sha256(f"{document['package']}/{document['path']}".encode()).digest())
    by_language = {language: [one for one in documents if one["language"] == language] for language in arguments.languages.split(",")}
    only = arguments.only.split(",")
    print(f"{arguments.model.name}: {arguments.model.stat().st_size / 1e6:.2f} MB")
    if "bits" in only:
        bits(arguments.work, arguments.model, by_language, arguments)
    with Server(arguments.binary, arguments.model.resolve(), not arguments.raw_only) as server:
        if "infill" in only:
            infill(server, tokenizer, by_language, arguments)
        if "syntax" in only:
            syntax(server, tokenizer, by_language, arguments)
        if "chat" in only:
            chat(server)
        if "latency" in only:
            latency(server, tokenizer, by_language)
    if "examples" in only:
        examples(arguments.binary, arguments.model.resolve(), by_language)


if __name__ == "__main__":
    main()
