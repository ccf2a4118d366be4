//! A request understood: what to generate, how often, and in which form to answer.

use super::sampling::{count, derived_seed, sampling, stop_rules};
use super::{RequestError, RequestLimits};
use crate::domain::{
    CacheSalt, CallId, Chat, Class, Infill, Job, Message, Prompt, Role, SamplingParams, SessionKey, StopRules,
};
use crate::wire::json::{JsonBounds, parse, quoted};
use crate::wire::openai::{self as wire, Part, PromptInput, Shared};
use std::sync::Arc;
use std::time::Duration;

/// A validated request. Its choices are numbered as OpenAI numbers them: all answers to the first prompt, then all to
/// the second.
#[derive(Clone, Debug)]
pub struct Call {
    pub model: String,
    pub class: Class,
    pub delivery: Delivery,
    /// Fields that were accepted and have no effect.
    pub ignored: Vec<&'static str>,
    prompts: Vec<Prompt>,
    answers_per_prompt: usize,
    sampling: SamplingParams,
    stop: StopRules,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Streamed { include_usage: bool },
}

/// What a call's jobs have in common and its body does not say.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub id: CallId,
    pub cache_salt: CacheSalt,
    pub class: Class,
    pub session: Option<SessionKey>,
    pub deadline: Option<Duration>,
}

impl Call {
    pub fn choices(&self) -> usize {
        self.prompts.len() * self.answers_per_prompt
    }

    pub(super) fn has_logprobs(&self) -> bool {
        self.sampling.top_logprobs.is_some()
    }

    /// Which prompt a choice answers.
    pub(super) fn prompt_index(&self, choice_index: usize) -> usize {
        choice_index / self.answers_per_prompt
    }

    /// One job a choice, in order. The prompts move into the jobs: a second call returns none.
    pub fn take_jobs(&mut self, ticket: &Ticket) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.choices());
        for prompt in std::mem::take(&mut self.prompts) {
            for answer_index in 0..self.answers_per_prompt {
                let seed = self.sampling.seed.map(|seed| derived_seed(seed, answer_index as u64));
                jobs.push(Job {
                    id: ticket.id.clone(),
                    prompt: prompt.clone(),
                    sampling: SamplingParams { seed, ..self.sampling.clone() },
                    stop: self.stop.clone(),
                    class: ticket.class,
                    session: ticket.session.as_ref().map(|session| session_of_choice(session, jobs.len())),
                    cache_salt: ticket.cache_salt,
                    deadline: ticket.deadline,
                });
            }
        }
        jobs
    }
}

/// Choices of one call must not supersede each other; those of the next call supersede theirs one by one.
fn session_of_choice(session: &SessionKey, choice_index: usize) -> SessionKey {
    match choice_index {
        0 => session.clone(),
        _ => SessionKey(Arc::from(format!("{}\0{choice_index}", session.0))),
    }
}

/// Understands the body of `POST /v1/completions`.
pub fn completion(body: &[u8], limits: &RequestLimits) -> Result<Call, RequestError> {
    /// OpenAI's.
    const MAX_TOKENS_DEFAULT: usize = 16;
    let request = wire::CompletionRequest::read(parse(body, bounds(limits))?)?;
    let shared = request.shared;
    if request.echo == Some(true) {
        return Err(unsupported("echo", "only the new text is returned"));
    }
    if request.best_of.is_some_and(|best_of| best_of != shared.n.unwrap_or(1)) {
        return Err(unsupported("best_of", "only as many answers are generated as are returned, set n alone"));
    }
    let ignored = refuse_or_ignore(&shared)?;
    let prompts = prompts(request.prompt, request.suffix, limits)?;
    let top_logprobs =
        request.logprobs.map(|value| count("logprobs", value, 0, limits.top_logprobs_max)).transpose()?;
    let max_tokens = max_tokens("max_tokens", shared.max_tokens, limits)?.unwrap_or(MAX_TOKENS_DEFAULT);
    Ok(Call {
        model: request.model,
        class: Class::Completion,
        delivery: delivery(&shared)?,
        answers_per_prompt: answers_per_prompt(&shared, prompts.len(), limits)?,
        sampling: sampling(&shared, top_logprobs, limits)?,
        stop: stop_rules(Some(max_tokens), &shared.stop, limits)?,
        ignored,
        prompts,
    })
}

/// Understands the body of `POST /v1/chat/completions`.
pub fn chat(body: &[u8], limits: &RequestLimits) -> Result<Call, RequestError> {
    let request = wire::ChatRequest::read(parse(body, bounds(limits))?)?;
    let shared = request.shared;
    if request.response_format.is_some_and(|kind| kind != "text") {
        return Err(unsupported("response_format", "only {\"type\": \"text\"} is"));
    }
    let mut ignored = refuse_or_ignore(&shared)?;
    if request.messages.iter().any(|message| message.has_name) {
        ignored.push("messages[].name");
    }
    if shared.max_tokens.is_some() && request.max_completion_tokens.is_some() {
        let reason = "they mean the same, send one of them";
        return Err(RequestError::Conflict { path: "max_tokens", other: "max_completion_tokens", reason });
    }
    let max_tokens = match request.max_completion_tokens {
        Some(_) => max_tokens("max_completion_tokens", request.max_completion_tokens, limits)?,
        None => max_tokens("max_tokens", shared.max_tokens, limits)?,
    };
    let top_logprobs = chat_logprobs(request.logprobs, request.top_logprobs, limits)?;
    Ok(Call {
        model: request.model,
        class: Class::Chat,
        delivery: delivery(&shared)?,
        answers_per_prompt: answers_per_prompt(&shared, 1, limits)?,
        sampling: sampling(&shared, top_logprobs, limits)?,
        stop: stop_rules(max_tokens, &shared.stop, limits)?,
        prompts: vec![Prompt::Chat(messages(request.messages, limits)?)],
        ignored,
    })
}

fn bounds(limits: &RequestLimits) -> JsonBounds {
    JsonBounds { depth_max: limits.json_depth_max, values_max: limits.json_values_max }
}

fn unsupported(path: impl Into<String>, instead: &'static str) -> RequestError {
    RequestError::Unsupported { path: path.into(), instead }
}

/// The fields that are accepted without effect, or an error for the first that would have had one.
fn refuse_or_ignore(shared: &Shared) -> Result<Vec<&'static str>, RequestError> {
    if let Some(field) = shared.unsupported.first() {
        let instead = match *field {
            "tools" | "tool_choice" | "parallel_tool_calls" | "functions" | "function_call" => {
                "models answer with text, not with calls of tools"
            }
            "audio" | "modalities" => "models read and write text",
            "reasoning_effort" | "verbosity" => "say in a message how to answer",
            _ => "send the request without it",
        };
        return Err(unsupported(*field, instead));
    }
    if shared.store == Some(true) {
        return Err(unsupported("store", "nothing that is sent here is kept"));
    }
    let mut ignored = shared.ignored.clone();
    match shared.service_tier.as_deref() {
        None => {}
        Some("auto" | "default") => ignored.push("service_tier"),
        Some(_) => return Err(unsupported("service_tier", "only \"auto\" and \"default\" are, and mean the same")),
    }
    Ok(ignored)
}

fn delivery(shared: &Shared) -> Result<Delivery, RequestError> {
    let options = shared.stream_options.unwrap_or_default();
    if shared.stream_options.is_some() && !shared.stream {
        let reason = "it is only for streams";
        return Err(RequestError::Conflict { path: "stream_options", other: "stream", reason });
    }
    if options.include_obfuscation {
        return Err(unsupported("stream_options.include_obfuscation", "events are not padded"));
    }
    Ok(match shared.stream {
        true => Delivery::Streamed { include_usage: options.include_usage },
        false => Delivery::Whole,
    })
}

fn max_tokens(path: &str, value: Option<i128>, limits: &RequestLimits) -> Result<Option<usize>, RequestError> {
    value.map(|value| count(path, value, 1, limits.max_tokens_max)).transpose()
}

fn answers_per_prompt(shared: &Shared, prompts: usize, limits: &RequestLimits) -> Result<usize, RequestError> {
    let n = count("n", shared.n.unwrap_or(1), 1, limits.choices_max)?;
    let choices = n * prompts;
    if choices > limits.choices_max {
        return Err(RequestError::TooMany {
            path: "prompt".to_owned(),
            found: choices,
            unit: "answers to give (prompts times n)",
            allowed: limits.choices_max,
        });
    }
    Ok(n)
}

fn chat_logprobs(
    logprobs: Option<bool>,
    top_logprobs: Option<i128>,
    limits: &RequestLimits,
) -> Result<Option<usize>, RequestError> {
    let top = top_logprobs.map(|value| count("top_logprobs", value, 0, limits.top_logprobs_max)).transpose()?;
    match (logprobs.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            Err(RequestError::Conflict { path: "top_logprobs", other: "logprobs", reason: "logprobs has to be true" })
        }
    }
}

fn prompts(input: PromptInput, suffix: Option<String>, limits: &RequestLimits) -> Result<Vec<Prompt>, RequestError> {
    let prompts: Vec<Prompt> = match input {
        PromptInput::Text(text) => vec![text_or_infill(text, suffix)],
        PromptInput::Texts(texts) => {
            check_prompts(texts.len(), limits)?;
            texts.into_iter().map(|text| text_or_infill(text, suffix.clone())).collect()
        }
        PromptInput::Tokens(_) | PromptInput::TokenLists(_) if suffix.is_some() => {
            let reason = "the text around a cursor is given as text, not as token ids";
            return Err(RequestError::Conflict { path: "suffix", other: "prompt", reason });
        }
        PromptInput::Tokens(tokens) => vec![token_prompt("prompt", tokens)?],
        PromptInput::TokenLists(lists) => {
            check_prompts(lists.len(), limits)?;
            let lists = lists.into_iter().enumerate();
            lists.map(|(index, tokens)| token_prompt(&format!("prompt[{index}]"), tokens)).collect::<Result<_, _>>()?
        }
    };
    if prompts.is_empty() || prompts.iter().any(is_empty) {
        return Err(RequestError::Empty { path: "prompt".to_owned() });
    }
    Ok(prompts)
}

fn check_prompts(found: usize, limits: &RequestLimits) -> Result<(), RequestError> {
    let allowed = limits.choices_max;
    if found > allowed {
        return Err(RequestError::TooMany { path: "prompt".to_owned(), found, unit: "prompts", allowed });
    }
    Ok(())
}

/// Nothing before the cursor is fine, nothing at all is not.
fn is_empty(prompt: &Prompt) -> bool {
    match prompt {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Tokens(tokens) => tokens.is_empty(),
        Prompt::Infill(infill) => infill.prefix.is_empty() && infill.suffix.is_empty(),
        Prompt::Chat(chat) => chat.messages.is_empty(),
    }
}

/// A suffix, even an empty one, says that the text is code around a cursor.
fn text_or_infill(text: String, suffix: Option<String>) -> Prompt {
    match suffix {
        Some(suffix) => Prompt::Infill(Infill { prefix: text, suffix }),
        None => Prompt::Text(text),
    }
}

fn token_prompt(path: &str, tokens: Vec<i128>) -> Result<Prompt, RequestError> {
    let tokens = tokens.into_iter().enumerate().map(|(index, token)| {
        u32::try_from(token).map_err(|_| RequestError::Range {
            path: format!("{path}[{index}]"),
            found: token.to_string(),
            allowed: format!("a token id from 0 to {}", u32::MAX),
        })
    });
    Ok(Prompt::Tokens(tokens.collect::<Result<_, _>>()?))
}

fn messages(messages: Vec<wire::Message>, limits: &RequestLimits) -> Result<Chat, RequestError> {
    if messages.is_empty() {
        return Err(RequestError::Empty { path: "messages".to_owned() });
    }
    if messages.len() > limits.messages_max {
        return Err(RequestError::TooMany {
            path: "messages".to_owned(),
            found: messages.len(),
            unit: "messages",
            allowed: limits.messages_max,
        });
    }
    Ok(Chat { messages: messages.into_iter().map(message).collect::<Result<_, _>>()?, ..Chat::default() })
}

fn message(message: wire::Message) -> Result<Message, RequestError> {
    let path = message.path;
    let role = match message.role.as_str() {
        // What newer models of OpenAI call their system messages.
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => {
            return Err(unsupported(format!("{path}.role"), "no tools are called, so there are no results of them"));
        }
        other => {
            return Err(RequestError::Range {
                path: format!("{path}.role"),
                found: quoted(other),
                allowed: "\"system\", \"developer\", \"user\" or \"assistant\"".to_owned(),
            });
        }
    };
    if let Some(field) = message.unsupported.first() {
        return Err(unsupported(format!("{path}.{field}"), "a message has a role and a content of text"));
    }
    let content = message.content.ok_or_else(|| RequestError::Empty { path: format!("{path}.content") })?;
    Ok(Message { role, content: content_text(content)? })
}

/// Parts are put together as they are: whoever wants a line break between them sends one.
fn content_text(content: wire::Content) -> Result<String, RequestError> {
    match content {
        wire::Content::Text(text) => Ok(text),
        wire::Content::Parts(parts) => parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text),
                Part::Other { path, kind } => {
                    Err(RequestError::Range { path, found: quoted(&kind), allowed: "\"text\"".to_owned() })
                }
            })
            .collect(),
    }
}
