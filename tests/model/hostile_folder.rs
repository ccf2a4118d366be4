//! Model folders made to hurt: safetensors headers, shard indexes and config.json.

use std::path::Path;

use serde_json::{Value, json};

use crate::bytes::safetensors;
use crate::{check, golden};

/// Expects the model at `path` to be refused with a message that contains every one of `says`.
fn check_refused(name: &str, path: &Path, says: &[&str]) {
    let message = check::refusal(path).unwrap_or_else(|| panic!("{name}: was accepted"));
    for part in says {
        assert!(message.contains(part), "{name}: `{message}` does not say `{part}`");
    }
}

fn with_weights(bytes: &[u8]) -> tempfile::TempDir {
    let copy = check::copy_of("llama2");
    std::fs::write(copy.path().join("model.safetensors"), bytes).unwrap();
    copy
}

#[test]
fn safetensors_headers() {
    let tensor = |dtype: &str, shape: &str, start: &str, end: &str| {
        format!(r#"{{"guilty":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
    };
    let two = |first: (u32, u32), second: (u32, u32)| {
        format!(
            r#"{{"first":{{"dtype":"F32","shape":[4],"data_offsets":[{},{}]}},"guilty":{{"dtype":"F32","shape":[4],"data_offsets":[{},{}]}}}}"#,
            first.0, first.1, second.0, second.1
        )
    };
    let cases = [
        ("no JSON", "x".repeat(64), vec![]),
        ("an array", "[]".into(), vec![]),
        ("reversed offsets", tensor("F32", "[4]", "16", "0"), vec!["guilty"]),
        ("past the end", tensor("F32", "[4]", "32", "48"), vec!["guilty"]),
        ("2^64 offsets", tensor("F32", "[4]", "18446744073709551600", "18446744073709551615"), vec!["guilty"]),
        ("negative offset", tensor("F32", "[4]", "-16", "0"), vec![]),
        ("fraction of an offset", tensor("F32", "[4]", "0.5", "16"), vec![]),
        ("shape needs more", tensor("F32", "[5]", "0", "16"), vec!["guilty"]),
        ("shape needs less", tensor("F32", "[3]", "0", "16"), vec!["guilty"]),
        ("other dtype", tensor("F16", "[4]", "0", "16"), vec!["guilty"]),
        ("unknown dtype", tensor("Q99", "[4]", "0", "16"), vec!["guilty", "Q99"]),
        ("product wraps", tensor("F32", "[4294967296,4294967296]", "0", "16"), vec!["guilty"]),
        ("huge axis", tensor("F32", "[18446744073709551615]", "0", "16"), vec!["guilty"]),
        ("overlap", two((0, 16), (8, 24)), vec!["first", "guilty"]),
        ("the same place twice", two((0, 16), (0, 16)), vec!["first", "guilty"]),
        ("key twice", r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.into(), vec![]),
        ("deep nesting", format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), vec![]),
        ("metadata that is no map of strings", r#"{"__metadata__":{"a":[[1]]},"b":5}"#.into(), vec![]),
    ];
    for (name, header, mut says) in cases {
        says.push("model.safetensors");
        check_refused(name, with_weights(&safetensors(&header, 32)).path(), &says);
    }
}

#[test]
fn safetensors_lengths() {
    for length in [1 << 26, 100 << 20, 1 << 32, 1 << 62, u64::MAX] {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(b"{}");
        check_refused("header length", with_weights(&file).path(), &["model.safetensors"]);
    }
    for short in [0, 1, 7, 8, 9] {
        let whole = std::fs::read(golden::folder("llama2").join("model.safetensors")).unwrap();
        check_refused("cut", with_weights(&whole[..short]).path(), &["model.safetensors"]);
    }
    let whole = std::fs::read(golden::folder("llama2").join("model.safetensors")).unwrap();
    check_refused("last byte missing", with_weights(&whole[..whole.len() - 1]).path(), &["model.safetensors"]);
}

#[test]
fn a_metadata_bomb_is_bounded() {
    let entries: Vec<String> = (0..400_000).map(|i| format!(r#""key{i}":"{}""#, "x".repeat(90))).collect();
    let header = format!(r#"{{"__metadata__":{{{}}}}}"#, entries.join(","));
    assert!(header.len() > 32 << 20);
    check_refused("metadata bomb", with_weights(&safetensors(&header, 0)).path(), &["model.safetensors"]);
}

#[test]
fn shard_names_stay_in_the_folder() {
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "sub/model.safetensors",
        "..\\model.safetensors",
        "model.bin",
        "a\u{0}.safetensors",
        "../model.safetensors",
        "/model.safetensors",
    ];
    for name in names {
        let copy = check::copy_of("llama3");
        check::edit_json(&copy.path().join("model.safetensors.index.json"), |index| {
            index["weight_map"]["model.norm.weight"] = json!(name);
        });
        let shown = if name.contains(['\u{0}', '\\']) { "" } else { name };
        check_refused(name, copy.path(), &["model.safetensors.index.json", shown]);
    }
}

#[test]
fn a_shard_that_is_a_link_out_of_the_folder_is_still_only_read_as_a_shard() {
    let copy = check::copy_of("llama3");
    let shard = copy.path().join("model-00002-of-00003.safetensors");
    std::fs::remove_file(&shard).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &shard).unwrap();
    check_refused("link", copy.path(), &["model-00002-of-00003.safetensors"]);
}

#[test]
fn index_files() {
    let index = |text: &str| {
        let copy = check::copy_of("llama3");
        std::fs::write(copy.path().join("model.safetensors.index.json"), text).unwrap();
        copy
    };
    for text in [
        "",
        "[]",
        "{}",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":5}}"#,
        r#"{"weight_map":{}}"#,
        "{\"weight_map\":",
    ] {
        check_refused(text, index(text).path(), &[]);
    }
    let many: serde_json::Map<String, Value> =
        (0..5_000).map(|i| (format!("t{i}"), json!(format!("model-{i}.safetensors")))).collect();
    check_refused("5000 shards", index(&json!({ "weight_map": many }).to_string()).path(), &[]);
}

#[test]
fn config_values() {
    let cases = [
        ("hidden_size", json!(2_147_483_648_u64), "hidden"),
        ("hidden_size", json!(0), "hidden"),
        ("hidden_size", json!(-64), "hidden"),
        ("hidden_size", json!(1e300), "hidden"),
        ("hidden_size", json!("64"), "hidden"),
        ("hidden_size", Value::Null, "hidden"),
        ("intermediate_size", json!(u64::MAX), ""),
        ("intermediate_size", json!(0), ""),
        ("num_hidden_layers", json!(1_000_000), "layers"),
        ("num_hidden_layers", json!(0), "layers"),
        ("num_attention_heads", json!(0), "heads"),
        ("num_attention_heads", json!(3), "heads"),
        ("num_key_value_heads", json!(0), "heads"),
        ("num_key_value_heads", json!(3), "heads"),
        ("num_key_value_heads", json!(4_294_967_296_u64), "heads"),
        ("head_dim", json!(0), "head"),
        ("head_dim", json!(15), "head"),
        ("head_dim", json!(2_147_483_648_u64), "head"),
        ("vocab_size", json!(0), "vocab"),
        ("vocab_size", json!(1_u64 << 40), "vocab"),
        ("max_position_embeddings", json!(0), ""),
        ("max_position_embeddings", json!(1_u64 << 62), ""),
        ("rms_norm_eps", json!(-1.0), "eps"),
        ("rope_theta", json!(0), "theta"),
        ("rope_theta", json!(-10000.0), "theta"),
        ("rope_theta", json!("NaN"), "theta"),
        ("rope_scaling", json!({"type": "linear", "factor": 0.0}), ""),
        ("rope_scaling", json!({"type": "linear"}), ""),
        ("rope_scaling", json!({"type": "imaginary", "factor": 2.0}), ""),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), ""),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": -4.0, "original_max_position_embeddings": 64}), ""),
        ("rope_scaling", json!(7), ""),
        ("hidden_act", json!("tanh"), "tanh"),
        ("model_type", json!("gpt_unheard_of"), "gpt_unheard_of"),
    ];
    for (key, value, says) in cases {
        let copy = check::copy_of("llama2");
        check::edit_json(&copy.path().join("config.json"), |config| {
            config[key] = value.clone();
            if key == "model_type" {
                config["architectures"] = json!(["UnheardOfForCausalLM"]);
            }
        });
        let name = format!("{key} = {value}");
        check_refused(&name, copy.path(), &[says]);
    }
}

#[test]
fn configs_that_are_not_json_objects() {
    for text in ["", "[]", "null", "{", r#"{"hidden_size": NaN}"#, r#"{"rope_theta": 1e999}"#, &"[".repeat(100_000)] {
        let copy = check::copy_of("llama2");
        std::fs::write(copy.path().join("config.json"), text).unwrap();
        check_refused(text.get(..20).unwrap_or(text), copy.path(), &["config"]);
    }
}

#[test]
fn a_folder_that_wants_to_run_code_is_refused_or_ignored() {
    // `auto_map` names Python files; nothing here can run them, and weights in pickles are not looked at.
    let copy = check::copy_of("llama2");
    check::edit_json(&copy.path().join("config.json"), |config| {
        config["auto_map"] = json!({"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"});
    });
    std::fs::write(copy.path().join("modeling_evil.py"), "raise SystemExit").unwrap();
    std::fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    std::fs::write(copy.path().join("pytorch_model.bin"), b"\x80\x02cos\nsystem\n").unwrap();
    check_refused("pickle", copy.path(), &["safetensors"]);
}

#[test]
fn neither_a_folder_nor_a_file() {
    let empty = tempfile::tempdir().unwrap();
    check_refused("empty folder", empty.path(), &["config.json"]);
    check_refused("nothing there", &empty.path().join("absent"), &["absent"]);
    std::fs::write(empty.path().join("model.gguf"), b"").unwrap();
    check_refused("empty file", &empty.path().join("model.gguf"), &["model.gguf"]);
}
