//! The vocabulary of loading: `weights.at("model.layers.3.self_attn").linear("q_proj", [out, in], bias)`.
//!
//! Names are those of Hugging Face whatever the file. A missing tensor, a wrong shape and a tensor nobody asked for are
//! errors with the full name.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

use kernels::Matrix;

use super::convert::{self, Quantise};
use super::error::LoadError;
use super::linear::Linear;
use super::plan;
use super::spec::{Head, TensorNames};
use crate::checkpoint::{Checkpoint, RawTensor};

/// Unused tensors an error lists by name.
const UNUSED_LISTED_MAX: usize = 8;

/// The weights of a checkpoint on their way into a decoder.
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    names: TensorNames,
    quantise: Quantise,
    tally: RefCell<Tally<'a>>,
}

/// What was asked for so far.
struct Tally<'a> {
    used: BTreeSet<String>,
    done_bytes: u64,
    progress: &'a mut dyn FnMut(u64),
}

/// Whether a linear layer carries a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Absent,
    Present,
}

/// The order in which the rows of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowOrder {
    AsStored,
    /// Rows of heads that are rotated; some files interleave their halves.
    Rotated {
        head_dim: usize,
    },
}

impl<'a> Weights<'a> {
    /// `progress` is called after each tensor with the bytes of memory filled so far, counted as [`plan`] counts them.
    ///
    /// [`plan`]: super::plan()
    pub fn new(
        checkpoint: &'a Checkpoint,
        names: TensorNames,
        quantise: Quantise,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let tally = RefCell::new(Tally { used: BTreeSet::new(), done_bytes: 0, progress });
        Self { checkpoint, names, quantise, tally }
    }

    /// The tensors whose names start with `prefix` and a dot.
    pub(super) fn at(&self, prefix: impl Into<String>) -> Scope<'_, 'a> {
        Scope { weights: self, prefix: prefix.into() }
    }

    /// Errors if the file holds tensors nobody asked for.
    pub(super) fn finish(self, head: Head) -> Result<(), LoadError> {
        let used = self.tally.into_inner().used;
        let is_unused = |name: &&str| !used.contains(*name) && !self.names.is_ignorable(name, head);
        let unused: Vec<&str> = self.checkpoint.tensor_names().filter(is_unused).collect();
        if unused.is_empty() {
            return Ok(());
        }
        let names = unused.iter().take(UNUSED_LISTED_MAX).map(|name| format!("`{name}`")).collect();
        Err(LoadError::Unused { count: unused.len(), names })
    }

    /// Reads a tensor after checking that it has the shape asked for.
    fn read(&self, name: &str, shape: &[usize]) -> Result<RawTensor<'_>, LoadError> {
        let info = self.checkpoint.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
        if info.shape != shape {
            let (found, expected) = (info.shape.clone(), shape.to_vec());
            return Err(LoadError::Shape { name: name.to_owned(), found, expected });
        }
        self.tally.borrow_mut().used.insert(name.to_owned());
        Ok(self.checkpoint.read(name)?)
    }

    fn done(&self, bytes: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.done_bytes += bytes;
        let done_bytes = tally.done_bytes;
        (tally.progress)(done_bytes);
    }
}

/// A matrix on its way from the file.
pub(super) struct StoredMatrix<'a> {
    /// As the file calls it.
    pub name: String,
    pub raw: RawTensor<'a>,
}

/// A place in the tree of modules.
pub(super) struct Scope<'w, 'a> {
    weights: &'w Weights<'a>,
    prefix: String,
}

impl<'w> Scope<'w, '_> {
    /// `shape` is `[out_features, in_features]`.
    pub fn linear(&self, module: &str, shape: [usize; 2], bias: Bias) -> Result<Linear, LoadError> {
        self.linear_in_order(module, shape, bias, RowOrder::AsStored)
    }

    pub fn linear_in_order(
        &self,
        module: &str,
        shape: [usize; 2],
        bias: Bias,
        order: RowOrder,
    ) -> Result<Linear, LoadError> {
        let [out_features, in_features] = shape;
        let StoredMatrix { name, raw } = self.matrix(module, shape, order)?;
        let weight_type = convert::matrix_type(&name, raw.tensor_type, in_features, self.weights.quantise)?;
        let bytes = convert::matrix_bytes(&name, &raw, in_features, weight_type)?;
        let matrix = Matrix::new(weight_type, out_features, in_features, &bytes)
            .map_err(|source| LoadError::Matrix { name: name.clone(), source })?;
        self.done(plan::packed_bytes(weight_type, out_features, in_features));
        Ok(Linear::new(matrix, self.bias(module, out_features, bias, order)?))
    }

    /// A matrix as the file holds it, its rows in the order in which steps read them.
    pub fn matrix(&self, module: &str, shape: [usize; 2], order: RowOrder) -> Result<StoredMatrix<'w>, LoadError> {
        let name = self.in_file(module, "weight");
        let mut raw = self.weights.read(&name, &shape)?;
        raw.bytes = self.ordered(raw.bytes, shape[0], order);
        Ok(StoredMatrix { name, raw })
    }

    /// The bias of a linear layer, where it has one.
    pub fn bias(
        &self,
        module: &str,
        out_features: usize,
        bias: Bias,
        order: RowOrder,
    ) -> Result<Option<Vec<f32>>, LoadError> {
        match bias {
            Bias::Absent => Ok(None),
            Bias::Present => self.vector(module, "bias", out_features, order).map(Some),
        }
    }

    /// Counts memory that was filled, for the progress of loading.
    pub fn done(&self, bytes: u64) {
        self.weights.done(bytes);
    }

    /// The weight of a norm over `width` values.
    pub fn norm(&self, module: &str, width: usize) -> Result<Vec<f32>, LoadError> {
        self.vector(module, "weight", width, RowOrder::AsStored)
    }

    fn vector(&self, module: &str, kind: &str, width: usize, order: RowOrder) -> Result<Vec<f32>, LoadError> {
        let name = self.in_file(module, kind);
        let mut raw = self.weights.read(&name, &[width])?;
        raw.bytes = self.ordered(raw.bytes, width, order);
        let values = convert::vector(&name, &raw)?;
        self.weights.done(size_of_val(values.as_slice()) as u64);
        Ok(values)
    }

    fn ordered<'b>(&self, bytes: Cow<'b, [u8]>, rows: usize, order: RowOrder) -> Cow<'b, [u8]> {
        match order {
            RowOrder::AsStored => bytes,
            RowOrder::Rotated { head_dim } => convert::order_rotary_rows(bytes, self.weights.names, rows, head_dim),
        }
    }

    /// The name in the file of a tensor of `module`, below this place.
    fn in_file(&self, module: &str, kind: &str) -> String {
        let name = match self.prefix.as_str() {
            "" => format!("{module}.{kind}"),
            prefix => format!("{prefix}.{module}.{kind}"),
        };
        self.weights.names.in_file(&name)
    }
}
