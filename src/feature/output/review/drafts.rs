//! Comments as a model wrote them: in GitLab's form or near it, as JSON, or as prose that names a file and a line.

use super::diff::Diff;
use crate::feature::text::{fenced_blocks, find_ignoring_case};
use serde_json::Value;

const FROM: &str = "<from>";
const TO: &str = "<to>";
/// More than GitLab posts, and enough for what falls away.
const DRAFTS_MAX: usize = 500;
/// A model may begin anew some times; a longer row of beginnings is a loop.
const REVIEWS_MAX: usize = 16;
/// More suggestions than these in one comment are a loop, too.
const SUGGESTIONS_MAX: usize = 20;
/// A shorter remark says nothing.
const REMARK_CHARS_MIN: usize = 15;

/// A comment before it is held against the diff.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub file: String,
    pub old: Option<u32>,
    pub new: Option<u32>,
    pub body: String,
    pub suggestions: Vec<Suggestion>,
}

/// Lines as they are, and as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    pub from: Vec<String>,
    pub to: Vec<String>,
}

/// Comments in GitLab's form: those of the last review, or those anywhere when it has none.
pub(super) fn tagged(text: &str) -> Vec<Draft> {
    let reviews = text.match_indices("<review>").map(|(at, _)| at).collect::<Vec<_>>();
    let last =
        reviews.into_iter().rev().take(REVIEWS_MAX).map(|at| comments(&text[at..])).find(|drafts| !drafts.is_empty());
    last.unwrap_or_else(|| comments(text))
}

fn comments(text: &str) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut rest = text;
    let mut broken = 0;
    while let Some(at) = find_comment(rest) {
        let opened = &rest[at..];
        let Some(head_end) = tag_end(opened) else {
            rest = &opened["<comment".len()..];
            broken += 1;
            if broken == DRAFTS_MAX {
                break;
            }
            continue;
        };
        let content = &opened[head_end..];
        let content_end = content_end(content);
        // What the end of the text cut off may be half a line of code.
        let is_whole = content_end < content.len();
        drafts.push(draft(&opened["<comment".len()..head_end - 1], &content[..content_end], is_whole));
        rest = &content[content_end..];
        if drafts.len() == DRAFTS_MAX {
            break;
        }
    }
    drafts
}

fn find_comment(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = find_ignoring_case(&text[from..], "<comment") {
        let at = from + found;
        from = at + "<comment".len();
        if text[from..].starts_with(|char: char| char.is_whitespace() || char == '>') {
            return Some(at);
        }
    }
    None
}

/// Behind the `>` of a tag; quotes may hold one.
fn tag_end(text: &str) -> Option<usize> {
    /// Longer than any path: a tag without end is not looked for in the whole text, again and again.
    const TAG_CHARS_MAX: usize = 5_000;
    let tag = text.char_indices().nth(TAG_CHARS_MAX).map_or(text, |(end, _)| &text[..end]);
    let mut quote = None;
    for (at, char) in tag.char_indices() {
        match (quote, char) {
            // Attributes do not go on in the next line: the quote was never closed.
            (Some(_), '\n') => return tag.find('>').map(|at| at + 1),
            (Some(open), char) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(char),
            (None, '>') => return Some(at + 1),
            (None, _) => {}
        }
    }
    tag.find('>').map(|at| at + 1)
}

/// Where a comment ends: at its tag at the end of a line, else at its tag, else where the next one or the review's end
/// begins.
fn content_end(content: &str) -> usize {
    const END: &str = "</comment>";
    let next = content.match_indices("\n<comment ").map(|(at, _)| at).next();
    let review = content.match_indices("\n</review>").map(|(at, _)| at).next();
    let limit = next.or(review).unwrap_or(content.len());
    let within = &content[..limit];
    let is_line_end = |at: &usize| {
        let behind = within[at + END.len()..].trim_start_matches([' ', '\t', '\r']);
        behind.is_empty() || behind.starts_with('\n')
    };
    let ends: Vec<usize> = within.match_indices(END).map(|(at, _)| at).collect();
    let end = ends.iter().copied().find(is_line_end).or(ends.first().copied());
    end.or_else(|| find_ignoring_case(within, END)).or_else(|| within.rfind("</review>")).unwrap_or(limit)
}

fn draft(attributes: &str, content: &str, is_whole: bool) -> Draft {
    let mut draft = Draft::default();
    for (name, value) in attributes_of(attributes) {
        match name.as_str() {
            "file" | "path" | "filename" | "file_path" | "new_path" => draft.file = value,
            "old_line" | "old" => draft.old = first_number(&value),
            "new_line" | "new" | "line" | "line_number" | "lines" => draft.new = first_number(&value).or(draft.new),
            _ => {}
        }
    }
    (draft.body, draft.suggestions) = body_and_suggestions(content, is_whole);
    draft
}

/// `name="value"`, also with other quotes or without.
fn attributes_of(text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut rest = text;
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).next_back();
        let behind = behind.trim_start();
        let quote = behind.chars().next().filter(|char| matches!(char, '"' | '\''));
        let (value, next) = match quote {
            Some(quote) => behind[1..].split_once(quote).unwrap_or((&behind[1..], "")),
            None => behind.split_at(behind.find(char::is_whitespace).unwrap_or(behind.len())),
        };
        attributes.push((name.unwrap_or_default().to_lowercase(), value.trim().to_owned()));
        rest = next;
    }
    attributes
}

fn first_number(text: &str) -> Option<u32> {
    text.split(|char: char| !char.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

/// Takes the pairs of `<from>` and `<to>` out of a comment.
fn body_and_suggestions(content: &str, is_whole: bool) -> (String, Vec<Suggestion>) {
    let mut body = String::new();
    let mut suggestions = Vec::new();
    let mut rest = content;
    while let Some(at) = rest.find(FROM) {
        let inside = &rest[at + FROM.len()..];
        let from_end = closing(inside, "</from>");
        let behind_from = from_end.map_or(inside, |end| &inside[end + "</from>".len()..]);
        let Some(to_start) = behind_from.find(TO) else {
            // Without its other half it is no suggestion, and alone it is a word.
            body.push_str(&rest[..at]);
            body.push_str(if from_end.is_some() { "" } else { FROM });
            rest = behind_from;
            continue;
        };
        let from = &inside[..from_end.unwrap_or(to_start)];
        let to = &behind_from[to_start + TO.len()..];
        let closed = closing(to, "</to>").or_else(|| to.find(FROM));
        let to_end = closed.unwrap_or(to.len());
        body.push_str(&rest[..at]);
        if from_end.is_some() {
            body.push_str(behind_from[..to_start].trim());
        }
        if (closed.is_some() || is_whole) && suggestions.len() < SUGGESTIONS_MAX {
            suggestions.push(Suggestion { from: code_lines(from), to: code_lines(&to[..to_end]) });
        }
        rest = to[to_end..].strip_prefix("</to>").unwrap_or(&to[to_end..]);
    }
    body.push_str(rest);
    (body.trim().to_owned(), suggestions)
}

/// Where a tag ends: at the start of a line, since code may hold the tag too, else where it first stands.
fn closing(text: &str, tag: &str) -> Option<usize> {
    let is_line_start = |at: &usize| text[..*at].trim_end_matches([' ', '\t']).ends_with('\n');
    let places = || text.match_indices(tag).map(|(at, _)| at);
    places().find(is_line_start).or_else(|| places().next())
}

/// Lines of a tag's content, without the breaks of the tag's own lines and without a fence.
fn code_lines(content: &str) -> Vec<String> {
    let content = content.strip_prefix("\r\n").or_else(|| content.strip_prefix('\n')).unwrap_or(content);
    let content = match content.rsplit_once('\n') {
        Some((lines, last)) if last.trim().is_empty() => lines,
        _ => content,
    };
    let blocks = fenced_blocks(content);
    let code = match blocks.as_slice() {
        [only] if content[..only.start].trim().is_empty() && content[only.end..].trim().is_empty() => only.body,
        _ => content,
    };
    if code.trim().is_empty() { Vec::new() } else { code.lines().map(str::to_owned).collect() }
}

/// Comments as a list of JSON objects.
pub(super) fn listed(text: &str) -> Vec<Draft> {
    const PLACES_MAX: usize = 16;
    let places = text.match_indices(['[', '{']).map(|(at, _)| at).take(PLACES_MAX);
    let lists =
        places.filter_map(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok());
    lists.map(|value| drafts_in(&value)).find(|drafts| !drafts.is_empty()).unwrap_or_default()
}

fn drafts_in(value: &Value) -> Vec<Draft> {
    match value {
        Value::Array(items) => items.iter().take(DRAFTS_MAX).flat_map(draft_of_object).collect(),
        Value::Object(object) => match ["comments", "review"].iter().find_map(|key| object.get(*key)) {
            Some(list) => drafts_in(list),
            None => draft_of_object(value).into_iter().collect(),
        },
        _ => Vec::new(),
    }
}

fn draft_of_object(value: &Value) -> Option<Draft> {
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| match value.get(*key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let body = text(&["comment", "body", "text", "message"])?;
    let new = text(&["new_line", "line", "line_number"]).as_deref().and_then(first_number);
    let old = text(&["old_line"]).as_deref().and_then(first_number);
    let file = text(&["file", "path", "filename"]).unwrap_or_default();
    (new.is_some() || old.is_some()).then_some(Draft { file, old, new, body, suggestions: Vec::new() })
}

/// Remarks that name a file of the diff and a line: `a/b.rb:12: …`, `In b.rb, line 12, …`. With one file in the diff
/// the line is enough.
pub(super) fn spoken(text: &str, diff: &Diff) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('<') {
            is_open = false;
        } else if let Some((file, new, remark)) = location(trimmed, diff) {
            drafts.push(Draft { file, new: Some(new), body: remark, ..Draft::default() });
            is_open = true;
        } else if let (true, Some(last)) = (is_open, drafts.last_mut()) {
            last.body.push('\n');
            last.body.push_str(trimmed);
        }
        if drafts.len() == DRAFTS_MAX {
            break;
        }
    }
    drafts.retain(|draft| draft.body.chars().count() >= REMARK_CHARS_MIN);
    drafts
}

/// File, line and the remark of a line that names them.
fn location(line: &str, diff: &Diff) -> Option<(String, u32, String)> {
    let named = diff.files.iter().find_map(|file| {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let (found, at) = [file.path.as_str(), name].iter().find_map(|name| Some((*name, line.find(*name)?)))?;
        let (number, end) = line_number(&line[at + found.len()..])?;
        Some((file.path.clone(), number, at + found.len() + end))
    });
    let alone = || {
        let [only] = diff.files.as_slice() else { return None };
        let at = find_ignoring_case(line, "line ")?;
        let (number, end) = line_number(&line[at..])?;
        Some((only.path.clone(), number, at + end))
    };
    let (path, number, end) = named.or_else(alone)?;
    let is_mark = |char: char| !char.is_alphanumeric() && char != '`';
    // The name may stand in backticks, and so may the first word of the remark.
    let behind = line[end..].strip_prefix('`').unwrap_or(&line[end..]).trim_start_matches(is_mark);
    let remark = if behind.chars().count() < REMARK_CHARS_MIN { line } else { behind };
    Some((path, number, remark.to_owned()))
}

/// A line number directly behind a name, and where the text goes on.
fn line_number(text: &str) -> Option<(u32, usize)> {
    const BETWEEN_CHARS_MAX: usize = 16;
    let start = text.find(|char: char| char.is_ascii_digit())?;
    let between: String = text[..start].chars().filter(|char| char.is_alphabetic()).collect();
    let is_close = text[..start].chars().count() <= BETWEEN_CHARS_MAX;
    let is_line = ["", "l", "line", "lines", "atline", "online", "inline"].contains(&between.to_lowercase().as_str());
    let is_marked = !between.is_empty() || text[..start].contains([':', '#', '(']);
    let end = text[start..].find(|char: char| !char.is_ascii_digit()).map_or(text.len(), |length| start + length);
    // The other end of a range.
    let range = text[end..].find(|char: char| !(char.is_ascii_digit() || "-–".contains(char)));
    let behind = end + range.unwrap_or(text.len() - end);
    (is_close && is_line && is_marked).then_some(())?;
    Some((text[start..end].parse().ok()?, behind))
}
