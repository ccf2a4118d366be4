//! The model to be measured: opened and understood, nothing large read yet.

use super::error::BenchError;
use super::shapes::Shape;
use crate::arch::{self, Recognised};
use crate::checkpoint::Checkpoint;
use crate::engine::{Source, open};
use crate::nn::{DecoderSpec, Quantise};

pub struct Model {
    /// What the report calls it.
    pub name: String,
    pub architecture: String,
    pub checkpoint: Checkpoint,
    pub spec: DecoderSpec,
    pub quantise: Quantise,
    pub weights: Weights,
}

/// Where the numbers in the weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// A file's, or those inside the binary.
    Stored,
    /// Seeded noise in somebody's shape.
    Random { seed: u64 },
}

impl Model {
    /// A model as it would be served.
    pub fn stored(name: String, source: &Source) -> Result<Self, BenchError> {
        Self::recognise(name, open(source)?, Weights::Stored)
    }

    /// Noise in a known shape.
    pub fn random(shape: &Shape, seed: u64) -> Result<Self, BenchError> {
        let bare = Self::recognise(shape.name.to_owned(), shape.bare(), Weights::Random { seed })?;
        Ok(Self { checkpoint: shape.checkpoint(&bare.spec, seed), ..bare })
    }

    fn recognise(name: String, checkpoint: Checkpoint, weights: Weights) -> Result<Self, BenchError> {
        let Recognised { architecture, spec } = arch::recognise(&checkpoint)
            .map_err(|source| BenchError::Spec { path: checkpoint.path().to_owned(), source: Box::new(source) })?;
        Ok(Self { name, architecture, checkpoint, spec, quantise: Quantise::None, weights })
    }

    /// Quantised while it is loaded.
    #[must_use]
    pub fn quantised(self, quantise: Quantise) -> Self {
        Self { quantise, ..self }
    }
}
