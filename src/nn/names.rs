//! How the tensors of a checkpoint are called. This room speaks the names of Hugging Face; GGUF has its own.
//!
//! Source: the tensor name table of gguf-py (`constants.py`).

use super::spec::{Head, TensorNames};

/// Hugging Face module of a layer, GGUF name of it.
const LAYER_MODULES: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const OUTER_MODULES: &[(&str, &str)] =
    &[("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Frequencies of the rotation, read with the configuration.
pub(super) const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

impl TensorNames {
    /// The name in the file of what Hugging Face calls `name`, such as `model.layers.3.mlp.up_proj.weight`.
    pub(super) fn in_file(self, name: &str) -> String {
        match self {
            Self::HuggingFace => name.to_owned(),
            Self::Gguf { .. } => gguf_name(name).unwrap_or_else(|| name.to_owned()),
        }
    }

    /// Whether a tensor that no layer asks for may be in the file all the same.
    pub(super) fn is_ignorable(self, name: &str, head: Head) -> bool {
        match self {
            // Old exporters stored the computed frequencies; some store the tied matrix twice.
            Self::HuggingFace => {
                name.ends_with(".rotary_emb.inv_freq") || (head == Head::Tied && name == "lm_head.weight")
            }
            Self::Gguf { .. } => name == ROPE_FREQUENCIES,
        }
    }
}

fn gguf_name(name: &str) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    if let Some((_, outer)) = OUTER_MODULES.iter().find(|(known, _)| *known == module) {
        return Some(format!("{outer}.{kind}"));
    }
    let (layer, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let (_, inner) = LAYER_MODULES.iter().find(|(known, _)| *known == module)?;
    Some(format!("blk.{layer}.{inner}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::spec::RotaryRows;

    #[test]
    fn gguf_has_its_own_names() {
        let names = TensorNames::Gguf { rows: RotaryRows::HalfSplit };
        let want = [
            ("model.layers.3.self_attn.q_proj.bias", "blk.3.attn_q.bias"),
            ("model.layers.12.post_attention_layernorm.weight", "blk.12.ffn_norm.weight"),
            ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
        ];
        for (name, in_file) in want {
            assert_eq!(names.in_file(name), in_file);
            assert_eq!(TensorNames::HuggingFace.in_file(name), name);
        }
    }
}
