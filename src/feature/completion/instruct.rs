//! Completions by models that were trained to converse, not to fill a gap: the prompt, and what such a model puts around
//! its code.

use super::CompletionShape;
use super::window::Window;
use crate::domain::{Chat, FinishReason, Message, Role};
use crate::feature::generation::CodeBlock;
use crate::feature::{Flow, Shape};

const RULES: &str =
    "You are the completion engine of a code editor. You are shown a file with a gap and write the code \
that belongs in the gap.
Answer with one fenced code block and nothing else. The block begins with the line of the gap, written from its first \
character, and goes on from there:
- finish that line; where it begins a block, write the block as well and stop at its end;
- keep the indentation and the style of the file;
- never write again what stands after the gap;
- no comments about what you do, no explanations, no placeholders.";

/// The conversation that asks for a completion. The answer is begun for the model: a fence and the cursor's line.
pub fn chat(file_name: &str, language: &str, window: &Window<'_>) -> Chat {
    let mut question = format!("File: {file_name}\nLanguage: {language}\n");
    if !window.context.is_empty() {
        question.push_str("\nOther files that may help:\n<files>\n");
        question.push_str(&window.context);
        question.push_str("\n</files>\n");
    }
    question.push_str("\nBefore the gap:\n<before>\n");
    question.push_str(window.prefix);
    question.push_str("\n</before>\n\nAfter the gap:\n<after>\n");
    question.push_str(window.suffix);
    question.push_str("\n</after>\n\nWrite the line of the gap and what belongs after it.");
    let system = Message { role: Role::System, content: RULES.to_owned() };
    let user = Message { role: Role::User, content: question };
    // White space at its end would part the model's tokens where it never saw them parted.
    let answer_prefix = format!("```\n{}", cursors_line(window.prefix).trim_end());
    Chat { messages: vec![system, user], answer_prefix }
}

fn cursors_line(prefix: &str) -> &str {
    prefix.rsplit('\n').next().unwrap_or_default()
}

/// Takes the code out of a conversational answer, without what stands before the cursor already.
pub struct InstructShape {
    block: CodeBlock,
    shape: CompletionShape,
    /// The cursor's line, before the cursor.
    line: String,
    code: String,
    has_begun: bool,
}

impl InstructShape {
    pub fn new(shape: CompletionShape, prefix: &str) -> Self {
        Self {
            block: CodeBlock::begun(),
            shape,
            line: cursors_line(prefix).to_owned(),
            code: String::new(),
            has_begun: false,
        }
    }

    fn pass(&mut self, out: &mut String) -> Flow {
        let code = std::mem::take(&mut self.code);
        let code = match std::mem::replace(&mut self.has_begun, true) {
            true => code.as_str(),
            false => without_given(&code, &self.line),
        };
        self.shape.push(code, out)
    }
}

impl Shape for InstructShape {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let flow = self.block.push(text, &mut self.code);
        // What the first line repeats is known once the line is whole.
        if !self.has_begun && !self.code.contains('\n') {
            return flow;
        }
        match self.pass(out) {
            Flow::Enough => Flow::Enough,
            Flow::More => flow,
        }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut String) {
        self.block.finish(reason, &mut self.code);
        self.pass(out);
        let is_closed = self.block.is_closed();
        self.shape.finish(if is_closed { FinishReason::Stop } else { reason }, out);
    }
}

/// `code` from the cursor on: the model may have begun with the cursor's line, or with the white space at its end.
fn without_given<'c>(code: &'c str, line: &str) -> &'c str {
    let written = line.trim();
    if !written.is_empty() {
        // A short word may be how the code goes on; a longer one is the line once more.
        const ECHO_BYTES_MIN: usize = 4;
        let echoed = code.trim_start_matches([' ', '\t']).strip_prefix(written);
        if let Some(rest) = echoed.filter(|_| written.len() >= ECHO_BYTES_MIN) {
            return without_white_space(rest, &line[line.trim_end().len()..]);
        }
        return without_white_space(code, &line[line.trim_end().len()..]);
    }
    without_white_space(code, line)
}

/// Drops the white space that stands before the cursor already, as far as `code` begins with it.
fn without_white_space<'c>(code: &'c str, given: &str) -> &'c str {
    let same = code.bytes().zip(given.bytes()).take_while(|(ours, theirs)| ours == theirs).count();
    &code[same..]
}
