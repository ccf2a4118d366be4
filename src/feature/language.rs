//! The language of a file: by its extension, or by what the editor calls it. The table is `languages.txt`.

/// `id: extensions | editor ids | file names`, one language a line.
const TABLE: &str = include_str!("languages.txt");

/// What a file is written in, as far as its name or the editor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// GitLab's id; empty for a language that is not in the table.
    pub id: &'static str,
    /// What to call it in a prompt: the editor's word, else the id, else the extension.
    pub name: String,
    extension: String,
}

impl Language {
    /// The id, or the extension of a file whose language is not in the table: tells how the language is written.
    pub fn syntax(&self) -> &str {
        if !self.id.is_empty() {
            self.id
        } else if !self.extension.is_empty() {
            &self.extension
        } else {
            &self.name
        }
    }
}

/// `None` where neither the name nor the editor says anything: GitLab asks no model about such a file.
pub fn language_of(file_name: &str, identifier: Option<&str>) -> Option<Language> {
    let base = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let extension = extension_of(base);
    let identifier = identifier.map(str::trim).unwrap_or_default();
    let id = find(|row| row.extensions(extension))
        .or_else(|| find(|row| row.editor_ids(identifier)))
        .or_else(|| find(|row| row.editor_ids(&identifier.to_lowercase())))
        .or_else(|| find(|row| row.file_names(base)));
    let name = [identifier, id.unwrap_or_default(), extension].into_iter().find(|name| !name.is_empty())?;
    Some(Language { id: id.unwrap_or_default(), name: name.to_owned(), extension: extension.to_owned() })
}

/// What follows the last dot. A name that begins with its only dot has no extension.
fn extension_of(base: &str) -> &str {
    match base.trim_start_matches('.').rsplit_once('.') {
        Some((_, extension)) => extension,
        None => "",
    }
}

struct Row {
    id: &'static str,
    parts: [&'static str; 3],
}

impl Row {
    fn extensions(&self, extension: &str) -> bool {
        self.lists(self.parts[0], extension, self.id)
    }

    fn editor_ids(&self, identifier: &str) -> bool {
        self.lists(self.parts[1], identifier, self.id)
    }

    fn file_names(&self, base: &str) -> bool {
        self.lists(self.parts[2], base, "-")
    }

    fn lists(&self, part: &'static str, wanted: &str, default: &'static str) -> bool {
        let part = if part.is_empty() { default } else { part };
        !wanted.is_empty() && part != "-" && part.split(',').any(|word| word == wanted)
    }
}

fn find(matches: impl Fn(&Row) -> bool) -> Option<&'static str> {
    rows().find(matches).map(|row| row.id)
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let mut parts = rest.split('|').map(str::trim);
        let mut part = || parts.next().unwrap_or_default();
        Some(Row { id, parts: [part(), part(), part()] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_before_the_editor() {
        let check = |file: &str, identifier: Option<&str>, id: &str, name: &str| {
            let language = language_of(file, identifier).expect(file);
            assert_eq!((language.id, language.name.as_str()), (id, name), "{file} {identifier:?}");
        };
        check("src/area.py", None, "python", "python");
        check("src/area.py", Some("ruby"), "python", "ruby");
        check("x.C", None, "cpp", "cpp");
        check("x.c", None, "c", "c");
        check("x.H", None, "cpp", "cpp");
        check("x.R", None, "r", "r");
        check("x.v", None, "verilog", "verilog");
        check("x.vv", None, "v", "v");
        check("component.tsx", Some("typescriptreact"), "ts", "typescriptreact");
        check("x.zig", None, "zig", "zig");
        check("x.m", Some("matlab"), "objc", "matlab");
        check("script", Some("shellscript"), "bash", "shellscript");
        check("script", Some("Python"), "python", "Python");
        check("notes", Some("matlab"), "matlab", "matlab");
        check("x.matlab", None, "", "matlab");
        check("page.html", None, "", "html");
        check("x.PY", None, "", "PY");
        check("a/Dockerfile", None, "dockerfile", "dockerfile");
        check("Gemfile", Some(""), "ruby", "ruby");
        check("C:\\src\\x.rs", None, "rust", "rust");
    }

    #[test]
    fn a_file_without_extension_and_identifier_has_no_language() {
        for file in ["LICENSE", ".gitignore", "", "src/", "a.b/LICENSE", "x."] {
            assert_eq!(language_of(file, None), None, "{file}");
            assert_eq!(language_of(file, Some(" ")), None, "{file}");
        }
    }

    #[test]
    fn every_row_of_the_table_is_found_by_its_own_words() {
        let mut rows_found = 0;
        for row in rows() {
            rows_found += 1;
            for (part, is_extension) in [(row.parts[0], true), (row.parts[1], false)] {
                let words = if part.is_empty() { row.id } else { part };
                for word in words.split(',').filter(|word| *word != "-") {
                    let found = match is_extension {
                        true => language_of(&format!("x.{word}"), None),
                        false => language_of("x", Some(word)),
                    };
                    assert_eq!(found.expect(word).id, row.id, "{word}");
                }
            }
        }
        assert!(rows_found >= 100, "{rows_found}");
    }
}
