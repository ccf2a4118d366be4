//! `sconce chat`: one question and its answer, or a conversation on a terminal.

use super::args::ChatArgs;
use super::conversation::Conversation;
use super::error::CliError;
use super::lane::{self, Answer};
use super::output;
use crate::domain::{CacheSalt, CallId, Class, GenerateError, Job, Prompt, Role, SamplingParams, StopRules};
use crate::engine::Engine;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use tokio::sync::mpsc;

const QUESTION_BYTES_MAX: u64 = 4 << 20;

pub fn run(args: ChatArgs) -> Result<(), CliError> {
    let question = match &args.message {
        Some(message) => Some(message.clone()),
        None if io::stdin().is_terminal() => None,
        None => Some(piped()?),
    };
    if question.as_ref().is_some_and(|question| question.trim().is_empty()) {
        return Err(CliError::NothingAsked);
    }
    let engine = lane::load(&args.engine, args.model.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let mut talk = Talk {
        conversation: Conversation::new(args.system),
        temperature: args.temperature,
        max_tokens: args.max_tokens.map(|max_tokens| max_tokens as usize),
        is_terminal: io::stdout().is_terminal(),
        engine,
    };
    runtime.block_on(async {
        match question {
            Some(question) => talk.ask(question).await,
            None => talk.converse().await,
        }
    })
}

fn piped() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin().take(QUESTION_BYTES_MAX + 1).read_to_string(&mut text).map_err(CliError::Input)?;
    if text.len() as u64 > QUESTION_BYTES_MAX {
        return Err(CliError::QuestionTooLarge { bytes_max: QUESTION_BYTES_MAX });
    }
    Ok(text)
}

struct Talk {
    engine: Engine,
    conversation: Conversation,
    temperature: f32,
    max_tokens: Option<usize>,
    is_terminal: bool,
}

impl Talk {
    /// Reads a line, answers it, and again. Ctrl-C ends an answer, and the conversation where no answer is running.
    async fn converse(&mut self) -> Result<(), CliError> {
        let info = self.engine.info();
        output::note(&format!(
            "{} ({} tokens of context). /reset forgets, /exit or Ctrl-D ends, Ctrl-C stops an answer.",
            info.name, info.context_tokens
        ));
        let mut lines = lines();
        loop {
            output::print("> ")?;
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some(line) = line else { break };
            match line.map_err(CliError::Input)?.trim() {
                "" => {}
                "/exit" => return Ok(()),
                "/reset" => self.conversation.forget_all(),
                question => {
                    let question = question.to_owned();
                    tokio::select! {
                        answered = self.ask(question) => match answered {
                            // The next question may fare better.
                            Err(CliError::Generate(error)) => output::note(&format!("sconce: {error}")),
                            answered => answered?,
                        },
                        _ = tokio::signal::ctrl_c() => {
                            self.conversation.unsay();
                            output::print("\n")?;
                        }
                    }
                }
            }
        }
        Ok(output::print("\n")?)
    }

    async fn ask(&mut self, question: String) -> Result<(), CliError> {
        self.conversation.say(Role::User, question);
        let answer = match self.answer().await {
            Ok(answer) => answer,
            Err(error) => {
                self.conversation.unsay();
                return Err(error);
            }
        };
        if self.is_terminal && !answer.text.ends_with('\n') {
            output::print("\n")?;
        }
        self.conversation.say(Role::Assistant, answer.text);
        Ok(())
    }

    /// Forgets the oldest turns for as long as the conversation does not fit, and says so.
    async fn answer(&mut self) -> Result<Answer, CliError> {
        loop {
            let answered = lane::ask(&self.engine, self.job(), self.is_terminal).await;
            let is_too_long = matches!(&answered, Err(CliError::Generate(GenerateError::PromptTooLong { .. })));
            if !is_too_long || !self.conversation.forget_oldest() {
                return answered;
            }
            output::note("the conversation is longer than the context: the oldest question is forgotten");
        }
    }

    fn job(&self) -> Job {
        Job {
            id: CallId("chat".into()),
            prompt: Prompt::Chat(self.conversation.chat()),
            sampling: SamplingParams { temperature: self.temperature, ..SamplingParams::default() },
            stop: StopRules { max_tokens: self.max_tokens, stop: Vec::new() },
            class: Class::Chat,
            session: None,
            cache_salt: CacheSalt::default(),
            deadline: Some(lane::DEADLINE),
        }
    }
}

/// The lines of standard input. Reading blocks and cannot be interrupted, so it has a thread that dies with us.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
