//! A model that is not exactly what its configuration says is refused, with full names.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use crate::bytes::{F32, Gguf, find};
use crate::{check, golden};

/// One tensor of a folder, owned: (name, dtype, shape, data).
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// Rewrites the tensors of one file.
fn rewrite(path: &Path, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let bytes = std::fs::read(path).unwrap();
    let mut tensors: Vec<Tensor> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    edit(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Rewrites the tensors of one file of a copied folder, then expects a refusal that says all of `says`.
fn check_refused(family: &str, file: &str, edit: impl FnOnce(&mut Vec<Tensor>), says: &[&str]) {
    let copy = check::copy_of(family);
    rewrite(&copy.path().join(file), edit);
    check_message(copy.path(), says);
}

fn check_message(path: &Path, says: &[&str]) {
    let message = check::refusal(path).unwrap_or_else(|| panic!("accepted, expected a refusal that says {says:?}"));
    for part in says {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

fn find_tensor<'t>(tensors: &'t mut [Tensor], name: &str) -> &'t mut Tensor {
    tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
}

#[test]
fn missing_tensors() {
    for (family, name) in [
        ("llama2", "model.embed_tokens.weight"),
        ("llama2", "model.norm.weight"),
        ("llama2", "lm_head.weight"),
        ("llama2", "model.layers.1.mlp.down_proj.weight"),
        ("llama2", "model.layers.0.self_attn.k_proj.weight"),
        ("qwen2", "model.layers.1.self_attn.q_proj.bias"),
        ("qwen2", "model.layers.0.input_layernorm.weight"),
    ] {
        check_refused(family, "model.safetensors", |tensors| tensors.retain(|tensor| tensor.0 != name), &[name]);
    }
}

#[test]
fn unused_tensors() {
    for (family, name) in [
        ("llama2", "model.layers.2.self_attn.q_proj.weight"),
        ("llama2", "model.layers.0.self_attn.q_proj.bias"),
        ("qwen2", "model.layers.0.self_attn.o_proj.bias"),
        ("qwen2", "model.layers.0.self_attn.q_norm.weight"),
        ("qwen2", "vision.patch_embed.weight"),
    ] {
        let extra = (name.to_owned(), Dtype::BF16, vec![64], vec![0; 128]);
        check_refused(family, "model.safetensors", |tensors| tensors.push(extra), &[name]);
    }
}

#[test]
fn misshapen_tensors() {
    for (family, name, shape) in [
        ("llama2", "model.embed_tokens.weight", vec![256, 128]),
        ("llama2", "model.norm.weight", vec![32]),
        ("llama2", "model.norm.weight", vec![1, 64]),
        ("llama2", "model.layers.0.mlp.gate_proj.weight", vec![64, 128]),
        ("llama3", "model.layers.0.self_attn.k_proj.weight", vec![64, 32]),
        ("qwen2", "model.layers.0.self_attn.k_proj.bias", vec![16]),
        ("qwen2", "model.layers.1.self_attn.v_proj.weight", vec![33, 64]),
    ] {
        let file = if family == "llama3" { shard_of(name) } else { "model.safetensors".to_owned() };
        let edit = |tensors: &mut Vec<Tensor>| {
            let tensor = find_tensor(tensors, name);
            tensor.3.resize(shape.iter().product::<usize>() * 2, 0);
            tensor.2 = shape.clone();
        };
        check_refused(family, &file, edit, &[name]);
    }
}

fn shard_of(name: &str) -> String {
    let index: Value = golden::read(&golden::folder("llama3").join("model.safetensors.index.json"));
    index["weight_map"][name].as_str().unwrap().to_owned()
}

#[test]
fn weights_of_a_type_nobody_computes_with() {
    for dtype in [Dtype::I8, Dtype::U8, Dtype::I64, Dtype::F64] {
        let name = "model.layers.0.mlp.up_proj.weight";
        let edit = |tensors: &mut Vec<Tensor>| {
            let tensor = find_tensor(tensors, name);
            tensor.1 = dtype;
            tensor.3 = vec![0; tensor.2.iter().product::<usize>() * dtype.bitsize() / 8];
        };
        check_refused("llama2", "model.safetensors", edit, &[name]);
    }
}

#[test]
fn shards() {
    let shard = "model-00002-of-00003.safetensors";
    let copy = check::copy_of("llama3");
    std::fs::remove_file(copy.path().join(shard)).unwrap();
    check_message(copy.path(), &[shard]);

    // A shard that lacks what the index says it holds.
    let name = "model.norm.weight";
    check_refused("llama3", &shard_of(name), |tensors| tensors.retain(|tensor| tensor.0 != name), &[name]);

    // The index and the shards disagree about the place.
    let copy = check::copy_of("llama3");
    check::edit_json(&copy.path().join("model.safetensors.index.json"), |index| {
        index["weight_map"]["model.layers.9.extra.weight"] = json!(shard);
    });
    check_message(copy.path(), &["model.layers.9.extra.weight"]);

    // The same tensor in two shards.
    let twin = (name.to_owned(), Dtype::BF16, vec![64], vec![0; 128]);
    let elsewhere = if shard_of(name) == shard { "model-00001-of-00003.safetensors" } else { shard };
    check_refused("llama3", elsewhere, |tensors| tensors.push(twin), &[name]);
}

#[test]
fn configurations_that_do_not_fit_the_tensors() {
    for (family, key, value, says) in [
        ("llama2", "num_hidden_layers", json!(3), "model.layers.2."),
        ("llama2", "num_hidden_layers", json!(1), "model.layers.1."),
        ("llama2", "vocab_size", json!(513), "embed_tokens"),
        ("llama2", "intermediate_size", json!(130), "mlp"),
        ("qwen2", "num_key_value_heads", json!(4), "k_proj"),
    ] {
        let copy = check::copy_of(family);
        check::edit_json(&copy.path().join("config.json"), |config| config[key] = value);
        check_message(copy.path(), &[says]);
    }
}

/// An untied model needs output weights. A tied one may bring some, as some published files do; the reference does not
/// read them, and neither do we.
#[test]
fn tied_output() {
    let copy = check::copy_of("qwen2");
    check::edit_json(&copy.path().join("config.json"), |config| config["tie_word_embeddings"] = json!(false));
    check_message(copy.path(), &["lm_head.weight"]);

    let mut model = check::Model::load(&golden::folder("qwen2")).unwrap();
    let without = model.logits(&[1, 2, 3]);
    let copy = check::copy_of("qwen2");
    rewrite(&copy.path().join("model.safetensors"), |tensors| {
        let mut head = find_tensor(tensors, "model.embed_tokens.weight").clone();
        head.0 = "lm_head.weight".to_owned();
        head.3.fill(0);
        tensors.push(head);
    });
    let mut model = check::Model::load(copy.path()).unwrap();
    assert_eq!(model.logits(&[1, 2, 3]), without);
}

/// Renames one tensor of a GGUF file in place (both names have the same length): one is missing, one is unused.
#[test]
fn gguf_tensors() {
    for (file, from, to) in [
        ("qwen2-f32.gguf", "blk.1.attn_q.bias", "blk.1.attn_q.bios"),
        ("qwen2-f32.gguf", "token_embd.weight", "token_embd.weighs"),
        ("llama3-f32.gguf", "blk.0.ffn_down.weight", "blk.7.ffn_down.weight"),
        ("llama3-f32.gguf", "output_norm.weight", "output_norm.height"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        let mut bytes = std::fs::read(golden::gguf(file)).unwrap();
        let at = find(&bytes, from.as_bytes());
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let message = check::refusal(&path).unwrap_or_else(|| panic!("{file} without {from} was accepted"));
        assert!(message.contains(from) || message.contains(to), "`{message}` names neither `{from}` nor `{to}`");
    }
}

#[test]
fn gguf_metadata() {
    for (name, file, says) in [
        (
            "no architecture",
            Gguf::new().u32("llama.block_count", 1).tensor("token_embd.weight", &[8, 4], F32, 0).data(128),
            "general.architecture",
        ),
        ("unknown architecture", Gguf::new().string("general.architecture", "unheard-of"), "unheard-of"),
        ("no hyperparameters", Gguf::new().string("general.architecture", "llama"), "llama."),
        (
            "hyperparameter of another type",
            Gguf::new().string("general.architecture", "llama").string("llama.block_count", "one"),
            "llama.",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file.build()).unwrap();
        let message = check::refusal(&path).unwrap_or_else(|| panic!("{name}: was accepted"));
        assert!(message.contains(says), "{name}: `{message}` does not say `{says}`");
    }
}
