"""One GGUF per quantised type, made of random valid blocks; the golden is what transformers computes from the
weights that gguf-py dequantises."""
import math
import pathlib

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

import checkpoints
import gguf_files

# For each type: the scale fields of a block as (byte offset, scale for a standard deviation of about one), where the
# other bytes are uniform. K-quants carry a second scale for the minimum, which centres the weights.
BLOCKS = {
    "q8_0": (Type.Q8_0, [(0, 1 / 74)]),
    "q4_0": (Type.Q4_0, [(0, 1 / 4.6)]),
    "q4_k": (Type.Q4_K, [(0, 1 / 260), (2, 7.5 / 260)]),
    "q5_k": (Type.Q5_K, [(0, 1 / 520), (2, 15.5 / 520)]),
    "q6_k": (Type.Q6_K, [(208, 1 / 1370)]),
}
# Prompts (by number) whose last logits are recorded with rounded activations as well.
ROUNDED_PROMPTS = [1, 3, 4]
# Values that share a scale when activations are rounded to eight bits.
ROUNDED_BLOCK = 32
FAMILIES = {"q8_0": "qwen2", "q4_0": "llama", "q4_k": "qwen2", "q5_k": "llama", "q6_k": "qwen2"}


def random_blocks(kind, shape, std, rng):
    """Bytes of a tensor [rows, width] of the type: [rows, bytes per row]."""
    qtype, scales = BLOCKS[kind]
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    rows, width = shape
    blocks = rng.integers(0, 256, (rows * width // block, size), dtype=np.uint8)
    vary = rng.uniform(0.6, 1.4, (len(blocks), 1))
    for offset, unit in scales:
        blocks[:, offset:offset + 2] = (unit * std * vary).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, width // block * size)


def config_of(kind, vocab):
    wide = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
                vocab_size=vocab)
    if FAMILIES[kind] == "qwen2":
        return checkpoints.qwen2(**wide)
    return checkpoints.llama(rope_theta=500000.0, **wide)


def unpermute(x, heads):
    """The inverse of `gguf_files.permute`."""
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def round_inputs(_, inputs):
    """What a linear layer sees where activations are rounded: eight bits, one scale for each block."""
    x, = inputs
    blocks = x.reshape(*x.shape[:-1], -1, ROUNDED_BLOCK)
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-30)
    return ((blocks / scale).round() * scale).reshape(x.shape),


def rounded_cases(model, cases):
    """The last logits of some prompts, with the inputs of all linear layers rounded."""
    hooks = [layer.register_forward_pre_hook(round_inputs) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    rounded = [{"prompt": cases[number]["prompt"],
                "values": [checkpoints.shorten(x) for x in checkpoints.logits_of(model, cases[number]["prompt"])[-1].tolist()]}
               for number in ROUNDED_PROMPTS]
    for hook in hooks:
        hook.remove()
    return rounded


def write(root, kind, made):
    """Writes KIND.gguf and KIND.golden.json."""
    seed = 40 + list(BLOCKS).index(kind)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    config = config_of(kind, made.tokenizer.get_vocab_size())
    hf_config = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(hf_config, dtype=torch.float32, attn_implementation="eager").eval()
    qtype = BLOCKS[kind][0]
    arch = "qwen2" if config["model_type"] == "qwen2" else "llama"
    writer = gguf.GGUFWriter(pathlib.Path(root) / f"{kind}.gguf", arch)
    gguf_files.add_hyperparameters(writer, config, kind, gguf_files.FILE_TYPES[kind])
    gguf_files.add_tokenizer(writer, made, config["vocab_size"], None)
    state, spread = {}, {}
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        tensor = gguf_files.tensor_name(name)
        if len(shape) == 1:
            x = checkpoints.random_tensor(name, shape, generator, config["hidden_size"])
            writer.add_tensor(tensor, x.numpy())
            state[name] = x
            continue
        gain = 1.4 if "q_proj" in name or "k_proj" in name else 2.0 if "embed" in name or "lm_head" in name else 1.0
        raw = random_blocks(kind, shape, gain / math.sqrt(shape[1]), rng)
        writer.add_tensor(tensor, raw, raw_dtype=qtype)
        x = gguf.quants.dequantize(raw, qtype).reshape(shape)
        spread[tensor] = checkpoints.shorten(float(x.std()))
        if arch == "llama" and ".q_proj." in name:
            x = unpermute(x, config["num_attention_heads"])
        if arch == "llama" and ".k_proj." in name:
            x = unpermute(x, config["num_key_value_heads"])
        state[name] = torch.from_numpy(np.ascontiguousarray(x))
    gguf_files.finish(writer)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(config["tie_word_embeddings"] and m == "lm_head.weight" for m in missing), missing
    model.tie_weights()
    cases = checkpoints.golden_cases(model, made.tokenizer.get_vocab_size(), seed)
    checkpoints.dump(pathlib.Path(root) / f"{kind}.golden.json", {
        "provenance": checkpoints.provenance(seed, gguf="gguf-py 0.19.0 dequantize", standard_deviations=spread), "cases": cases,
        "rounded": rounded_cases(model, cases)})


def check_read_back(path, golden):
    """transformers' own GGUF reader must see the same model (families whose settings it maps)."""
    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    state = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    worst = 0.0
    for case in golden["cases"]:
        logits = checkpoints.logits_of(model, case["prompt"])
        for at in case["logits"]:
            want = torch.tensor(at["values"])
            worst = max(worst, ((logits[at["position"]] - want).abs().max() / want.abs().max()).item())
    return worst
