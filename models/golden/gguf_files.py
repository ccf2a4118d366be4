"""GGUF files in the conventions of the common converter: tensor names, metadata keys, the permuted q and k of `llama`."""
import math

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_k": 15, "q5_k": 17, "q6_k": 18}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OUTER_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}


def tensor_name(name):
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{LAYER_NAMES[module]}.{kind}"


def permute(x, heads):
    """From half-split to interleaved rotary pairs, per head. x: [heads * head_dim, ...]"""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def gguf_tensors(config, state):
    """Tensors under their GGUF names, f32."""
    llama_arch = config["model_type"] != "qwen2"
    out = {}
    for name, x in state.items():
        x = x.to(torch.float32).numpy()
        if llama_arch and ".q_proj." in name:
            x = permute(x, config["num_attention_heads"])
        if llama_arch and ".k_proj." in name:
            x = permute(x, config["num_key_value_heads"])
        out[tensor_name(name)] = x
    return out


def llama3_factors(scaling, theta, head_dim):
    """Divisors of the rotary frequencies, one per pair (rope_freqs.weight)."""
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / head_dim)
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(scaling["factor"])
        else:
            smooth = ((scaling["original_max_position_embeddings"] / wavelength - scaling["low_freq_factor"])
                      / (scaling["high_freq_factor"] - scaling["low_freq_factor"]))
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def add_hyperparameters(writer, config, name, file_type):
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or {}
    theta = config.get("rope_theta", rope.get("rope_theta", 10000.0))
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(theta)
    if config["model_type"] != "qwen2":
        writer.add_rope_dimension_count(head_dim)
    if config.get("head_dim"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if config["model_type"] == "mistral" and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(scaling, theta, head_dim))


def add_tokenizer(writer, made, vocab_size, chat_template):
    """tokenizer.ggml.*: the whole tokenizer, padded to the model's vocabulary with unused tokens."""
    vocab = {i: text for text, i in made.tokenizer.get_vocab(with_added_tokens=True).items()}
    added = made.tokenizer.get_added_tokens_decoder()
    size = max(len(vocab), vocab_size)
    tokens, types, scores = [], [], []
    for i in range(size):
        text = vocab.get(i, f"[PAD{i}]")
        tokens.append(text)
        scores.append(made.scores[i] if made.scores and i < len(made.scores) else -1000.0 if made.scores else 0.0)
        if i not in vocab:
            types.append(gguf.TokenType.UNUSED)
        elif text == "<unk>":
            types.append(gguf.TokenType.UNKNOWN if made.scores else gguf.TokenType.CONTROL)
        elif i in added:
            looks_special = text.startswith(("<|", "<｜"))
            types.append(gguf.TokenType.CONTROL if added[i].special or looks_special else gguf.TokenType.USER_DEFINED)
        elif made.scores and len(text) == 6 and text.startswith("<0x"):
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama" if made.scores else "gpt2")
    writer.add_tokenizer_pre(made.pre)
    writer.add_token_list(tokens)
    if made.scores:
        writer.add_token_scores(scores)
    writer.add_token_types(types)
    if not made.scores:
        writer.add_token_merges(made.merges)
    token_id = made.tokenizer.token_to_id
    if made.bos:
        writer.add_bos_token_id(token_id(made.bos))
    writer.add_eos_token_id(token_id(made.eos))
    if made.pad:
        writer.add_pad_token_id(token_id(made.pad))
    if made.scores:
        writer.add_unk_token_id(token_id("<unk>"))
        writer.add_add_space_prefix(True)
    writer.add_add_bos_token(made.add_bos)
    for key, text in made.gguf_ids.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", token_id(text))
    if chat_template:
        writer.add_chat_template(chat_template)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer_only(path, made):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    add_tokenizer(writer, made, 0, None)
    finish(writer)


def write(path, name, family, made, config, state):
    """The checkpoint of a family as one GGUF; norms and biases stay f32 whatever the type."""
    arch = "qwen2" if config["model_type"] == "qwen2" else "llama"
    writer = gguf.GGUFWriter(path, arch)
    add_hyperparameters(writer, config, name, FILE_TYPES[family.gguf])
    add_tokenizer(writer, made, config["vocab_size"], family.chat_template)
    for tensor, x in gguf_tensors(config, state).items():
        if x.ndim == 1 or family.gguf == "f32":
            writer.add_tensor(tensor, x)
        elif family.gguf == "f16":
            writer.add_tensor(tensor, x.astype(np.float16))
        else:
            writer.add_tensor(tensor, gguf.quants.quantize(x, Type.BF16), raw_dtype=Type.BF16)
    finish(writer)
