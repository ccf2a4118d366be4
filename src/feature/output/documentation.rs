//! Answers from the documentation, streamed, with the ids of their sources behind `ATTRS:`.
//!
//! The model cites passages by number; only ids that GitLab gave us come out. A model that cited nothing gets the
//! passages whose words it used, one that does not know gets none.

use super::collected::Note;
use crate::domain::FinishReason;
use crate::feature::prompts::Document;
use crate::feature::text::{Thinking, held_suffix};
use crate::feature::{Flow, Shape};
use std::collections::BTreeSet;

const MARKER: &str = "ATTRS:";
const CITATION: &str = "CNT-IDX-";
/// What is kept of an answer to compare it with its sources.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// A citation that goes on longer is none.
const ID_CHARS_MAX: usize = 128;
const CITED_MAX: usize = 4;

pub(super) struct DocumentationAnswer {
    documents: Vec<Document>,
    thinking: Thinking,
    pending: String,
    body: String,
    /// What the model wrote behind the marker.
    behind: Option<String>,
    cited: Vec<usize>,
    note: Note,
}

impl DocumentationAnswer {
    pub(super) fn new(documents: &[Document], note: Note) -> Self {
        Self {
            documents: documents.to_vec(),
            thinking: Thinking::default(),
            pending: String::new(),
            body: String::new(),
            behind: None,
            cited: Vec::new(),
            note,
        }
    }

    fn take(&mut self, text: &str, out: &mut String) {
        let text = text.replace('\0', "");
        match &mut self.behind {
            Some(behind) if behind.len() < KEPT_BYTES_MAX => behind.push_str(&text),
            Some(_) => {}
            None => {
                self.pending.push_str(&text);
                self.settle(false, out);
            }
        }
    }

    /// Says what can be no part of a marker or citation.
    fn settle(&mut self, is_over: bool, out: &mut String) {
        loop {
            let marker = self.pending.find(MARKER);
            let citation = self.pending.find(CITATION).filter(|at| marker.is_none_or(|marker| *at < marker));
            if let Some(at) = citation {
                let start = at + CITATION.len();
                let rest = &self.pending[start..];
                let end = rest.find(|char: char| !is_id_char(char));
                if end.is_none() && !is_over && rest.len() < ID_CHARS_MAX {
                    break;
                }
                let id = rest[..end.unwrap_or(rest.len())].to_owned();
                self.cite(&id);
                self.remove_citation(at, start + id.len());
                continue;
            }
            if let Some(at) = marker {
                let before = self.pending[..at].to_owned();
                self.behind = Some(self.pending[at + MARKER.len()..].to_owned());
                self.pending.clear();
                self.say(before.trim_end_matches(is_decoration), out);
                return;
            }
            break;
        }
        let held = held_suffix(&self.pending, &[MARKER, CITATION]);
        let settled = match (is_over, self.pending.find(CITATION)) {
            (true, _) => self.pending.trim_end().len(),
            // Its id may go on, and the bracket before it goes with it.
            (false, Some(at)) => self.pending[..at].trim_end_matches(is_decoration).len(),
            (false, None) => self.pending[..self.pending.len() - held].trim_end_matches(is_decoration).len(),
        };
        let said: String = self.pending.drain(..settled).collect();
        self.say(&said, out);
    }

    fn remove_citation(&mut self, start: usize, end: usize) {
        let before = &self.pending[..start];
        let behind = &self.pending[end..];
        let is_framed = [('(', ')'), ('[', ']'), ('`', '`')]
            .iter()
            .any(|(open, close)| before.ends_with(*open) && behind.starts_with(*close));
        let range = if is_framed { start - 1..end + 1 } else { start..end };
        self.pending.replace_range(range, "");
    }

    fn say(&mut self, text: &str, out: &mut String) {
        // Nothing goes before the first word.
        let text = if self.body.is_empty() { text.trim_start_matches(['\n', '\r']) } else { text };
        out.push_str(text);
        if self.body.len() < KEPT_BYTES_MAX {
            self.body.push_str(text);
        }
    }

    fn cite(&mut self, id: &str) {
        if let Some(index) = self.documents.iter().position(|document| document.id == id)
            && !self.cited.contains(&index)
        {
            self.cited.push(index);
        }
    }

    /// Ids and numbers behind the marker.
    fn cite_behind(&mut self, behind: &str) {
        for (at, _) in behind.match_indices(CITATION) {
            let rest = &behind[at + CITATION.len()..];
            let id = rest[..rest.find(|char: char| !is_id_char(char)).unwrap_or(rest.len())].to_owned();
            self.cite(&id);
        }
        for word in behind.split(|char: char| !char.is_alphanumeric() && char != '-') {
            let index = word.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            if let Some(index) = index.filter(|index| *index < self.documents.len() && !self.cited.contains(index)) {
                self.cited.push(index);
            }
        }
    }

    /// The passages that share most of their words with the answer.
    fn used(&self) -> Vec<usize> {
        const SHARED_MIN: usize = 3;
        let answer = significant_words(&self.body);
        let mut shares: Vec<(usize, usize)> = Vec::new();
        for (index, document) in self.documents.iter().enumerate() {
            let passage = significant_words(&document.content);
            let shared = passage.intersection(&answer).count();
            if shared >= SHARED_MIN.min(passage.len()).max(1) && shared * 5 >= answer.len() {
                shares.push((shared, index));
            }
        }
        shares.sort_by_key(|(shared, index)| (std::cmp::Reverse(*shared), *index));
        let best = shares.first().map_or(0, |(shared, _)| *shared);
        shares.into_iter().filter(|(shared, _)| shared * 2 >= best).map(|(_, index)| index).collect()
    }

    fn sources(&mut self) -> Vec<usize> {
        let behind = self.behind.take();
        if self.body.trim().is_empty() {
            self.note.set("the model wrote nothing, or only reasoning");
        }
        if does_not_know(&self.body) || self.body.trim().is_empty() {
            return Vec::new();
        }
        self.cite_behind(behind.as_deref().unwrap_or_default());
        // An empty list is an answer too.
        let said_none = behind.is_some_and(|behind| behind.trim_matches(is_decoration).is_empty());
        if self.cited.is_empty() && !said_none && !self.documents.is_empty() {
            self.note.set("the model named no passage it was given: took those whose words it used");
            return self.used();
        }
        std::mem::take(&mut self.cited)
    }
}

impl Shape for DocumentationAnswer {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let mut answer = String::new();
        self.thinking.push(text, &mut answer);
        self.take(&answer, out);
        Flow::More
    }

    fn finish(&mut self, _reason: FinishReason, out: &mut String) {
        let mut answer = String::new();
        self.thinking.finish(&mut answer);
        self.take(&answer, out);
        if self.behind.is_none() {
            self.settle(true, out);
        }
        // A model that put the list first wrote the answer behind it.
        if self.body.trim().is_empty()
            && let Some(behind) = &self.behind
        {
            let answer: Vec<&str> = behind.lines().filter(|line| is_prose(line)).collect();
            let answer = answer.join("\n").replace(MARKER, "").replace(CITATION, "");
            self.say(answer.trim(), out);
        }
        let mut said: BTreeSet<&str> = BTreeSet::new();
        let sources = self.sources();
        let mut lines = String::new();
        for document in sources.iter().filter_map(|index| self.documents.get(*index)).take(CITED_MAX) {
            let is_readable = !document.id.is_empty() && document.id.chars().all(is_id_char);
            if is_readable && said.insert(&document.id) {
                lines.push_str(&format!("{CITATION}{}\n", document.id));
            }
        }
        if !lines.is_empty() {
            out.push_str(&format!("\n\n{MARKER}\n{lines}"));
        }
    }
}

/// What GitLab reads as an id.
fn is_id_char(char: char) -> bool {
    char.is_ascii_digit() || char.is_ascii_lowercase()
}

/// May stand between an answer and the marker.
fn is_decoration(char: char) -> bool {
    char.is_whitespace() || "*#_`-([".contains(char)
}

/// More on a line than numbers and ids.
fn is_prose(line: &str) -> bool {
    !line.contains(CITATION) && line.split_whitespace().any(|word| word.chars().any(char::is_alphabetic))
}

/// As GitLab judges it: such an answer shows no sources.
fn does_not_know(body: &str) -> bool {
    body.to_lowercase().lines().any(|line| {
        let Some(at) = line.find("i do") else { return false };
        let rest = &line[at + 4..];
        rest.find('n').is_some_and(|n| {
            rest[n + 1..].char_indices().nth(1).is_some_and(|(next, _)| rest[n + 1 + next..].contains("know"))
        })
    })
}

fn significant_words(text: &str) -> BTreeSet<String> {
    const COMMON: &[&str] = &["this", "that", "with", "from", "your", "have", "will", "when", "then", "gitlab", "more"];
    text.split(|char: char| !char.is_alphanumeric())
        .filter(|word| word.len() > 3)
        .map(str::to_lowercase)
        .filter(|word| !COMMON.contains(&word.as_str()))
        .collect()
}
