//! Shapes of models that people run, for benches without their weights: the `config.json` that each model's authors
//! publish, cut down to the keys that say how large what is, so that it goes through the reader of real models.

use crate::checkpoint::{Checkpoint, Noise, RandomTensor};
use crate::nn::{AttentionBias, DecoderSpec, Head, Mlp, MlpBias, QkNorm};

/// A model's numbers without its weights.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Whose numbers they are: a `config.json` on Hugging Face, at its state of 2025.
    pub source: &'static str,
    config: &'static str,
}

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "qwen2.5-coder-0.5b",
        source: "Qwen/Qwen2.5-Coder-0.5B",
        config: r#"{
            "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"
        }"#,
    },
    Shape {
        name: "qwen2.5-coder-1.5b",
        source: "Qwen/Qwen2.5-Coder-1.5B",
        config: r#"{
            "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
            "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"
        }"#,
    },
    Shape {
        name: "qwen2.5-coder-7b",
        source: "Qwen/Qwen2.5-Coder-7B",
        config: r#"{
            "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": false,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"
        }"#,
    },
    Shape {
        name: "qwen2.5-coder-32b",
        source: "Qwen/Qwen2.5-Coder-32B-Instruct",
        config: r#"{
            "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
            "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": false,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"
        }"#,
    },
    Shape {
        name: "mistral-7b",
        source: "mistralai/Mistral-7B-v0.3",
        config: r#"{
            "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "tie_word_embeddings": false,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "sliding_window": null
        }"#,
    },
    Shape {
        name: "llama-3.1-8b",
        source: "meta-llama/Llama-3.1-8B",
        config: r#"{
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": false,
            "max_position_embeddings": 131072, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192
            }
        }"#,
    },
    Shape {
        name: "llama-1.1b",
        source: "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        config: r#"{
            "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "tie_word_embeddings": false,
            "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu"
        }"#,
    },
    Shape {
        name: "tiny",
        source: "nobody: small enough to try a bench with",
        config: r#"{
            "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": false,
            "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"
        }"#,
    },
];

/// Weights of models start their training with this deviation, and logits stay finite with it.
const MATRIX_NOISE: Noise = Noise { mean: 0.0, deviation: 0.02 };
const NORM_NOISE: Noise = Noise { mean: 1.0, deviation: 0.1 };

impl Shape {
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.name == name)
    }

    /// What the model's own configuration says.
    pub(super) fn config(&self) -> serde_json::Value {
        serde_json::from_str(self.config).expect("the configurations above are JSON")
    }

    /// A checkpoint with this configuration and no tensors: enough to recognise the architecture.
    pub(super) fn bare(&self) -> Checkpoint {
        Checkpoint::random(self.name, self.config(), Vec::new(), 0)
    }

    /// The same with noise for every tensor that `spec` is made of.
    pub(super) fn checkpoint(&self, spec: &DecoderSpec, seed: u64) -> Checkpoint {
        Checkpoint::random(self.name, self.config(), tensors(spec), seed)
    }
}

/// Every tensor of a decoder, as a Hugging Face folder names them. One that is missing here, or one too many, is an
/// error of the loading.
fn tensors(spec: &DecoderSpec) -> Vec<RandomTensor> {
    let DecoderSpec { hidden, vocab, layers, .. } = *spec;
    let mut list = List(Vec::new());
    list.matrix("model.embed_tokens", [vocab, hidden]);
    for layer in 0..layers {
        list.layer(&format!("model.layers.{layer}"), spec);
    }
    list.norm("model.norm", hidden);
    if spec.head == Head::Separate {
        list.matrix("lm_head", [vocab, hidden]);
    }
    list.0
}

struct List(Vec<RandomTensor>);

impl List {
    fn layer(&mut self, layer: &str, spec: &DecoderSpec) {
        let (hidden, width) = (spec.hidden, spec.mlp.width());
        let QkNorm::None = spec.attention.qk_norm;
        let (qkv_bias, output_bias) = match spec.attention.bias {
            AttentionBias::None => (false, false),
            AttentionBias::Qkv => (true, false),
            AttentionBias::QkvAndOutput => (true, true),
        };
        let Mlp::Gated { bias, .. } = spec.mlp;
        let mlp_bias = bias == MlpBias::All;
        self.norm(&format!("{layer}.input_layernorm"), hidden);
        self.norm(&format!("{layer}.post_attention_layernorm"), hidden);
        for (module, shape, has_bias) in [
            ("self_attn.q_proj", [spec.q_width(), hidden], qkv_bias),
            ("self_attn.k_proj", [spec.kv_width(), hidden], qkv_bias),
            ("self_attn.v_proj", [spec.kv_width(), hidden], qkv_bias),
            ("self_attn.o_proj", [hidden, spec.q_width()], output_bias),
            ("mlp.gate_proj", [width, hidden], mlp_bias),
            ("mlp.up_proj", [width, hidden], mlp_bias),
            ("mlp.down_proj", [hidden, width], mlp_bias),
        ] {
            self.matrix(&format!("{layer}.{module}"), shape);
            if has_bias {
                self.add(format!("{layer}.{module}.bias"), vec![shape[0]], MATRIX_NOISE);
            }
        }
    }

    fn matrix(&mut self, module: &str, shape: [usize; 2]) {
        self.add(format!("{module}.weight"), shape.to_vec(), MATRIX_NOISE);
    }

    fn norm(&mut self, module: &str, width: usize) {
        self.add(format!("{module}.weight"), vec![width], NORM_NOISE);
    }

    fn add(&mut self, name: String, shape: Vec<usize>, noise: Noise) {
        self.0.push(RandomTensor { name, shape, noise });
    }
}
