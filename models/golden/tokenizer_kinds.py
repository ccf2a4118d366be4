"""Tiny tokenizers of every kind the loader knows, with the pre-tokenizers of the published tokenizer.json files."""
import dataclasses
import io
import json

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import corpus

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CJK = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK_LLM_LETTERS = (   # escapes where an editor that normalises Unicode would change the range
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")


@dataclasses.dataclass
class Kind:
    """One tokenizer: `pre` is the value of tokenizer.ggml.pre; specials are (text, special flag) in id order."""
    pre: str
    specials: list
    specials_first: bool = False
    bos: str = None
    eos: str = None
    pad: str = None
    add_bos: bool = False
    nfc: bool = False
    ignore_merges: bool = False
    string_merges: bool = False   # merges written as "a b" (files published before 2024) and not as ["a", "b"]
    vocab: int = 384              # without the specials
    gguf_ids: dict = dataclasses.field(default_factory=dict)


FIM_QWEN = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
KINDS = {
    "llama-bpe": Kind("llama-bpe", [(t, True) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                      "<|end_header_id|>", "<|eot_id|>", "<|reserved_special_token_0|>")],
                      bos="<|begin_of_text|>", eos="<|eot_id|>", add_bos=True, ignore_merges=True, string_merges=True),
    "qwen2": Kind("qwen2", [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True), ("<tool_call>", False)]
                  + [(t, False) for t in FIM_QWEN], eos="<|im_end|>", pad="<|endoftext|>", nfc=True,
                  gguf_ids={"fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>",
                            "fim_pad": "<|fim_pad|>", "fim_rep": "<|repo_name|>", "fim_sep": "<|file_sep|>"}),
    "deepseek-coder": Kind("deepseek-coder", [("<｜begin▁of▁sentence｜>", True), ("<｜end▁of▁sentence｜>", True),
                           ("<｜fim▁hole｜>", False), ("<｜fim▁begin｜>", False), ("<｜fim▁end｜>", False), ("<|EOT|>", True)],
                           bos="<｜begin▁of▁sentence｜>", eos="<|EOT|>", pad="<｜end▁of▁sentence｜>", add_bos=True,
                           gguf_ids={"fim_pre": "<｜fim▁begin｜>", "fim_suf": "<｜fim▁hole｜>", "fim_mid": "<｜fim▁end｜>"}),
    "deepseek-llm": Kind("deepseek-llm", [("<｜begin▁of▁sentence｜>", True), ("<｜end▁of▁sentence｜>", True)],
                         bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>", add_bos=True),
    "starcoder": Kind("starcoder", [(t, True) for t in ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>",
                      "<fim_pad>", "<reponame>")], specials_first=True, bos="<|endoftext|>", eos="<|endoftext|>",
                      gguf_ids={"fim_pre": "<fim_prefix>", "fim_suf": "<fim_suffix>", "fim_mid": "<fim_middle>"}),
    "tekken": Kind("tekken", [(t, True) for t in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[PREFIX]", "[MIDDLE]",
                   "[SUFFIX]")], specials_first=True, bos="<s>", eos="</s>", add_bos=True, ignore_merges=True),
    "gpt-2": Kind("gpt-2", [("<|endoftext|>", True)], bos="<|endoftext|>", eos="<|endoftext|>", string_merges=True),
}


def pre_tokenizer(name):
    def split(pattern):
        return pre_tokenizers.Split(Regex(pattern), "isolated")

    def bytes_only():
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    deepseek_punctuation = split("\\s?[!-/:-~！-／：-～‘-‟　-。]+")
    steps = {
        "llama-bpe": [split(LLAMA3), bytes_only()],
        "qwen2": [split(QWEN2), bytes_only()],
        "tekken": [split(TEKKEN), bytes_only()],
        "deepseek-coder": [split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split(CJK), digits, bytes_only()],
        "deepseek-llm": [split("[\r\n]"), split(DEEPSEEK_LLM_LETTERS), deepseek_punctuation, split("\\s+$"), split(CJK),
                         pre_tokenizers.Digits(individual_digits=False), bytes_only()],
        "starcoder": [digits, gpt2],
        "gpt-2": [gpt2],
    }[name]
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def byte_level(name):
    """A byte-level BPE of the kind `name`, as `tokenizers.Tokenizer`."""
    kind = KINDS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind.ignore_merges))
    if kind.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer(name)
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(text, special=special, normalized=False) for text, special in kind.specials]
    first = len(added) if kind.specials_first else 0
    tokenizer.train_from_iterator(corpus.lines(), trainers.BpeTrainer(
        vocab_size=kind.vocab + first, special_tokens=added[:first], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_tokens(added)
    finish = [processors.ByteLevel(trim_offsets=False)]
    if kind.add_bos:
        finish.append(begin_with(tokenizer, kind.bos))
    tokenizer.post_processor = processors.Sequence(finish) if len(finish) > 1 else finish[0]
    return tokenizer


def begin_with(tokenizer, bos):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                         special_tokens=[(bos, tokenizer.token_to_id(bos))])


def sentence_piece(extra=()):
    """A SentencePiece BPE with byte fallback, as (tokenizers.Tokenizer, scores by id, the reference processor).

    The merges follow from the scores as in the published conversions: every split of a piece into two pieces is a
    merge, better scores first.
    """
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line.rstrip("\n") for line in corpus.lines()), model_writer=trained, model_type="bpe",
        vocab_size=512, byte_fallback=True, character_coverage=0.995, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True, num_threads=1,
        minloglevel=2)
    reference = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    pieces = [reference.id_to_piece(i) for i in range(reference.get_piece_size())]
    scores = [reference.get_score(i) for i in range(len(pieces))]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece, index in vocab.items():
        if reference.is_byte(index) or reference.is_control(index) or reference.is_unknown(index):
            continue
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        splits = sorted((vocab[left], vocab[right], left, right) for left, right in splits if left in vocab and right in vocab)
        merges += [(-scores[index], order, left, right) for order, (_, _, left, right) in enumerate(splits)]
    merges.sort(key=lambda merge: merge[0])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[(left, right) for _, _, left, right in merges],
                                     unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)
                                  for text in ("<unk>", "<s>", "</s>", *extra)])
    tokenizer.post_processor = begin_with(tokenizer, "<s>")
    return tokenizer, scores, reference


def to_json(tokenizer, string_merges=False):
    """The tokenizer.json text, compact and free of the trainer's leftovers."""
    data = json.loads(tokenizer.to_str())
    if string_merges:
        data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def vectors(tokenizer, kind_name, specials):
    """The tricky strings with their ids, special tokens as text; then text with special tokens, read both ways."""
    def encode(text, parse_special, add_special_tokens=False):
        tokenizer.encode_special_tokens = not parse_special
        ids = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        tokenizer.encode_special_tokens = False
        return ids

    plain = [{"text": text, "ids": encode(text, False)} for text in corpus.TRICKY]
    for case in plain:
        case["decoded"] = tokenizer.decode(case["ids"], skip_special_tokens=False)
    real = [text for text, special in specials if special]
    texts = [real[0], f"a{real[0]}b", f"{real[-1]} x {real[0]}\n{real[-1]}", f" {real[0]} ", real[0][:-1], real[0] * 3]
    special = [{"text": text, "parsed": encode(text, True), "as_text": encode(text, False)} for text in texts]
    added = [text for text, flag in specials if not flag]
    # Added tokens that are not flagged special are always recognised by the reference.
    added = [{"text": f"x {text} y", "parsed": encode(f"x {text} y", True)} for text in added]
    begin = {"text": "def f(x):", "ids": encode("def f(x):", True, add_special_tokens=True)}
    return {"kind": kind_name, "plain": plain, "special": special, "added": added, "with_begin": begin}
