"""Tiny random checkpoints of each family as Hugging Face folders, and what transformers computes from them."""
import copy
import dataclasses
import json
import math
import pathlib

import tokenizers
import torch
import transformers
from safetensors.torch import save_file

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
HEADERS = ("{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
           " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
INST = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
        "{% else %}{{ raise_exception('only user and assistant speak here') }}{% endif %}{% endfor %}")
INSTRUCTION = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n' }}"
               "{% elif message['role'] == 'system' %}{{ message['content'] + '\n' }}"
               "{% else %}{{ '### Response:\n' + message['content'] + '\n<|EOT|>\n' }}{% endif %}{% endfor %}"
               "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}")
CODELLAMA_EXTRA = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")


@dataclasses.dataclass
class Family:
    """One checkpoint. `without` removes what makes the family special: the golden must change without it."""
    seed: int
    tokenizer: str
    config: dict
    chat_template: str
    dtype: torch.dtype = torch.bfloat16
    shards: int = 1
    pad_vocab: int = 0
    without: dict = dataclasses.field(default_factory=dict)
    gguf: str = None


def llama(**changes):
    base = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", hidden_size=64,
                intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                max_position_embeddings=256, rms_norm_eps=1e-5, attention_bias=False, mlp_bias=False,
                tie_word_embeddings=False, torch_dtype="bfloat16", transformers_version="4.43.0", use_cache=True,
                initializer_range=0.02)
    return {**base, **changes}


def qwen2(**changes):
    base = dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", hidden_size=64,
                intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                max_position_embeddings=256, max_window_layers=2, rms_norm_eps=1e-6, rope_theta=1000000.0,
                sliding_window=256, use_sliding_window=False, tie_word_embeddings=True, torch_dtype="bfloat16",
                transformers_version="4.44.0", use_cache=True, attention_dropout=0.0, initializer_range=0.02)
    return {**base, **changes}


LLAMA3_SCALING = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64,
                      rope_type="llama3")
FAMILIES = {
    "llama2": Family(11, "sentencepiece", llama(rope_scaling=None), INST, gguf="f32"),
    "llama3": Family(22, "llama-bpe", llama(num_key_value_heads=2, rope_theta=500000.0, rope_scaling=LLAMA3_SCALING),
                     HEADERS, shards=3, without={"rope_scaling": None}, gguf="f32"),
    "codellama": Family(13, "sentencepiece-code", llama(num_attention_heads=2, num_key_value_heads=2,
                        rope_theta=1000000.0, torch_dtype="float16"), INST, dtype=torch.float16,
                        without={"rope_theta": 10000.0}, gguf="f16"),
    "deepseek-coder": Family(24, "deepseek-coder", llama(rope_theta=100000.0, rms_norm_eps=1e-6,
                             rope_scaling=dict(factor=4.0, type="linear")), INSTRUCTION, without={"rope_scaling": None},
                             gguf="bf16"),
    "mistral": Family(15, "tekken", dict(architectures=["MistralForCausalLM"], model_type="mistral", hidden_act="silu",
                      hidden_size=64, head_dim=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, sliding_window=8,
                      rope_parameters=dict(rope_theta=10000.0, rope_type="default"), tie_word_embeddings=False,
                      dtype="bfloat16", transformers_version="5.0.0", use_cache=True, attention_dropout=0.0,
                      initializer_range=0.02, pad_token_id=None),
                      INST, without={"sliding_window": None}, gguf="f32"),
    "qwen2": Family(16, "qwen2", qwen2(), CHATML, pad_vocab=6, gguf="f32"),
    "qwen2-yarn": Family(17, "qwen2", qwen2(num_attention_heads=2, num_key_value_heads=1, rope_theta=10000.0, torch_dtype="float32",
                         rope_scaling=dict(factor=4.0, original_max_position_embeddings=64, type="yarn")), CHATML,
                         dtype=torch.float32, without={"rope_scaling": None}, gguf="bf16"),
    "qwen2-window": Family(28, "qwen2", qwen2(num_hidden_layers=3, use_sliding_window=True, max_window_layers=1,
                           sliding_window=8, tie_word_embeddings=False), CHATML, pad_vocab=6,
                           without={"use_sliding_window": False, "layer_types": None}),
}
PROMPTS = [(1, [0]), (5, [1, 4]), (16, [15]), (48, [7, 8, 23, 47]), (75, [74])]  # (tokens, positions with logits)
GREEDY_TOKENS = 16


def exact(x):
    """Rounds to values that bf16, f16 and f32 all hold: bf16's precision, f16's normal range."""
    x = x.to(torch.bfloat16).to(torch.float32)
    return torch.where(x.abs() < 2.0 ** -14, torch.zeros_like(x), x)


def random_tensor(name, shape, generator, hidden):
    """Weights under which every tensor matters: peaked attention, norms that are not one, biases that are not zero."""
    mean, std = 0.0, 1.0 / math.sqrt(shape[-1])
    if "norm" in name:
        mean, std = 1.0, 0.2
    elif name.endswith("bias"):
        std = 0.5
    elif "q_proj" in name or "k_proj" in name:
        std = 1.4 / math.sqrt(hidden)
    elif "embed_tokens" in name or "lm_head" in name:
        std = 2.0 / math.sqrt(hidden)
    return exact(torch.empty(shape).normal_(mean, std, generator=generator))


def random_state(model, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    hidden = model.config.hidden_size
    return {name: random_tensor(name, shape, generator, hidden) for name, shape in sorted(shapes.items())}


def write_weights(folder, state, dtype, shards):
    state = {name: x.to(dtype).contiguous() for name, x in state.items()}
    if shards == 1:
        save(state, folder / "model.safetensors")
        return
    names = sorted(state)
    per_shard = -(-len(names) // shards)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard * per_shard:(shard + 1) * per_shard]
        save({name: state[name] for name in part}, folder / file)
        weight_map.update({name: file for name in part})
    total = sum(x.numel() * x.element_size() for x in state.values())
    dump(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1)


def save(state, path):
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)


def dump(path, data, indent=None):
    separators = None if indent else (",", ":")
    path.write_text(json.dumps(data, ensure_ascii=False, indent=indent, separators=separators) + "\n")


def reference_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def golden_cases(model, vocab, seed):
    """For each prompt: logits at the named positions, then the greedy continuation with its margins."""
    generator = torch.Generator().manual_seed(seed + 1000)
    cases = []
    for tokens, positions in PROMPTS:
        ids = torch.randint(0, vocab, (tokens,), generator=generator).tolist()
        logits = logits_of(model, ids)
        greedy, margins = [], []
        for _ in range(GREEDY_TOKENS):
            top = logits_of(model, ids + greedy)[-1].topk(2)
            greedy.append(top.indices[0].item())
            margins.append(shorten((top.values[0] - top.values[1]).item()))
        cases.append({"prompt": ids, "greedy": greedy, "margins": margins, "logits": [
            {"position": p, "values": [shorten(x) for x in logits[p].tolist()]} for p in positions]})
    return cases


def shorten(x):
    return float(f"{x:.7g}")


def provenance(seed, **more):
    return {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
            "tokenizers": tokenizers.__version__, "attention": "eager", "math": "float32", "seed": seed, **more}


def chat_case(made, chat_template):
    """A conversation as the reference renders it, and its ids with the special tokens of the template recognised."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made.tokenizer, bos_token=made.bos, eos_token=made.eos, pad_token=made.pad, unk_token=made.unk)
    messages = [{"role": "user", "content": "Say hi."}, {"role": "assistant", "content": "Hi!"},
                {"role": "user", "content": "  Add 1 and 2 in Rust\n"}]
    text = tokenizer.apply_chat_template(messages, chat_template=chat_template, tokenize=False, add_generation_prompt=True)
    return {"messages": messages, "text": text, "ids": made.tokenizer.encode(text, add_special_tokens=False).ids}


def check_matters(folder, family, cases):
    """The relative change of the last prompt's logits when the family's special setting is taken away."""
    if not family.without:
        return {}
    config = transformers.AutoConfig.from_pretrained(folder)
    plain = json.loads((folder / "config.json").read_text())
    plain.update(family.without)
    plain = type(config)(**copy.deepcopy(plain))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=plain, dtype=torch.float32, attn_implementation="eager").eval()
    got = logits_of(model, cases[-1]["prompt"])[-1]
    want = torch.tensor(cases[-1]["logits"][-1]["values"])
    change = ((got - want).abs().max() / want.abs().max()).item()
    assert change > 1e-2, (folder, change)
    return {"without": family.without, "relative_change_without": shorten(change)}


def write_tokenizer(folder, made, chat_template, max_tokens):
    folder.joinpath("tokenizer.json").write_text(made.json)
    decoder = {str(i): {"content": t.content, "lstrip": False, "normalized": t.normalized, "rstrip": False,
                        "single_word": False, "special": t.special}
               for i, t in sorted(made.tokenizer.get_added_tokens_decoder().items())}
    dump(folder / "tokenizer_config.json", {
        "add_bos_token": made.add_bos, "add_eos_token": False, "added_tokens_decoder": decoder, "bos_token": made.bos,
        "eos_token": made.eos, "pad_token": made.pad, "unk_token": made.unk, "chat_template": chat_template,
        "clean_up_tokenization_spaces": False, "model_max_length": max_tokens,
        "tokenizer_class": made.tokenizer_class}, indent=1)


def write(root, name, family, made):
    """Writes the folder of one family and its golden.json; returns the state for the GGUF writer."""
    folder = pathlib.Path(root) / name
    folder.mkdir(parents=True, exist_ok=True)
    vocab = made.tokenizer.get_vocab_size()
    token_id = made.tokenizer.token_to_id
    config = {**family.config, "vocab_size": vocab + family.pad_vocab, "eos_token_id": token_id(made.eos)}
    if made.bos:
        config["bos_token_id"] = token_id(made.bos)
    dump(folder / "config.json", dict(sorted(config.items())), indent=2)
    write_tokenizer(folder, made, family.chat_template, config["max_position_embeddings"])
    eos = [token_id(made.eos)] + ([token_id(made.pad)] if made.pad else [])
    dump(folder / "generation_config.json", {"do_sample": True, "eos_token_id": eos, "temperature": 0.7, "top_p": 0.9}, indent=2)
    loaded = transformers.AutoConfig.from_pretrained(folder)
    state = random_state(transformers.AutoModelForCausalLM.from_config(loaded), family.seed)
    write_weights(folder, state, family.dtype, family.shards)
    model = reference_model(folder)
    for key, value in model.state_dict().items():
        assert key not in state or torch.equal(value, state[key]), key
    cases = golden_cases(model, vocab, family.seed)
    dump(folder / "golden.json", {"provenance": provenance(family.seed, **check_matters(folder, family, cases)), "cases": cases,
                                  "chat": chat_case(made, family.chat_template)})
    return config, state
