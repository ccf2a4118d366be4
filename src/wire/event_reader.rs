//! Server-sent events as they are read (WHATWG HTML, section 9.2.6), from pieces cut anywhere: inside a character, between
//! the two halves of a line end. Memory is bounded by the largest event that is taken.

/// One event: its name, empty where none was given, and its data, lines joined by line feeds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Event {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {bytes_max} bytes")]
pub struct EventTooLarge {
    pub bytes_max: usize,
}

/// Cuts a stream of bytes into events. Comments, `id` and `retry` are skipped.
#[derive(Debug)]
pub struct EventReader {
    bytes_max: usize,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    is_behind_carriage_return: bool,
    is_first_line: bool,
}

impl EventReader {
    /// A line may have `bytes_max` bytes, and so may the data of an event.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            is_behind_carriage_return: false,
            is_first_line: true,
        }
    }

    /// Takes more bytes, and appends the events that they complete. After an error nothing more can be read.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), EventTooLarge> {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.is_behind_carriage_return) && first == b'\n' {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.extend_line(&bytes[..end.unwrap_or(bytes.len())])?;
            let Some(end) = end else { return Ok(()) };
            self.is_behind_carriage_return = bytes[end] == b'\r';
            self.end_line(events)?;
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// What an end of the stream completes. Browsers drop an event without an empty line behind it; servers that close
    /// right after their last line mean it.
    pub fn finish(&mut self) -> Option<Event> {
        let mut events = Vec::new();
        let is_read = self.end_line(&mut events).and_then(|()| self.end_line(&mut events)).is_ok();
        events.pop().filter(|_| is_read)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.line.len() + bytes.len() > self.bytes_max {
            return Err(EventTooLarge { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), EventTooLarge> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
        } else {
            self.field(&line)?;
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), EventTooLarge> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if self.event.data.len() + value.len() >= self.bytes_max {
                    return Err(EventTooLarge { bytes_max: self.bytes_max });
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.event.name = value.to_vec(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 64;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<(String, String)>, EventTooLarge> {
        let mut reader = EventReader::new(BYTES_MAX);
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut events)?;
        }
        events.extend(reader.finish());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 put together again");
        Ok(events.into_iter().map(|event| (text(event.name), text(event.data))).collect())
    }

    /// The whole, every cut into two and every byte alone have to give the same events.
    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)]) {
        let bytes = stream.as_bytes();
        let expected: Vec<_> = expected.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect();
        for cut in 0..=bytes.len() {
            assert_eq!(read([&bytes[..cut], &bytes[cut..]]).as_ref(), Ok(&expected), "{stream:?} cut at {cut}");
        }
        assert_eq!(read(bytes.chunks(1)).as_ref(), Ok(&expected), "{stream:?} byte by byte");
    }

    #[test]
    fn events_do_not_depend_on_where_the_stream_is_cut() {
        check("", &[]);
        check("data: a\n\ndata:b\n\n", &[("", "a"), ("", "b")]);
        check("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n", &[("", "a"), ("", "b"), ("", "c")]);
        check("event: ping\ndata: {\"é😀\": 1}\nid: 7\nretry: 9\n\n", &[("ping", "{\"é😀\": 1}")]);
        check("data: a\ndata:  b\ndata\n\n", &[("", "a\n b\n")]);
        check(": keep-alive\n\n: x\ndata: a\n\n", &[("", "a")]);
        check("event: lonely\n\ndata: a\n\n", &[("", "a")]);
        check("\u{feff}data: a\n\n", &[("", "a")]);
        check("data: a\n\ndata: [DONE]", &[("", "a"), ("", "[DONE]")]);
        check("data: a\n\ndata: b\n", &[("", "a"), ("", "b")]);
        check("database: x\ndata : y\n\n", &[]);
        check("\n\n\r\n\r\r\n", &[]);
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let line = format!("data: {}", "x".repeat(BYTES_MAX));
        assert_eq!(read([line.as_bytes()]), Err(EventTooLarge { bytes_max: BYTES_MAX }));
        assert_eq!(read(line.as_bytes().chunks(7)), Err(EventTooLarge { bytes_max: BYTES_MAX }));
        let lines = "data: 0123456789\n".repeat(7);
        assert_eq!(read([lines.as_bytes()]), Err(EventTooLarge { bytes_max: BYTES_MAX }));
        let comments = ": 0123456789\n".repeat(100);
        assert_eq!(read([comments.as_bytes()]), Ok(Vec::new()));
    }
}
