//! Drops what a model repeats of the code before the cursor before it comes to the new code.

/// Lines before the cursor that are compared.
const LINES_ABOVE_MAX: usize = 2000;
/// A line with fewer letters and digits says nothing about where it was taken from.
const TELLING_CHARS: usize = 3;

/// Holds the first lines of an answer back as long as they repeat the end of the prefix.
#[derive(Debug)]
pub struct Echo {
    /// Lines of the prefix that are not blank, trimmed.
    above: Vec<String>,
    /// The cursor stands behind some text on its line.
    is_line_begun: bool,
    /// Lines of the prefix that would have to come next.
    awaited: Vec<usize>,
    is_telling: bool,
    held: String,
    line: String,
    state: State,
    went_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Comparing,
    /// What comes is new.
    Passing,
}

impl Echo {
    pub fn new(prefix: &str) -> Self {
        let lines = prefix.rsplit('\n').map(str::trim).filter(|line| !line.is_empty());
        let mut above: Vec<String> = lines.take(LINES_ABOVE_MAX).map(str::to_owned).collect();
        above.reverse();
        let is_line_begun = !prefix.rsplit('\n').next().unwrap_or_default().trim().is_empty();
        let state = if above.is_empty() { State::Passing } else { State::Comparing };
        Self {
            above,
            is_line_begun,
            awaited: Vec::new(),
            is_telling: false,
            held: String::new(),
            line: String::new(),
            state,
            went_on: false,
        }
    }

    /// Whether the answer goes on with the cursor's line.
    pub fn went_on(&self) -> bool {
        self.went_on
    }

    pub fn push(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        while self.state == State::Comparing {
            let Some((line, behind)) = rest.split_once('\n') else {
                self.line.push_str(rest);
                return;
            };
            self.line.push_str(line);
            let line = std::mem::take(&mut self.line);
            self.line_ends(&line, "\n", out);
            rest = behind;
        }
        out.push_str(rest);
    }

    pub fn finish(&mut self, out: &mut String) {
        if self.state == State::Comparing {
            let line = std::mem::take(&mut self.line);
            self.line_ends(&line, "", out);
        }
        out.push_str(&std::mem::take(&mut self.held));
    }

    fn line_ends(&mut self, line: &str, line_break: &str, out: &mut String) {
        let text = line.trim();
        if text.is_empty() {
            self.held.push_str(line);
            self.held.push_str(line_break);
            return;
        }
        let above = &self.above;
        if self.awaited.is_empty() {
            self.awaited = (0..above.len()).collect();
        }
        // The cursor's line may be repeated and gone on with.
        let last = above.len() - 1;
        let begun = self.awaited.contains(&last).then(|| text.strip_prefix(above[last].as_str())).flatten();
        let is_telling = self.is_telling || text.chars().filter(|char| char.is_alphanumeric()).count() >= TELLING_CHARS;
        if let Some(rest) = begun.filter(|rest| is_telling && (rest.is_empty() || self.is_line_begun)) {
            self.held.clear();
            self.state = State::Passing;
            self.went_on = self.is_line_begun;
            if rest.is_empty() && !self.is_line_begun {
                return;
            }
            out.push_str(rest);
            out.push_str(line_break);
            return;
        }
        self.awaited.retain(|index| above[*index] == text);
        self.awaited.iter_mut().for_each(|index| *index += 1);
        self.awaited.retain(|index| *index < above.len());
        self.is_telling = is_telling;
        self.held.push_str(line);
        self.held.push_str(line_break);
        if self.awaited.is_empty() {
            self.state = State::Passing;
            out.push_str(&std::mem::take(&mut self.held));
        }
    }
}
