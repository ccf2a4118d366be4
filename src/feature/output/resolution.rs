//! The repair of a vulnerability: four tags, of which `fixed_code` takes the place of the vulnerable lines verbatim.
//!
//! Code that cannot take that place is worse than none: GitLab opens no merge request without code, and says so.

use super::collected::Repaired;
use super::indent::indented_like;
use crate::domain::FinishReason;
use crate::feature::text::{fenced_blocks, tag_content, without_tags};
use std::collections::BTreeSet;

const TAGS: &[&str] = &["analysis", "summary", "is_false_positive", "fixed_code"];
/// A line with fewer characters, such as a lone bracket, is in many places.
const TELLING_CHARS: usize = 8;

pub(super) fn repair(source: &str, vulnerable: &str, written: &str, reason: FinishReason) -> Repaired {
    let analysis = prose(written, "analysis");
    let summary = prose(written, "summary");
    let is_false_positive = tag_content(written, "is_false_positive")
        .is_some_and(|content| content.trim().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("true")));
    // Half a replacement would be merged as a whole one.
    let is_cut = reason == FinishReason::Length && !written.contains("</fixed_code>");
    let code = match (is_false_positive, code_of(written)) {
        (true, _) => Err(None),
        (false, _) if is_cut => Err(Some("the model's code was cut off at the limit of tokens")),
        (false, None) => Err(Some("the model wrote no code")),
        (false, Some(code)) => replacement(source, vulnerable, &code).map_err(Some),
    };
    let analysis = if analysis.is_empty() { summary.clone() } else { analysis };
    match code {
        Ok(code) => {
            let summary = if summary.is_empty() { "Removes the reported weakness.".to_owned() } else { summary };
            let analysis = if analysis.is_empty() { summary.clone() } else { analysis };
            Repaired::clean(form(&analysis, &summary, "false", &code))
        }
        Err(note) => {
            let reason = match note {
                None if analysis.is_empty() => "The code does not have the reported weakness.",
                None => "",
                Some(_) => "No replacement could be made for the reported lines. This is no judgement of the finding.",
            };
            let analysis = [analysis.as_str(), reason].join("\n\n").trim().to_owned();
            let summary = if summary.is_empty() || note.is_some() { "No change.".to_owned() } else { summary };
            Repaired { text: form(&analysis, &summary, "true", ""), note }
        }
    }
}

fn form(analysis: &str, summary: &str, is_false_positive: &str, code: &str) -> String {
    format!(
        "<analysis>\n{analysis}\n</analysis>\n<summary>\n{summary}\n</summary>\n\
         <is_false_positive>\n{is_false_positive}</is_false_positive>\n<fixed_code>\n{code}</fixed_code>"
    )
}

/// The text in a tag; it ends at the next tag when its own was never closed. The first match counts for GitLab, so no
/// tag may stand in it.
fn prose(written: &str, tag: &str) -> String {
    let content = tag_content(written, tag).unwrap_or_default();
    let next = TAGS.iter().filter_map(|other| content.find(&format!("<{other}>"))).min().unwrap_or(content.len());
    without_tags(content[..next].trim(), TAGS).into_owned()
}

/// The code as the model wrote it, without fences and the line breaks of its tag.
fn code_of(written: &str) -> Option<String> {
    let content = match tag_content(written, "fixed_code") {
        Some(content) => content,
        // One block of code behind the summary is meant as the fix.
        None => {
            let behind = written.find("</is_false_positive>").or_else(|| written.find("</summary>"))?;
            let blocks = fenced_blocks(&written[behind..]);
            let [only] = blocks.as_slice() else { return None };
            return Some(only.body.to_owned()).filter(|code| !code.trim().is_empty());
        }
    };
    let content = content.strip_prefix("\r\n").or_else(|| content.strip_prefix('\n')).unwrap_or(content);
    let code = match fenced_blocks(content).as_slice() {
        [] => content.to_owned(),
        // Talk around one block; several blocks are put together in order.
        blocks => blocks.iter().map(|block| block.body).collect(),
    };
    (!code.trim().is_empty()).then_some(code)
}

/// The lines that take the place of the vulnerable ones.
fn replacement(source: &str, vulnerable: &str, code: &str) -> Result<String, &'static str> {
    let code = without_surroundings(source, vulnerable, code)?;
    let code = indented_like(vulnerable, code.trim_end_matches(['\n', '\r']));
    if code.trim().is_empty() {
        return Err("nothing of the model's code is left without the lines around it");
    }
    if code.lines().any(|line| line.trim_start().starts_with("```")) {
        return Err("the model's code holds a code fence");
    }
    if code.trim_end() == vulnerable.trim_end() {
        return Err("the model repeated the vulnerable code");
    }
    // Of the other tags the first match counts, and theirs come before.
    if ["<fixed_code>", "</fixed_code>"].iter().any(|tag| code.contains(tag)) {
        return Err("the model's code holds the tag that frames it");
    }
    let end = if vulnerable.ends_with("\r\n") {
        "\r\n"
    } else if vulnerable.ends_with('\n') {
        "\n"
    } else {
        ""
    };
    Ok(format!("{code}{end}"))
}

/// Code without the lines before and behind the vulnerable ones that the model repeated, up to the whole file.
fn without_surroundings(source: &str, vulnerable: &str, code: &str) -> Result<String, &'static str> {
    let source: Vec<&str> = source.lines().map(str::trim_end).collect();
    let old: Vec<&str> = vulnerable.trim_matches(['\n', '\r']).lines().map(str::trim_end).collect();
    let new: Vec<&str> = code.trim_matches(['\n', '\r']).lines().map(str::trim_end).collect();
    let Some(start) = only_place(&source, &old) else { return Ok(code.to_owned()) };
    let (before, behind) = (&source[..start], &source[start + old.len()..]);
    let head = (1..=before.len().min(new.len())).rev().find(|count| before.ends_with(&new[..*count])).unwrap_or(0);
    let rest = &new[head..];
    let tail = (1..=behind.len().min(rest.len())).rev().find(|count| behind.starts_with(&rest[rest.len() - count..]));
    let tail = tail.unwrap_or(0);
    let is_telling = |lines: &[&str]| lines.iter().any(|line| line.trim().chars().count() >= TELLING_CHARS);
    let head_fits = head == before.len() || is_telling(&new[..head]);
    let tail_fits = tail == behind.len() || is_telling(&rest[rest.len() - tail..]);
    let is_repeated = head + tail >= 2 && head_fits && tail_fits && (head == 0 || !starts_alike(&new, &old));
    if is_repeated {
        return Ok(rest[..rest.len() - tail].join("\n"));
    }
    // A whole file with changes elsewhere would stand inside itself.
    let telling_source = source.iter().filter(|line| line.trim().chars().count() >= TELLING_CHARS);
    let replaced: BTreeSet<&str> = old.iter().copied().collect();
    let surroundings: Vec<&&str> = telling_source.filter(|line| !replaced.contains(**line)).collect();
    let written: BTreeSet<&str> = new.iter().copied().collect();
    let repeated = surroundings.iter().filter(|line| written.contains(**line)).count();
    if surroundings.len() >= 4 && repeated * 2 > surroundings.len() && new.len() > old.len() * 2 {
        return Err("the model wrote the file anew, with changes outside of the vulnerable lines");
    }
    Ok(code.to_owned())
}

/// Code that begins as the vulnerable lines do begins in their place, whatever stands above them.
fn starts_alike(new: &[&str], old: &[&str]) -> bool {
    matches!((new.first(), old.first()), (Some(new), Some(old)) if new == old)
}

/// Where `part` stands in `whole`, if in one place only.
fn only_place(whole: &[&str], part: &[&str]) -> Option<usize> {
    if part.is_empty() || part.len() > whole.len() {
        return None;
    }
    let mut places = (0..=whole.len() - part.len()).filter(|at| whole[*at..*at + part.len()] == *part);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}
