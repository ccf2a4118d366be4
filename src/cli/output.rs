//! Standard output that does not panic: a reader that goes away is an error like any other, and ends the program
//! quietly.

use std::io::{self, Write as _};

/// Prints `text` at once.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints one line on standard error. That nobody reads it is not worth failing for.
pub fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// The beginning of another program's text, fit for one line of a terminal.
pub fn one_line(text: &str, chars_max: usize) -> String {
    text.chars().filter(|char| !char.is_control()).take(chars_max).collect()
}

/// The control characters of a model's answer would move the cursor or rename the window of a terminal.
pub fn without_controls(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && !"\n\t\r".contains(char) { '\u{fffd}' } else { char }).collect()
}
