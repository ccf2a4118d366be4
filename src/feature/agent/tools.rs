//! The tools that GitLab executes for its chat: names, scopes, the version that brought them, and how a model is told.

use super::version::Version;

/// One tool.
#[derive(Debug)]
pub(super) struct Tool {
    /// As GitLab has to read it.
    pub(super) name: &'static str,
    scope: &'static str,
    since: Option<Version>,
    /// What it is for, in words for a small model.
    pub(super) purpose: &'static str,
    /// A question that it answers, and what a model would look up.
    pub(super) example: Example,
    /// Other names by which models call it, without anything but letters.
    aliases: &'static [&'static str],
}

/// One turn with a tool, shown to the model.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) question: &'static str,
    pub(super) thought: &'static str,
    pub(super) tool_input: &'static str,
    pub(super) observation: &'static str,
    pub(super) answer: &'static str,
}

/// The first that is offered also gives the example of the prompt.
const TOOLS: &[Tool] = &[
    Tool {
        name: "issue_reader",
        scope: "ask_issue",
        since: None,
        purpose: "reads one issue: description, comments, labels, people, dates, state.",
        example: Example {
            question: "What is issue 7 about?",
            thought: "I have to read issue 7.",
            tool_input: "What is issue 7 about?",
            observation: "title: Dark mode flickers; state: opened; labels: bug",
            answer: "Issue 7, *Dark mode flickers*, reports a bug: dark mode flickers. It is still open.",
        },
        aliases: &["issue", "readissue", "issuesreader", "issuereadertool", "getissue"],
    },
    Tool {
        name: "work_item_reader",
        scope: "ask_work_item",
        since: Some(Version::before(18, 0)),
        purpose: "reads one work item, such as a task or an objective. Not for issues and epics.",
        example: Example {
            question: "Is work item 31 done?",
            thought: "I have to read work item 31.",
            tool_input: "Is work item 31 done?",
            observation: "title: Write the release notes; state: closed",
            answer: "Yes: work item 31, *Write the release notes*, is closed.",
        },
        aliases: &["workitem", "readworkitem", "workitemsreader", "workitemreadertool", "taskreader"],
    },
    Tool {
        name: "epic_reader",
        scope: "ask_epic",
        since: None,
        purpose: "reads one epic: description, comments, labels, dates, state.",
        example: Example {
            question: "When does epic 4 end?",
            thought: "I have to read epic 4.",
            tool_input: "When does epic 4 end?",
            observation: "title: New search; due date: 2026-03-31; state: opened",
            answer: "Epic 4, *New search*, is due on 2026-03-31.",
        },
        aliases: &["epic", "readepic", "epicsreader", "epicreadertool", "getepic"],
    },
    Tool {
        name: "merge_request_reader",
        scope: "ask_merge_request",
        since: Some(Version::before(17, 5)),
        purpose: "reads one merge request: description, comments, reviewers, changed code, state.",
        example: Example {
            question: "Who reviews !12?",
            thought: "I have to read merge request 12.",
            tool_input: "Who reviews !12?",
            observation: "title: Fix the login; reviewers: Ada; state: opened",
            answer: "Ada reviews merge request !12, *Fix the login*.",
        },
        aliases: &[
            "mergerequest",
            "readmergerequest",
            "mergerequestsreader",
            "mergerequestreadertool",
            "mrreader",
            "mr",
        ],
    },
    Tool {
        name: "commit_reader",
        scope: "ask_commit",
        since: Some(Version::before(17, 5)),
        purpose: "reads one commit: message, author, changed code.",
        example: Example {
            question: "What did commit 4f2a91c change?",
            thought: "I have to read commit 4f2a91c.",
            tool_input: "What did commit 4f2a91c change?",
            observation: "title: Escape file names; author: Ada; files: lib/path.rb",
            answer: "Commit 4f2a91c by Ada escapes file names; it changes `lib/path.rb`.",
        },
        aliases: &["commit", "readcommit", "commitsreader", "commitreadertool", "getcommit"],
    },
    Tool {
        name: "build_reader",
        scope: "ask_build",
        since: Some(Version::before(17, 5)),
        purpose: "reads one CI/CD job (a build): state, stage, log.",
        example: Example {
            question: "Why did job 88 fail?",
            thought: "I have to read job 88.",
            tool_input: "Why did job 88 fail?",
            observation: "name: rspec; status: failed; log: 1 example, 1 failure",
            answer: "Job 88, `rspec`, failed because one example failed.",
        },
        aliases: &["build", "readbuild", "buildsreader", "buildreadertool", "job", "jobreader"],
    },
    Tool {
        name: "gitlab_documentation",
        scope: "documentation_search",
        since: None,
        purpose: "searches GitLab's documentation. For questions on how to do or to set something in GitLab.",
        example: Example {
            question: "How do I protect a branch?",
            thought: "I have to look into the documentation.",
            tool_input: "How do I protect a branch?",
            observation: "Settings > Repository > Protected branches",
            answer: "Open **Settings > Repository** and add the branch under **Protected branches**.",
        },
        aliases: &[
            "documentation",
            "gitlabdocs",
            "gitlabdocumentationtool",
            "gitlabdocumentationsearch",
            "documentationsearch",
            "docs",
            "docssearch",
            "searchdocs",
        ],
    },
];

/// Every scope that a tool asks for. A token without one is not refused: the tool is not offered.
pub const TOOL_SCOPES: &[&str] =
    &["ask_issue", "ask_work_item", "ask_epic", "ask_merge_request", "ask_commit", "ask_build", "documentation_search"];

/// The tools of a caller, in the order of the table. Versions nobody can read are taken for new ones.
pub(super) fn offered(has_scope: &dyn Fn(&str) -> bool, gitlab_version: Option<&str>) -> Vec<&'static Tool> {
    let version = gitlab_version.and_then(Version::parse);
    let has_come = |since: Option<Version>| match (version, since) {
        (Some(version), Some(since)) => version >= since,
        (None, _) | (_, None) => true,
    };
    TOOLS.iter().filter(|tool| has_scope(tool.scope) && has_come(tool.since)).collect()
}

/// The tool that a model means by `written`, however it spells it.
pub(super) fn meant(written: &str, offered: &[&'static Tool]) -> Option<&'static Tool> {
    const LETTERS_MAX: usize = 40;
    let mut letters = String::new();
    for char in written.chars().filter(|char| char.is_ascii_alphabetic()) {
        if letters.len() == LETTERS_MAX {
            return None;
        }
        letters.push(char.to_ascii_lowercase());
    }
    let is_meant = |tool: &&&'static Tool| {
        let name = tool.name.bytes().filter(u8::is_ascii_alphabetic);
        name.eq(letters.bytes()) || tool.aliases.contains(&letters.as_str())
    };
    offered.iter().find(is_meant).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tools: &[&'static Tool]) -> Vec<&'static str> {
        tools.iter().map(|tool| tool.name).collect()
    }

    #[test]
    fn offers_what_the_version_has_and_the_token_allows() {
        let check = |version: Option<&str>, missing: &[&str]| {
            let found = names(&offered(&|_| true, version));
            let expected: Vec<_> = names(&TOOLS.iter().collect::<Vec<_>>());
            let expected: Vec<_> = expected.into_iter().filter(|name| !missing.contains(name)).collect();
            assert_eq!(found, expected, "{version:?}");
        };
        let readers = ["merge_request_reader", "commit_reader", "build_reader"];
        check(Some("18.9.0"), &[]);
        check(Some("18.0.0-pre"), &[]);
        check(Some("17.11.2-ee"), &["work_item_reader"]);
        check(Some("17.5.0-pre"), &["work_item_reader"]);
        check(Some("17.4.0"), &[&readers[..], &["work_item_reader"]].concat());
        check(Some("edge"), &[]);
        check(None, &[]);
        let found = offered(&|scope| scope != "ask_issue", None);
        assert!(!names(&found).contains(&"issue_reader") && found.len() == TOOLS.len() - 1);
        assert_eq!(TOOL_SCOPES, TOOLS.iter().map(|tool| tool.scope).collect::<Vec<_>>());
    }

    #[test]
    fn tools_are_known_by_many_spellings_and_strangers_are_not() {
        let all = offered(&|_| true, None);
        let check = |written: &str, expected: Option<&str>| {
            assert_eq!(meant(written, &all).map(|tool| tool.name), expected, "{written}");
        };
        check("issue_reader", Some("issue_reader"));
        check(r"issue\_reader", Some("issue_reader"));
        check("IssueReader", Some("issue_reader"));
        check("`issue reader`", Some("issue_reader"));
        check("\"MergeRequestReader\"", Some("merge_request_reader"));
        check("Merge Request Reader tool", Some("merge_request_reader"));
        check("GitlabDocumentation", Some("gitlab_documentation"));
        check("**gitlab-documentation**", Some("gitlab_documentation"));
        check("web_search", None);
        check("", None);
        check(&"issue_reader".repeat(1000), None);
        assert_eq!(meant("issue_reader", &offered(&|scope| scope != "ask_issue", None)).map(|tool| tool.name), None);
    }
}
