//! Configurations as they are published, and configurations that were crafted.

use serde_json::{Value, json};

use super::*;
use crate::nn::{AttentionBias, Head, Mlp, MlpBias, Rope, RopeScaling, TensorNames, Window, YarnEdges};

fn read(json: &Value) -> Result<(&'static str, DecoderSpec), SpecError> {
    let config = Config::new(json)?;
    let model_type = config.model_type()?;
    let known = ARCHITECTURES.iter().find(|known| known.model_type == model_type);
    let known = known.ok_or_else(|| config.unknown_model(model_type, supported()))?;
    let spec = (known.from_config)(&config)?;
    limits::check(&spec)?;
    Ok((known.model_type, spec))
}

/// Numbers of a small model; `changes` are laid over them.
fn config(model_type: &str, changes: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "hidden_act": "silu", "hidden_size": 512, "intermediate_size": 1024,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": false
    });
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    config.as_object_mut().expect("an object").extend(changes);
    config
}

fn spec(model_type: &str, changes: Value) -> DecoderSpec {
    read(&config(model_type, changes)).expect("a supported configuration").1
}

fn refused(model_type: &str, changes: Value, said: &str) {
    let message = read(&config(model_type, changes)).expect_err("refused").to_string();
    assert!(message.contains(said), "{message:?} does not say {said:?}");
}

#[test]
fn llama_with_its_defaults() {
    let spec = spec("llama", json!({"num_key_value_heads": null, "rope_scaling": null, "head_dim": null}));
    assert_eq!((spec.q_heads, spec.kv_heads, spec.head_dim), (8, 8, 64));
    assert_eq!((spec.head, spec.names), (Head::Separate, TensorNames::HuggingFace));
    assert_eq!(spec.attention.rope, Rope::plain(10_000.0));
    assert_eq!((spec.attention.bias, spec.attention.window), (AttentionBias::None, Window::Full));
}

#[test]
fn llama_with_biases_and_wide_heads() {
    let spec = spec("llama", json!({"attention_bias": true, "mlp_bias": true, "head_dim": 128}));
    assert_eq!((spec.head_dim, spec.q_width(), spec.attention.bias), (128, 1024, AttentionBias::QkvAndOutput));
    assert!(matches!(spec.mlp, Mlp::Gated { bias: MlpBias::All, .. }));
}

#[test]
fn scaling_in_both_spellings() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let old = spec("llama", json!({"rope_theta": 500_000, "rope_scaling": scaling}));
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500_000.0);
    let new = spec("llama", json!({"rope_parameters": parameters, "rope_theta": null}));
    assert_eq!(old.attention.rope, new.attention.rope);
    let want = RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_tokens: 8192 };
    assert_eq!(old.attention.rope, Rope { theta: 500_000.0, scaling: want });
    let linear = spec("llama", json!({"rope_scaling": {"type": "linear", "factor": 4}}));
    assert_eq!(linear.attention.rope.scaling, RopeScaling::Linear { factor: 4.0 });
    assert_eq!(linear.context_tokens, 4096);
}

#[test]
fn yarn_stretches_the_context() {
    let scaling = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096});
    let stretched = spec("qwen2", json!({"rope_scaling": scaling}));
    assert_eq!(stretched.context_tokens, 16_384);
    let RopeScaling::Yarn(yarn) = stretched.attention.rope.scaling else { panic!("yarn") };
    assert_eq!((yarn.beta_fast, yarn.beta_slow, yarn.edges), (32.0, 1.0, YarnEdges::Truncated));
    assert!((yarn.attention_factor - 1.138_629_436).abs() < 1e-8);
    let scaling = json!({"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 256, "mscale": 0.7,
        "mscale_all_dim": 1.0, "truncate": false, "beta_fast": 16, "beta_slow": 2, "rope_theta": 1e4});
    let spec = spec("llama", json!({"rope_parameters": scaling}));
    let RopeScaling::Yarn(yarn) = spec.attention.rope.scaling else { panic!("yarn") };
    // As transformers 5.23.0 computes it.
    assert!((yarn.attention_factor - 0.934_877_992_648).abs() < 1e-9);
    assert_eq!((yarn.beta_fast, yarn.beta_slow, yarn.edges), (16.0, 2.0, YarnEdges::Exact));
}

#[test]
fn windows() {
    let mistral = |changes| spec("mistral", changes).attention.window;
    assert_eq!(mistral(json!({"sliding_window": 1024})), Window::Sliding { tokens: 1024 });
    assert_eq!(mistral(json!({"sliding_window": null})), Window::Full);
    assert_eq!(mistral(json!({})), Window::Sliding { tokens: 4096 });
    let qwen2 = |changes| spec("qwen2", changes).attention.window;
    assert_eq!(qwen2(json!({"sliding_window": 64, "use_sliding_window": false, "max_window_layers": 0})), Window::Full);
    let late = Window::PerLayer(vec![None, None, None, Some(64)]);
    assert_eq!(qwen2(json!({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 3})), late);
    let (full, sliding) = ("full_attention", "sliding_attention");
    let named = json!({"sliding_window": 64, "use_sliding_window": true, "layer_types": [full, full, full, sliding]});
    assert_eq!(qwen2(named), late);
    refused("qwen2", json!({"layer_types": [full]}), "`layer_types` has 1 entries, expected 4");
    refused("qwen2", json!({"layer_types": [full, full, full, sliding]}), "`sliding_window` is missing");
    refused("qwen2", json!({"layer_types": [full, full, full, "chunked"]}), "full_attention or sliding_attention");
}

#[test]
fn what_is_not_supported_is_named() {
    refused("gemma", json!({}), "`gemma` is not supported, supported are llama, mistral, qwen2");
    refused("my_model", json!({"auto_map": {"AutoModel": "modeling.My"}}), "brings its own code");
    refused("llama", json!({"hidden_act": "gelu"}), "`hidden_act` is \"gelu\", supported is silu");
    refused("llama", json!({"rope_scaling": {"type": "dynamic", "factor": 2}}), "`rope_type` is dynamic");
    refused("llama", json!({"rope_scaling": {"type": "linear"}}), "`factor` is missing");
    refused("llama", json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor` is 0.5");
    refused("llama", json!({"quantization_config": {"quant_method": "gptq"}}), "`quantization_config` is gptq");
    refused("llama", json!({"hidden_size": "512"}), "`hidden_size` is \"512\", expected a count");
    refused("llama", json!({"hidden_size": -1}), "`hidden_size` is -1");
    refused("llama", json!({"vocab_size": null}), "`vocab_size` is missing");
    refused("llama", json!({"tie_word_embeddings": 1}), "expected true or false");
    assert!(read(&json!([1])).expect_err("a list").to_string().contains("expected an object"));
    assert!(
        read(&json!({"architectures": ["X"]})).expect_err("no type").to_string().contains("`model_type` is missing")
    );
}

#[test]
fn numbers_beyond_their_limits() {
    for (changes, said) in [
        (json!({"hidden_size": 1_u64 << 31}), "hidden size is 2147483648"),
        (json!({"hidden_size": 0}), "hidden size is 0"),
        (json!({"num_hidden_layers": 1_000_000}), "number of layers is 1000000"),
        (json!({"num_hidden_layers": 0}), "number of layers is 0"),
        (json!({"head_dim": 0}), "head dimension is 0"),
        (json!({"head_dim": 63}), "head dimension is 63, not a multiple"),
        (json!({"num_attention_heads": 0, "num_key_value_heads": 0}), "hidden size is 512, not a multiple"),
        (json!({"num_attention_heads": 7}), "hidden size is 512, not a multiple"),
        (json!({"num_key_value_heads": 3}), "number of query heads is 8, not a multiple"),
        (json!({"num_key_value_heads": 0}), "number of key-value heads is 0"),
        (json!({"rope_theta": 0}), "rope theta is 0"),
        (json!({"rope_theta": -1e4}), "rope theta is -10000"),
        (json!({"rope_theta": 1e300}), "rope theta is 1"),
        (json!({"rms_norm_eps": 0}), "norm epsilon is 0"),
        (json!({"vocab_size": u64::MAX}), "vocabulary is"),
        (json!({"intermediate_size": 0}), "width of the mlp is 0"),
        (json!({"max_position_embeddings": 0}), "context length is 0"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "rope scaling factor is 0"),
        (
            json!({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                "original_max_position_embeddings": 8192}}),
            "rope high frequency factor is 4",
        ),
        (
            json!({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 0}}),
            "original context length is 0",
        ),
        (json!({"rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": -1}}), "rope attention factor is -1"),
    ] {
        refused("llama", changes, said);
    }
    refused(
        "qwen2",
        json!({"num_hidden_layers": 1_000_000, "use_sliding_window": true}),
        "number of layers is 1000000",
    );
    refused("mistral", json!({"sliding_window": 0}), "sliding window is 0");
}
