//! Events of `ConverseStream`. Kinds that are not listed are skipped, and so is what nobody asked for: reasoning,
//! citations, the input of tools.

use super::super::answer::{Counts, Cut, FRAME_BYTES_MAX, Finish, Heard, REFUSED, Reading, Trouble};
use super::super::complaint::Complaint;
use super::super::failure::{GAVE_UP, TOOL_NOT_OFFERED};
use super::frames::{EXCEPTION, FrameReader};
use crate::domain::FinishReason;
use crate::wire::event_reader::Event as Frame;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Text may come without a beginning of its block, and counts come behind the end of the message.
#[derive(Default)]
pub struct ConverseEvents {
    has_stopped: bool,
}

#[derive(Deserialize)]
struct BlockDelta {
    #[serde(default)]
    delta: Delta,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    usage: Option<Usage>,
}

/// What was read from or written to a cache is not part of `inputTokens`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

impl Reading for ConverseEvents {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble> {
        if let Some(kind) = frame.name.strip_prefix(EXCEPTION) {
            let kind = String::from_utf8_lossy(kind);
            return Err(Trouble::Said(Box::new(Complaint::parse(&frame.data).of_kind(Some(&kind)))));
        }
        Ok(match frame.name.as_slice() {
            b"contentBlockDelta" => {
                let BlockDelta { delta } = parse(frame)?;
                Heard { text: delta.text.unwrap_or_default(), ..Heard::default() }
            }
            b"messageStop" => {
                let MessageStop { stop_reason } = parse(frame)?;
                self.has_stopped = true;
                Heard { finish: Some(finish(&stop_reason.unwrap_or_default())), ..Heard::default() }
            }
            b"metadata" => {
                let Metadata { usage } = parse(frame)?;
                Heard { counts: usage.map(counts).unwrap_or_default(), is_last: self.has_stopped, ..Heard::default() }
            }
            _ => Heard::default(),
        })
    }

    fn cutter(&self) -> Box<dyn Cut> {
        Box::new(FrameReader::new(FRAME_BYTES_MAX))
    }
}

fn parse<T: DeserializeOwned>(frame: &Frame) -> Result<T, Trouble> {
    serde_json::from_slice(&frame.data).map_err(|_| Trouble::Unreadable)
}

fn finish(reason: &str) -> Finish {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Done(FinishReason::Length),
        "guardrail_intervened" | "content_filtered" | "refusal" => REFUSED,
        "tool_use" => Finish::Failed(TOOL_NOT_OFFERED),
        "malformed_model_output" | "malformed_tool_use" => Finish::Failed(GAVE_UP),
        // `end_turn` and `stop_sequence`.
        _ => Finish::Done(FinishReason::Stop),
    }
}

fn counts(usage: Usage) -> Counts {
    let count = |tokens: u64| usize::try_from(tokens).unwrap_or(usize::MAX);
    let cached = [usage.cache_write_input_tokens, usage.cache_read_input_tokens];
    let cached_tokens = cached.into_iter().flatten().fold(0, u64::saturating_add);
    Counts {
        prompt_tokens: usage.input_tokens.map(|tokens| count(tokens.saturating_add(cached_tokens))),
        cached_tokens: usage.cache_read_input_tokens.map(count),
        completion_tokens: usage.output_tokens.map(count),
    }
}
