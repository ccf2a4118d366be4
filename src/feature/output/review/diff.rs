//! The diff of a review call: which lines a comment may be put on.

/// The changed files in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    pub files: Vec<DiffFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiffFile {
    pub path: String,
    pub lines: Vec<DiffLine>,
}

/// Added lines have a new number, deleted ones an old one, lines of context both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiffLine {
    pub old: Option<u32>,
    pub new: Option<u32>,
    pub text: String,
}

impl Diff {
    /// Reads GitLab's `<file_diff>` blocks line by line. What is in a line is text, whatever it looks like.
    pub(super) fn parse(text: &str) -> Self {
        let mut diff = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("<file_diff ") {
                let path = rest.split_once("filename=\"").and_then(|(_, path)| path.rsplit_once("\">"));
                if let Some((path, _)) = path {
                    diff.files.push(DiffFile { path: path.to_owned(), lines: Vec::new() });
                }
            } else if let (Some(rest), Some(file)) = (line.strip_prefix("<line "), diff.files.last_mut()) {
                file.lines.extend(diff_line(rest));
            }
        }
        diff
    }

    /// The file a model means: the path as it is, without `a/` and `b/`, or the only one that ends like it. The only
    /// file there is needs no name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let name = name.trim().trim_matches(['`', '"', '\'']);
        let is = |path: &str| self.files.iter().position(|file| file.path == path);
        if name.is_empty() {
            return (self.files.len() == 1).then_some(0);
        }
        let bare = name.trim_start_matches("./").trim_start_matches('/');
        let stripped = bare.strip_prefix("a/").or_else(|| bare.strip_prefix("b/"));
        is(name).or_else(|| is(bare)).or_else(|| is(stripped?)).or_else(|| {
            let ending = format!("/{}", stripped.unwrap_or(bare));
            let mut alike = self.files.iter().enumerate().filter(|(_, file)| file.path.ends_with(&ending));
            let first = alike.next()?;
            alike.next().is_none().then_some(first.0)
        })
    }
}

fn diff_line(rest: &str) -> Option<DiffLine> {
    let (attributes, text) = rest.split_once("\">")?;
    let number = |name: &str| {
        let (_, value) = attributes.split_once(name)?;
        let digits = value.strip_prefix("=\"")?;
        digits[..digits.find('"').unwrap_or(digits.len())].parse().ok()
    };
    let (old, new) = (number("old_line"), number("new_line"));
    let text = text.strip_suffix("</line>").unwrap_or(text).to_owned();
    (old.is_some() || new.is_some()).then_some(DiffLine { old, new, text })
}

impl DiffFile {
    /// A comment names its file in an attribute, which cannot hold every path.
    pub(super) fn is_nameable(&self) -> bool {
        !self.path.contains(['"', '>', '\n', '\r'])
    }

    /// The line with these numbers: both of them, else the new one, else the old one.
    pub(super) fn locate(&self, old: Option<u32>, new: Option<u32>) -> Option<usize> {
        let position = |is: &dyn Fn(&DiffLine) -> bool| self.lines.iter().position(is);
        let exact = position(&|line| line.old == old && line.new == new && (old.is_some() || new.is_some()));
        exact
            .or_else(|| new.and_then(|new| position(&|line| line.new == Some(new))))
            .or_else(|| old.and_then(|old| position(&|line| line.old == Some(old) && line.new.is_none())))
            .or_else(|| if new.is_none() { old.and_then(|old| position(&|line| line.old == Some(old))) } else { None })
    }

    /// The nearest line of the new file to a number that is not in the diff, at most `distance` away.
    pub(super) fn nearest(&self, new: u32, distance: u32) -> Option<usize> {
        let away = |line: &DiffLine| line.new.map(|number| number.abs_diff(new)).filter(|away| *away <= distance);
        let lines = self.lines.iter().enumerate();
        // An added line rather than one of context, at the same distance.
        let ranked = lines.filter_map(|(index, line)| Some(((away(line)?, line.old.is_some()), index)));
        ranked.min().map(|(_, index)| index)
    }

    /// `count` lines of the new file from this one on, without a gap. `None` where the diff does not show that many.
    pub(super) fn run(&self, start: usize, count: usize) -> Option<Vec<&str>> {
        let first = self.lines.get(start)?.new?;
        let new_lines = self.lines[start..].iter().filter_map(|line| Some((line.new?, line.text.as_str())));
        let run: Vec<&str> = new_lines
            .take(count)
            .zip(0..)
            .take_while(|((number, _), away)| *number == first.saturating_add(*away))
            .map(|((_, text), _)| text)
            .collect();
        (run.len() == count).then_some(run)
    }
}
