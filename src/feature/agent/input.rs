//! What a call of the classic chat brings, free of its wire form.

use crate::domain::Role;

/// One call. Debug output shows sizes only: everything in here is a user's.
#[derive(Clone, PartialEq, Default)]
pub struct Input {
    /// In order; the last one of the user is the question.
    pub turns: Vec<Turn>,
    /// What was done for the question already, oldest first.
    pub steps: Vec<Step>,
    /// What the instance cannot show to tools, as GitLab names it.
    pub unavailable: Vec<String>,
}

#[derive(Clone, PartialEq)]
pub struct Turn {
    pub role: Role,
    pub content: String,
    pub context: Context,
}

/// What a turn's author was looking at.
#[derive(Clone, PartialEq, Default)]
pub struct Context {
    pub resource: Option<Resource>,
    pub current_file: Option<CurrentFile>,
    pub items: Vec<Item>,
}

/// The page of GitLab that is open.
#[derive(Clone, PartialEq, Default)]
pub struct Resource {
    /// For example `merge_request`.
    pub kind: String,
    pub title: Option<String>,
    /// Only versions before 17.9 send it.
    pub content: Option<String>,
}

/// The file in the editor, or what is selected of it.
#[derive(Clone, PartialEq)]
pub struct CurrentFile {
    pub path: String,
    pub data: String,
    pub is_selection: bool,
}

/// Something the user put beside the question.
#[derive(Clone, PartialEq)]
pub struct Item {
    pub category: String,
    pub id: Option<String>,
    /// What people would call it.
    pub label: Option<String>,
    pub content: String,
}

/// One action and what GitLab observed.
#[derive(Clone, PartialEq, Default)]
pub struct Step {
    pub thought: String,
    pub tool: String,
    pub tool_input: String,
    /// Empty while GitLab has none.
    pub observation: String,
}

impl Input {
    /// The text of the user's last turn.
    pub fn question(&self) -> &str {
        self.turns.iter().rev().find(|turn| turn.role == Role::User).map_or("", |turn| turn.content.trim())
    }

    /// Whether the user's last turn calls the chat by its name, as a comment in a discussion does.
    pub fn mentions_gitlab_duo(&self) -> bool {
        self.question().contains("@GitLabDuo")
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (turns, steps) = (self.turns.len(), self.steps.len());
        write!(formatter, "Input({turns} turns, {steps} steps, {} unavailable)", self.unavailable.len())
    }
}

/// The categories that have a scope of their own. Others are newer than this list, or sent by versions of GitLab whose
/// tokens have no scope for them: they are taken as they are.
const CATEGORIES: &[&str] = &[
    "file",
    "snippet",
    "merge_request",
    "issue",
    "dependency",
    "local_git",
    "terminal",
    "repository",
    "directory",
    "os_information",
    "agent_user_environment",
];

/// What a token has to allow besides the chat itself: one scope for each category of additional context, each once.
pub fn required_scopes(input: &Input) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for item in input.turns.iter().flat_map(|turn| &turn.context.items) {
        if CATEGORIES.contains(&item.category.as_str()) {
            let scope = format!("include_{}_context", item.category);
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_category_needs_its_scope_once() {
        let item = |category: &str| Item {
            category: category.to_owned(),
            id: None,
            label: None,
            content: "secret".to_owned(),
        };
        let context =
            Context { items: ["file", "user_rule", "issue", "file"].map(item).to_vec(), ..Context::default() };
        let turns = vec![Turn { role: Role::User, content: " ask @GitLabDuo ".to_owned(), context }];
        let input = Input { turns, ..Input::default() };
        assert_eq!(required_scopes(&input), ["include_file_context", "include_issue_context"]);
        assert_eq!(input.question(), "ask @GitLabDuo");
        assert!(input.mentions_gitlab_duo());
        assert_eq!(format!("{input:?}"), "Input(1 turns, 0 steps, 0 unavailable)");
    }
}
