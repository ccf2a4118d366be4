//! Passages of a Markdown page: its front matter, comments and shortcodes taken off, cut at headings.

use std::collections::HashMap;

/// A passage holds at most this much: four of them fit in any model's context.
const PASSAGE_CHARS_MAX: usize = 2400;

/// Shorter sections are put together with the next one.
const PASSAGE_CHARS_MIN: usize = 320;

/// Lines longer than this are cut: they are data, not prose.
const LINE_CHARS_MAX: usize = 2000;

const TITLE_CHARS_MAX: usize = 200;

/// A page taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) passages: Vec<Passage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// The headings above it, outermost first, without the page's title.
    pub(super) headings: Vec<String>,
    /// The last part of the link to it; `None` for the beginning of the page.
    pub(super) anchor: Option<String>,
    pub(super) text: String,
}

/// Takes a page apart; `None` for one that only points to another.
pub(super) fn page(text: &str, fallback_title: &str) -> Option<Page> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (front, body) = front_matter(&text);
    if front.iter().any(|(name, _)| *name == "redirect_to") {
        return None;
    }
    let value = |wanted: &str| front.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone());
    let mut cutter = Cutter { title: value("title").filter(|title| !title.is_empty()), ..Cutter::default() };
    if let Some(description) = value("description").filter(|description| !description.is_empty()) {
        cutter.add(&description);
        cutter.add("");
    }
    let mut lines = Lines::default();
    for line in body.lines() {
        match lines.read(line) {
            Read::Nothing => {}
            Read::Heading { level, text, anchor } => cutter.heading(level, text, anchor),
            Read::Text(text) => cutter.add(&text),
        }
    }
    cutter.end_passage(true);
    let title = cutter.title.unwrap_or_else(|| fallback_title.to_owned());
    Some(Page { title: title.chars().take(TITLE_CHARS_MAX).collect(), passages: cutter.passages })
}

/// The plain `name: value` lines between `---` at the very top.
fn front_matter(text: &str) -> (Vec<(&str, String)>, &str) {
    let Some(rest) = text.strip_prefix("---\n") else { return (Vec::new(), text) };
    let end = if rest.starts_with("---") { Some(0) } else { rest.find("\n---").map(|at| at + 1) };
    let Some(end) = end else { return (Vec::new(), text) };
    let after = rest[end..].split_once('\n').map_or("", |(_, after)| after);
    let fields = rest[..end].lines().filter(|line| !line.starts_with([' ', '-', '#'])).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some((name.trim(), bare.unwrap_or(value).to_owned()))
    });
    (fields.collect(), after)
}

/// What a line is.
enum Read {
    Nothing,
    Heading { level: usize, text: String, anchor: Option<String> },
    Text(String),
}

/// Reads lines, with what spans several of them: fences, comments, shortcodes whose content is no documentation.
#[derive(Default)]
struct Lines {
    fence: Option<(char, usize)>,
    is_comment: bool,
    is_history: bool,
}

impl Lines {
    fn read(&mut self, line: &str) -> Read {
        let line: String = line.chars().take(LINE_CHARS_MAX).collect();
        if self.is_fenced(&line) {
            return Read::Text(line);
        }
        let line = self.without_marks(&line);
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return if line.is_empty() { Read::Text(line) } else { Read::Nothing };
        }
        let level = trimmed.bytes().take_while(|byte| *byte == b'#').count();
        let is_heading = (1..=6).contains(&level) && trimmed[level..].starts_with([' ', '\t']);
        if !is_heading {
            return Read::Text(line.trim_end().to_owned());
        }
        let text = trimmed[level..].trim().trim_end_matches('#').trim_end();
        let (text, anchor) = match text.strip_suffix('}').and_then(|text| text.rsplit_once("{#")) {
            Some((text, anchor)) => (text.trim_end(), Some(anchor.trim().to_owned())),
            None => (text, None),
        };
        let text: String = text.chars().take(TITLE_CHARS_MAX).collect();
        Read::Heading { level, text: without_links(&text), anchor }
    }

    /// Whether the line belongs to a fenced block, its fences included.
    fn is_fenced(&mut self, line: &str) -> bool {
        if self.is_comment || self.is_history {
            return false;
        }
        let trimmed = line.trim();
        let mark = trimmed.chars().next().filter(|char| matches!(char, '`' | '~'));
        let length = mark.map_or(0, |mark| trimmed.chars().take_while(|char| *char == mark).count());
        match (self.fence, mark) {
            (Some((open, least)), Some(mark)) if mark == open && length >= least && trimmed.len() == length => {
                self.fence = None;
                true
            }
            (Some(_), _) => true,
            (None, Some(mark)) if length >= 3 && !(mark == '`' && trimmed[length..].contains('`')) => {
                self.fence = Some((mark, length));
                true
            }
            (None, _) => false,
        }
    }

    /// The line without comments, shortcodes (`{{< details >}}`) and tags that only set an anchor. A line of which
    /// nothing is left but was not empty becomes one space.
    fn without_marks(&mut self, line: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(line.len()), line);
        loop {
            if self.is_comment {
                let Some((_, after)) = rest.split_once("-->") else { return blank(out) };
                (self.is_comment, rest) = (false, after);
            }
            let Some(at) = rest.find(['`', '{', '<']) else { break };
            if !self.is_history {
                out.push_str(&rest[..at]);
            }
            rest = &rest[at..];
            rest = self.mark(rest, &mut out);
        }
        if !self.is_history {
            out.push_str(rest);
        }
        if out.trim().is_empty() && !line.trim().is_empty() || self.is_history { blank(out) } else { out }
    }

    /// Takes one mark, or what looks like one, off the beginning of `rest`.
    fn mark<'a>(&mut self, rest: &'a str, out: &mut String) -> &'a str {
        let code = rest.bytes().take_while(|byte| *byte == b'`').count();
        if code > 0 {
            // Code spans are kept as they are, up to their closing run.
            let end = rest[code..].find(&rest[..code]).map_or(code, |at| 2 * code + at);
            if !self.is_history {
                out.push_str(&rest[..end]);
            }
            return &rest[end..];
        }
        for (open, close) in [("{{<", ">}}"), ("{{%", "%}}"), ("{::", "}"), ("{:", "}"), ("{%", "%}")] {
            if let Some(inside) = rest.strip_prefix(open)
                && let Some((shortcode, after)) = inside.split_once(close)
            {
                // When which flag was removed: no answer to a question about how things work.
                if shortcode.trim().trim_matches('/').trim() == "history" {
                    self.is_history = !shortcode.trim().starts_with('/');
                }
                return after;
            }
        }
        if let Some(after) = rest.strip_prefix("<!--") {
            self.is_comment = true;
            return after;
        }
        let is_anchor = rest.starts_with("<a id=") || rest.starts_with("<a name=") || rest.starts_with("</a>");
        if is_anchor && let Some((_, after)) = rest.split_once('>') {
            return after;
        }
        let end = rest.chars().next().map_or(0, char::len_utf8);
        if !self.is_history {
            out.push_str(&rest[..end]);
        }
        &rest[end..]
    }
}

fn blank(out: String) -> String {
    if out.trim().is_empty() { " ".to_owned() } else { out }
}

/// Puts lines together to passages.
#[derive(Default)]
struct Cutter {
    title: Option<String>,
    passages: Vec<Passage>,
    /// Headings with their levels, outermost first.
    open: Vec<(usize, String)>,
    /// How often each was given.
    anchors: HashMap<String, usize>,
    /// The passage that is being put together.
    headings: Vec<String>,
    anchor: Option<String>,
    text: String,
    chars: usize,
}

impl Cutter {
    fn heading(&mut self, level: usize, text: String, anchor: Option<String>) {
        if level == 1 && self.title.is_none() && self.passages.is_empty() && self.text.trim().is_empty() {
            self.title = Some(text);
            return;
        }
        self.end_passage(false);
        self.open.retain(|(other, _)| *other < level);
        let anchor = anchor.filter(|anchor| !anchor.is_empty()).unwrap_or_else(|| slug(&text));
        let anchor = self.unique(anchor);
        if self.text.is_empty() {
            self.headings = self.open.iter().map(|(_, text)| text.clone()).chain([text.clone()]).collect();
            self.anchor = Some(anchor).filter(|anchor| !anchor.is_empty());
        } else {
            // Too short to stand alone: the heading becomes a line of it.
            self.push("");
            self.push(&format!("{} {text}", "#".repeat(level)));
            self.push("");
        }
        self.open.push((level, text));
    }

    fn add(&mut self, line: &str) {
        let chars = line.chars().count();
        if self.chars + chars + 1 > PASSAGE_CHARS_MAX {
            self.end_at_paragraph();
        }
        self.push(line);
    }

    /// One line without text is as good as several.
    fn push(&mut self, line: &str) {
        if line.trim().is_empty() && (self.text.is_empty() || self.text.ends_with("\n\n")) {
            return;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.chars += line.chars().count() + 1;
    }

    /// Ends the passage at its last paragraph, if that leaves enough: the rest begins the next one.
    fn end_at_paragraph(&mut self) {
        let cut = self.text.rfind("\n\n").filter(|at| *at >= self.text.len() / 2 && !inside_fence(&self.text[..*at]));
        let rest = cut.map(|at| self.text.split_off(at).trim_start_matches('\n').to_owned()).unwrap_or_default();
        let (headings, anchor) = (self.headings.clone(), self.anchor.clone());
        self.end_passage(true);
        (self.headings, self.anchor) = (headings, anchor);
        self.chars = rest.chars().count();
        self.text = rest;
    }

    /// Ends the passage, unless it is short and more may come.
    fn end_passage(&mut self, is_final: bool) {
        let text = self.text.trim();
        if text.is_empty() {
            self.text.clear();
            self.chars = 0;
            return;
        }
        if !is_final && self.chars < PASSAGE_CHARS_MIN {
            return;
        }
        let headings = std::mem::take(&mut self.headings);
        self.passages.push(Passage { headings, anchor: self.anchor.take(), text: text.to_owned() });
        self.text.clear();
        self.chars = 0;
    }

    /// Headings that occur twice are numbered by the site.
    fn unique(&mut self, anchor: String) -> String {
        let count = self.anchors.entry(anchor.clone()).or_default();
        *count += 1;
        if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
    }
}

/// Whether a fenced block is open behind `text`.
fn inside_fence(text: &str) -> bool {
    let mut lines = Lines::default();
    for line in text.lines() {
        lines.is_fenced(line);
    }
    lines.fence.is_some()
}

/// The anchor that the site makes of a heading.
fn slug(heading: &str) -> String {
    let mut slug = String::new();
    for char in heading.chars().flat_map(char::to_lowercase) {
        match char {
            ' ' | '-' => slug.push('-'),
            char if char.is_alphanumeric() || char == '_' => slug.push(char),
            _ => {}
        }
    }
    slug
}

/// `[text](target)` as its text, `code` without its marks.
fn without_links(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find('[') {
        let Some(middle) = rest[start..].find("](").map(|at| start + at) else { break };
        let Some(end) = rest[middle..].find(')').map(|at| middle + at) else { break };
        out.push_str(&rest[..start]);
        out.push_str(&rest[start + 1..middle]);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Page {
        page(text, "Fallback").expect("no redirect")
    }

    #[test]
    fn front_matter_names_the_page() {
        let check = |text: &str, title: &str, first: &str| {
            let page = read(text);
            assert_eq!(page.title, title, "{text:?}");
            assert_eq!(page.passages.first().map_or("", |passage| passage.text.as_str()), first, "{text:?}");
        };
        check("---\nstage: x\ntitle: 'Forks: how'\nlist:\n  - a\n---\n\nText.", "Forks: how", "Text.");
        check("---\ntitle: Forks\ndescription: All about them.\n---\nText.", "Forks", "All about them.\n\nText.");
        check("# Forks\n\nText.", "Forks", "Text.");
        check("\u{feff}---\r\ntitle: Forks\r\n---\r\nText.\r\n", "Forks", "Text.");
        check("Text.\n\n# Late", "Fallback", "Text.\n\n# Late");
        check("---\nno end", "Fallback", "---\nno end");
        check("---\n---\nText.", "Fallback", "Text.");
        check("", "Fallback", "");
        assert_eq!(page("---\nredirect_to: 'other.md'\n---\n", "x"), None);
        assert_eq!(read(&format!("# {}", "x".repeat(1000))).title.len(), TITLE_CHARS_MAX);
    }

    #[test]
    fn what_is_no_documentation_is_taken_off() {
        let check = |text: &str, expected: &str| {
            let page = read(text);
            let found: Vec<&str> = page.passages.iter().map(|passage| passage.text.as_str()).collect();
            assert_eq!(found.join("|"), expected, "{text:?}");
        };
        check("{{< details >}}\n\n- Tier: Free\n\n{{< /details >}}\n\nText.", "- Tier: Free\n\nText.");
        check("{{< history >}}\n\n- Introduced in 1.0.\n\n{{< /history >}}\nText.", "Text.");
        check("a <!-- b --> c\n<!-- d\ne\n-->f", "a  c\nf");
        check("Use `<!-- x -->` and ``{{< y >}}``.", "Use `<!-- x -->` and ``{{< y >}}``.");
        check("```html\n<!-- kept -->\n# kept\n{{< kept >}}\n```", "```html\n<!-- kept -->\n# kept\n{{< kept >}}\n```");
        check("<a id=\"x\"></a>\nText.{: .note}", "Text.");
        check("{::options parse_block_html=\"true\" /}\nText.", "Text.");
        check("{{< alert type=\"note\" >}}\nMind.\n{{< /alert >}}", "Mind.");
        check("`open {{< x", "`open {{< x");
        check("{{ $CI }} {a} < b <br>", "{{ $CI }} {a} < b <br>");
        check("<!-- never closed\ntext", "");
    }

    #[test]
    fn passages_end_at_headings_and_know_where_they_are() {
        let long = "Words of a long section. ".repeat(20);
        let text = format!(
            "# Page\n\n{long}\n\n## Create a [fork](x.md)\n\n{long}\n\n### By `API` \
             {{#by-api}}\n\n{long}\n\n## Create a fork\n\n{long}\n"
        );
        let page = read(&text);
        let found: Vec<_> =
            page.passages.iter().map(|passage| (passage.headings.join(" > "), passage.anchor.as_deref())).collect();
        let expected = [
            ("", None),
            ("Create a fork", Some("create-a-fork")),
            ("Create a fork > By API", Some("by-api")),
            ("Create a fork", Some("create-a-fork-1")),
        ];
        assert_eq!(found, expected.map(|(headings, anchor)| (headings.to_owned(), anchor)));
        let short = read("# Page\n\nIntro.\n\n## A\n\na\n\n## B\n\nb\n");
        assert_eq!(short.passages.len(), 1);
        assert_eq!(short.passages[0].text, "Intro.\n\n## A\n\na\n\n## B\n\nb");
    }

    #[test]
    fn passages_are_bounded_whatever_a_page_holds() {
        let check = |text: &str, passages_min: usize| {
            let page = read(text);
            assert!(page.passages.len() >= passages_min, "{} passages", page.passages.len());
            for passage in &page.passages {
                assert!(passage.text.chars().count() <= PASSAGE_CHARS_MAX + LINE_CHARS_MAX);
                assert!(!passage.text.trim().is_empty());
            }
        };
        check(&"One sentence of a paragraph.\n\n".repeat(1000), 12);
        check(&"x".repeat(1_000_000), 1);
        check(&"line\n".repeat(10_000), 20);
        check(&format!("```\n{}", "code\n\n".repeat(10_000)), 20);
        check(&"# h\n".repeat(500_000), 0);
        check(&"# h\nx\n".repeat(500_000), 10);
        check(&"é".repeat(100_000), 1);
        check(&"`{<".repeat(10_000), 1);
    }
}
