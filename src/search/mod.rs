//! The documentation index: passages of a tree of Markdown in one SQLite file, found by their words (FTS5, ordered by
//! bm25).
//!
//! Knows nobody. An index is made by [`import`] beside the one in use and takes its place in one step; an [`Index`]
//! notices that between two searches. The file holds what the tree said and nothing about who searches.

mod error;
mod import;
mod index;
mod markdown;
mod query;
mod store;
mod tree;

pub use error::{ImportError, SearchError};
pub use import::{ImportOptions, Progress, Report, import};
pub use index::{Hit, Index, Status};
pub use tree::{SkipReason, Skipped};

/// Where the passages of GitLab's documentation are read by people.
pub const BASE_URL: &str = "https://docs.gitlab.com";
