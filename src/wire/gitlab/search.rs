//! The answer of `/v1/search/gitlab-docs`.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct SearchAnswer<'a> {
    pub response: SearchResults<'a>,
    pub metadata: SearchMetadata,
}

#[derive(Debug, Serialize)]
pub struct SearchResults<'a> {
    pub results: Vec<SearchResult<'a>>,
}

#[derive(Debug, Serialize)]
pub struct SearchResult<'a> {
    /// Lower-case hexadecimal: GitLab finds ids in an answer by `CNT-IDX-([0-9a-z]+)`.
    pub id: &'a str,
    pub content: &'a str,
    pub metadata: PassageMetadata<'a>,
}

#[derive(Debug, Serialize)]
pub struct PassageMetadata<'a> {
    pub filename: &'a str,
    pub title: &'a str,
    pub source_url: &'a str,
}

#[derive(Debug, Serialize)]
pub struct SearchMetadata {
    pub provider: &'static str,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
}
