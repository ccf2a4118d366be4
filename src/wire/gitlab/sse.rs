//! Server-sent events as `/v4/code/suggestions` frames them: the event's name first, lines that end in CRLF, JSON with
//! spaces (WHATWG HTML, section 9.2, allows all of it).

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{Result, Write};

/// Appends one event.
pub fn event<T: Serialize>(name: &str, payload: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\ndata: ");
    let mut serializer = Serializer::with_formatter(&mut *out, Spaced);
    payload.serialize(&mut serializer).expect("answers hold only strings, numbers, lists and structs");
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a comment that keeps a silent connection alive.
pub fn ping(timestamp: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(": ping - {timestamp}\r\n\r\n").as_bytes());
}

/// A space behind every comma and colon between values.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        writer.write_all(b": ")
    }
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
