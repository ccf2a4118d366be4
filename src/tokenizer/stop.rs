//! Stop strings, found across the borders of tokens.

/// Watches text as it is generated for the first stop string to be completed.
///
/// Text that may be the beginning of a stop string is held back until it is clear. What is found does not depend on how
/// the text is cut into pieces. Time is linear in the text for each stop string, whatever the strings (Knuth, Morris
/// and Pratt, 1977).
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// The longest text seen that is still the beginning of some stop string.
    held: String,
    is_stopped: bool,
}

/// What may be passed on after a piece of text.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Emitted {
    pub text: String,
    /// A stop string is complete: `text` is the last, and ends before it.
    pub stopped: bool,
}

#[derive(Clone, Debug)]
struct Stop {
    text: Box<[u8]>,
    /// For every prefix of `text`, the length of its longest proper prefix that is also its suffix.
    fallback: Box<[u32]>,
    /// How much of `text` the text seen so far ends with.
    matched: usize,
}

impl StopMatcher {
    /// Empty stop strings are ignored.
    #[must_use]
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        let stops = stops.iter().map(AsRef::as_ref).filter(|stop| !stop.is_empty()).map(Stop::new).collect();
        Self { stops, held: String::new(), is_stopped: false }
    }

    /// Takes more text. After a stop everything is swallowed.
    pub fn push(&mut self, text: &str) -> Emitted {
        if self.is_stopped {
            return Emitted { text: String::new(), stopped: true };
        }
        if self.stops.is_empty() {
            return Emitted { text: text.to_owned(), stopped: false };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for at in before..self.held.len() {
            let byte = self.held.as_bytes()[at];
            let completed = self.stops.iter_mut().filter_map(|stop| stop.advance(byte)).max();
            if let Some(stop_bytes) = completed {
                self.is_stopped = true;
                let mut ready = std::mem::take(&mut self.held);
                ready.truncate(at + 1 - stop_bytes);
                return Emitted { text: ready, stopped: true };
            }
        }
        let held_bytes = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - held_bytes);
        Emitted { text: std::mem::replace(&mut self.held, held), stopped: false }
    }

    /// The text held back, when no more will come.
    pub fn flush(&mut self) -> String {
        for stop in &mut self.stops {
            stop.matched = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// How many bytes of the text taken so far are held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut fallback = vec![0u32; text.len()];
        let mut matched = 0;
        for at in 1..text.len() {
            while matched > 0 && text[at] != text[matched] {
                matched = fallback[matched - 1] as usize;
            }
            if text[at] == text[matched] {
                matched += 1;
            }
            fallback[at] = matched as u32;
        }
        Self { text, fallback: fallback.into(), matched: 0 }
    }

    /// The length of the stop string if this byte completes it.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1] as usize;
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        (self.matched == self.text.len()).then_some(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stream of pieces makes of the text, and whether it was stopped.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops);
        let mut out = String::new();
        let mut pushed = 0;
        for piece in pieces {
            let emitted = matcher.push(piece);
            out.push_str(&emitted.text);
            pushed += piece.len();
            if emitted.stopped {
                return (out, true);
            }
            assert_eq!(out.len() + matcher.held_bytes(), pushed);
        }
        out.push_str(&matcher.flush());
        assert_eq!(matcher.held_bytes(), 0);
        (out, false)
    }

    #[test]
    fn stops_are_found_however_the_text_is_cut() {
        for (stops, text, wanted, stopped) in [
            (vec!["\n\n"], "a\nb\n\nc", "a\nb", true),
            (vec!["abab"], "ababab", "", true),
            (vec!["aab"], "aaab", "a", true),
            (vec!["bc", "abcd"], "abcd", "a", true),
            (vec!["d", "abcd"], "abcd", "", true),
            (vec!["END"], "EN EN", "EN EN", false),
            (vec!["好世"], "你好世界", "你", true),
            (vec!["好吗"], "你好世界", "你好世界", false),
            (vec![""], "text", "text", false),
            (vec![], "text", "text", false),
        ] {
            let chars: Vec<String> = text.chars().map(String::from).collect();
            let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
            assert_eq!(run(&stops, &[text]), (wanted.to_owned(), stopped), "{stops:?} whole");
            assert_eq!(run(&stops, &chars), (wanted.to_owned(), stopped), "{stops:?} by character");
            for (cut, _) in text.char_indices() {
                let (left, right) = text.split_at(cut);
                assert_eq!(run(&stops, &[left, right]), (wanted.to_owned(), stopped), "{stops:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn only_what_may_become_a_stop_is_held_back() {
        let mut matcher = StopMatcher::new(&["<end>"]);
        assert_eq!(matcher.push("a <").text, "a ");
        assert_eq!(matcher.push("b <e").text, "<b ");
        assert_eq!(matcher.held_bytes(), 2);
        assert_eq!(matcher.flush(), "<e");
        assert_eq!(matcher.push("nd>").text, "nd>");
        assert!(matcher.push("<end> more").stopped);
        assert_eq!(matcher.push("more"), Emitted { text: String::new(), stopped: true });
    }
}
