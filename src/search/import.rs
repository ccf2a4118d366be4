//! From a folder of Markdown to an index that takes the place of the one before in a single step: searches see all of
//! the old or all of the new, and an import that fails leaves the old one as it is.

use super::error::ImportError;
use super::markdown;
use super::store::{self, Document, Writer};
use super::tree::{self, Omissions, SkipReason, Skipped};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    pub folder: PathBuf,
    /// Where people read these pages; see [`super::BASE_URL`].
    pub base_url: String,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub files_done: usize,
    pub files_total: usize,
}

/// What became of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub documents: usize,
    pub passages: usize,
    /// Size of the index.
    pub bytes: u64,
    pub skipped_total: usize,
    /// The first of what was left out.
    pub skipped: Vec<Skipped>,
}

/// Makes the index at `path` anew from a folder. `report` is called after each file.
pub fn import(path: &Path, options: &ImportOptions, report: &mut dyn FnMut(Progress)) -> Result<Report, ImportError> {
    check_base_url(&options.base_url)?;
    let unreadable = |source| ImportError::Folder { path: options.folder.clone(), source };
    let folder = options.folder.canonicalize().map_err(unreadable)?;
    if !folder.is_dir() {
        return Err(ImportError::NotAFolder { path: options.folder.clone() });
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|source| ImportError::Write { path: parent.to_owned(), source })?;
    }
    let _lock = lock(path)?;
    let mut omissions = Omissions::default();
    let files = tree::markdown_files(&folder, &mut omissions).map_err(unreadable)?;
    let partial = Partial::new(path)?;
    let written = write(&partial.path, &files, options, &mut omissions, report)
        .map_err(|source| ImportError::Index { path: partial.path.clone(), source })?;
    if written.documents == 0 {
        return Err(ImportError::Nothing { path: options.folder.clone(), skipped: omissions.total });
    }
    let bytes = partial.replace(path)?;
    let Written { documents, passages } = written;
    Ok(Report { documents, passages, bytes, skipped_total: omissions.total, skipped: omissions.named })
}

struct Written {
    documents: usize,
    passages: usize,
}

fn write(
    partial: &Path,
    files: &[tree::Found],
    options: &ImportOptions,
    omissions: &mut Omissions,
    report: &mut dyn FnMut(Progress),
) -> rusqlite::Result<Written> {
    let mut connection = store::create(partial)?;
    let transaction = connection.transaction()?;
    let mut writer = Writer::new(&transaction)?;
    let mut documents = 0;
    for (index, file) in files.iter().enumerate() {
        match read(file) {
            Ok(page) => {
                let url = page_url(&options.base_url, &file.name);
                let document = Document { filename: &file.name, title: &page.title, url: &url };
                writer.add(&document, &page.passages)?;
                documents += 1;
            }
            Err(reason) => omissions.add(&file.name, reason),
        }
        report(Progress { files_done: index + 1, files_total: files.len() });
    }
    let passages = writer.passages();
    drop(writer);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    store::describe(
        &transaction,
        &[
            ("documents", documents.to_string()),
            ("passages", passages.to_string()),
            ("base_url", options.base_url.clone()),
            ("imported_s", now_s.to_string()),
        ],
    )?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(Written { documents, passages })
}

fn read(file: &tree::Found) -> Result<markdown::Page, SkipReason> {
    let text = tree::text(&file.path)?;
    let page = markdown::page(&text, &title_of(&file.name)).ok_or(SkipReason::Redirect)?;
    if page.passages.is_empty() { Err(SkipReason::Empty) } else { Ok(page) }
}

/// A title for a page that names none: its file's name, or its folder's.
fn title_of(name: &str) -> String {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let named = match is_index(stem) && !folder.is_empty() {
        true => folder.rsplit('/').next().unwrap_or(folder),
        false => stem,
    };
    let words = named.replace(['_', '-'], " ");
    let mut chars = words.trim().chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Where people read a page: the site gives each page a folder of its own, and leaves out the `doc` of the repository.
fn page_url(base_url: &str, name: &str) -> String {
    let name = name.strip_prefix("doc/").unwrap_or(name);
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let parts = folder.split('/').chain([stem].into_iter().filter(|stem| !is_index(stem)));
    let mut url = base_url.trim_end_matches('/').to_owned();
    for part in parts.filter(|part| !part.is_empty()) {
        url.push('/');
        for byte in part.bytes() {
            match byte {
                byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => url.push(char::from(byte)),
                byte => url.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    url.push('/');
    url
}

fn is_index(stem: &str) -> bool {
    ["_index", "index", "readme"].iter().any(|name| stem.eq_ignore_ascii_case(name))
}

fn check_base_url(url: &str) -> Result<(), ImportError> {
    let is_web = ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !is_web || url.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err(ImportError::BaseUrl { url: url.to_owned() });
    }
    Ok(())
}

/// `docs.db` with `suffix`, beside it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Held while the index is written; the system lets go of it when the process ends.
fn lock(path: &Path) -> Result<File, ImportError> {
    let lock = beside(path, ".lock");
    let refused = |source: io::Error| ImportError::Write { path: lock.clone(), source };
    let file = OpenOptions::new().create(true).append(true).open(&lock).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ImportError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(refused(source)),
    }
}

/// A file that goes away unless it takes the place of the index.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(path: &Path) -> Result<Self, ImportError> {
        let path = beside(path, ".partial");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ImportError::Write { path, source }),
            _ => Ok(Self { path }),
        }
    }

    /// Returns the size.
    fn replace(&self, index: &Path) -> Result<u64, ImportError> {
        let refused = |source: io::Error| ImportError::Write { path: index.to_owned(), source };
        let file = File::open(&self.path).map_err(refused)?;
        file.sync_all().map_err(refused)?;
        let bytes = file.metadata().map_err(refused)?.len();
        fs::rename(&self.path, index).map_err(refused)?;
        // The name is on disk only when its folder is.
        let parent = index.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(refused)?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_titles_follow_from_the_path() {
        let check = |name: &str, url: &str, title: &str| {
            assert_eq!(page_url("https://docs.gitlab.com/", name), url);
            assert_eq!(title_of(name), title);
        };
        check("user/project/fork.md", "https://docs.gitlab.com/user/project/fork/", "Fork");
        check("doc/user/_index.md", "https://docs.gitlab.com/user/", "User");
        check("index.md", "https://docs.gitlab.com/", "Index");
        check("ci/README.markdown", "https://docs.gitlab.com/ci/", "Ci");
        check("a b/forking_work-flow.MD", "https://docs.gitlab.com/a%20b/forking_work-flow/", "Forking work flow");
        check("a/../\"<x>.md", "https://docs.gitlab.com/a/../%22%3Cx%3E/", "\"<x>");
        for url in ["", "docs.gitlab.com", "ftp://x", "https://", "https://a b"] {
            assert!(check_base_url(url).is_err(), "{url}");
        }
        assert!(check_base_url("http://docs.example.test/17").is_ok());
    }
}
