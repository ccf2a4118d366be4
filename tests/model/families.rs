//! Every family computes what the reference computes: from its folder, from GGUF, and from other storage types.

use std::path::Path;

use kernels::WeightType;
use kernels::reference::dequantise;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sconce::checkpoint::TensorType;
use serde_json::{Value, json};

use crate::bytes::{self, Gguf};
use crate::check::{self, Model};
use crate::golden::{self, FAMILIES, GGUF_FILES, Golden};

/// Largest difference of logits, relative to the largest logit of the row, where arithmetic is f32.
const EXACT: f32 = 1e-4;
/// The same against f32 activations where ours are rounded to eight bits. Measured worst: 2.03e-2, 1.41e-2, 1.38e-2,
/// 1.74e-2 and 2.34e-2, which is what the reference loses when it rounds them likewise.
const QUANTISED: &[(&str, f32)] =
    &[("q8_0", 3e-2), ("q4_0", 2.5e-2), ("q4_k", 2.5e-2), ("q5_k", 3e-2), ("q6_k", 3.5e-2)];
/// Against the reference with rounded activations: a value on the edge may be rounded the other way.
const ROUNDED: f32 = 1e-2;
/// Weights and activations rounded to eight bits; measured: 8.2e-2, 7.6e-2, 5.3e-2, 4.4e-2 and 4.2e-2. Wider models
/// average the rounding out.
const QUANTISED_WHILE_LOADING: &[(&str, f32)] =
    &[("llama2", 1.2e-1), ("llama3", 1.2e-1), ("codellama", 9e-2), ("mistral", 8e-2), ("qwen2", 8e-2)];

/// Loads the model and holds it to the golden; returns the worst relative difference.
fn check(path: &Path, golden: &Golden, tolerance: f32) -> f32 {
    let name = path.display().to_string();
    let mut model = Model::load(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    check_model(&name, &mut model, golden, tolerance)
}

fn check_model(name: &str, model: &mut Model, golden: &Golden, tolerance: f32) -> f32 {
    let mut worst = 0.0_f32;
    for case in &golden.cases {
        let rows = model.logits(&case.prompt);
        for want in &case.logits {
            let got = &rows[want.position];
            let difference = check::relative_difference(got, &want.values);
            assert!(
                difference <= tolerance,
                "{name}: prompt of {} tokens, position {}: logits differ by {difference:.2e}",
                case.prompt.len(),
                want.position
            );
            worst = worst.max(difference);
        }
        check_greedy(name, model, case, tolerance);
    }
    worst
}

/// Decodes token by token along the reference's continuation. Where the reference's margin is larger than what the
/// tolerance can turn around, the choice must be the same.
fn check_greedy(name: &str, model: &mut Model, case: &golden::Case, tolerance: f32) {
    let mut rows = model.logits(&case.prompt);
    let mut decided = 0;
    for (step, (token, margin)) in case.greedy.iter().zip(&case.margins).enumerate() {
        let row = rows.last().expect("a prompt has a token");
        let largest = row.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
        if *margin > 2.0 * tolerance * largest {
            let chosen = check::argmax(row);
            assert_eq!(chosen, *token, "{name}: prompt of {} tokens, greedy step {step}", case.prompt.len());
            decided += 1;
        }
        rows = model.decode(*token);
    }
    assert!(tolerance > EXACT || decided == case.greedy.len(), "{name}: a margin is too small to decide");
}

#[test]
fn folders() {
    for family in FAMILIES {
        let worst = check(&golden::folder(family), &golden::of_family(family), EXACT);
        println!("{family}: {worst:.2e}");
    }
}

#[test]
fn gguf() {
    for (file, family) in GGUF_FILES {
        let worst = check(&golden::gguf(file), &golden::of_family(family), EXACT);
        println!("{file}: {worst:.2e}");
    }
}

#[test]
fn quantised_gguf() {
    for (kind, tolerance) in QUANTISED {
        let worst = check(&golden::quantised(kind), &golden::of_quantised(kind), *tolerance);
        println!("{kind}: {worst:.2e}");
    }
}

#[test]
fn quantised_gguf_with_rounded_activations() {
    for (kind, _) in QUANTISED {
        let mut model = Model::load(&golden::quantised(kind)).unwrap();
        for want in golden::of_quantised(kind).rounded {
            let row = model.logits(&want.prompt).pop().unwrap();
            let difference = check::relative_difference(&row, &want.values);
            println!("{kind}, {} tokens: {difference:.2e} from the rounded reference", want.prompt.len());
            assert!(difference <= ROUNDED, "{kind}: {difference:.2e} from the rounded reference");
        }
    }
}

/// With the same weights as floats nothing is quantised but what the file quantised: the blocks are read right.
#[test]
fn quantised_gguf_as_floats() {
    for (kind, _) in QUANTISED {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, as_floats(&golden::quantised(kind))).unwrap();
        let worst = check(&path, &golden::of_quantised(kind), EXACT);
        println!("{kind} as floats: {worst:.2e}");
    }
}

/// The same GGUF file with every tensor in F32.
fn as_floats(path: &Path) -> Vec<u8> {
    let checkpoint = check::open(path).unwrap();
    let whole = std::fs::read(path).unwrap();
    let first_tensor = checkpoint.tensor_names().map(|name| bytes::find(&whole, &bytes::string(name))).min().unwrap();
    let entry_count = u64::from_le_bytes(whole[16..24].try_into().unwrap());
    let mut out = Gguf { entries: whole[24..first_tensor].to_vec(), entry_count, ..Gguf::new() };
    let mut data = Vec::new();
    for name in checkpoint.tensor_names() {
        let raw = checkpoint.read(name).unwrap();
        let mut values = vec![0.0; raw.shape.iter().product()];
        dequantise(weight_type(raw.tensor_type), &raw.bytes, &mut values);
        let dims: Vec<u64> = raw.shape.iter().rev().map(|axis| *axis as u64).collect();
        out = out.tensor(name, &dims, bytes::F32, data.len() as u64);
        data.extend(values.iter().flat_map(|value: &f32| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.data = data;
    out.build()
}

fn weight_type(tensor_type: TensorType) -> WeightType {
    match tensor_type {
        TensorType::F32 => WeightType::F32,
        TensorType::Q8_0 => WeightType::Q8_0,
        TensorType::Q4_0 => WeightType::Q4_0,
        TensorType::Q4_K => WeightType::Q4K,
        TensorType::Q5_K => WeightType::Q5K,
        TensorType::Q6_K => WeightType::Q6K,
        other => panic!("a golden in {other}"),
    }
}

/// `--quantize q8_0`: weights and activations are both rounded to eight bits, in models far narrower than real ones.
#[test]
fn quantised_while_loading() {
    for (family, bound) in QUANTISED_WHILE_LOADING {
        let mut model = Model::load_quantising(&golden::folder(family)).unwrap();
        let worst = check_model(family, &mut model, &golden::of_family(family), *bound);
        println!("{family} quantised while loading: {worst:.2e}");
    }
}

/// The values are exact in every type, so each conversion is held to the same golden.
#[test]
fn storage_types_of_folders() {
    for (family, dtype) in [
        ("llama2", Dtype::F32),
        ("llama2", Dtype::F16),
        ("llama3", Dtype::F32),
        ("llama3", Dtype::F16),
        ("codellama", Dtype::BF16),
        ("qwen2", Dtype::F32),
        ("qwen2", Dtype::F16),
        ("qwen2-yarn", Dtype::BF16),
        ("mistral", Dtype::F32),
    ] {
        let copy = check::copy_of(family);
        for entry in std::fs::read_dir(copy.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                convert(&path, dtype);
            }
        }
        check(copy.path(), &golden::of_family(family), EXACT);
    }
}

/// Rewrites a safetensors file with every tensor in `dtype`.
fn convert(path: &Path, dtype: Dtype) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let converted: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), encode(&decode(&view), dtype)))
        .collect();
    let views = converted
        .iter()
        .map(|(name, shape, data)| (name.as_str(), TensorView::new(dtype, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn decode(view: &TensorView<'_>) -> Vec<f32> {
    let pairs = || view.data().chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match view.dtype() {
        Dtype::BF16 => pairs().map(|pair| half::bf16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::F16 => pairs().map(|pair| half::f16::from_le_bytes(pair).to_f32()).collect(),
        Dtype::F32 => {
            view.data().chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
        }
        other => panic!("a golden in {other:?}"),
    }
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
        Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        other => panic!("no conversion to {other:?}"),
    }
}

/// Newer files keep everything about rotation in `rope_parameters`, older ones at the top level.
#[test]
fn both_spellings_of_rope() {
    for family in ["llama3", "codellama", "deepseek-coder", "qwen2-yarn"] {
        let copy = check::copy_of(family);
        check::edit_json(&copy.path().join("config.json"), |config| {
            let config = config.as_object_mut().unwrap();
            let mut rope = match config.remove("rope_scaling") {
                Some(Value::Object(scaling)) => scaling,
                _ => serde_json::Map::new(),
            };
            let kind = rope.remove("type").or_else(|| rope.remove("rope_type")).unwrap_or(json!("default"));
            rope.insert("rope_type".to_owned(), kind);
            rope.insert("rope_theta".to_owned(), config.remove("rope_theta").unwrap_or(json!(10000.0)));
            config.insert("rope_parameters".to_owned(), Value::Object(rope));
        });
        check(copy.path(), &golden::of_family(family), EXACT);
    }
    let copy = check::copy_of("mistral");
    check::edit_json(&copy.path().join("config.json"), |config| {
        let config = config.as_object_mut().unwrap();
        config.remove("rope_parameters");
        config.insert("rope_theta".to_owned(), json!(10000.0));
    });
    check(copy.path(), &golden::of_family("mistral"), EXACT);
}

/// `layer_types`, which newer files write beside `max_window_layers`, means the same.
#[test]
fn both_spellings_of_windows() {
    let copy = check::copy_of("qwen2-window");
    check::edit_json(&copy.path().join("config.json"), |config| {
        config["layer_types"] = json!(["full_attention", "sliding_attention", "sliding_attention"]);
    });
    check(copy.path(), &golden::of_family("qwen2-window"), EXACT);
}

/// Defaults that old files leave out.
#[test]
fn defaults() {
    let copy = check::copy_of("llama2");
    check::edit_json(&copy.path().join("config.json"), |config| {
        let config = config.as_object_mut().unwrap();
        for key in ["num_key_value_heads", "rope_scaling", "attention_bias", "mlp_bias", "tie_word_embeddings"] {
            config.remove(key);
        }
    });
    check(copy.path(), &golden::of_family("llama2"), EXACT);
}
