//! From a conversational answer to bare code: thoughts, fences, tags, control tokens and repeated code go.

use super::echo::Echo;
use super::{CodeBlock, Input};
use crate::domain::FinishReason;
use crate::feature::completion::Cleaner;
use crate::feature::{Family, Flow, Shape};

/// Shapes the answer to our prompt, and as well as it can to another's.
pub struct GenerationShape {
    cleaner: Cleaner,
    block: CodeBlock,
    echo: Echo,
    /// A line break is due before the first text.
    needs_line_break: bool,
    is_over: bool,
}

impl GenerationShape {
    pub fn new(input: &Input, family: Option<Family>) -> Self {
        let language = input.language();
        let syntax = language.as_ref().map_or("", |language| language.syntax());
        let block = match syntax {
            "md" | "markdown" | "mdx" => CodeBlock::of_markdown(),
            _ => CodeBlock::default(),
        };
        Self {
            cleaner: Cleaner::new(family.is_some_and(Family::escapes_underscores), false),
            block,
            echo: Echo::new(&input.prefix),
            needs_line_break: input.begins_line && !input.prefix.is_empty() && !input.prefix.ends_with('\n'),
            is_over: false,
        }
    }

    fn pass(&mut self, code: &str, is_last: bool, out: &mut String) {
        let mut text = String::new();
        self.echo.push(code, &mut text);
        if is_last {
            self.echo.finish(&mut text);
        }
        if self.needs_line_break && !text.is_empty() {
            self.needs_line_break = false;
            if !text.starts_with('\n') && !self.echo.went_on() {
                out.push('\n');
            }
        }
        out.push_str(&text);
    }
}

impl Shape for GenerationShape {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        if self.is_over {
            return Flow::Enough;
        }
        let (mut clean, mut code) = (String::new(), String::new());
        let is_ended = self.cleaner.push(text, &mut clean);
        let flow = self.block.push(&clean, &mut code);
        self.is_over = is_ended || flow == Flow::Enough;
        self.pass(&code, false, out);
        if self.is_over { Flow::Enough } else { Flow::More }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut String) {
        let (mut clean, mut code) = (String::new(), String::new());
        self.cleaner.finish(&mut clean);
        self.block.push(&clean, &mut code);
        self.block.finish(reason, &mut code);
        self.pass(&code, true, out);
    }
}
