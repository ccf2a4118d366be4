//! The older chat: the caller brings the whole prompt, as messages or as one text of turns, and its own sampling.

use super::text::Thinking;
use super::{Flow, Plan, Shape};
use crate::domain::{Chat, Class, FinishReason, Message, ModelInfo, Prompt, Role, SamplingParams, StopRules};

/// One call. Debug output shows sizes only.
#[derive(Clone, PartialEq, Default)]
pub struct Input {
    pub messages: Vec<Message>,
    /// 0 to 1; greedy where none was named.
    pub temperature: Option<f32>,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Input({} messages, {} stop strings)", self.messages.len(), self.stop.len())
    }
}

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// The turns of a text such as `\n\nHuman: hi\n\nAssistant:`. What stands before the first turn instructs the model; a
/// text without turns is one question.
pub fn turns(text: &str) -> Vec<Message> {
    // A text that begins with a turn may have lost the line breaks before it.
    let text = if text.starts_with("Human:") { format!("\n\n{text}") } else { text.to_owned() };
    if !text.contains(HUMAN) {
        let question = text.trim().trim_end_matches(ASSISTANT.trim()).trim();
        return vec![Message { role: Role::User, content: question.to_owned() }];
    }
    let mut messages = Vec::new();
    let (mut role, mut rest) = (Role::System, text.as_str());
    loop {
        let next = [(HUMAN, Role::User), (ASSISTANT, Role::Assistant)]
            .into_iter()
            .filter_map(|(mark, role)| Some((rest.find(mark)?, mark, role)))
            .min_by_key(|(at, ..)| *at);
        let end = next.map_or(rest.len(), |(at, ..)| at);
        let content = rest[..end].trim();
        if !content.is_empty() {
            messages.push(Message { role, content: content.to_owned() });
        }
        match next {
            Some((at, mark, next_role)) => (role, rest) = (next_role, &rest[at + mark.len()..]),
            None => return messages,
        }
    }
}

/// A model that was not trained for chat is given the turns as text to go on from.
pub fn plan(input: Input, model: &ModelInfo) -> Plan {
    const OUTPUT_TOKENS: usize = 4096;
    let Input { messages, temperature, max_tokens, mut stop } = input;
    let max_tokens = max_tokens.unwrap_or(OUTPUT_TOKENS).min(model.context_tokens / 2).max(1);
    let prompt = match model.has_chat {
        true => Prompt::Chat(chat(messages)),
        false => {
            if !stop.iter().any(|text| HUMAN.starts_with(text.as_str())) {
                stop.push(HUMAN.to_owned());
            }
            Prompt::Text(transcript(&messages))
        }
    };
    Plan {
        prompt,
        sampling: SamplingParams { temperature: temperature.unwrap_or(0.0), ..SamplingParams::default() },
        stop: StopRules { max_tokens: Some(max_tokens), stop },
        class: Class::Chat,
        shape: Box::<Spoken>::default(),
    }
}

/// A last message of the assistant is how its answer begins.
fn chat(mut messages: Vec<Message>) -> Chat {
    let answer_prefix = match messages.last() {
        Some(last) if last.role == Role::Assistant && messages.len() > 1 => {
            let last = messages.pop().map(|last| last.content).unwrap_or_default();
            last.trim_end().to_owned()
        }
        _ => String::new(),
    };
    Chat { messages, answer_prefix }
}

fn transcript(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        let mark = match message.role {
            Role::User => HUMAN,
            Role::Assistant => ASSISTANT,
            Role::System | Role::Tool => "",
        };
        text.push_str(mark);
        text.push_str(if mark.is_empty() { "" } else { " " });
        text.push_str(message.content.trim());
    }
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        text.push_str(ASSISTANT);
    }
    text
}

/// Everything but the reasoning before it, and white space at its edges.
#[derive(Default)]
struct Spoken {
    thinking: Thinking,
    has_spoken: bool,
}

impl Spoken {
    fn say(&mut self, text: &str, out: &mut String) {
        let text = if self.has_spoken { text } else { text.trim_start() };
        self.has_spoken |= !text.is_empty();
        out.push_str(text);
    }
}

impl Shape for Spoken {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let mut passed = String::new();
        self.thinking.push(text, &mut passed);
        self.say(&passed, out);
        Flow::More
    }

    fn finish(&mut self, _reason: FinishReason, out: &mut String) {
        let mut passed = String::new();
        self.thinking.finish(&mut passed);
        self.say(&passed, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_turns_is_taken_apart() {
        let check = |text: &str, expected: &[(Role, &str)]| {
            let found = turns(text);
            let found: Vec<_> = found.iter().map(|message| (message.role, message.content.as_str())).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("\n\nHuman: hi\n\nAssistant:", &[(Role::User, "hi")]);
        check("Human: hi\n\nAssistant: ", &[(Role::User, "hi")]);
        check("hi", &[(Role::User, "hi")]);
        check("hi\n\nAssistant:", &[(Role::User, "hi")]);
        check("", &[(Role::User, "")]);
        check(
            "Be brief.\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: Thought: ",
            &[
                (Role::System, "Be brief."),
                (Role::User, "a\n\nb"),
                (Role::Assistant, "c"),
                (Role::User, "d"),
                (Role::Assistant, "Thought:"),
            ],
        );
    }

    fn model(has_chat: bool) -> ModelInfo {
        ModelInfo {
            name: "coder".to_owned(),
            architecture: "qwen2".to_owned(),
            context_tokens: 4096,
            vocab_size: 1,
            parameters: 1,
            has_infill: false,
            has_chat,
            created: 0,
        }
    }

    #[test]
    fn a_last_message_of_the_assistant_begins_the_answer() {
        let input = Input { messages: turns("\n\nHuman: hi\n\nAssistant: Thought: \n"), ..Input::default() };
        let Plan { prompt, stop, .. } = plan(input.clone(), &model(true));
        let expected = Chat {
            messages: vec![Message { role: Role::User, content: "hi".to_owned() }],
            answer_prefix: "Thought:".to_owned(),
        };
        assert!(prompt == Prompt::Chat(expected));
        assert_eq!(stop, StopRules { max_tokens: Some(2048), stop: Vec::new() });
        let stopped = Input { stop: vec!["\n\nHuman".to_owned()], max_tokens: Some(9), ..input.clone() };
        let Plan { prompt, stop, .. } = plan(stopped, &model(false));
        assert!(prompt == Prompt::Text("\n\nHuman: hi\n\nAssistant: Thought:".to_owned()));
        assert_eq!(stop, StopRules { max_tokens: Some(9), stop: vec!["\n\nHuman".to_owned()] });
        assert_eq!(plan(input, &model(false)).stop.stop, ["\n\nHuman:"]);
    }

    #[test]
    fn reasoning_is_not_said_wherever_it_is_cut() {
        let text = "<think>hm\n</think>\n\nHello  there\n";
        for (at, _) in text.char_indices() {
            let (mut shape, mut out) = (Spoken::default(), String::new());
            shape.push(&text[..at], &mut out);
            shape.push(&text[at..], &mut out);
            shape.finish(FinishReason::Stop, &mut out);
            assert_eq!(out, "Hello  there\n", "cut at {at}");
        }
    }
}
