"""Writes the shipped files from a checkpoint: ../model.gguf, ../golden.json and ../tokenizer_vectors.json.

    export.py WORK                       the files that are shipped
    export.py WORK --compare FOLDER      sconce-{BF16,Q8_0,Q6_K,Q4_K}.gguf there, to be compared

The GGUF follows the conventions of llama.cpp for `qwen2`: quantised matrices, F32 norms and biases, no output.weight (tied), the tokenizer inside.
The goldens are computed by the reference library in f32, once on the f32 master weights and once on what the quantised blocks say.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from gguf.quants import dequantize
from tokenizers import Tokenizer

from quantise import quantise
from tokenizer import SPECIAL
from train import load_checkpoint

HERE = Path(__file__).resolve().parent
CONTEXT = 1024
Kind = gguf.GGMLQuantizationType
SHIPPED = Kind.Q6_K
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
FILE_TYPES = {Kind.BF16: gguf.LlamaFileType.MOSTLY_BF16, Kind.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0, Kind.Q6_K: gguf.LlamaFileType.MOSTLY_Q6_K,
              Kind.Q4_K: gguf.LlamaFileType.MOSTLY_Q4_K_M}
# The reference library's names for ours.
REFERENCE_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
PROMPTS = [
    ("def add_all(numbers):\n    total = 0\n    for number in numbers:\n        ", "\n    return total\n"),
    ("import json\n\ndef read_config(path):\n    with open(path) as file:\n        return ", "\n\n\ndef write_config(path, config):\n    with open(path, \"w\") as file:\n        json.dump(config, file)\n"),
    ("pub struct Point {\n    pub x: f64,\n    pub y: f64,\n}\n\nimpl Point {\n    pub fn new(x: f64, y: f64) -> Self {\n        ", "\n    }\n}\n"),
    ("#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn adds() {\n        assert_eq!(add(1, 2), ", ""),
]
CHAT = "Write a Python function that returns the larger of two numbers."
VECTORS = [
    "", " ", "\n", "\r\n", "\t", "hello world", "def add(a, b):\n    return a + b\n", "    if x:\n        y = 1\n            z = 2\n", "a\r\nb\r\n\r\nc", "\tif (a) {\n\t\tb();\n\t}\n",
    "x = 1234567890 + 0x1F - 3.14e-10", "trailing spaces   \n  next", "   ", "a  b   c    d", "\n\n\n   \n\nx", "don't can't we'll I'M YOU'RE", "naïve café Übergröße façade",
    "日本語のコメント", "Привет, мир", "emoji 🙂🚀 and 👩‍👩‍👧 family", "fn main() { println!(\"{}\", 1_000); }", "<|endoftext|> is text here, and so is <|fim_middle|>", "<|im_start|>user\nhi<|im_end|>",
    "a\u00a0b\u2003c\u200bd", "== != <= >= && || -> => :: ...", "#[derive(Debug, Clone)]\npub enum Kind<'a> { A(&'a str) }", "snake_case CamelCase SCREAMING_CASE kebab-case",
    "async def f(*args, **kwargs): ...", "https://example.com/a?b=c&d=%20#e", "\\n \\t \\\" \\u0041", "مرحبا بالعالم", "ﬁ ½ x² ™", "0", "٣٤٥ and ⅷ", "    \n\t\n  \r\n", "self.assertEqual(result, {\"a\": [1, 2]})",
]


def shipped_tensors(weights: dict, kind: Kind) -> dict:
    """name -> (GGML type, raw bytes as an array, what the bytes say in f32)."""
    tensors = {}
    for name, value in weights.items():
        value = value.float().numpy()
        if value.ndim == 2:
            raw = quantise(value, kind)
            tensors[name] = (kind, raw, dequantize(raw, kind).astype(np.float32))
        else:
            tensors[name] = (Kind.F32, value, value)
    return tensors


def write_gguf(path: Path, shape: dict, tensors: dict, tokenizer: Tokenizer, kind: Kind) -> None:
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("sconce-embedded")
    writer.add_description("A small fill-in-the-middle code model, trained from scratch on permissively licensed source code.")
    writer.add_license("Apache-2.0 OR MIT")
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["q_heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_freq_base(shape["rope_theta"])
    writer.add_layer_norm_rms_eps(shape["norm_epsilon"])
    writer.add_vocab_size(shape["vocabulary"])

    inside = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in inside["merges"]])
    special = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "im_end", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad")}
    writer.add_bos_token_id(special["endoftext"])
    writer.add_eos_token_id(special["endoftext"])   # ends a middle and a document
    writer.add_eot_token_id(special["im_end"])      # ends a chat turn
    writer.add_pad_token_id(special["fim_pad"])
    writer.add_add_bos_token(False)
    writer.add_uint32("tokenizer.ggml.fim_pre_token_id", special["fim_prefix"])
    writer.add_uint32("tokenizer.ggml.fim_suf_token_id", special["fim_suffix"])
    writer.add_uint32("tokenizer.ggml.fim_mid_token_id", special["fim_middle"])
    writer.add_uint32("tokenizer.ggml.fim_pad_token_id", special["fim_pad"])
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, (kind, raw, _) in tensors.items():
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reference_model(shape: dict, weights: dict) -> transformers.Qwen2ForCausalLM:
    """The reference library's Qwen2 in f32 with the weights given under our names."""
    config = transformers.Qwen2Config(
        vocab_size=shape["vocabulary"], hidden_size=shape["hidden"], intermediate_size=shape["feed_forward"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["q_heads"], num_key_value_heads=shape["kv_heads"], max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": shape["rope_theta"]}, rms_norm_eps=shape["norm_epsilon"], tie_word_embeddings=True)
    model = transformers.Qwen2ForCausalLM(config).float().eval()
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".")
        key = REFERENCE_NAMES[parts[-2]]
        renamed[(f"model.layers.{parts[1]}.{key}" if parts[0] == "blk" else key) + "." + parts[-1]] = torch.from_numpy(np.array(value, dtype=np.float32))
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def infill_ids(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """Suffix first, then prefix: typing then only appends to the prompt."""
    one = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("fim_prefix", "fim_suffix", "fim_middle")}
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    return [one["fim_suffix"], *encode(suffix), one["fim_prefix"], *encode(prefix), one["fim_middle"]]


def chat_ids(tokenizer: Tokenizer, request: str) -> list[int]:
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    return [start, *encode(f"user\n{request}"), end, *encode("\n"), start, *encode("assistant\n")]


@torch.no_grad()
def greedy(model, prompt: list[int], count: int) -> dict:
    """`count` greedy tokens (no stop), and the twenty largest logits after the prompt."""
    ids, first = list(prompt), None
    for _ in range(count):
        logits = model(torch.tensor([ids])).logits[0, -1]
        first = logits if first is None else first
        ids.append(int(logits.argmax()))
    values, tokens = first.topk(20)
    return {"greedy": ids[len(prompt):], "top_tokens": tokens.tolist(), "top_logits": [round(value, 6) for value in values.tolist()]}


def write_golden(path: Path, tokenizer: Tokenizer, shipped, master, state: dict) -> None:
    prompts = [{"kind": "infill", "prefix": prefix, "suffix": suffix, "ids": infill_ids(tokenizer, prefix, suffix)} for prefix, suffix in PROMPTS]
    prompts.append({"kind": "chat", "messages": [{"role": "user", "content": CHAT}], "ids": chat_ids(tokenizer, CHAT)})
    for prompt in prompts:
        prompt["dequantised"] = greedy(shipped, prompt["ids"], 24)
        prompt["dequantised"]["text"] = tokenizer.decode(prompt["dequantised"]["greedy"], skip_special_tokens=False)
        prompt["f32"] = greedy(master, prompt["ids"], 24)
    provenance = {"script": "models/embedded/train/export.py", "python": platform.python_version(), "torch": torch.__version__,
                  "transformers": transformers.__version__, "gguf": "0.19.0", "dtype": "float32", "training": state}
    path.write_text(json.dumps({"provenance": provenance, "prompts": prompts}, indent=1, ensure_ascii=False) + "\n")


def write_vectors(path: Path, work: Path) -> None:
    """Ids of plain text: the same tokenizer with its special tokens forgotten, so that their names are text like any other."""
    inside = json.loads((work / "tokenizer.json").read_text())
    inside["added_tokens"] = []
    plain = Tokenizer.from_str(json.dumps(inside))
    vectors = [{"text": text, "ids": plain.encode(text, add_special_tokens=False).ids} for text in VECTORS]
    assert all(plain.decode(vector["ids"]) == vector["text"] for vector in vectors)
    path.write_text(json.dumps({"library": f"tokenizers {tokenizers.__version__}", "special_tokens": "as plain text", "vectors": vectors}, indent=0, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--target", type=Path, default=HERE.parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    saved = load_checkpoint(arguments.work)
    weights, shape = saved["weights"], saved["shape"]
    tokenizer = Tokenizer.from_file(str(arguments.work / "tokenizer.json"))
    if arguments.compare:
        for kind in FILE_TYPES:
            write_gguf(arguments.compare / f"sconce-{kind.name}.gguf", shape, shipped_tensors(weights, kind), tokenizer, kind)
        return
    tensors = shipped_tensors(weights, SHIPPED)
    write_gguf(arguments.target / "model.gguf", shape, tensors, tokenizer, SHIPPED)
    shipped = reference_model(shape, {name: value for name, (_, _, value) in tensors.items()})
    state = {key: saved["state"][key] for key in ("step", "seconds", "tokens")}
    write_golden(arguments.target / "golden.json", tokenizer, shipped, reference_model(shape, weights), state)
    write_vectors(arguments.target / "tokenizer_vectors.json", arguments.work)
    print(f"model.gguf: {(arguments.target / 'model.gguf').stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
