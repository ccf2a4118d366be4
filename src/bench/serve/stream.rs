//! Server-sent events, read as they come (WHATWG HTML, section 9.2): bytes may be cut anywhere. Only the data matters
//! here; names, ids and comments are skipped.

/// How long one event may become.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The line before ended in a carriage return: a line feed right behind belongs to it.
    is_after_return: bool,
}

/// An event is longer than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Events {
    /// Takes bytes, and hands each event's data to `take` once it is complete.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), TooLong> {
        for &byte in bytes {
            let is_second_half = byte == b'\n' && std::mem::take(&mut self.is_after_return);
            self.is_after_return = byte == b'\r';
            match byte {
                b'\n' if is_second_half => {}
                b'\n' | b'\r' => self.end_line(&mut take),
                _ if self.line.len() + self.data.len() >= EVENT_BYTES_MAX => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// What a server that forgot the last line break has left unfinished.
    pub fn finish(mut self, mut take: impl FnMut(&[u8])) {
        self.end_line(&mut take);
        self.end_event(&mut take);
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8])) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.end_event(take);
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.has_data = true;
        }
        // The allocation serves the next line too.
        self.line = line;
        self.line.clear();
    }

    fn end_event(&mut self, take: &mut impl FnMut(&[u8])) {
        if std::mem::take(&mut self.has_data) {
            take(&self.data);
            self.data.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut seen = Vec::new();
        let mut take = |data: &[u8]| seen.push(String::from_utf8_lossy(data).into_owned());
        for piece in pieces {
            events.push(piece, &mut take).expect("short");
        }
        events.finish(&mut take);
        seen
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        let text = ": ping\n\ndata: {\"a\":1}\r\n\r\nevent: x\rdata:two\rdata: lines\r\rid: 3\n\ndata: é\n\ndata\n\n\
                    data: [DONE]\n\n";
        let want = ["{\"a\":1}", "two\nlines", "é", "[DONE]"];
        let bytes = text.as_bytes();
        assert_eq!(read(&[bytes]), want);
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), want, "cut at {cut}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), want);
    }

    #[test]
    fn the_last_line_break_may_be_missing() {
        for text in ["data: end", "data: end\n", "data: end\r", "data: end\r\n"] {
            assert_eq!(read(&[text.as_bytes()]), ["end"], "{text:?}");
        }
        assert_eq!(read(&[b""]), [""; 0]);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX];
        assert_eq!(events.push(&piece, |_| {}), Ok(()));
        assert_eq!(events.push(b"y", |_| {}), Err(TooLong));
    }
}
