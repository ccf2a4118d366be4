//! A place in a file, and the code on both sides of it.

use std::path::PathBuf;

const FILE_BYTES_MAX: u64 = 8 << 20;

/// Line and column count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub path: PathBuf,
    pub line: usize,
    /// The character the cursor stands before; `None` is the end of the line.
    pub column: Option<usize>,
}

/// The code around a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    pub prefix: String,
    pub suffix: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    #[error("`{text}` is not FILE:LINE or FILE:LINE:COL, for example src/main.rs:12 or src/main.rs:12:5")]
    Syntax { text: String },
    #[error("{}: lines and columns count from 1", .path.display())]
    Zero { path: PathBuf },
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} has {bytes} bytes, the limit is {bytes_max}", .path.display())]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("{} is not text: it has a byte at {at} that is not UTF-8 or is NUL", .path.display())]
    Binary { path: PathBuf, at: usize },
    #[error("{} has {lines} lines, there is no line {line}", .path.display())]
    LineBeyondEnd { path: PathBuf, line: usize, lines: usize },
    #[error("line {line} of {} ends at column {end}, there is no column {column}", .path.display())]
    ColumnBeyondEnd { path: PathBuf, line: usize, column: usize, end: usize },
}

impl Cursor {
    /// Reads `FILE:LINE[:COL]`. The file's own name may hold colons.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let syntax = || CursorError::Syntax { text: text.to_owned() };
        let (rest, last) = text.rsplit_once(':').ok_or_else(syntax)?;
        let last: usize = last.parse().map_err(|_| syntax())?;
        let before = rest.rsplit_once(':').and_then(|(path, line)| Some((path, line.parse::<usize>().ok()?)));
        let (path, line, column) = match before {
            Some((path, line)) => (path, line, Some(last)),
            None => (rest, last, None),
        };
        let path = PathBuf::from(path);
        match (path.as_os_str().is_empty(), line, column) {
            (true, ..) => Err(syntax()),
            (_, 0, _) | (.., Some(0)) => Err(CursorError::Zero { path }),
            _ => Ok(Self { path, line, column }),
        }
    }

    /// Reads the file and cuts it in two.
    pub fn read(&self) -> Result<Around, CursorError> {
        let path = || self.path.clone();
        let unreadable = |source| CursorError::Unreadable { path: path(), source };
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let bytes = metadata.len();
        if bytes > FILE_BYTES_MAX {
            return Err(CursorError::TooLarge { path: path(), bytes, bytes_max: FILE_BYTES_MAX });
        }
        let text = String::from_utf8(std::fs::read(&self.path).map_err(unreadable)?)
            .map_err(|error| CursorError::Binary { path: path(), at: error.utf8_error().valid_up_to() })?;
        if let Some(at) = text.find('\0') {
            return Err(CursorError::Binary { path: path(), at });
        }
        self.split(&text)
    }

    fn split(&self, text: &str) -> Result<Around, CursorError> {
        let mut start = 0;
        let mut lines = text.split_inclusive('\n');
        for past in 1..self.line {
            start += lines.next().map(str::len).ok_or_else(|| CursorError::LineBeyondEnd {
                path: self.path.clone(),
                line: self.line,
                lines: past - 1,
            })?;
        }
        // The empty line behind a last newline is a line to write on; there is none behind that.
        let line = match lines.next() {
            Some(line) => line,
            None if text.is_empty() || text.ends_with('\n') => "",
            None => {
                let lines = text.lines().count();
                return Err(CursorError::LineBeyondEnd { path: self.path.clone(), line: self.line, lines });
            }
        };
        let line = line.trim_end_matches(['\n', '\r']);
        let at = start + self.column_offset(line)?;
        Ok(Around { prefix: text[..at].to_owned(), suffix: text[at..].to_owned() })
    }

    /// Bytes of `line` before the cursor.
    fn column_offset(&self, line: &str) -> Result<usize, CursorError> {
        let Some(column) = self.column else { return Ok(line.len()) };
        let offsets = line.char_indices().map(|(offset, _)| offset).chain([line.len()]);
        let mut offsets = offsets.skip(column - 1);
        offsets.next().ok_or_else(|| CursorError::ColumnBeyondEnd {
            path: self.path.clone(),
            line: self.line,
            column,
            end: line.chars().count() + 1,
        })
    }
}

impl Around {
    /// Keeps about `share` of the text nearest the cursor, three parts before it to one behind it, in whole lines.
    pub fn narrowed(&self, share: f64) -> Self {
        let budget = ((self.prefix.len() + self.suffix.len()) as f64 * share) as usize;
        let behind = self.suffix.len().min(budget / 4);
        let before = self.prefix.len().min(budget - behind);
        let behind = self.suffix.len().min(budget - before);
        let start = self.prefix.ceil_char_boundary(self.prefix.len() - before);
        let start = match self.prefix[start..].find('\n') {
            Some(newline) if start > 0 => start + newline + 1,
            _ => start,
        };
        let end = self.suffix.floor_char_boundary(behind);
        let end = match self.suffix[..end].rfind('\n') {
            Some(newline) if end < self.suffix.len() => newline + 1,
            _ => end,
        };
        Self { prefix: self.prefix[start..].to_owned(), suffix: self.suffix[..end].to_owned() }
    }

    pub fn num_lines(&self) -> usize {
        self.prefix.matches('\n').count() + self.suffix.matches('\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_places() {
        let check = |text: &str, expected: Option<(&str, usize, Option<usize>)>| {
            let found = Cursor::parse(text).ok();
            let expected = expected.map(|(path, line, column)| Cursor { path: PathBuf::from(path), line, column });
            assert_eq!(found, expected, "{text}");
        };
        check("a.rs:3", Some(("a.rs", 3, None)));
        check("a.rs:3:7", Some(("a.rs", 3, Some(7))));
        check("C:/a.rs:3:7", Some(("C:/a.rs", 3, Some(7))));
        check("odd:name:3", Some(("odd:name", 3, None)));
        for wrong in ["a.rs", "a.rs:", "a.rs:x", ":3", "a.rs:0", "a.rs:3:0", "", "a.rs:-1", "a.rs:99999999999999999999"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn cuts_at_the_cursor() {
        let check = |text: &str, line, column, expected: Result<(&str, &str), &str>| {
            let found = Cursor { path: PathBuf::from("f"), line, column }.split(text);
            let found = found.map(|around| (around.prefix, around.suffix)).map_err(|error| error.to_string());
            let expected = expected.map(|(prefix, suffix)| (prefix.to_owned(), suffix.to_owned()));
            assert_eq!(found, expected.map_err(str::to_owned), "{text:?} {line} {column:?}");
        };
        check("one\ntwo\n", 1, None, Ok(("one", "\ntwo\n")));
        check("one\r\ntwo\r\n", 1, None, Ok(("one", "\r\ntwo\r\n")));
        check("one\ntwo\n", 2, Some(1), Ok(("one\n", "two\n")));
        check("one\ntwo\n", 2, Some(4), Ok(("one\ntwo", "\n")));
        check("one\ntwo\n", 3, None, Ok(("one\ntwo\n", "")));
        check("öäü", 1, Some(3), Ok(("öä", "ü")));
        check("", 1, None, Ok(("", "")));
        check("", 2, None, Err("f has 0 lines, there is no line 2"));
        check("one", 2, None, Err("f has 1 lines, there is no line 2"));
        check("one\n", 3, None, Err("f has 1 lines, there is no line 3"));
        check("one\n", 9, None, Err("f has 1 lines, there is no line 9"));
        check("öäü\n", 1, Some(5), Err("line 1 of f ends at column 4, there is no column 5"));
    }

    #[test]
    fn narrows_to_whole_lines_near_the_cursor() {
        let prefix: String = (0..100).map(|line| format!("before {line}\n")).collect();
        let suffix: String = (0..100).map(|line| format!("\nbehind {line}")).collect();
        let around = Around { prefix, suffix };
        let narrowed = around.narrowed(0.2);
        assert!(narrowed.prefix.starts_with("before ") && narrowed.prefix.ends_with("before 99\n"));
        assert!(narrowed.suffix.starts_with("\nbehind 0\n") && narrowed.suffix.ends_with('\n'));
        let kept = narrowed.prefix.len() + narrowed.suffix.len();
        assert!(kept < (around.prefix.len() + around.suffix.len()) / 5 && kept > 300, "{kept}");
        assert_eq!(around.narrowed(1.0), around);
        assert!(narrowed.num_lines() < around.num_lines());
        let umlauts = Around { prefix: "ö".repeat(50), suffix: "ä".repeat(50) };
        for percent in 0..100 {
            umlauts.narrowed(f64::from(percent) / 100.0);
        }
    }
}
