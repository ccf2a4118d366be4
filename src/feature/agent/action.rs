//! An action as a model wrote it, and what becomes of it: one that GitLab knows, or text. Never an action that GitLab
//! does not know: it would answer with an error.

use super::input::Step;
use super::marker::{self, Marker};
use super::tools::{self, Tool};
use serde_json::Value;

/// All of an action together; longer ones end here.
const ACTION_BYTES_MAX: usize = 8192;

/// A question longer than this is no question.
const INPUT_CHARS_MAX: usize = 2000;

/// How much of an observation is shown to people as it is.
const SHOWN_CHARS_MAX: usize = 1500;

/// What models write in place of a tool when they mean to answer.
const NO_TOOL_NAMES: &[&str] = &[
    "none",
    "noaction",
    "noneneeded",
    "na",
    "answer",
    "finalanswer",
    "respond",
    "reply",
    "response",
    "finish",
    "chat",
];

/// What actions are judged by.
pub(super) struct Surroundings {
    pub(super) tools: Vec<&'static Tool>,
    pub(super) steps: Vec<Step>,
    pub(super) question: String,
}

/// An action that is being written.
pub(super) struct Draft {
    /// All the text from its first character on, for the case that it is none.
    raw: String,
    thought: String,
    /// The marker stood at the start of a line.
    is_first: bool,
    name: String,
    input: Option<String>,
    is_json: bool,
    part: Part,
    /// The part that is being written.
    text: String,
    /// How much emphasis closes the marker before.
    emphasis: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name,
    Input,
    /// A call as models write it that were trained on calls in JSON.
    Json,
    /// Whole; an answer may follow, which would win.
    Behind,
}

/// What the next character made of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Goes,
    /// Nothing that follows belongs to it.
    Ends,
    /// An answer begins, closed by that much emphasis.
    Answers {
        emphasis: usize,
    },
    /// There is no action: all of it is text.
    IsText,
}

/// What becomes of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Action {
        tool: &'static str,
        tool_input: String,
        thought: String,
    },
    /// It was done already; this says what was found.
    Repeated(String),
    Text(String),
}

impl Draft {
    /// An action behind its marker. `raw` is all the text so far, the marker included.
    pub(super) fn new(raw: String, thought: String, is_first: bool, emphasis: usize) -> Self {
        let (name, text) = (String::new(), String::new());
        Self { raw, thought, is_first, name, input: None, is_json: false, part: Part::Name, text, emphasis }
    }

    /// A call in JSON, behind its opening tag.
    pub(super) fn json(raw: String, thought: String) -> Self {
        Self { is_json: true, part: Part::Json, ..Self::new(raw, thought, true, 0) }
    }

    pub(super) fn push(&mut self, char: char, tools: &[&'static Tool]) -> Progress {
        self.raw.push(char);
        if self.raw.len() >= ACTION_BYTES_MAX {
            self.end_part(self.text.len());
            return Progress::Ends;
        }
        if self.emphasis > 0 && matches!(char, '*' | '_') {
            self.emphasis -= 1;
            return Progress::Goes;
        }
        self.emphasis = 0;
        self.text.push(char);
        match char {
            '>' if self.part == Part::Json && self.text.ends_with("</tool_call>") => Progress::Ends,
            ':' | '：' if self.part != Part::Json => self.meet_marker(),
            _ if self.part == Part::Name && self.is_no_name(char, tools) => Progress::IsText,
            _ => Progress::Goes,
        }
    }

    /// All the text from the first character on.
    pub(super) fn into_raw(self) -> String {
        self.raw
    }

    /// Whether the line behind the marker is no name of a tool but a part of what the model has to say.
    fn is_no_name(&self, char: char, tools: &[&'static Tool]) -> bool {
        const NAME_BYTES_MAX: usize = 96;
        let written = self.text.trim();
        let is_whole = char == '\n' && !written.is_empty() || self.text.len() > NAME_BYTES_MAX;
        is_whole && (is_sentence(written) || !self.is_first) && self.tool(written, tools).is_none()
    }

    /// The tool that `written` names, or mentions in a sentence.
    fn tool(&self, written: &str, tools: &[&'static Tool]) -> Option<&'static Tool> {
        let mentioned = || tools.iter().find(|tool| self.is_first && written.contains(tool.name)).copied();
        let name = written.split('(').next().unwrap_or_default();
        tools::meant(name, tools).or_else(mentioned)
    }

    pub(super) fn finish(&mut self) {
        self.end_part(self.text.len());
    }

    fn meet_marker(&mut self) -> Progress {
        let Some(found) = marker::ending(&self.text) else { return Progress::Goes };
        match found.marker {
            Marker::Observation => {
                self.end_part(found.start);
                return Progress::Ends;
            }
            Marker::FinalAnswer if found.is_first => return Progress::Answers { emphasis: found.emphasis },
            Marker::ActionInput if self.part == Part::Name => self.begin_input(found),
            Marker::Input if self.part == Part::Name && found.is_first => self.begin_input(found),
            Marker::Action | Marker::Thought | Marker::Question if found.is_first => self.end_part(found.start),
            _ => {}
        }
        Progress::Goes
    }

    fn begin_input(&mut self, found: marker::Found) {
        self.end_part(found.start);
        (self.part, self.emphasis) = (Part::Input, found.emphasis);
    }

    fn end_part(&mut self, end: usize) {
        let text = self.text[..end].trim();
        match self.part {
            Part::Name => self.name = text.to_owned(),
            Part::Input => self.input = Some(text.to_owned()),
            Part::Json => (self.name, self.input) = json_call(text),
            Part::Behind => {}
        }
        self.part = Part::Behind;
        self.text.clear();
    }

    /// Judges a finished draft.
    pub(super) fn outcome(&self, around: &Surroundings) -> Outcome {
        // Models go on behind the name: `issue_reader("issue 12")`, `issue_reader (to see it)`, a second line.
        let written = self.name.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let argument = written
            .split_once('(')
            .map_or("", |(_, rest)| rest.rsplit_once(')').map_or(rest, |(argument, _)| argument));
        let input = cleaned_input(self.input.as_deref().unwrap_or_default());
        let Some(tool) = self.tool(written, &around.tools) else {
            return Outcome::Text(self.as_text(written, input));
        };
        let candidates = [input, cleaned_input(argument), cleaned_input(&around.question), self.thought.clone()];
        let tool_input = candidates.into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| "current".to_owned());
        if let Some(step) = done_before(tool, &tool_input, around) {
            return Outcome::Repeated(shown_observation(step, tool));
        }
        Outcome::Action { tool: tool.name, tool_input, thought: self.thought.clone() }
    }

    /// What can be said in place of an action that GitLab does not know.
    fn as_text(&self, written: &str, input: String) -> String {
        const NO_SUCH_TOOL: &str = "I have no tool for this here, so I could not look it up. Please paste the text in \
             question, or ask in \
             another way.";
        let letters: String =
            written.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        if NO_TOOL_NAMES.contains(&letters.as_str()) && !input.is_empty() {
            return input;
        }
        if !self.is_json && (is_sentence(written) || !self.is_first) {
            return self.raw.trim().to_owned();
        }
        if self.thought.is_empty() { NO_SUCH_TOOL.to_owned() } else { format!("{}\n\n{NO_SUCH_TOOL}", self.thought) }
    }
}

/// "Action: open the settings and restart" is a sentence, not the name of a tool.
fn is_sentence(written: &str) -> bool {
    written.split_whitespace().count() > 3
}

/// Name and input of a call such as `{"name": "issue_reader", "arguments": {"question": "…"}}`.
fn json_call(text: &str) -> (String, Option<String>) {
    let text = text.trim_end_matches("</tool_call>").trim();
    let Ok(Value::Object(call)) = serde_json::from_str(text) else { return (String::new(), None) };
    let name = call.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let arguments = call.get("arguments").or_else(|| call.get("parameters"));
    (name, arguments.map(|arguments| arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned)))
}

/// The question alone: without quotation marks, fences and JSON around it, `\_` as `_`.
fn cleaned_input(text: &str) -> String {
    let text = text.trim();
    let text = crate::feature::text::without_outer_fence(text).trim();
    let text = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields.into_iter().find_map(|(_, value)| match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }),
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
    .unwrap_or_else(|| text.to_owned());
    let mut bare = text.trim();
    for quote in ['"', '\'', '`'] {
        if let Some(inside) = bare.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            && !inside.contains(quote)
        {
            bare = inside.trim();
        }
    }
    bare.replace("\\_", "_").chars().take(INPUT_CHARS_MAX).collect()
}

/// The step that asked the same and was answered: asking again would only go round in circles, and GitLab gives up
/// after ten.
fn done_before<'a>(tool: &'static Tool, tool_input: &str, around: &'a Surroundings) -> Option<&'a Step> {
    let is_same = |step: &&Step| {
        tools::meant(&step.tool, &[tool]).is_some()
            && same_question(&step.tool_input, tool_input)
            && !step.observation.trim().is_empty()
    };
    around.steps.iter().rev().find(is_same)
}

/// Letters and digits decide; case and punctuation do not.
pub(super) fn same_question(left: &str, right: &str) -> bool {
    let essence = |text: &str| {
        text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    essence(left) == essence(right)
}

/// The last resort of a model that cannot be made to answer: people see what GitLab returned.
fn shown_observation(step: &Step, tool: &Tool) -> String {
    let observation = step.observation.trim();
    let shown: String = observation.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if shown.len() < observation.len() { "\n(more was returned than is shown here)" } else { "" };
    // A fence that the text itself cannot close.
    let fence = "`".repeat(longest_run(&shown, '`').max(2) + 1);
    format!("I looked this up with `{}`. GitLab returned:\n\n{fence}text\n{shown}\n{fence}{cut}", tool.name)
}

fn longest_run(text: &str, wanted: char) -> usize {
    text.split(|char| char != wanted).map(str::len).max().unwrap_or(0) / wanted.len_utf8()
}
