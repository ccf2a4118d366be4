//! All prompts, read once from the files beside this one.

use super::PromptCard;
use std::sync::LazyLock;

const FILES: &[&str] = &[
    include_str!("build_reader.toml"),
    include_str!("categorize_question.toml"),
    include_str!("classify_code_review_mention_intent.toml"),
    include_str!("commit_reader.toml"),
    include_str!("documentation_search.toml"),
    include_str!("epic_reader.toml"),
    include_str!("explain_code.toml"),
    include_str!("explain_vulnerability.toml"),
    include_str!("feature_discovery_search.toml"),
    include_str!("fix_code.toml"),
    include_str!("generate_commit_message.toml"),
    include_str!("generate_description.toml"),
    include_str!("generate_session_title.toml"),
    include_str!("glab_ask_git_command.toml"),
    include_str!("issue_reader.toml"),
    include_str!("measure_comment_temperature.toml"),
    include_str!("merge_request_reader.toml"),
    include_str!("model_configuration_check.toml"),
    include_str!("refactor_code.toml"),
    include_str!("resolve_vulnerability.toml"),
    include_str!("review_merge_request.toml"),
    include_str!("summarize_comments.toml"),
    include_str!("summarize_duo_workflow.toml"),
    include_str!("summarize_new_merge_request.toml"),
    include_str!("summarize_review.toml"),
    include_str!("troubleshoot_job.toml"),
    include_str!("work_item_reader.toml"),
    include_str!("write_tests.toml"),
];

/// Parsed at the first use; a test parses them all, so a file that cannot be read does not leave the house.
static CARDS: LazyLock<Vec<PromptCard>> = LazyLock::new(|| {
    FILES.iter().map(|text| PromptCard::parse(text).expect("every embedded prompt is parsed by a test")).collect()
});

/// Every prompt that can be answered.
pub fn all() -> &'static [PromptCard] {
    &CARDS
}

/// The prompt with this id, as it stands in the path behind `/prompts/`, decoded.
pub fn find(id: &str) -> Option<&'static PromptCard> {
    all().iter().find(|card| card.id == id)
}
