//! Frames of AWS's event streams (`application/vnd.amazon.eventstream`): lengths, headers and a payload, with a checksum
//! for the lengths and one for the whole. Memory is bounded by the largest frame that is taken.

use super::super::answer::{Cut, Uncut};
use crate::wire::event_reader::Event as Frame;
use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;

/// Stands before the name of an event that is an error.
pub const EXCEPTION: &[u8] = b":exception:";

/// Two lengths and their checksum, and the checksum of the whole: a frame of nothing.
const BYTES_MIN: usize = 16;

pub struct FrameReader {
    bytes_max: usize,
    held: Vec<u8>,
}

impl FrameReader {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Vec::new() }
    }

    /// How long the frame is that `bytes` begin with, as soon as they say it.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Uncut> {
        let Some(length) = bytes.first_chunk().map(|length| u32::from_be_bytes(*length)) else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| Uncut)?;
        if (BYTES_MIN..=self.bytes_max).contains(&length) { Ok(Some(length)) } else { Err(Uncut) }
    }
}

impl Cut for FrameReader {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Frame>) -> Result<(), Uncut> {
        self.held.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(length) = self.length(&self.held[used..])? {
            let Some(frame) = self.held.get(used..used + length) else { break };
            let message = read_message_from(frame).map_err(|_| Uncut)?;
            events.push(named(&message));
            used += length;
        }
        self.held.drain(..used);
        Ok(())
    }

    /// A frame without its end is none.
    fn finish(&mut self) -> Option<Frame> {
        None
    }
}

fn named(message: &Message) -> Frame {
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
        header.value().as_string().ok().map(|text| text.as_str())
    };
    let exception = |kind: Option<&str>| [EXCEPTION, kind.unwrap_or_default().as_bytes()].concat();
    let payload = || message.payload().to_vec();
    match header(":message-type") {
        Some("exception") => Frame { name: exception(header(":exception-type")), data: payload() },
        // Errors that the service does not describe have no payload.
        Some("error") => {
            let said = serde_json::json!({ "message": header(":error-message") });
            Frame { name: exception(header(":error-code")), data: said.to_string().into_bytes() }
        }
        _ => Frame { name: header(":event-type").unwrap_or_default().into(), data: payload() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue};

    fn written(headers: &[(&'static str, &'static str)], payload: &'static str) -> Vec<u8> {
        let value = |value: &'static str| HeaderValue::String(value.into());
        let headers = headers.iter().map(|(name, text)| Header::new(*name, value(text)));
        let mut bytes = Vec::new();
        write_message_to(&Message::new_from_parts(headers.collect(), payload), &mut bytes).expect("a short message");
        bytes
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<(String, String)>, usize> {
        let mut reader = FrameReader::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut events).map_err(|Uncut| events.len())?;
        }
        assert_eq!(reader.finish(), None);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ok(events.into_iter().map(|event| (text(event.name), text(event.data))).collect())
    }

    #[test]
    fn frames_do_not_depend_on_where_the_stream_is_cut() {
        let bytes = [
            written(&[(":message-type", "event"), (":event-type", "a")], "{}"),
            written(&[(":message-type", "event"), ("other", "x")], "é"),
            written(&[(":exception-type", "b"), (":message-type", "exception")], ""),
            written(&[(":message-type", "error"), (":error-code", "c"), (":error-message", "d")], ""),
            written(&[], ""),
        ]
        .concat();
        let expected =
            [("a", "{}"), ("", "é"), (":exception:b", ""), (":exception:c", "{\"message\":\"d\"}"), ("", "")];
        let expected = expected.map(|(name, data)| (name.to_owned(), data.to_owned())).to_vec();
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), Ok(expected.clone()), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), Ok(expected));
    }

    #[test]
    fn what_is_no_frame_or_too_large_for_one_is_refused_at_once() {
        let good = written(&[], "");
        for length in [0, 15, 1001, u32::MAX] {
            assert_eq!(read(&[&good, &length.to_be_bytes()]), Err(1), "{length}");
        }
        assert_eq!(read(&[&good, &1000_u32.to_be_bytes()]), Ok(vec![(String::new(), String::new())]));
        let mut damaged = good.clone();
        damaged[15] ^= 1;
        assert_eq!(read(&[&good, &damaged]), Err(1));
    }
}
