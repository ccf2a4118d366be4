//! Why a configuration does not describe a model we can build.

use crate::checkpoint::{CheckpointError, MetadataError};

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("architecture `{found}` is not supported, supported are {supported}")]
    UnknownArchitecture { found: String, supported: String },
    #[error(
        "the model brings its own code (`auto_map`), which is never run; `{found}` is not among the architectures known \
         here: {supported}"
    )]
    ForeignCode { found: String, supported: String },
    #[error("the checkpoint has no configuration")]
    NoConfiguration,
    #[error("config.json is {found}, expected an object")]
    NotAnObject { found: &'static str },
    #[error("`{key}` is missing from the configuration")]
    Missing { key: String },
    #[error("`{key}` is {found}, expected {expected}")]
    WrongType { key: String, found: String, expected: &'static str },
    #[error("`{key}` is {found}, supported is {supported}")]
    Unsupported { key: String, found: String, supported: &'static str },
    #[error("{what} is {found}, the limits are {min} and {max}")]
    OutOfLimits { what: &'static str, found: String, min: String, max: String },
    #[error("{what} is {found}, not a multiple of {of}, which is {divisor}")]
    NotDivisible { what: &'static str, found: usize, of: &'static str, divisor: usize },
    #[error("`{key}` has {found} entries, expected {expected}")]
    WrongCount { key: String, found: usize, expected: usize },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
