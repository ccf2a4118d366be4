//! Server-sent events as OpenAI frames them: one `data:` line an event (WHATWG HTML, section 9.2).

use serde::Serialize;

/// Ends a stream that went well.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Readers skip it; proxies see a connection that lives.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Appends `payload` as one event. JSON holds no line break of its own, so a single line is enough.
pub fn event<T: Serialize>(payload: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, payload).expect("responses hold only strings, finite numbers, lists and structs");
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    #[test]
    fn line_breaks_of_the_text_stay_inside_the_line() {
        let mut out = Vec::new();
        super::event(&"a\nb\r\u{2028}", &mut out);
        assert_eq!(out, "data: \"a\\nb\\r\u{2028}\"\n\n".as_bytes());
    }
}
