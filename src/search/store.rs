//! The SQLite file: its tables, and the writer that fills them. The text lies in an ordinary table; the words of it in
//! an FTS5 table without a copy of the text.

use super::markdown::Passage;
use rusqlite::{Connection, OpenFlags, Statement, params};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::Path;

/// Raised when the tables change: an index of another version has to be made anew.
pub(super) const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE passages (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        filename TEXT NOT NULL,
        title TEXT NOT NULL,
        source_url TEXT NOT NULL,
        content TEXT NOT NULL
    );
    CREATE VIRTUAL TABLE words USING fts5 (
        above, heading, body, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
    );
";

/// A page as it is stored.
pub(super) struct Document<'a> {
    pub(super) filename: &'a str,
    pub(super) title: &'a str,
    /// Of the page, without an anchor.
    pub(super) url: &'a str,
}

/// Opens an index to be searched. Nothing can be written through it.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A new file with empty tables. Nobody reads it before it is whole, so it needs no journal.
pub(super) fn create(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(connection)
}

/// Adds pages within one transaction.
pub(super) struct Writer<'a> {
    insert_passage: Statement<'a>,
    insert_words: Statement<'a>,
    ids: HashSet<String>,
    passages: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let insert_passage = connection.prepare(
            "INSERT INTO passages (number, id, filename, title, source_url, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let insert_words =
            connection.prepare("INSERT INTO words (rowid, above, heading, body) VALUES (?1, ?2, ?3, ?4)")?;
        Ok(Self { insert_passage, insert_words, ids: HashSet::new(), passages: 0 })
    }

    pub(super) fn passages(&self) -> usize {
        self.passages
    }

    pub(super) fn add(&mut self, document: &Document<'_>, passages: &[Passage]) -> rusqlite::Result<()> {
        let Document { filename, title, url } = document;
        for (index, passage) in passages.iter().enumerate() {
            let number = self.passages as i64 + 1;
            let id = self.id(filename, index, &passage.text);
            let source_url = match &passage.anchor {
                Some(anchor) => format!("{url}#{anchor}"),
                None => (*url).to_owned(),
            };
            let content = format!("{}\n\n{}", trail(title, &passage.headings), passage.text);
            self.insert_passage.execute(params![number, id, filename, title, source_url, content])?;
            // The beginning of a page is about what the page is about: its heading is the title.
            let (heading, above) = match passage.headings.split_last() {
                Some((heading, above)) => (heading.as_str(), above),
                None => (*title, &[][..]),
            };
            self.insert_words.execute(params![number, trail(title, above), heading, passage.text])?;
            self.passages += 1;
        }
        Ok(())
    }

    /// Twelve hexadecimal digits: short enough for a small model to repeat without a mistake, and the same for the same
    /// passage in every import.
    fn id(&mut self, filename: &str, index: usize, text: &str) -> String {
        let hashed = |attempt: u64| -> String {
            let mut hash = Sha256::new();
            for part in [filename.as_bytes(), text.as_bytes()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            hash.update((index as u64).to_le_bytes());
            hash.update(attempt.to_le_bytes());
            hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
        };
        let free = (0..).map(hashed).find(|id| !self.ids.contains(id)).expect("attempts do not end");
        self.ids.insert(free.clone());
        free
    }
}

/// Says how many pages and passages there are, and where they came from.
pub(super) fn describe(connection: &Connection, about: &[(&str, String)]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT INTO about (name, value) VALUES (?1, ?2)")?;
    for (name, value) in about {
        insert.execute(params![name, value])?;
    }
    connection.execute("INSERT INTO words (words) VALUES ('optimize')", [])?;
    Ok(())
}

/// The headings above a passage on one line, the page's title first.
fn trail(title: &str, headings: &[String]) -> String {
    let mut trail = title.to_owned();
    for heading in headings {
        trail.push_str(" > ");
        trail.push_str(heading);
    }
    trail
}
