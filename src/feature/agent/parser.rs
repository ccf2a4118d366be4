//! A model's text, piece by piece, becomes what GitLab understands: an answer in deltas, one action, or one text of
//! unknown kind. Never two of them, and never none: GitLab has no words for silence (A1002).
//!
//! Characters are taken one by one, so where the pieces were cut changes nothing. What the model writes behind an
//! action or after `Observation:` is not read: [`Flow::Enough`] tells the caller to drop the job.

use super::action::{Draft, Outcome, Progress, Surroundings};
use super::answer::Answer;
use super::marker::{self, Marker};
use crate::domain::FinishReason;
use crate::feature::shape::Flow;
use crate::feature::text::Thinking;

/// Text without any marker is held back this long: if the model ends before, GitLab gets it in one piece.
const UNDECIDED_CHARS_MAX: usize = 256;

/// As above, where the limit falls into what may become a marker.
const UNDECIDED_CHARS_LIMIT: usize = 320;

const EMPTY: &str = "The model returned an empty answer. Please try again, or put the question differently.";

const CUT_WHILE_THINKING: &str = "The model ran out of room before it came to an answer. Please \
     ask for less at once, or clear the conversation with \
     /clear.";

/// What GitLab is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// A part of the answer; the last one says why it ended. Never empty.
    Delta { text: String, finish_reason: Option<FinishReason> },
    /// The one thing GitLab is asked to do before it calls again.
    Action { tool: &'static str, tool_input: String, thought: String },
    /// Text without a form, shown as an answer.
    Unknown { text: String },
}

/// Reads one answer of a model.
pub struct AgentParser {
    around: Surroundings,
    state: State,
    thinking: Thinking,
    /// Text that is let through but not looked at yet.
    passed: String,
    /// Nothing but reasoning was seen.
    is_silent: bool,
    /// `\_` means `_`; holds whether the first half was seen.
    unescapes: bool,
    has_backslash: bool,
    is_finished: bool,
}

enum State {
    Undecided {
        text: String,
        chars: usize,
        emphasis: usize,
    },
    Acting {
        draft: Draft,
        is_over: bool,
    },
    Answering(Answer),
    /// A thought and no more.
    Over(String),
}

impl AgentParser {
    /// `announced`: the prompt ends in the announcement of an answer, so that no step is expected.
    pub(super) fn new(around: Surroundings, announced: bool, unescapes: bool) -> Self {
        let state = match announced {
            true => State::Answering(Answer::announced(0)),
            false => State::undecided(0),
        };
        Self {
            around,
            state,
            thinking: Thinking::default(),
            passed: String::new(),
            is_silent: true,
            unescapes,
            has_backslash: false,
            is_finished: false,
        }
    }

    /// Takes in more of the model's text and appends what can be said already.
    pub fn push(&mut self, text: &str, events: &mut Vec<AgentEvent>) -> Flow {
        for char in text.chars() {
            if self.is_over() {
                break;
            }
            self.think(char);
        }
        if let State::Answering(answer) = &mut self.state
            && let Some(text) = answer.take_ready()
        {
            events.push(AgentEvent::Delta { text, finish_reason: None });
        }
        if self.is_over() { Flow::Enough } else { Flow::More }
    }

    /// The model has ended, or [`Flow::Enough`] was said: appends the rest. A second call appends nothing.
    pub fn finish(&mut self, reason: FinishReason, events: &mut Vec<AgentEvent>) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        self.release();
        let reason = if self.is_over() { FinishReason::Stop } else { reason };
        let event = match &mut self.state {
            State::Undecided { text, .. } => unknown(std::mem::take(text), self.is_silent, reason),
            State::Over(text) => unknown(std::mem::take(text), false, reason),
            State::Acting { draft, .. } => match draft.outcome(&self.around) {
                Outcome::Action { tool, tool_input, thought } => AgentEvent::Action { tool, tool_input, thought },
                Outcome::Repeated(text) | Outcome::Text(text) => unknown(text, false, reason),
            },
            State::Answering(answer) => {
                let is_first = !answer.has_spoken();
                let mut text = answer.take_rest(&self.around.tools);
                if is_first && let Some((at, _)) = text.char_indices().next_back().filter(|(at, _)| *at > 0) {
                    // Only the last piece of several says why the answer ended.
                    let last = text.split_off(at);
                    events.push(AgentEvent::Delta { text: std::mem::replace(&mut text, last), finish_reason: None });
                }
                match text.is_empty() {
                    false => AgentEvent::Delta { text, finish_reason: Some(reason) },
                    true => unknown(String::new(), self.is_silent, reason),
                }
            }
        };
        events.push(event);
    }

    /// Whether the model asked for what it was told already. Say this after the last text and before
    /// [`AgentParser::finish`]: nothing was said yet, so the call can be planned again with an answer asked for.
    /// Otherwise `finish` shows the observation.
    pub fn repeats_itself(&mut self) -> bool {
        self.release();
        match &self.state {
            State::Acting { draft, .. } => matches!(draft.outcome(&self.around), Outcome::Repeated(_)),
            State::Undecided { .. } | State::Answering(_) | State::Over(_) => false,
        }
    }

    fn is_over(&self) -> bool {
        match &self.state {
            State::Undecided { .. } => false,
            State::Acting { is_over, .. } => *is_over,
            State::Answering(answer) => answer.is_over,
            State::Over(_) => true,
        }
    }

    /// Lets out what was held for what might have followed.
    fn release(&mut self) {
        let mut passed = std::mem::take(&mut self.passed);
        self.thinking.finish(&mut passed);
        passed.chars().for_each(|char| self.unescape(char));
        if std::mem::take(&mut self.has_backslash) {
            self.read('\\');
        }
        if let State::Acting { draft, is_over } = &mut self.state
            && !std::mem::replace(is_over, true)
        {
            draft.finish();
        }
    }

    fn think(&mut self, char: char) {
        let mut buffer = [0; 4];
        let mut passed = std::mem::take(&mut self.passed);
        self.thinking.push(char.encode_utf8(&mut buffer), &mut passed);
        passed.chars().for_each(|char| self.unescape(char));
        passed.clear();
        self.passed = passed;
    }

    fn unescape(&mut self, char: char) {
        let had_backslash = std::mem::replace(&mut self.has_backslash, self.unescapes && char == '\\');
        if had_backslash && char != '_' {
            self.read('\\');
        }
        if !self.has_backslash {
            self.read(char);
        }
    }

    fn read(&mut self, char: char) {
        self.is_silent &= char.is_whitespace();
        match &mut self.state {
            State::Over(_) | State::Acting { is_over: true, .. } => {}
            State::Answering(answer) => answer.push(char, &self.around.tools),
            State::Acting { draft, is_over } => match draft.push(char, &self.around.tools) {
                Progress::Goes => {}
                Progress::Ends => {
                    draft.finish();
                    *is_over = true;
                }
                Progress::Answers { emphasis } => self.state = State::Answering(Answer::announced(emphasis)),
                Progress::IsText => {
                    if let State::Acting { draft, .. } = std::mem::replace(&mut self.state, State::undecided(0)) {
                        self.speak(&draft.into_raw());
                    }
                }
            },
            State::Undecided { emphasis, .. } if *emphasis > 0 && matches!(char, '*' | '_') => *emphasis -= 1,
            State::Undecided { text, chars, emphasis } => {
                text.push(char);
                (*chars, *emphasis) = (*chars + 1, 0);
                let chars = *chars;
                self.decide(char, chars);
            }
        }
    }

    /// What was held has to do as an answer.
    fn speak(&mut self, text: &str) {
        let mut answer = Answer::plain();
        text.chars().for_each(|char| answer.push(char, &self.around.tools));
        self.state = State::Answering(answer);
    }

    /// Looks at what is undecided after `char`.
    fn decide(&mut self, char: char, chars: usize) {
        let State::Undecided { text, .. } = &mut self.state else { return };
        match char {
            ':' | '：' => {
                if let Some(next) = meet_marker(text) {
                    self.state = next;
                    return;
                }
            }
            // A thought that ended twice, or that nobody began.
            '>' if text.ends_with("</think>") => {
                self.state = State::undecided(0);
                return;
            }
            '>' if text.ends_with("<tool_call>") => {
                let thought = thought_of(&text[..text.len() - "<tool_call>".len()]);
                let draft = Draft::json(std::mem::take(text), thought);
                self.state = State::Acting { draft, is_over: false };
                return;
            }
            _ => {}
        }
        let may_change = || {
            let line = &text[text.rfind('\n').map_or(0, |at| at + 1)..];
            marker::may_begin(line) || marker::may_end_inside(text)
        };
        if chars >= UNDECIDED_CHARS_LIMIT || (chars >= UNDECIDED_CHARS_MAX && !may_change()) {
            let text = std::mem::take(text);
            self.speak(&text);
        }
    }
}

impl State {
    /// Nothing yet, behind a marker that is closed by that much `emphasis`.
    fn undecided(emphasis: usize) -> Self {
        Self::Undecided { text: String::new(), chars: 0, emphasis }
    }
}

/// What the marker at the end of an undecided `text` makes of it, if it means anything there.
fn meet_marker(text: &mut String) -> Option<State> {
    let found = marker::ending(text)?;
    let before = text[..found.start].trim();
    match found.marker {
        Marker::FinalAnswer => Some(State::Answering(Answer::announced(found.emphasis))),
        Marker::Action => {
            let thought = thought_of(before);
            let draft = Draft::new(std::mem::take(text), thought, found.is_first, found.emphasis);
            Some(State::Acting { draft, is_over: false })
        }
        // The prompt had begun the thought, or the model repeats the question first.
        Marker::Thought if before.is_empty() || before.starts_with("Question") => {
            Some(State::undecided(found.emphasis))
        }
        // The model makes up what it would have to be told: what it said before is all there is.
        Marker::Observation if found.is_first && !before.is_empty() => Some(State::Over(before.to_owned())),
        Marker::Observation if found.is_first => Some(State::undecided(found.emphasis)),
        Marker::Thought | Marker::ActionInput | Marker::Input | Marker::Observation | Marker::Question => None,
    }
}

/// A thought as GitLab passes it on.
fn thought_of(text: &str) -> String {
    text.trim_matches(|char: char| char.is_whitespace() || matches!(char, '*' | '_' | '#')).to_owned()
}

fn unknown(text: String, is_silent: bool, reason: FinishReason) -> AgentEvent {
    let text = text.trim();
    let text = match (text.is_empty(), reason) {
        (false, _) => text,
        (true, FinishReason::Length) if is_silent => CUT_WHILE_THINKING,
        (true, _) => EMPTY,
    };
    AgentEvent::Unknown { text: text.to_owned() }
}
