//! What stands between the text a provider sends and the text a caller gets: the beginning that some repeat, and stop
//! strings. All of them are looked for here, because providers take a few at most and some refuse blanks.

use crate::tokenizer::StopMatcher;

/// What an answer may begin with that its reader has already.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Repeated {
    #[default]
    Nothing,
    /// The whole of the answer's prefix. Where the text goes on differently it was not repeated, and is kept.
    Prefix(String),
    /// Blanks that the prefix ended with and that could not be sent: as many of them as come are left out.
    Blanks(String),
}

/// Takes text as it comes.
#[derive(Debug)]
pub struct Filter {
    repeated: Repeated,
    /// How much of what may be repeated was seen.
    seen_bytes: usize,
    stops: StopMatcher,
}

/// What may be passed on.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Passed {
    pub text: String,
    /// A stop string is complete: nothing will follow.
    pub is_stopped: bool,
}

impl Filter {
    pub fn new(repeated: Repeated, stops: &[String]) -> Self {
        Self { repeated, seen_bytes: 0, stops: StopMatcher::new(stops) }
    }

    pub fn push(&mut self, text: &str) -> Passed {
        let text = self.without_repeated(text);
        let emitted = self.stops.push(&text);
        Passed { text: emitted.text, is_stopped: emitted.stopped }
    }

    /// What was held back, when no more will come.
    pub fn flush(&mut self) -> Passed {
        let held = match std::mem::take(&mut self.repeated) {
            Repeated::Prefix(prefix) => prefix[..self.seen_bytes].to_owned(),
            Repeated::Nothing | Repeated::Blanks(_) => String::new(),
        };
        let mut passed = self.push(&held);
        if !passed.is_stopped {
            passed.text.push_str(&self.stops.flush());
        }
        passed
    }

    fn without_repeated(&mut self, text: &str) -> String {
        let (Repeated::Prefix(expected) | Repeated::Blanks(expected)) = &self.repeated else { return text.to_owned() };
        let awaited = &expected[self.seen_bytes..];
        let same = awaited.chars().zip(text.chars()).take_while(|(ours, theirs)| ours == theirs);
        let same_bytes: usize = same.map(|(char, _)| char.len_utf8()).sum();
        let rest = &text[same_bytes..];
        self.seen_bytes += same_bytes;
        if rest.is_empty() && self.seen_bytes < expected.len() {
            return String::new();
        }
        let is_whole = self.seen_bytes == expected.len();
        let text = match &self.repeated {
            Repeated::Prefix(prefix) if !is_whole => format!("{}{rest}", &prefix[..self.seen_bytes]),
            Repeated::Prefix(_) | Repeated::Blanks(_) | Repeated::Nothing => rest.to_owned(),
        };
        self.repeated = Repeated::Nothing;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the text is cut.
    #[track_caller]
    fn check(repeated: &Repeated, stops: &[&str], text: &str, expected: &str) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for pieces in cuts.iter().map(|cut| vec![&text[..*cut], &text[*cut..]]).chain([text.split("").collect()]) {
            let mut filter = Filter::new(repeated.clone(), &stops);
            let mut got = String::new();
            let is_stopped = pieces.iter().any(|piece| {
                let passed = filter.push(piece);
                got.push_str(&passed.text);
                passed.is_stopped
            });
            if !is_stopped {
                got.push_str(&filter.flush().text);
            }
            assert_eq!(got, expected, "{text:?} as {pieces:?}");
        }
    }

    #[test]
    fn what_the_reader_has_is_left_out() {
        let prefix = Repeated::Prefix("<a>é".to_owned());
        check(&prefix, &[], "<a>é!", "!");
        check(&prefix, &[], "<a>b", "<a>b");
        check(&prefix, &[], "<a", "<a");
        check(&prefix, &[], "x", "x");
        check(&prefix, &["c"], "<a>b c d", "<a>b ");
        let blanks = Repeated::Blanks("\n  ".to_owned());
        check(&blanks, &[], "\n  x", "x");
        check(&blanks, &[], "\n x", "x");
        check(&blanks, &[], "x\n  y", "x\n  y");
        check(&Repeated::Nothing, &["\n\n", "END"], "a\nb\n\nc", "a\nb");
        check(&Repeated::Nothing, &["END"], "aEN", "aEN");
    }
}
