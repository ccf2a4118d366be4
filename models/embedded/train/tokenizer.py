"""Trains the byte-level BPE tokenizer: the pre-tokenizer of Qwen2, so that every reader of GGUF files knows how to split.

    tokenizer.py WORK          reads WORK/corpus/train.jsonl, writes WORK/tokenizer.json

The tokenizer of the shipped weights is older than these shares: it was trained on Python 14, Rust 13, JavaScript 2 and 1 of each other language.

No Unicode normalisation takes place (llama.cpp does none for `qwen2` either). Digits stand alone, runs of spaces are tokens.
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# Megabytes of each language that the merges are learned from.
SHARE_MB = {"python": 12, "rust": 9, "javascript": 7, "typescript": 5, "go": 6, "ruby": 4, "c": 4, "markdown": 2}
SEED = 20


def texts(corpus: Path):
    lines = corpus.read_text().splitlines()
    random.Random(SEED).shuffle(lines)
    left = {language: megabytes * 1e6 for language, megabytes in SHARE_MB.items()}
    for line in lines:
        document = json.loads(line)
        if left[document["language"]] > 0:
            left[document["language"]] -= len(document["text"])
            yield document["text"]


def train(work: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), max_token_length=24)
    tokenizer.train_from_iterator(texts(work / "corpus/train.jsonl"), trainer)
    # The special tokens stand last, as in the models of the Qwen2 family.
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.save(str(work / "tokenizer.json"))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
