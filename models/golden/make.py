#!/usr/bin/env python3
"""Writes every golden of this folder from seeds. See README.md for what is made and with which packages.

    python models/golden/make.py            # rewrites checkpoints/, gguf/, quantised/, tokenizers/
    python models/golden/make.py --check    # the same into a temporary folder, and compares
"""
import argparse
import dataclasses
import filecmp
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers

import checkpoints
import gguf_files
import quantised
import tokenizer_kinds

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["checkpoints", "gguf", "quantised", "tokenizers"]
# Read back through transformers' own GGUF reader, which maps neither rope scaling nor windows.
READ_BACK = ["llama2", "codellama", "qwen2"]


@dataclasses.dataclass
class Made:
    """A tokenizer with what the writers of folders and GGUF files ask of it."""
    tokenizer: object
    json: str
    pre: str
    bos: str
    eos: str
    pad: str
    unk: str
    add_bos: bool
    tokenizer_class: str
    specials: list
    merges: list = None
    scores: list = None
    reference: object = None
    gguf_ids: dict = dataclasses.field(default_factory=dict)


def make_tokenizers():
    made = {}
    classes = {"qwen2": "Qwen2Tokenizer", "deepseek-coder": "LlamaTokenizerFast", "starcoder": "GPT2Tokenizer", "gpt-2": "GPT2Tokenizer"}
    for name, kind in tokenizer_kinds.KINDS.items():
        tokenizer = tokenizer_kinds.byte_level(name)
        merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
        made[name] = Made(tokenizer, tokenizer_kinds.to_json(tokenizer, kind.string_merges), kind.pre, kind.bos, kind.eos,
                          kind.pad, None, kind.add_bos, classes.get(name, "PreTrainedTokenizerFast"), kind.specials,
                          merges=merges, gguf_ids=kind.gguf_ids)
    code_ids = {"fim_pre": "▁<PRE>", "fim_suf": "▁<SUF>", "fim_mid": "▁<MID>", "eot": "▁<EOT>"}
    for name, extra, ids in [("sentencepiece", (), {}), ("sentencepiece-code", checkpoints.CODELLAMA_EXTRA, code_ids)]:
        tokenizer, scores, reference = tokenizer_kinds.sentence_piece(extra)
        made[name] = Made(tokenizer, tokenizer_kinds.to_json(tokenizer), "default", "<s>", "</s>", None, "<unk>", True,
                          "LlamaTokenizer", [(text, True) for text in ("<s>", "</s>", *extra)], scores=scores,
                          reference=reference, gguf_ids=ids)
    return made


def write_tokenizers(root, made):
    for name, one in made.items():
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(one.json)
        gguf_files.write_tokenizer_only(folder / "tokenizer.gguf", one)
        vectors = tokenizer_kinds.vectors(one.tokenizer, name, one.specials)
        if one.reference:   # the SentencePiece library itself is the second opinion
            for case in vectors["plain"]:
                want = one.reference.encode(case["text"])
                case["library_agrees"] = want == case["ids"]
            share = sum(case["library_agrees"] for case in vectors["plain"]) / len(vectors["plain"])
            print(f"{name}: SentencePiece agrees on {share:.0%}", [c["text"] for c in vectors["plain"] if not c["library_agrees"]])
        checkpoints.dump(folder / "vectors.json", vectors)


def write_all(root):
    torch.set_num_threads(1)
    made = make_tokenizers()
    write_tokenizers(root / "tokenizers", made)
    (root / "gguf").mkdir()
    for name, family in checkpoints.FAMILIES.items():
        tokenizer = made[family.tokenizer]
        config, state = checkpoints.write(root / "checkpoints", name, family, tokenizer)
        golden = json.loads((root / "checkpoints" / name / "golden.json").read_text())
        margin = min(m for case in golden["cases"] for m in case["margins"])
        print(f"{name}: smallest greedy margin {margin:.2g}, {golden['provenance'].get('relative_change_without', '')}")
        if family.gguf:
            path = root / "gguf" / f"{name}-{family.gguf}.gguf"
            gguf_files.write(path, name, family, tokenizer, config, state)
            if name in READ_BACK:
                worst = quantised.check_read_back(path, golden)
                print(f"{name}: transformers' GGUF reader differs by {worst:.2g}")
                assert worst < 1e-5, (name, worst)
    (root / "quantised").mkdir()
    for kind in quantised.BLOCKS:
        quantised.write(root / "quantised", kind, made["qwen2" if quantised.FAMILIES[kind] == "qwen2" else "llama-bpe"])
        golden = json.loads((root / "quantised" / f"{kind}.golden.json").read_text())
        worst = quantised.check_read_back(root / "quantised" / f"{kind}.gguf", golden)
        margin = min(m for case in golden["cases"] for m in case["margins"])
        print(f"{kind}: smallest greedy margin {margin:.2g}, transformers' GGUF reader differs by {worst:.2g}")
        assert worst < 1e-5, (kind, worst)


def differences(left, right):
    files = lambda root: {p.relative_to(root) for part in PARTS for p in (root / part).rglob("*") if p.is_file()}
    ours, theirs = files(left), files(right)
    return sorted(ours ^ theirs) + sorted(f for f in ours & theirs if not filecmp.cmp(left / f, right / f, shallow=False))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    check = arguments.parse_args().check
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        write_all(temporary)
        if check:
            changed = differences(temporary, HERE)
            print("\n".join(map(str, changed)) or "all files are the same")
            return 1 if changed else 0
        for part in PARTS:
            shutil.rmtree(HERE / part, ignore_errors=True)
            shutil.copytree(temporary / part, HERE / part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
