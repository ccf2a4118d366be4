//! From prompts to tokens, for one model: its tokenizer, its card, its chat template.

use super::chat::{ChatTemplate, Conversation, TemplateError, TemplateMessage};
use super::encoder::Position;
use super::guard::{Guard, reserved_chars};
use super::literals::{Literal, Literals, Segment};
use super::{RenderError, Tokenizer, TokenizerError};
use crate::catalog::{Card, Part};
use crate::domain::{Chat, Infill, Prompt, Role};
use std::sync::Arc;

/// Turns prompts into tokens. Immutable, to be shared.
#[derive(Debug)]
pub struct Renderer {
    tokenizer: Arc<Tokenizer>,
    infill: Option<InfillPlan>,
    chat: Option<ChatPlan>,
    text_stops: Arc<[u32]>,
}

/// What is not said by tokenizer and card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RendererOptions {
    /// Goes before the template that came with the model.
    pub chat_template: Option<String>,
    /// Further tokens that end an answer, such as those of `generation_config.json`.
    pub end_tokens: Vec<u32>,
    /// One of the orders of the card; `None` takes its default.
    pub infill_order: Option<String>,
}

/// A prompt as the model wants it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    pub tokens: Vec<u32>,
    /// Tokens that end the answer and are no part of it, sorted.
    pub stop_tokens: Arc<[u32]>,
}

/// Prompts never reach logs: only their sizes do.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Rendered({} tokens)", self.tokens.len())
    }
}

#[derive(Debug)]
struct InfillPlan {
    parts: Vec<InfillPart>,
    stops: Arc<[u32]>,
}

#[derive(Debug)]
enum InfillPart {
    Token(u32),
    Prefix(Position),
    Suffix(Position),
}

#[derive(Debug)]
struct ChatPlan {
    template: ChatTemplate,
    source: String,
    reserved: Vec<char>,
    /// Tokens an assistant writes and the template looks for, such as `</think>`.
    trusted: Literals,
    stops: Arc<[u32]>,
}

impl Renderer {
    /// Without a card there is no infilling, and only the model's own tokens end an answer. A card whose infill tokens
    /// the vocabulary lacks is an error.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        card: Option<&Card>,
        options: RendererOptions,
    ) -> Result<Self, TokenizerError> {
        let mut ends: Vec<u32> = tokenizer.end_tokens().iter().copied().chain(options.end_tokens).collect();
        if let Some(infill) = card.and_then(|card| card.infill.as_ref()) {
            ends.extend(infill.stop_tokens.iter().filter_map(|token| tokenizer.special_id(token)));
        }
        let text_stops = sorted(ends.clone());
        let infill = card.map(|card| InfillPlan::new(&tokenizer, card, options.infill_order, &text_stops));
        ends.extend(
            card.iter().flat_map(|card| &card.chat.stop_tokens).filter_map(|token| tokenizer.special_id(token)),
        );
        let source = options
            .chat_template
            .or_else(|| tokenizer.chat_template().map(str::to_owned))
            .or_else(|| card.and_then(|card| card.chat.template.clone()));
        let chat = source.map(|source| ChatPlan::new(&tokenizer, source, sorted(ends)));
        Ok(Self { infill: infill.transpose()?.flatten(), chat: chat.transpose()?, text_stops, tokenizer })
    }

    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    #[must_use]
    pub fn has_infill(&self) -> bool {
        self.infill.is_some()
    }

    #[must_use]
    pub fn has_chat(&self) -> bool {
        self.chat.is_some()
    }

    pub fn render(&self, prompt: &Prompt) -> Result<Rendered, RenderError> {
        let (tokens, stop_tokens) = match prompt {
            Prompt::Text(text) => (self.render_text(text), &self.text_stops),
            Prompt::Tokens(tokens) => (self.check(tokens)?.to_vec(), &self.text_stops),
            Prompt::Infill(infill) => {
                let plan = self.infill.as_ref().ok_or(RenderError::NoInfill)?;
                (self.render_infill(plan, infill), &plan.stops)
            }
            Prompt::Chat(chat) => {
                let plan = self.chat.as_ref().ok_or(RenderError::NoChat)?;
                (self.render_chat(plan, chat)?, &plan.stops)
            }
        };
        if tokens.is_empty() {
            return Err(RenderError::Empty);
        }
        Ok(Rendered { tokens, stop_tokens: stop_tokens.clone() })
    }

    fn render_text(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.tokenizer.begin_tokens().to_vec();
        self.tokenizer.encode_into(text, Position::Beginning, &mut tokens);
        tokens
    }

    fn check<'t>(&self, tokens: &'t [u32]) -> Result<&'t [u32], RenderError> {
        let vocab_size = self.tokenizer.vocab_size();
        match tokens.iter().find(|token| **token as usize >= vocab_size) {
            Some(&token) => Err(RenderError::TokenOutOfRange { token, vocab_size }),
            None => Ok(tokens),
        }
    }

    fn render_infill(&self, plan: &InfillPlan, infill: &Infill) -> Vec<u32> {
        let mut tokens = Vec::new();
        for part in &plan.parts {
            match part {
                InfillPart::Token(id) => tokens.push(*id),
                InfillPart::Prefix(position) => self.tokenizer.encode_into(&infill.prefix, *position, &mut tokens),
                InfillPart::Suffix(position) => self.tokenizer.encode_into(&infill.suffix, *position, &mut tokens),
            }
        }
        tokens
    }

    fn render_chat(&self, plan: &ChatPlan, chat: &Chat) -> Result<Vec<u32>, RenderError> {
        let contents = chat.messages.iter().map(|message| message.content.as_str());
        let guard = Guard::new(&plan.reserved, contents.chain([plan.source.as_str()]))?;
        let protected: Vec<_> = chat
            .messages
            .iter()
            .map(|message| {
                let trusted = (message.role == Role::Assistant).then_some(&plan.trusted);
                (role_name(message.role), guard.protect(&message.content, trusted))
            })
            .collect();
        let special = self.tokenizer.special();
        let text_of = |id: Option<u32>| {
            let bytes = id.map(|id| self.tokenizer.token_bytes(id)).unwrap_or_default();
            std::str::from_utf8(bytes).unwrap_or_default()
        };
        let conversation = Conversation {
            messages: protected.iter().map(|(role, content)| TemplateMessage { role, content }).collect(),
            bos_token: text_of(special.bos),
            eos_token: text_of(special.eos),
            unk_token: text_of(special.unk),
            pad_token: text_of(special.pad),
        };
        let text = plan.template.render(&conversation).map_err(template_error)?;
        let mut tokens = Vec::new();
        let mut position = Position::Beginning;
        for segment in self.tokenizer.control.split(&text) {
            match segment {
                Segment::Token(id) => tokens.push(id),
                Segment::Text(text) => self.tokenizer.encode_into(&guard.restore(text), position, &mut tokens),
            }
            position = Position::AfterToken;
        }
        self.tokenizer.encode_into(&chat.answer_prefix, Position::AfterToken, &mut tokens);
        Ok(tokens)
    }
}

impl InfillPlan {
    fn new(
        tokenizer: &Tokenizer,
        card: &Card,
        order: Option<String>,
        stops: &Arc<[u32]>,
    ) -> Result<Option<Self>, TokenizerError> {
        let Some(infill) = &card.infill else { return Ok(None) };
        let order = order.unwrap_or_else(|| infill.order.clone());
        let Some(parts) = infill.orders.get(&order) else {
            return Err(TokenizerError::UnknownInfillOrder { card: card.name.clone(), order });
        };
        let position = |part: &Part| match infill.leading_space.contains(part) {
            true => Position::InfillBeginning,
            false => Position::InfillInside,
        };
        let begin = match infill.begin_token {
            None => tokenizer.begin_tokens().to_vec(),
            Some(true) => tokenizer.special().bos.into_iter().collect(),
            Some(false) => Vec::new(),
        };
        let mut plan: Vec<InfillPart> = begin.into_iter().map(InfillPart::Token).collect();
        for part in parts {
            plan.push(match part {
                Part::Prefix => InfillPart::Prefix(position(part)),
                Part::Suffix => InfillPart::Suffix(position(part)),
                Part::Token(token) => {
                    let missing = || TokenizerError::MissingToken { what: "the infill template", token: token.clone() };
                    InfillPart::Token(tokenizer.special_id(token).ok_or_else(missing)?)
                }
            });
        }
        Ok(Some(Self { parts: plan, stops: stops.clone() }))
    }
}

impl ChatPlan {
    fn new(tokenizer: &Tokenizer, source: String, stops: Arc<[u32]>) -> Result<Self, TokenizerError> {
        let template =
            ChatTemplate::new(&source).map_err(|error| TokenizerError::ChatTemplate { reason: error.to_string() })?;
        let trusted: Vec<Literal> =
            tokenizer.soft_control.iter().filter(|literal| source.contains(&literal.text)).cloned().collect();
        Ok(Self {
            template,
            reserved: reserved_chars(&tokenizer.control),
            trusted: Literals::new(trusted),
            stops,
            source,
        })
    }
}

fn template_error(error: TemplateError) -> RenderError {
    match error {
        TemplateError::Refused { reason } => RenderError::TemplateRefused { reason },
        TemplateError::TooLarge { .. }
        | TemplateError::Malformed { .. }
        | TemplateError::Failed { .. }
        | TemplateError::TooManyInstructions { .. }
        | TemplateError::TooMuchOutput { .. } => RenderError::TemplateFailed { reason: error.to_string() },
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn sorted(mut tokens: Vec<u32>) -> Arc<[u32]> {
    tokens.sort_unstable();
    tokens.dedup();
    tokens.into()
}
