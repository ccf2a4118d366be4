//! What a decoder is made of, in numbers and choices. `arch` writes it from a model's configuration, the rest of this
//! room builds from it once, at load time.

use super::rope::Rope;

/// A decoder-only transformer with pre-norm blocks of attention and MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    pub layers: usize,
    pub hidden: usize,
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Rows of the embedding and of the logits; a tokenizer may know fewer.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context_tokens: usize,
    pub norm: Norm,
    pub attention: Attention,
    pub mlp: Mlp,
    pub head: Head,
    pub names: TensorNames,
}

impl DecoderSpec {
    /// Width of all query heads together.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.q_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// Root mean square (arXiv:1910.07467).
    Rms { eps: f32 },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    pub bias: AttentionBias,
    pub qk_norm: QkNorm,
    pub rope: Rope,
    pub window: Window,
}

/// Which of the four projections carry a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    None,
    Qkv,
    QkvAndOutput,
}

/// Whether queries and keys are normalised per head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    None,
}

/// How far back a layer sees. A window of `n` tokens is the token itself and the `n - 1` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    Full,
    /// The same in every layer.
    Sliding {
        tokens: usize,
    },
    /// One entry per layer; `None` sees everything.
    PerLayer(Vec<Option<usize>>),
}

impl Window {
    #[must_use]
    pub fn of_layer(&self, layer: usize) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Sliding { tokens } => Some(*tokens),
            Self::PerLayer(windows) => windows[layer],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate(x)) * up(x))`
    Gated { act: Activation, width: usize, bias: MlpBias },
}

impl Mlp {
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Gated { width, .. } => *width,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Silu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpBias {
    None,
    All,
}

/// Where logits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The embedding matrix, used a second time.
    Tied,
    Separate,
}

/// How the checkpoint calls its tensors and orders the rows of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorNames {
    HuggingFace,
    Gguf { rows: RotaryRows },
}

/// Where the two halves of a rotated pair lie inside a head. We compute in the half-split order only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryRows {
    HalfSplit,
    /// Pair after pair, as GGUF stores the `llama` architecture; rows are put back in order when they are loaded.
    Interleaved,
}
