//! Why an index could not be made or searched.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read the folder {}: {source}", .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} is not a folder", .path.display())]
    NotAFolder { path: PathBuf },
    #[error("there is no Markdown to import under {} ({skipped} files were left out)", .path.display())]
    Nothing { path: PathBuf, skipped: usize },
    #[error("the base URL {url:?} has to begin with http:// or https:// and hold no spaces")]
    BaseUrl { url: String },
    #[error("another import is writing {} at this moment", .path.display())]
    Busy { path: PathBuf },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the index {}: {source}", .path.display())]
    Index { path: PathBuf, source: rusqlite::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("there is no documentation index at {}: make one with `sconce docs import DIR`", .path.display())]
    Missing { path: PathBuf },
    #[error("cannot read the index {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "the index {} is of version {found} and this program reads version {expected}: make it anew with \
         `sconce docs import DIR`",
        .path.display()
    )]
    Version { path: PathBuf, found: i64, expected: i64 },
    #[error("the index {} cannot be searched: {source}", .path.display())]
    Index { path: PathBuf, source: rusqlite::Error },
}
