//! A GGUF file of random weights in memory: the shape is real, the values are seeded noise.

use half::{bf16, f16};

/// How the matrices are stored. Norms and biases are always F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    Q8_0,
    F16,
    Bf16,
}

impl StoredType {
    pub fn parse(name: &str) -> Self {
        match name {
            "q8_0" => Self::Q8_0,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            other => panic!("{other:?} is not one of q8_0, f16, bf16"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The number of the type in the file format.
    fn id(self) -> u32 {
        match self {
            Self::Q8_0 => 8,
            Self::F16 => 1,
            Self::Bf16 => 30,
        }
    }
}

struct Tensor {
    name: String,
    /// Innermost axis first, as the format wants it.
    dimensions: Vec<u64>,
    type_id: u32,
    bytes: Vec<u8>,
}

pub struct GgufBuilder {
    metadata: Vec<u8>,
    num_metadata: u64,
    tensors: Vec<Tensor>,
    noise: u64,
}

const TYPE_F32: u32 = 0;
const VALUE_U32: u32 = 4;
const VALUE_F32: u32 = 6;
const VALUE_STRING: u32 = 8;
const VALUE_ARRAY: u32 = 9;
const ALIGNMENT: usize = 32;

impl GgufBuilder {
    /// Qwen2.5-Coder-0.5B with a chosen number of layers (24 in the original).
    pub fn qwen2_coder_half_billion(layers: usize, stored: StoredType) -> Self {
        let (hidden, q_heads, kv_heads, width, vocab) = (896, 14, 2, 4864, 151_936);
        let mut builder = Self { metadata: Vec::new(), num_metadata: 0, tensors: Vec::new(), noise: 0x5eed };
        builder.string("general.architecture", "qwen2");
        for (key, value) in [
            ("block_count", layers),
            ("context_length", 32_768),
            ("embedding_length", hidden),
            ("feed_forward_length", width),
            ("attention.head_count", q_heads),
            ("attention.head_count_kv", kv_heads),
        ] {
            builder.u32(&format!("qwen2.{key}"), value as u32);
        }
        builder.f32("qwen2.rope.freq_base", 1_000_000.0);
        builder.f32("qwen2.attention.layer_norm_rms_epsilon", 1e-6);
        builder.vocabulary(vocab);
        let (q_width, kv_width) = (hidden, hidden / q_heads * kv_heads);
        builder.matrix("token_embd.weight", vocab, hidden, stored);
        builder.vector("output_norm.weight", hidden, 1.0);
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            builder.vector(&name("attn_norm.weight"), hidden, 1.0);
            builder.vector(&name("ffn_norm.weight"), hidden, 1.0);
            for (part, rows) in [("attn_q", q_width), ("attn_k", kv_width), ("attn_v", kv_width)] {
                builder.matrix(&name(&format!("{part}.weight")), rows, hidden, stored);
                builder.vector(&name(&format!("{part}.bias")), rows, 0.0);
            }
            builder.matrix(&name("attn_output.weight"), hidden, q_width, stored);
            builder.matrix(&name("ffn_gate.weight"), width, hidden, stored);
            builder.matrix(&name("ffn_up.weight"), width, hidden, stored);
            builder.matrix(&name("ffn_down.weight"), hidden, width, stored);
        }
        builder
    }

    pub fn build(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend(self.num_metadata.to_le_bytes());
        file.extend(&self.metadata);
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut file, &tensor.name);
            file.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|axis| file.extend(axis.to_le_bytes()));
            file.extend(tensor.type_id.to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
        }
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        for tensor in self.tensors {
            file.extend(tensor.bytes);
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        }
        file
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key, VALUE_STRING);
        put_string(&mut self.metadata, value);
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.key(key, VALUE_U32);
        self.metadata.extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.key(key, VALUE_F32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// Only the number of tokens matters to a decoder.
    fn vocabulary(&mut self, vocab: usize) {
        self.key("tokenizer.ggml.tokens", VALUE_ARRAY);
        self.metadata.extend(VALUE_STRING.to_le_bytes());
        self.metadata.extend((vocab as u64).to_le_bytes());
        (0..vocab).for_each(|token| put_string(&mut self.metadata, &format!("t{token}")));
    }

    fn key(&mut self, key: &str, value_type: u32) {
        self.num_metadata += 1;
        put_string(&mut self.metadata, key);
        self.metadata.extend(value_type.to_le_bytes());
    }

    fn vector(&mut self, name: &str, width: usize, mean: f32) {
        let bytes = (0..width).flat_map(|_| (mean + 0.1 * self.noise()).to_le_bytes()).collect();
        self.tensors.push(Tensor { name: name.to_owned(), dimensions: vec![width as u64], type_id: TYPE_F32, bytes });
    }

    fn matrix(&mut self, name: &str, rows: usize, width: usize, stored: StoredType) {
        let values = rows * width;
        let mut bytes = Vec::new();
        match stored {
            StoredType::Q8_0 => {
                for _ in 0..values / 32 {
                    bytes.extend(f16::from_f32(0.0004).to_le_bytes());
                    (0..32).for_each(|_| bytes.push((self.noise() * 127.0) as i8 as u8));
                }
            }
            StoredType::F16 => (0..values).for_each(|_| bytes.extend(f16::from_f32(0.03 * self.noise()).to_le_bytes())),
            StoredType::Bf16 => {
                (0..values).for_each(|_| bytes.extend(bf16::from_f32(0.03 * self.noise()).to_le_bytes()));
            }
        }
        let dimensions = vec![width as u64, rows as u64];
        self.tensors.push(Tensor { name: name.to_owned(), dimensions, type_id: stored.id(), bytes });
    }

    /// Uniform in -1..1.
    fn noise(&mut self) -> f32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        (self.noise >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
