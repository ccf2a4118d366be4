//! Every key there is: its default and what it means. A key that is not listed here does not exist.

/// One setting. `default` is written as it would be in the environment.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

pub const KEYS: &[Key] = &[
    key("server.listen", "127.0.0.1:5052", "address of the API; port 0 takes a free one"),
    key("server.connections_max", "1024", "connections open at once"),
    key("server.streams_per_connection_max", "128", "calls at once on one HTTP/2 connection"),
    key("server.header_bytes_max", "32KiB", "largest request head"),
    key("server.header_read_timeout_s", "10", "seconds a client has for its headers"),
    key("server.body_bytes_max", "8MiB", "largest request body"),
    key("server.body_read_timeout_s", "30", "seconds a client has for its body"),
    key("server.write_stall_timeout_s", "60", "a client that takes nothing for so long is cut off"),
    key("server.keep_alive_interval_s", "10", "silence after which a stream sends a comment"),
    key("server.deadline_max_s", "3600", "largest deadline a caller may ask for"),
    key("server.shutdown_grace_s", "30", "seconds running answers get after SIGTERM"),
    key("metrics.listen", "127.0.0.1:9464", "address of the Prometheus metrics, or off"),
    key("auth.keys_file", "", "file of hashed API keys, one per line: see `sconce key new`"),
    key("auth.keys", "", "API keys in the clear; better kept in keys_file"),
    key("engine.threads", "auto", "compute threads; auto takes one per core"),
    key("engine.kv_memory", "512MiB", "memory for keys and values, per model"),
    key("engine.quantise", "none", "what weights become while loading: none or q8_0"),
    key("engine.context_tokens_max", "auto", "caps every model's context; auto takes what it was trained for"),
    key("engine.step_tokens_max", "512", "tokens computed in one step"),
    key("engine.prefill_chunk_max", "256", "prompt tokens of one sequence in one step"),
    key("engine.running_max", "64", "sequences computed at once"),
    key("engine.waiting_max", "256", "requests that may wait; more are answered 429"),
    key("engine.chat_share", "0.25", "share of a step that chat gets while completions wait"),
    key("engine.promote_after_ms", "2000", "waiting time after which chat counts as completion"),
    key("engine.completion_deadline_ms", "30000", "time a completion may take"),
    key("engine.chat_deadline_ms", "600000", "time a chat answer may take"),
    key("limits.choices_max", "8", "answers per request: prompts times n"),
    key("limits.max_tokens_max", "1048576", "largest max_tokens; the context limits it further"),
    key("limits.messages_max", "4096", "messages per chat request"),
    key("limits.stop_strings_max", "16", "stop strings per request"),
    key("limits.stop_bytes_max", "256", "length of one stop string"),
    key("limits.logit_bias_entries_max", "1024", "entries of logit_bias"),
    key("limits.top_logprobs_max", "20", "alternatives reported per token"),
    key("limits.json_values_max", "1000000", "values in a request body"),
    key("limits.json_depth_max", "32", "how deep they may be nested"),
    key("catalog.cards_dir", "", "folder of further model cards"),
    key("catalog.embedded", "auto", "serve the built-in model: on, off, auto (when no other model is set)"),
    key("log.format", "auto", "text, json, or auto (text on a terminal)"),
    key("log.level", "info", "error, warn, info, debug, trace, or tracing directives"),
];

/// Keys below `models.NAME`. An empty default follows the engine's setting.
pub const MODEL_KEYS: &[Key] = &[
    key("path", "", "GGUF file, or folder with config.json and safetensors"),
    key("quantise", "", "what weights become while loading: none or q8_0"),
    key("context_tokens", "", "tokens of prompt and answer together"),
    key("kv_memory", "", "memory for keys and values"),
    key("card", "", "name of the card that describes it"),
];

/// Keys whose values are never shown.
pub const SECRETS: &[&str] = &["auth.keys"];

/// The known name most like `name`, unless nothing is close.
pub fn suggest<'known>(name: &str, known: impl IntoIterator<Item = &'known str>) -> Option<&'known str> {
    let lower = name.to_lowercase();
    let (distance, best) = known.into_iter().map(|known| (edit_distance(&lower, known), known)).min()?;
    (distance <= 2 + lower.len() / 6).then_some(best)
}

/// The known key meant by `name`: near it as a whole, or the only one with the same last part.
pub fn suggest_key(name: &str) -> Option<&'static str> {
    let names = || KEYS.iter().map(|key| key.name);
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let mut same_last = names().filter(|known| last(known) == last(name));
    if let (Some(known), None) = (same_last.next(), same_last.next()) {
        return Some(known);
    }
    suggest(name, names())
}

/// Insertions, deletions and substitutions that lead from one to the other (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (left_index, left_char) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], left_index + 1);
        for (right_index, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != *right_char);
            diagonal = row[right_index + 1];
            row[right_index + 1] = substituted.min(diagonal + 1).min(row[right_index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        for (written, meant) in [
            ("server.listn", Some("server.listen")),
            ("engine.kv_memroy", Some("engine.kv_memory")),
            ("server.threads", Some("engine.threads")),
            ("engine.quantize", Some("engine.quantise")),
            ("threads", Some("engine.threads")),
            ("nothing.of.the.kind", None),
        ] {
            assert_eq!(suggest_key(written), meant, "{written}");
        }
    }

    #[test]
    fn counts_edits() {
        for (left, right, edits) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(edit_distance(left, right), edits, "{left} {right}");
        }
    }
}
