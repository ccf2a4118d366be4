//! A decoder of a few kilobytes: loading is strict, and a row's logits depend on its own sequence only.

use std::num::NonZeroUsize;

use kernels::{AttentionChunk, KvCache, Pool};

use super::*;
use crate::checkpoint::{Checkpoint, Limits};

const BLOCK_TOKENS: usize = 4;

fn tiny_spec() -> DecoderSpec {
    DecoderSpec {
        layers: 2,
        hidden: 32,
        q_heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocab: 40,
        context_tokens: 64,
        norm: Norm::Rms { eps: 1e-6 },
        attention: Attention {
            bias: AttentionBias::Qkv,
            qk_norm: QkNorm::None,
            rope: Rope::plain(10_000.0),
            window: Window::PerLayer(vec![None, Some(3)]),
        },
        mlp: Mlp::Gated { act: Activation::Silu, width: 64, bias: MlpBias::None },
        head: Head::Tied,
        names: TensorNames::HuggingFace,
    }
}

/// Names and shapes of a checkpoint of [`tiny_spec`], stored as BF16.
fn tiny_tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![40, 32])];
    for layer in 0..2 {
        for (module, shape) in [
            ("input_layernorm.weight", vec![32]),
            ("self_attn.q_proj.weight", vec![32, 32]),
            ("self_attn.q_proj.bias", vec![32]),
            ("self_attn.k_proj.weight", vec![16, 32]),
            ("self_attn.k_proj.bias", vec![16]),
            ("self_attn.v_proj.weight", vec![16, 32]),
            ("self_attn.v_proj.bias", vec![16]),
            ("self_attn.o_proj.weight", vec![32, 32]),
            ("post_attention_layernorm.weight", vec![32]),
            ("mlp.gate_proj.weight", vec![64, 32]),
            ("mlp.up_proj.weight", vec![64, 32]),
            ("mlp.down_proj.weight", vec![32, 64]),
        ] {
            tensors.push((format!("model.layers.{layer}.{module}"), shape));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![32]));
    tensors
}

/// A folder with these tensors, filled from a fixed sequence. `dtype` has two bytes per value.
fn folder(tensors: &[(String, Vec<usize>)], dtype: &str) -> tempfile::TempDir {
    let (mut entries, mut data, mut state) = (Vec::new(), Vec::new(), 7_u32);
    for (name, shape) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(&half::bf16::from_f32((state >> 16) as f32 / 65_536.0 - 0.5).to_le_bytes());
        }
        let end = data.len();
        entries.push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("model.safetensors"), file).expect("written");
    std::fs::write(folder.path().join("config.json"), "{}").expect("written");
    folder
}

fn load_as(tensors: &[(String, Vec<usize>)], dtype: &str, quantise: Quantise) -> Result<Decoder, LoadError> {
    let folder = folder(tensors, dtype);
    let checkpoint = Checkpoint::open(folder.path(), &Limits::default()).expect("a valid folder");
    let (spec, mut seen) = (tiny_spec(), Vec::new());
    let decoder = Decoder::load(&checkpoint, spec.clone(), quantise, &mut |bytes| seen.push(bytes))?;
    let needs = plan(&checkpoint, &spec, quantise)?;
    assert!(seen.is_sorted() && seen.last() == Some(&needs.weights_bytes), "progress ends where the plan said");
    assert_eq!(decoder.weights_bytes(), needs.weights_bytes, "memory is what the plan said");
    Ok(decoder)
}

fn refused(tensors: &[(String, Vec<usize>)], said: &str) {
    let message = load_as(tensors, "BF16", Quantise::None).expect_err("refused").to_string();
    assert!(message.contains(said), "{message:?} does not say {said:?}");
}

#[test]
fn loading_is_strict() {
    let tensors = tiny_tensors();
    load_as(&tensors, "BF16", Quantise::None).expect("what the spec asks for");
    let without = |name: &str| tensors.iter().filter(|(other, _)| other != name).cloned().collect::<Vec<_>>();
    for (name, _) in &tensors {
        refused(&without(name), &format!("tensor `{name}` is missing"));
    }
    let with = |name: &str, shape: &[usize]| [&tensors[..], &[(name.to_owned(), shape.to_vec())]].concat();
    refused(&with("model.layers.2.mlp.up_proj.weight", &[64, 32]), "`model.layers.2.mlp.up_proj.weight`");
    refused(&with("model.layers.0.self_attn.o_proj.bias", &[32]), "1 tensors are not used");
    let mut misshapen = without("model.layers.1.mlp.down_proj.weight");
    misshapen.push(("model.layers.1.mlp.down_proj.weight".to_owned(), vec![64, 32]));
    refused(&misshapen, "`model.layers.1.mlp.down_proj.weight` has shape [64, 32], expected [32, 64]");
}

#[test]
fn leftovers_of_exporters_are_no_error() {
    let extra = [
        ("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), vec![4]),
        ("lm_head.weight".to_owned(), vec![40, 32]),
    ];
    load_as(&[&tiny_tensors()[..], &extra].concat(), "BF16", Quantise::None).expect("ignorable tensors");
}

#[test]
fn a_type_without_kernel_is_named() {
    let error = load_as(&tiny_tensors(), "I16", Quantise::None).expect_err("integers").to_string();
    assert!(error.contains("`model.embed_tokens.weight` is stored as I16"), "{error}");
}

/// A sequence in the cache: tokens to compute now, where they start, and its blocks.
struct Part<'a> {
    tokens: &'a [u32],
    start: usize,
    blocks: &'a [u32],
}

/// Computes all parts in one step and gives the logits of every part's last row.
fn step(decoder: &Decoder, pool: &Pool, cache: &mut KvCache, parts: &[Part<'_>]) -> Vec<Vec<u32>> {
    let (mut token_ids, mut positions, mut slots, mut chunks, mut sampled_rows) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Part { tokens, start, blocks } in parts {
        chunks.push(AttentionChunk {
            first_row: token_ids.len(),
            rows: tokens.len(),
            start: *start,
            block_table: blocks,
        });
        for (index, token_id) in tokens.iter().enumerate() {
            let position = start + index;
            token_ids.push(*token_id);
            positions.push(position as u32);
            slots.push(blocks[position / BLOCK_TOKENS] * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32);
        }
        sampled_rows.push(token_ids.len() as u32 - 1);
    }
    sampled_rows.reverse();
    let batch = DecoderBatch {
        token_ids: &token_ids,
        positions: &positions,
        slots: &slots,
        chunks: &chunks,
        sampled_rows: &sampled_rows,
    };
    let mut workspace = Workspace::new(decoder.spec(), 32, 8);
    let logits = decoder.forward(pool, &batch, cache, &mut workspace);
    let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect();
    logits.chunks_exact(decoder.spec().vocab).rev().map(bits).collect()
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let tokens: Vec<u32> = (0..13).map(|index| index * 7 % 40).collect();
    for quantise in [Quantise::None, Quantise::Q8_0, Quantise::Float] {
        let decoder = load_as(&tiny_tensors(), "BF16", quantise).expect("what the spec asks for");
        for threads in [1, 3] {
            let pool = Pool::new(NonZeroUsize::new(threads).expect("not zero"));
            let mut cache = KvCache::new(2, 16, BLOCK_TOKENS, 2, 8).expect("a small cache");
            let whole = Part { tokens: &tokens, start: 0, blocks: &[3, 1, 9, 4] };
            let alone = step(&decoder, &pool, &mut cache, &[whole]);
            for cut in [1, 4, 6, 12] {
                let blocks = [5, 2, 7, 8];
                let company = Part { tokens: &[8, 9, 10], start: 0, blocks: &[0] };
                let first = Part { tokens: &tokens[..cut], start: 0, blocks: &blocks };
                step(&decoder, &pool, &mut cache, &[first, company]);
                let company = Part { tokens: &[11], start: 3, blocks: &[0] };
                let rest = Part { tokens: &tokens[cut..], start: cut, blocks: &blocks };
                let batched = step(&decoder, &pool, &mut cache, &[company, rest]);
                assert_eq!(batched[1], alone[0], "{quantise:?}, {threads} threads, cut at {cut}");
            }
        }
    }
}

#[test]
fn a_step_without_sampled_rows_still_fills_the_cache() {
    let decoder = load_as(&tiny_tensors(), "BF16", Quantise::None).expect("what the spec asks for");
    let pool = Pool::new(NonZeroUsize::MIN);
    let mut cache = KvCache::new(2, 4, BLOCK_TOKENS, 2, 8).expect("a small cache");
    let mut workspace = Workspace::new(decoder.spec(), 8, 2);
    let chunks = [AttentionChunk { first_row: 0, rows: 2, start: 0, block_table: &[1] }];
    let silent =
        DecoderBatch { token_ids: &[5, 6], positions: &[0, 1], slots: &[4, 5], chunks: &chunks, sampled_rows: &[] };
    assert!(decoder.forward(&pool, &silent, &mut cache, &mut workspace).is_empty());
    let next = step(&decoder, &pool, &mut cache, &[Part { tokens: &[7], start: 2, blocks: &[1] }]);
    let whole = step(&decoder, &pool, &mut cache, &[Part { tokens: &[5, 6, 7], start: 0, blocks: &[2] }]);
    assert_eq!(next, whole);
}
