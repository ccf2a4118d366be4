//! Indentation that a model lost or added, put back.

/// The whitespace a line begins with.
pub(super) fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// How lines as they were written differ from how they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    None,
    /// This much stands before every line, and was left out.
    Lost(String),
    /// This much was put before every line.
    Added(String),
}

impl Shift {
    /// `None` when the lines differ in more than one indentation that all of them share.
    pub(super) fn between(written: &[&str], actual: &[&str]) -> Option<Self> {
        if written.len() != actual.len() {
            return None;
        }
        let pairs = || written.iter().zip(actual).filter(|(written, _)| !is_blank(written));
        let has_same_words = written.iter().zip(actual).all(|(written, actual)| written.trim() == actual.trim());
        if !has_same_words {
            return None;
        }
        let Some((first_written, first_actual)) = pairs().next() else { return Some(Self::None) };
        let (written_indent, actual_indent) = (indent(first_written), indent(first_actual));
        let shift = if written_indent == actual_indent {
            Self::None
        } else if let Some(lost) = actual_indent.strip_suffix(written_indent) {
            Self::Lost(lost.to_owned())
        } else {
            Self::Added(written_indent.strip_suffix(actual_indent)?.to_owned())
        };
        let is_shared = pairs().all(|(written, actual)| shift.undone(written).as_deref() == Some(actual.trim_end()));
        is_shared.then_some(shift)
    }

    /// The line as it was meant; `None` when it does not have what was added to all of them.
    pub(super) fn undone(&self, line: &str) -> Option<String> {
        let line = line.trim_end();
        match self {
            _ if line.is_empty() => Some(String::new()),
            Self::None => Some(line.to_owned()),
            Self::Lost(lost) => Some(format!("{lost}{line}")),
            Self::Added(added) => line.strip_prefix(added.as_str()).map(str::to_owned),
        }
    }
}

/// Code that takes the place of `old`, with the indentation of `old` when it begins without any.
///
/// A model may lose the indentation of the first line only (its answer was trimmed), or of all lines.
pub(super) fn indented_like(old: &str, code: &str) -> String {
    let first_of = |text: &str| text.lines().find(|line| !is_blank(line)).map(|line| indent(line).to_owned());
    let wanted = first_of(old).unwrap_or_default();
    if wanted.is_empty() || first_of(code).is_none_or(|found| !found.is_empty()) {
        return code.to_owned();
    }
    let mut lines: Vec<String> = code.lines().map(str::to_owned).collect();
    let first = lines.iter().position(|line| !is_blank(line)).unwrap_or(0);
    let others: Vec<&str> = lines[first + 1..].iter().map(String::as_str).filter(|line| !is_blank(line)).collect();
    let others_have_it = !others.is_empty() && others.iter().all(|line| line.starts_with(&wanted));
    // The body of a block is deeper than its head: at the depth of the lines it replaces, the head was there too.
    let opens_block = lines[first].trim_end().ends_with([':', '{', '(', '[', ',']);
    let is_deeper = others.first().is_some_and(|line| indent(line).len() > wanted.len());
    let only_first = others_have_it && (!opens_block || is_deeper);
    for (index, line) in lines.iter_mut().enumerate() {
        if !is_blank(line) && (index == first || !only_first) {
            line.insert_str(0, &wanted);
        }
    }
    let mut text = lines.join("\n");
    if code.ends_with('\n') {
        text.push('\n');
    }
    text
}
