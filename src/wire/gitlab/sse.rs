//! Server-sent events as `/v4/code/suggestions` frames them: the event's name first, lines that end in CRLF, JSON with
//! spaces (WHATWG HTML, section 9.2, allows all of it).

use super::spaced;
use serde::Serialize;

/// Appends one event.
pub fn event<T: Serialize>(name: &str, payload: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\ndata: ");
    spaced::write(payload, out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a comment that keeps a silent connection alive.
pub fn ping(timestamp: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(": ping - {timestamp}\r\n\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_event_is_framed_as_gitlab_frames_it() {
        let check = |payload: serde_json::Value, expected: &str| {
            let mut out = Vec::new();
            super::event("content_chunk", &payload, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check(
            json!({"choices": [{"delta": {"content": "x = 1\r\n"}, "index": 0}]}),
            "event: content_chunk\r\ndata: {\"choices\": [{\"delta\": {\"content\": \"x = 1\\r\\n\"}, \"index\": 0}]}\r\n\r\n",
        );
        check(json!(null), "event: content_chunk\r\ndata: null\r\n\r\n");
        check(json!([[], {}, [1, 2]]), "event: content_chunk\r\ndata: [[], {}, [1, 2]]\r\n\r\n");
        let mut out = Vec::new();
        super::ping(1_760_000_000, &mut out);
        assert_eq!(out, b": ping - 1760000000\r\n\r\n");
    }
}
