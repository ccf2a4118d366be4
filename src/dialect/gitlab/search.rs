//! `POST /v1/search/gitlab-docs`: passages of GitLab's documentation for a question.

use super::validation::{ValidationError, body, integer, text};
use crate::wire::gitlab::search::{PassageMetadata, SearchAnswer, SearchMetadata, SearchResult, SearchResults};

/// The body for a token without the scope `documentation_search`.
pub const FORBIDDEN_BODY: &[u8] = b"{\"detail\":\"Unauthorized to search documentations\"}";

const QUERY_CHARS_MAX: usize = 400_000;
const WORD_CHARS_MAX: usize = 100;
const PAGE_SIZE_MAX: i128 = 20;
const PAGE_SIZE_DEFAULT: usize = 4;

/// A call, read and valid.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchCall {
    pub query: String,
    /// 1 to 20.
    pub page_size: usize,
}

/// What somebody looks for reaches no log.
impl std::fmt::Debug for SearchCall {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SearchCall({} bytes, {} results)", self.query.len(), self.page_size)
    }
}

/// One passage as it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    pub id: &'a str,
    pub content: &'a str,
    pub filename: &'a str,
    pub title: &'a str,
    pub source_url: &'a str,
}

/// Understands a body.
pub fn search_call(bytes: &[u8]) -> Result<SearchCall, ValidationError> {
    let mut fields = body(bytes)?;
    text(fields.required("type")?, WORD_CHARS_MAX)?;
    let mut metadata = fields.required("metadata")?.object()?;
    for name in ["source", "version"] {
        metadata.take(name).map(|field| text(field, WORD_CHARS_MAX)).transpose()?;
    }
    let mut payload = fields.required("payload")?.object()?;
    let page_size = match payload.take("page_size") {
        Some(field) => {
            let path = field.path.clone();
            let value = Some(integer(field)?).filter(|value| (1..=PAGE_SIZE_MAX).contains(value));
            let value = value.and_then(|value| usize::try_from(value).ok());
            value.ok_or(ValidationError::NotAllowed { path, expected: "a whole number from 1 to 20" })?
        }
        None => PAGE_SIZE_DEFAULT,
    };
    Ok(SearchCall { query: text(payload.required("query")?, QUERY_CHARS_MAX)?, page_size })
}

/// The body of an answer. No results are an answer too: the model then says what it knows by itself.
pub fn search_answer(passages: &[Passage<'_>], timestamp: u64) -> Vec<u8> {
    let results = passages
        .iter()
        .map(|passage| {
            let &Passage { id, content, filename, title, source_url } = passage;
            SearchResult { id, content, metadata: PassageMetadata { filename, title, source_url } }
        })
        .collect();
    let metadata = SearchMetadata { provider: "sqlite", timestamp };
    serde_json::to_vec(&SearchAnswer { response: SearchResults { results }, metadata })
        .expect("answers hold only strings and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_their_limits() {
        let call = |payload: &str| {
            let text =
                format!(r#"{{"type":"search-docs","metadata":{{"source":"s","version":"1"}},"payload":{payload}}}"#);
            search_call(text.as_bytes()).map(|call| (call.query, call.page_size)).map_err(|error| error.to_string())
        };
        let check = |payload: &str, expected: Result<(&str, usize), &str>| {
            let expected = expected.map(|(query, size)| (query.to_owned(), size)).map_err(str::to_owned);
            assert_eq!(call(payload), expected, "{payload:.80}");
        };
        check(r#"{"query":"how to fork"}"#, Ok(("how to fork", 4)));
        check(r#"{"query":"","page_size":20}"#, Ok(("", 20)));
        check(r#"{"query":"q","page_size":null}"#, Ok(("q", 4)));
        let range = "payload.page_size has to be a whole number from 1 to 20";
        check(r#"{"query":"q","page_size":21}"#, Err(range));
        check(r#"{"query":"q","page_size":0}"#, Err(range));
        check("{}", Err("payload.query is required"));
        let long = format!(r#"{{"query":"{}"}}"#, "q".repeat(400_001));
        check(&long, Err("payload.query has 400001 characters, at most 400000 are allowed"));
        for name in ["type", "metadata", "payload"] {
            let parts = [("type", r#""s""#), ("metadata", "{}"), ("payload", r#"{"query":"q"}"#)];
            let left: Vec<_> = parts.iter().filter(|(key, _)| *key != name).collect();
            let text: Vec<String> = left.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            let error = search_call(format!("{{{}}}", text.join(",")).as_bytes()).expect_err("a field is missing");
            assert_eq!(error.to_string(), format!("{name} is required"));
        }
    }

    #[test]
    fn answers_are_in_the_form_that_gitlab_reads() {
        let passage = Passage {
            id: "0a1b",
            content: "Fork it.",
            filename: "user/fork.md",
            title: "Forks",
            source_url: "https://docs.gitlab.com/user/fork/",
        };
        let check = |passages: &[Passage<'_>], expected: &str| {
            assert_eq!(String::from_utf8(search_answer(passages, 7)).expect("text"), expected);
        };
        check(
            &[passage],
            r#"{"response":{"results":[{"id":"0a1b","content":"Fork it.","metadata":{"filename":"user/fork.md","title":"Forks","source_url":"https://docs.gitlab.com/user/fork/"}}]},"metadata":{"provider":"sqlite","timestamp":7}}"#,
        );
        check(&[], r#"{"response":{"results":[]},"metadata":{"provider":"sqlite","timestamp":7}}"#);
    }
}
