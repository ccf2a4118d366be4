//! From a question to FTS5's query language. Users have no operators: every word arrives there as a quoted string.

/// More words make a search slower, not better.
const WORDS_MAX: usize = 32;
const WORD_BYTES_MAX: usize = 64;

/// So much of a question is looked at: a pasted log is no question.
const QUESTION_BYTES_MAX: usize = 16 * 1024;

/// Words of questions that say nothing about their subject, and those that stand on nearly every page.
const STOP_WORDS: &[&str] = &[
    "a", "about", "above", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "below", "best", "but", "by", "can", "cannot", "could", "did", "do", "does", "doing",
    "for", "from", "get", "gitlab", "give", "had", "has", "have", "having", "he", "help", "her", "here", "him", "his",
    "how", "i", "if", "in", "into", "is", "it", "its", "just", "know", "let", "like", "make", "may", "me", "might",
    "more", "most", "must", "my", "need", "no", "not", "of", "off", "on", "one", "only", "or", "our", "out", "over",
    "own", "please", "same", "she", "should", "show", "so", "some", "such", "tell", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "to", "too", "up", "us", "use", "using", "very", "want",
    "was", "way", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with",
    "would", "you", "your",
];

/// Behind a verb these make one word of it that pages use as a noun: back up, backup.
const PARTICLES: &[&str] = &["in", "off", "on", "out", "up"];

/// What to look for, strictest first. None for a question without words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queries {
    /// All words in one passage; `None` when there is only one word.
    pub(super) all: Option<String>,
    pub(super) any: String,
}

pub(super) fn queries(question: &str) -> Option<Queries> {
    let words = words(question);
    let is_telling = |word: &str| !STOP_WORDS.contains(&word);
    let takes_all = !words.iter().any(|word| is_telling(word));
    let mut quoted = Vec::new();
    for (index, word) in words.iter().enumerate().filter(|(_, word)| takes_all || is_telling(word)).take(WORDS_MAX) {
        let particle = words
            .get(index + 1)
            .filter(|next| !takes_all && PARTICLES.contains(&next.as_str()) && word.chars().all(char::is_alphabetic));
        quoted.push(match particle {
            Some(particle) => format!("(\"{word}\" OR \"{word}{particle}\")"),
            None => format!("\"{word}\""),
        });
    }
    (!quoted.is_empty())
        .then(|| Queries { all: (quoted.len() > 1).then(|| quoted.join(" AND ")), any: quoted.join(" OR ") })
}

/// The distinct words in order, in lower case: letters, digits, and what joins them in names (`CI_JOB_TOKEN`,
/// `.gitlab-ci.yml`), which the index takes for a phrase.
fn words(question: &str) -> Vec<String> {
    let mut end = question.len().min(QUESTION_BYTES_MAX);
    while !question.is_char_boundary(end) {
        end -= 1;
    }
    let mut words: Vec<String> = Vec::new();
    for word in question[..end].split(|char: char| !(char.is_alphanumeric() || matches!(char, '_' | '-' | '.'))) {
        let word = word.trim_matches(|char: char| !char.is_alphanumeric()).to_lowercase();
        if !word.is_empty() && word.len() <= WORD_BYTES_MAX && !words.contains(&word) {
            words.push(word);
        }
        if words.len() == 8 * WORDS_MAX {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_quoted_words() {
        let check = |question: &str, expected: Option<(Option<&str>, &str)>| {
            let expected = expected.map(|(all, any)| Queries { all: all.map(str::to_owned), any: any.to_owned() });
            assert_eq!(queries(question), expected, "{question:?}");
        };
        check("How do I fork a project?", Some((Some("\"fork\" AND \"project\""), "\"fork\" OR \"project\"")));
        check("Fork, fork; FORK", Some((None, "\"fork\"")));
        check(
            "how to use GitLab",
            Some((Some("\"how\" AND \"to\" AND \"use\" AND \"gitlab\""), "\"how\" OR \"to\" OR \"use\" OR \"gitlab\"")),
        );
        check(
            "CI_JOB_TOKEN in .gitlab-ci.yml",
            Some((Some("\"ci_job_token\" AND \"gitlab-ci.yml\""), "\"ci_job_token\" OR \"gitlab-ci.yml\"")),
        );
        check("\" OR 1=1 --", Some((None, "\"1\"")));
        check(
            "NEAR(a b) content: x* ^y",
            Some((
                Some("\"near\" AND \"b\" AND \"content\" AND \"x\" AND \"y\""),
                "\"near\" OR \"b\" OR \"content\" OR \"x\" OR \"y\"",
            )),
        );
        check("how to back up", Some((None, "(\"back\" OR \"backup\")")));
        check(
            "log in with SSO",
            Some((Some("(\"log\" OR \"login\") AND \"sso\""), "(\"log\" OR \"login\") OR \"sso\"")),
        );
        check("Größe ändern", Some((Some("\"größe\" AND \"ändern\""), "\"größe\" OR \"ändern\"")));
        check("?! ... --- ***", None);
        check("", None);
        check("\0\u{1}", None);
    }

    #[test]
    fn long_questions_are_bounded() {
        let many: String = (0..10_000).map(|number| format!("word{number} ")).collect();
        assert_eq!(queries(&many).map(|queries| queries.any.matches(" OR ").count()), Some(WORDS_MAX - 1));
        assert_eq!(queries(&"x".repeat(400_000)), None);
        assert_eq!(queries(&"é".repeat(400_000)), None);
    }
}
