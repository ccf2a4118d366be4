//! Searching an index. The file may be replaced at any time: it is opened anew when it changed.

use super::error::SearchError;
use super::query;
use super::store::{self, VERSION};
use rusqlite::{Connection, params};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The most that one search returns.
const RESULTS_MAX: usize = 20;

/// So many of the best are weighed against each other.
const CANDIDATES_MAX: usize = 160;

/// So many passages of one page, as long as other pages have something to say.
const PER_PAGE_MAX: usize = 2;

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Lower-case hexadecimal.
    pub id: String,
    /// The headings above the passage, then its text: Markdown of some two thousand characters at most.
    pub content: String,
    /// Below the folder that was imported.
    pub filename: String,
    pub title: String,
    pub source_url: String,
}

/// What an index holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub documents: u64,
    pub passages: u64,
    pub base_url: String,
    /// Seconds since the Unix epoch.
    pub imported_s: u64,
    pub bytes: u64,
}

/// An index that may or may not be there. Blocks: not for the threads that serve.
pub struct Index {
    path: PathBuf,
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    connection: Connection,
    stamp: Stamp,
}

/// What tells one file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Index {
    /// The file is opened by the first search: it may be made later.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), opened: Mutex::new(None) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was found, best first; nothing, and a line in the log, when the index cannot be searched. A chat goes on
    /// without documentation.
    pub fn find(&self, question: &str, page_size: usize) -> Vec<Hit> {
        match self.search(question, page_size) {
            Ok(hits) => hits,
            Err(error @ SearchError::Missing { .. }) => {
                tracing::debug!(%error, "documentation not searched");
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "documentation not searched");
                Vec::new()
            }
        }
    }

    /// At most `page_size` passages, and never more than twenty: those that hold all words of the question before those
    /// that hold any of them, each kind ordered by bm25.
    pub fn search(&self, question: &str, page_size: usize) -> Result<Vec<Hit>, SearchError> {
        let page_size = page_size.clamp(1, RESULTS_MAX);
        let Some(queries) = query::queries(question) else { return self.with(|_, _| Ok(Vec::new())) };
        self.with(|connection, _| {
            let mut candidates = Vec::new();
            for words in queries.all.iter().chain([&queries.any]) {
                if candidates.len() < page_size {
                    ranked(connection, words, &mut candidates)?;
                }
            }
            Ok(spread(candidates, page_size))
        })
    }

    pub fn status(&self) -> Result<Status, SearchError> {
        self.with(|connection, stamp| {
            let value = |name: &str| {
                let sql = "SELECT value FROM about WHERE name = ?1";
                connection.query_row(sql, [name], |row| row.get::<_, String>(0))
            };
            let number = |name: &str| Ok::<_, rusqlite::Error>(value(name)?.parse().unwrap_or(0));
            Ok(Status {
                documents: number("documents")?,
                passages: number("passages")?,
                base_url: value("base_url")?,
                imported_s: number("imported_s")?,
                bytes: stamp.bytes,
            })
        })
    }

    /// Lends the connection of the file as it is now.
    fn with<T>(&self, ask: impl FnOnce(&Connection, Stamp) -> rusqlite::Result<T>) -> Result<T, SearchError> {
        let stamp = self.stamp()?;
        // A search that panicked has left nothing half done: connections only read.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_none_or(|opened| opened.stamp != stamp) {
            *opened = None;
            *opened = Some(Opened { connection: self.connect()?, stamp });
        }
        let connection = &opened.as_ref().expect("it was opened above").connection;
        ask(connection, stamp).map_err(|source| {
            let error = self.broken(source);
            // Whatever is wrong with it, the next search looks again.
            *opened = None;
            error
        })
    }

    fn stamp(&self) -> Result<Stamp, SearchError> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Stamp { bytes: metadata.len(), modified: metadata.modified().ok() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SearchError::Missing { path: path() }),
            Err(source) => Err(SearchError::Unreadable { path: path(), source }),
        }
    }

    fn connect(&self) -> Result<Connection, SearchError> {
        let connection = store::open(&self.path).map_err(|source| self.broken(source))?;
        let found = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        match found.map_err(|source| self.broken(source))? {
            VERSION => Ok(connection),
            found => Err(SearchError::Version { path: self.path.clone(), found, expected: VERSION }),
        }
    }

    fn broken(&self, source: rusqlite::Error) -> SearchError {
        SearchError::Index { path: self.path.clone(), source }
    }
}

/// Appends the best passages for `words` that are not among `candidates` yet. A passage's own heading weighs more than
/// those above it, which it shares with others, and the
/// beginning of a page is what people look for when they do not know the page yet.
fn ranked(connection: &Connection, words: &str, candidates: &mut Vec<(i64, Hit)>) -> rusqlite::Result<()> {
    const SQL: &str = "
        SELECT number, id, content, filename, title, source_url
        FROM (SELECT rowid, bm25(words, 2.0, 5.0, 1.0) AS score FROM words WHERE words MATCH ?1 ORDER BY score LIMIT ?2)
        JOIN passages ON number = rowid
        ORDER BY score * iif(instr(source_url, '#'), 1.0, 1.25), number";
    let mut statement = connection.prepare_cached(SQL)?;
    let rows = statement.query_map(params![words, CANDIDATES_MAX as i64], |row| {
        let hit = Hit {
            id: row.get(1)?,
            content: row.get(2)?,
            filename: row.get(3)?,
            title: row.get(4)?,
            source_url: row.get(5)?,
        };
        Ok((row.get(0)?, hit))
    })?;
    for row in rows {
        let (number, hit) = row?;
        if !candidates.iter().any(|(other, _)| *other == number) {
            candidates.push((number, hit));
        }
    }
    Ok(())
}

/// The first `page_size`, in their order, few of each page if there are others.
fn spread(candidates: Vec<(i64, Hit)>, page_size: usize) -> Vec<Hit> {
    let mut chosen = vec![false; candidates.len()];
    let mut left = page_size;
    for is_strict in [true, false] {
        for index in 0..candidates.len() {
            let same_page = |other: &usize| candidates[*other].1.filename == candidates[index].1.filename;
            let of_page = (0..candidates.len()).filter(|other| chosen[*other]).filter(same_page).count();
            if left > 0 && !chosen[index] && (!is_strict || of_page < PER_PAGE_MAX) {
                chosen[index] = true;
                left -= 1;
            }
        }
    }
    candidates.into_iter().zip(chosen).filter(|(_, is_chosen)| *is_chosen).map(|((_, hit), _)| hit).collect()
}
