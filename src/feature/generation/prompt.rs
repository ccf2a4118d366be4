//! What a model is told when new code is wanted. The texts are our own, and short: models of 7 to 32 billion parameters
//! follow few rules well and many badly.

use super::{Input, Window};
use crate::domain::{Chat, Message, Role};
use crate::feature::completion::estimated_tokens;

pub const TAG_OPEN: &str = "<new_code>";
pub const TAG_CLOSE: &str = "</new_code>";

const RULES: &str =
    "You write code in an editor. You are shown a file with a cursor and an instruction, and you write the \
code that is to be inserted at the cursor.
Rules:
- Put the code between <new_code> and </new_code> and write nothing outside of these tags.
- Write only new code: nothing that stands before or after the cursor already.
- The code has to work where it is inserted: fit its indentation, names and style to the file.
- Write it completely, without placeholders. Explain nothing; comment where the file does.";

/// Used where neither the user nor GitLab says what is wanted.
const INSTRUCTION: &str = "Write the code that the comment or the unfinished code before the cursor asks for.";

/// The conversation that asks for code. The answer is begun for the model.
pub fn chat(input: &Input, window: &Window<'_>) -> Chat {
    let system = Message { role: Role::System, content: RULES.to_owned() };
    let mut messages = vec![system];
    for example in &input.examples {
        let content = format!("Before the cursor:\n<before>\n{}\n</before>\n\nWrite the new code.", example.code);
        messages.push(Message { role: Role::User, content });
        let content = format!("{TAG_OPEN}\n{}\n{TAG_CLOSE}", bare(&example.answer));
        messages.push(Message { role: Role::Assistant, content });
    }
    messages.push(Message { role: Role::User, content: question(input, window) });
    Chat { messages, answer_prefix: format!("{TAG_OPEN}\n") }
}

/// Tokens of what the window does not hold.
pub fn extra_tokens(input: &Input) -> usize {
    let examples = input.examples.iter().flat_map(|example| [&example.code, &example.answer]);
    let given = examples.chain(&input.libraries).chain(&input.user_instruction);
    given.map(|text| estimated_tokens(text)).sum()
}

fn question(input: &Input, window: &Window<'_>) -> String {
    let mut text = format!("File: {}\n", input.file_name);
    if let Some(language) = input.language() {
        text.push_str(&format!("Language: {}\n", language.name));
    }
    if !input.libraries.is_empty() {
        text.push_str(&format!("Libraries of the project: {}\n", input.libraries.join(", ")));
    }
    if !window.context.is_empty() {
        text.push_str("\nOther code of the project:\n<related>\n");
        text.push_str(&window.context);
        text.push_str("\n</related>\n");
    }
    text.push_str("\nBefore the cursor:\n<before>\n");
    text.push_str(window.prefix);
    text.push_str("\n</before>\n");
    if !window.suffix.trim().is_empty() {
        text.push_str("\nAfter the cursor:\n<after>\n");
        text.push_str(window.suffix);
        text.push_str("\n</after>\n");
    }
    text.push_str("\nInstruction: ");
    text.push_str(input.user_instruction.as_deref().unwrap_or(INSTRUCTION));
    text
}

/// The answer of an example without tags of its own.
fn bare(answer: &str) -> &str {
    let answer = answer.trim();
    let answer = answer.strip_prefix(TAG_OPEN).unwrap_or(answer);
    answer.strip_suffix(TAG_CLOSE).unwrap_or(answer).trim_matches('\n')
}
