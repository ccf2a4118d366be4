//! What an OpenAI-compatible server says in an event or in a whole answer. Read leniently: servers differ, and what is
//! measured is how fast they are. Knows the usage that OpenAI reports and the timings that llama.cpp adds.

use super::sample::Counts;
use serde::Deserialize;
use serde_json::Value;

/// The end of a stream that went well.
pub const DONE: &[u8] = b"[DONE]";

/// What one event adds.
#[derive(Debug, Default, PartialEq)]
pub struct Piece {
    pub has_text: bool,
    pub is_last: bool,
    pub counts: Counts,
    /// The server's words about what went wrong.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<Value>,
    /// A name for OpenAI; GitLab's gateway puts what it counted in here.
    model: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Words>,
    message: Option<Words>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    content: Option<String>,
    /// Some servers keep what a model thinks apart. It is generated text all the same.
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    accepted_prediction_tokens: Option<u64>,
    rejected_prediction_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Timings {
    cache_n: Option<u64>,
    draft_n: Option<u64>,
    draft_n_accepted: Option<u64>,
}

impl Piece {
    /// `None` where the data is not what an OpenAI-compatible server sends.
    pub fn read(data: &[u8]) -> Option<Self> {
        let reply: Reply = serde_json::from_slice(data).ok()?;
        if let Some(error) = &reply.error {
            return Some(Self { error: Some(words_of(error)), ..Self::default() });
        }
        // Events with usage alone have an empty list, or none.
        let choices = reply.choices.unwrap_or_default();
        let is_known = !choices.is_empty() || reply.usage.is_some() || reply.timings.is_some();
        let has_text = choices.iter().any(Choice::has_text);
        let is_last = choices.iter().any(|choice| choice.finish_reason.is_some());
        let mut counts = counts(reply.usage.as_ref(), reply.timings.as_ref());
        let consumed = |name| reply.model.as_ref()?.get("tokens_consumption_metadata")?.get(name)?.as_u64();
        counts.prompt_tokens = counts.prompt_tokens.or(consumed("input_tokens"));
        counts.output_tokens = counts.output_tokens.or(consumed("output_tokens"));
        (is_known || is_keep_alive(data)).then_some(Self { has_text, is_last, counts, error: None })
    }
}

impl Choice {
    fn has_text(&self) -> bool {
        let spoken = [&self.delta, &self.message].into_iter().flatten();
        let texts = spoken.flat_map(|words| [words.content.as_deref(), words.reasoning_content.as_deref()]);
        texts.chain([self.text.as_deref()]).flatten().any(|text| !text.is_empty())
    }
}

/// Some servers open a stream with an event that has an empty list of choices (Azure's content filter is one).
fn is_keep_alive(data: &[u8]) -> bool {
    serde_json::from_slice::<Value>(data).is_ok_and(|value| value.get("choices").is_some_and(Value::is_array))
}

fn counts(usage: Option<&Usage>, timings: Option<&Timings>) -> Counts {
    let details = usage.and_then(|usage| usage.completion_tokens_details.as_ref());
    let accepted = details.and_then(|details| details.accepted_prediction_tokens);
    let rejected = details.and_then(|details| details.rejected_prediction_tokens);
    let cached = usage.and_then(|usage| usage.prompt_tokens_details.as_ref()?.cached_tokens);
    // OpenAI's servers report zeros where nothing was guessed.
    let drafted = accepted.zip(rejected).map(|(accepted, rejected)| accepted.saturating_add(rejected));
    let drafted = drafted.filter(|drafted| *drafted > 0);
    Counts {
        prompt_tokens: usage.and_then(|usage| usage.prompt_tokens),
        output_tokens: usage.and_then(|usage| usage.completion_tokens),
        cached_tokens: timings.and_then(|timings| timings.cache_n).or(cached),
        drafted_tokens: timings.and_then(|timings| timings.draft_n).or(drafted),
        accepted_tokens: timings
            .and_then(|timings| timings.draft_n_accepted)
            .or(accepted.filter(|_| drafted.is_some())),
    }
}

impl Counts {
    /// The later word counts.
    pub fn learn(&mut self, later: Self) {
        self.prompt_tokens = later.prompt_tokens.or(self.prompt_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cached_tokens = later.cached_tokens.or(self.cached_tokens);
        self.drafted_tokens = later.drafted_tokens.or(self.drafted_tokens);
        self.accepted_tokens = later.accepted_tokens.or(self.accepted_tokens);
    }
}

/// The message in an error of any form that servers give.
pub fn message_in(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => words_of(value.get("error").unwrap_or(&value)),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

fn words_of(error: &Value) -> String {
    let inner = ["message", "detail", "error"].into_iter().find_map(|name| error.get(name)?.as_str());
    inner.or(error.as_str()).map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_servers_are_understood() {
        let check = |data: &str, has_text: bool, is_last: bool| {
            let piece = Piece::read(data.as_bytes()).expect(data);
            assert_eq!((piece.has_text, piece.is_last, piece.error), (has_text, is_last, None), "{data}");
        };
        check(r#"{"choices":[{"text":"a","index":0,"finish_reason":null}]}"#, true, false);
        check(r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#, false, true);
        check(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, false, false);
        check(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, false, false);
        check(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}"#, true, true);
        check(r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, true, false);
        check(r#"{"choices":[{"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}"#, true, true);
        check(r#"{"choices":[],"prompt_filter_results":[]}"#, false, false);
        check(r#"{"choices":[],"usage":{"prompt_tokens":3}}"#, false, false);
        for garbage in ["", "{", "[]", "null", "{\"hello\":1}", "{\"choices\":7}", "\u{0}"] {
            assert_eq!(Piece::read(garbage.as_bytes()), None, "{garbage}");
        }
    }

    #[test]
    fn counts_are_those_of_openai_of_llama_cpp_and_of_gitlab() {
        let check = |data: &str, want: [Option<u64>; 5]| {
            let counts = Piece::read(data.as_bytes()).expect(data).counts;
            let Counts { prompt_tokens, output_tokens, cached_tokens, drafted_tokens, accepted_tokens } = counts;
            assert_eq!([prompt_tokens, output_tokens, cached_tokens, drafted_tokens, accepted_tokens], want, "{data}");
        };
        check(
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,
                "prompt_tokens_details":{"cached_tokens":8}}}"#,
            [Some(9), Some(2), Some(8), None, None],
        );
        check(
            r#"{"usage":{"completion_tokens":9,
                "completion_tokens_details":{"accepted_prediction_tokens":4,"rejected_prediction_tokens":2}}}"#,
            [None, Some(9), None, Some(6), Some(4)],
        );
        check(
            r#"{"usage":{"completion_tokens_details":
                {"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#,
            [None; 5],
        );
        check(
            r#"{"choices":[],"timings":{"cache_n":5,"draft_n":10,"draft_n_accepted":7}}"#,
            [None, None, Some(5), Some(10), Some(7)],
        );
        check(
            r#"{"model":{"name":"m","tokens_consumption_metadata":{"input_tokens":7,"output_tokens":3}},"choices":[]}"#,
            [Some(7), Some(3), None, None, None],
        );
    }

    #[test]
    fn the_message_is_found_in_every_form_of_error() {
        for (body, want) in [
            (r#"{"error":{"message":"too long","code":400}}"#, "too long"),
            (r#"{"error":"No authorization header presented"}"#, "No authorization header presented"),
            (r#"{"detail":"Inference failed"}"#, "Inference failed"),
            (r#"{"detail":[{"msg":"x"}]}"#, r#"{"detail":[{"msg":"x"}]}"#),
            ("<html>gateway</html>", "<html>gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(message_in(body.as_bytes()), want);
        }
        let piece = Piece::read(br#"{"error":{"message":"out of memory"}}"#).expect("an error");
        assert_eq!(piece.error.as_deref(), Some("out of memory"));
    }
}
