//! From a call to what a lane is asked, and the parser that reads what it says.

use super::action::{Surroundings, same_question};
use super::input::{Input, Step, Turn};
use super::parser::AgentParser;
use super::phrases;
use super::tools::{self, Tool};
use crate::domain::{Chat, Class, Message, ModelInfo, Prompt, Role, SamplingParams, StopRules};
use crate::feature::Plan;
use crate::feature::family::Family;
use crate::feature::shape::Plain;

/// GitLab gives up after ten; the last ones are for the answer.
const STEPS_MAX: usize = 8;

/// What explaining the tools and one observation take; a model that holds less just talks.
const TOOLS_CONTEXT_TOKENS_MIN: usize = 2048;

/// Fewer than most texts have, so that what is planned fits.
const CHARS_PER_TOKEN: usize = 3;

/// What a call does not say itself.
pub struct Facts<'a> {
    pub model: &'a ModelInfo,
    pub family: Option<Family>,
    /// Whether the caller's token has a scope of [`super::TOOL_SCOPES`]. A tool without its scope is not offered.
    pub has_scope: &'a dyn Fn(&str) -> bool,
    /// The header `x-gitlab-version`.
    pub gitlab_version: Option<&'a str>,
    /// For example `October 05, 2026`.
    pub current_date: &'a str,
    /// An operator's limit of the answer.
    pub max_tokens: Option<usize>,
    /// Asks for the answer whatever is known: for a model that repeats itself (see [`AgentParser::repeats_itself`]).
    pub answer_now: bool,
}

/// What to ask, how to read the answer, and what was left out of the question.
pub struct Planned {
    /// Its shape lets the text through as it is: the parser reads it.
    pub plan: Plan,
    pub parser: AgentParser,
    /// Characters of files and other context that do not fit beside the conversation. The prompt says where.
    pub context_chars_dropped: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("the model {model} has no chat template: choose a model trained for chat for GitLab Duo Chat")]
    NoChat { model: String },
}

/// Plans one step. Stop strings there are none: a final answer may quote `Observation:` in a code block, so the parser
/// decides where the text ends.
pub fn plan(mut input: Input, facts: &Facts<'_>) -> Result<Planned, AgentError> {
    if !facts.model.has_chat {
        return Err(AgentError::NoChat { model: facts.model.name.clone() });
    }
    let max_tokens = max_tokens(facts);
    let tools = match facts.model.context_tokens < TOOLS_CONTEXT_TOKENS_MIN {
        true => Vec::new(),
        false => tools::offered(facts.has_scope, facts.gitlab_version),
    };
    let context_chars_dropped = fit_context(&mut input.turns, facts.model.context_tokens.saturating_sub(max_tokens));
    let is_announced = tools.is_empty() || facts.answer_now || goes_in_circles(&input.steps);
    let answer_prefix = match (tools.is_empty(), is_announced) {
        (true, _) => "",
        (false, true) => phrases::ANSWER_PREFIX,
        (false, false) => phrases::THOUGHT_PREFIX,
    };
    let chat = Chat { messages: messages(&input, &tools, facts), answer_prefix: answer_prefix.to_owned() };
    let question = input.question().to_owned();
    let around = Surroundings { tools, steps: input.steps, question };
    Ok(Planned {
        plan: Plan {
            prompt: Prompt::Chat(chat),
            sampling: SamplingParams::default(),
            stop: StopRules { max_tokens: Some(max_tokens), stop: Vec::new() },
            class: Class::Chat,
            shape: Box::new(Plain),
        },
        parser: AgentParser::new(around, is_announced, facts.family.is_some_and(Family::escapes_underscores)),
        context_chars_dropped,
    })
}

/// The family's limit, and never so much of a small context that no question fits.
fn max_tokens(facts: &Facts<'_>) -> usize {
    const OUTPUT_TOKENS_MAX: usize = 8192;
    const OUTPUT_TOKENS_MAX_LLAMA: usize = 4096;
    const CONTEXT_SHARE: usize = 4;
    let limit = match facts.family {
        Some(Family::Llama3) => OUTPUT_TOKENS_MAX_LLAMA,
        _ => OUTPUT_TOKENS_MAX,
    };
    facts.max_tokens.unwrap_or(limit).min(facts.model.context_tokens / CONTEXT_SHARE).max(1)
}

/// A step was taken twice, or GitLab is about to give up.
fn goes_in_circles(steps: &[Step]) -> bool {
    let is_repeated = match steps {
        [.., before, last] => before.tool == last.tool && same_question(&before.tool_input, &last.tool_input),
        _ => false,
    };
    is_repeated || steps.len() >= STEPS_MAX
}

/// Files and pages may take half of the room; the rest is for the conversation, which is never cut.
fn fit_context(turns: &mut [Turn], room_tokens: usize) -> usize {
    let budget = room_tokens * CHARS_PER_TOKEN / 2;
    let mut sizes: Vec<usize> = turns.iter().flat_map(|turn| phrases::context_sizes(&turn.context)).collect();
    if sizes.iter().sum::<usize>() <= budget {
        return 0;
    }
    let share = fair_share(&mut sizes, budget);
    turns.iter_mut().map(|turn| phrases::cut_context(&mut turn.context, share)).sum()
}

/// The largest size that each may keep so that all fit: small ones stay whole and leave their rest to the others.
fn fair_share(sizes: &mut [usize], budget: usize) -> usize {
    sizes.sort_unstable();
    let mut left = budget;
    for (index, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

fn messages(input: &Input, tools: &[&'static Tool], facts: &Facts<'_>) -> Vec<Message> {
    let mut conversation = Conversation::default();
    let mut instructions = phrases::instructions(tools, &input.unavailable, facts.current_date);
    for turn in input.turns.iter().filter(|turn| turn.role == Role::System && !turn.content.trim().is_empty()) {
        instructions.push_str("\n\n");
        instructions.push_str(turn.content.trim());
    }
    // Templates of these families refuse a system message, or did in models that are still in use.
    let takes_system =
        !matches!(facts.family, Some(Family::Mistral | Family::Mixtral | Family::Codestral | Family::CodeGemma));
    conversation.say(if takes_system { Role::System } else { Role::User }, instructions);
    for turn in &input.turns {
        match turn.role {
            Role::User => conversation.say(Role::User, phrases::question(turn)),
            Role::Assistant if turn.content.trim().is_empty() => {}
            Role::Assistant => conversation.answer(phrases::past_answer(turn, !tools.is_empty())),
            Role::System | Role::Tool => {}
        }
    }
    for step in &input.steps {
        conversation.answer(phrases::past_action(step));
        conversation.say(Role::User, phrases::observation(step));
    }
    if conversation.messages.last().is_none_or(|message| message.role != Role::User) {
        conversation.say(Role::User, "Please go on.".to_owned());
    }
    conversation.messages
}

/// Messages of user and assistant in turn, as templates demand it.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    fn say(&mut self, role: Role, content: String) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(&content);
            }
            _ => self.messages.push(Message { role, content }),
        }
    }

    fn answer(&mut self, content: String) {
        if self.messages.last().is_none_or(|last| last.role == Role::System) {
            self.say(Role::User, "(Earlier messages are not shown.)".to_owned());
        }
        self.say(Role::Assistant, content);
    }
}
