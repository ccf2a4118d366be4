//! `sconce complete FILE:LINE[:COL]`: fills in at a cursor, streaming to standard output.

use super::args::CompleteArgs;
use super::cursor::{Around, Cursor};
use super::error::CliError;
use super::lane::{self, Answer};
use super::output;
use crate::domain::{CacheSalt, CallId, Class, GenerateError, Infill, Job, Prompt, SamplingParams, StopRules};
use crate::engine::Engine;
use std::io::IsTerminal as _;

/// How often a text that is too long is narrowed; each time it becomes shorter by a tenth at least.
const NARROWINGS_MAX: usize = 20;

pub fn run(args: &CompleteArgs) -> Result<(), CliError> {
    let around = Cursor::parse(&args.cursor)?.read()?;
    let engine = lane::load(&args.engine, args.model.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let is_terminal = std::io::stdout().is_terminal();
    let answer = runtime.block_on(complete(&engine, &around, args.max_tokens as usize, is_terminal))?;
    if is_terminal && !answer.text.ends_with('\n') {
        output::print("\n")?;
    }
    Ok(())
}

/// Asks with the whole file, and with less of it for as long as that does not fit the model's context. What was left
/// out is told: nothing is trimmed in silence.
async fn complete(engine: &Engine, whole: &Around, max_tokens: usize, is_terminal: bool) -> Result<Answer, CliError> {
    let mut share = 1.0;
    let mut around = whole.clone();
    for _ in 0..NARROWINGS_MAX {
        match lane::ask(engine, job(&around, max_tokens), is_terminal).await {
            Err(CliError::Generate(GenerateError::PromptTooLong {
                prompt_tokens, max_tokens, context_tokens, ..
            })) if context_tokens > max_tokens => {
                let fits = (context_tokens - max_tokens) as f64 / prompt_tokens as f64;
                share *= fits.min(1.0) * 0.9;
                around = whole.narrowed(share);
                output::note(&format!(
                    "the file is longer than the context of {context_tokens} tokens: looking at {} of {} lines around the cursor",
                    around.num_lines(),
                    whole.num_lines()
                ));
            }
            answered => return answered,
        }
    }
    lane::ask(engine, job(&around, max_tokens), is_terminal).await
}

fn job(around: &Around, max_tokens: usize) -> Job {
    Job {
        id: CallId("complete".into()),
        prompt: Prompt::Infill(Infill { prefix: around.prefix.clone(), suffix: around.suffix.clone() }),
        sampling: SamplingParams::default(),
        stop: StopRules { max_tokens: Some(max_tokens), stop: Vec::new() },
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt::default(),
        deadline: Some(lane::DEADLINE),
    }
}
