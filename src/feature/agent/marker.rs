//! The words that part a step: found at the colon that ends them, in whatever dress a model puts on them
//! (`**Final Answer:**`, `action_input :`, `### Action:`).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Thought,
    Action,
    ActionInput,
    /// Short for [`Marker::ActionInput`]; means something only behind the name of a tool.
    Input,
    Observation,
    FinalAnswer,
    Question,
}

/// A marker at the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) marker: Marker,
    /// Where it begins, its emphasis included.
    pub(super) start: usize,
    /// It is the first thing on its line.
    pub(super) is_first: bool,
    /// How many characters of emphasis close it behind the colon.
    pub(super) emphasis: usize,
}

/// Longer ones before those that they end with.
const WORDS: &[(&[&str], Marker)] = &[
    (&["Final", "Answer"], Marker::FinalAnswer),
    (&["Action", "Input"], Marker::ActionInput),
    (&["Input"], Marker::Input),
    (&["Action"], Marker::Action),
    (&["Observation"], Marker::Observation),
    (&["Thought"], Marker::Thought),
    (&["Question"], Marker::Question),
];

/// A marker and what decorates it, together.
const MARKER_BYTES_MAX: usize = 48;

/// Quotation marks, bullets and the like before a marker.
const DECORATION_BYTES_MAX: usize = 12;

/// The marker that `text` ends with, colon included.
///
/// At the start of a line every spelling counts. Inside a line only the spelling of the instructions does, and only of
/// those markers that a step can turn on: there it is likelier to be a word of a sentence.
pub(super) fn ending(text: &str) -> Option<Found> {
    let head = text.strip_suffix([':', '：'])?;
    let line_start = head.rfind('\n').map_or(0, |at| at + 1);
    let line = head[line_start..].trim_end_matches([' ', '\t', '*', '_']);
    let (word_start, marker, is_exact) = WORDS.iter().find_map(|(words, marker)| {
        let start = words_start(line, words)?;
        Some((start, *marker, line[start..] == words.join(" ")))
    })?;
    let before = &line[..word_start];
    let emphasis = before.chars().rev().take_while(|char| is_emphasis(*char)).count();
    let is_first = is_decoration(before) && head.len() - line_start <= MARKER_BYTES_MAX;
    let turns = matches!(marker, Marker::Action | Marker::ActionInput | Marker::Observation | Marker::FinalAnswer);
    let is_apart = before.ends_with(|char: char| !char.is_alphanumeric());
    if !(is_first || turns && is_exact && is_apart) {
        return None;
    }
    let start = if is_first { line_start } else { line_start + word_start - emphasis };
    let is_closed_before_colon = head[line_start + line.len()..].contains(is_emphasis);
    Some(Found { marker, start, is_first, emphasis: if is_closed_before_colon { 0 } else { emphasis } })
}

/// Whether a line that begins like this may still become one that begins with a marker.
pub(super) fn may_begin(line: &str) -> bool {
    if line.len() > MARKER_BYTES_MAX {
        return false;
    }
    let bare = line.trim_start_matches(is_decorative);
    let is_decorated_fairly = line.len() - bare.len() <= DECORATION_BYTES_MAX;
    let mut letters = String::new();
    for char in bare.chars().filter(|char| !is_separator(*char) && !is_emphasis(*char)) {
        letters.extend(char.to_lowercase());
    }
    is_decorated_fairly && WORDS.iter().any(|(words, _)| words.concat().to_lowercase().starts_with(&letters))
}

/// Whether `text` ends inside what may become a marker in the middle of a line.
pub(super) fn may_end_inside(text: &str) -> bool {
    ["Final Answer:", "Action:"].iter().any(|word| (1..word.len()).any(|length| text.ends_with(&word[..length])))
}

/// A line such as `Action: issue_reader`, with what stands behind the colon.
pub(super) fn action_line(line: &str) -> Option<&str> {
    let colon = line.find([':', '：'])?;
    let behind = colon + line[colon..].chars().next().map_or(0, char::len_utf8);
    let found = ending(&line[..behind])?;
    (found.marker == Marker::Action && found.is_first).then(|| &line[behind..])
}

/// Where the words begin that `line` ends with, however they are joined.
fn words_start(line: &str, words: &[&str]) -> Option<usize> {
    let mut rest = line;
    for word in words.iter().rev() {
        rest = rest.trim_end_matches(is_separator);
        let start = rest.len().checked_sub(word.len())?;
        if !rest.get(start..)?.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = &rest[..start];
    }
    Some(rest.len())
}

fn is_decoration(text: &str) -> bool {
    text.len() <= DECORATION_BYTES_MAX && text.chars().all(is_decorative)
}

fn is_decorative(char: char) -> bool {
    char.is_whitespace() || is_emphasis(char) || matches!(char, '#' | '>' | '-' | '`' | '•')
}

fn is_emphasis(char: char) -> bool {
    matches!(char, '*' | '_')
}

fn is_separator(char: char) -> bool {
    matches!(char, ' ' | '\t' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_in_any_dress() {
        let check = |text: &str, expected: Option<(Marker, usize, bool, usize)>| {
            let found = ending(text).map(|found| (found.marker, found.start, found.is_first, found.emphasis));
            assert_eq!(found, expected, "{text:?}");
        };
        check("Final Answer:", Some((Marker::FinalAnswer, 0, true, 0)));
        check("a\nfinal answer :", Some((Marker::FinalAnswer, 2, true, 0)));
        check("a\n**Final Answer:", Some((Marker::FinalAnswer, 2, true, 2)));
        check("a\n**Final Answer**:", Some((Marker::FinalAnswer, 2, true, 0)));
        check("### FINAL_ANSWER：", Some((Marker::FinalAnswer, 0, true, 0)));
        check("> - Action-Input:", Some((Marker::ActionInput, 0, true, 0)));
        check("ActionInput:", Some((Marker::ActionInput, 0, true, 0)));
        check("\nInput:", Some((Marker::Input, 1, true, 0)));
        check("action:", Some((Marker::Action, 0, true, 0)));
        check("I know. Final Answer:", Some((Marker::FinalAnswer, 8, false, 0)));
        check("I know. **Final Answer:", Some((Marker::FinalAnswer, 8, false, 2)));
        check("the final answer:", None);
        check("GitHub Action:", Some((Marker::Action, 7, false, 0)));
        check("InAction:", None);
        check("My Thought:", None);
        check("the Input:", None);
        check("Observations:", None);
        check("----------------- Action:", Some((Marker::Action, 18, false, 0)));
        check("Action", None);
        check("é:", None);
        check(":", None);
    }

    #[test]
    fn lines_that_may_become_markers_are_known() {
        let check = |line: &str, expected: bool| assert_eq!(may_begin(line), expected, "{line:?}");
        for line in ["", "  ", "**", "F", "**final ans", "Observation", "observation **", "> act", "Action_In"] {
            check(line, true);
        }
        for line in ["Finally", "Answer", "x", "Observation x", "Observation:", "```", &"#".repeat(40)] {
            check(line, line == "```");
        }
        assert!(may_end_inside("so. Final An") && may_end_inside("A") && !may_end_inside("so"));
        assert_eq!(action_line("**Action**: issue_reader"), Some(" issue_reader"));
        assert_eq!(action_line("An Action: x"), None);
        assert_eq!(action_line("x"), None);
    }
}
