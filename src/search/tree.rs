//! The Markdown files of a folder. Strangers may have written it: links are not followed, depth, number and size are
//! bounded, and what is left out is reported.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

const DEPTH_MAX: usize = 64;
const FILES_MAX: usize = 200_000;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// So many of what was left out are named; the others are counted.
const NAMED_MAX: usize = 100;

/// Something under the folder that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Below the folder, without control characters.
    pub path: String,
    pub reason: SkipReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    #[error("a symbolic link, and links are not followed")]
    Link,
    #[error("neither a file nor a folder")]
    Special,
    #[error("more than {max} folders deep", max = DEPTH_MAX)]
    TooDeep,
    #[error("{bytes} bytes, at most {max} are read", max = FILE_BYTES_MAX)]
    TooLarge { bytes: u64 },
    #[error("not text in UTF-8")]
    NotText,
    #[error("not readable: {kind}")]
    Unreadable { kind: io::ErrorKind },
    #[error("only points to another page")]
    Redirect,
    #[error("nothing in it")]
    Empty,
    #[error("more than {max} files", max = FILES_MAX)]
    TooMany,
}

/// What was left out: the first by name, all by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Omissions {
    pub(super) named: Vec<Skipped>,
    pub(super) total: usize,
}

impl Omissions {
    pub(super) fn add(&mut self, path: &str, reason: SkipReason) {
        self.total += 1;
        if self.named.len() < NAMED_MAX {
            let path = path.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
            self.named.push(Skipped { path, reason });
        }
    }
}

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Below the folder, with `/` between its parts.
    pub(super) name: String,
}

/// Every Markdown file below `root`, in order of their names. Hidden files and folders are passed over in silence.
pub(super) fn markdown_files(root: &Path, omissions: &mut Omissions) -> io::Result<Vec<Found>> {
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                omissions.add(&prefix, SkipReason::Unreadable { kind: error.kind() });
                continue;
            }
        };
        for entry in entries.flatten() {
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let name = if prefix.is_empty() { file_name.clone() } else { format!("{prefix}/{file_name}") };
            let Ok(kind) = entry.file_type() else { continue };
            let is_markdown = is_markdown(&file_name);
            match () {
                () if file_name.starts_with('.') => {}
                () if kind.is_dir() && depth >= DEPTH_MAX => omissions.add(&name, SkipReason::TooDeep),
                () if kind.is_dir() => folders.push((entry.path(), name, depth + 1)),
                () if kind.is_symlink() && (is_markdown || entry.path().is_dir()) => {
                    omissions.add(&name, SkipReason::Link);
                }
                () if !is_markdown => {}
                () if !kind.is_file() => omissions.add(&name, SkipReason::Special),
                () if files.len() >= FILES_MAX => omissions.add(&name, SkipReason::TooMany),
                () => files.push(Found { path: entry.path(), name }),
            }
        }
    }
    files.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    Ok(files)
}

/// The text of a file, within the limits.
pub(super) fn text(path: &Path) -> Result<String, SkipReason> {
    let unreadable = |error: io::Error| SkipReason::Unreadable { kind: error.kind() };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(SkipReason::TooLarge { bytes });
    }
    // It may have grown since.
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(SkipReason::TooLarge { bytes: content.len() as u64 });
    }
    String::from_utf8(content).ok().filter(|text| !text.contains('\0')).ok_or(SkipReason::NotText)
}

fn is_markdown(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| ["md", "markdown"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}
