//! Documentation answers: Markdown, then `ATTRS:` and the ids of sources.

use super::said;
use serde_json::{Value, json};

/// The answer GitLab shows, and the documents it links.
pub fn parse(answer: &str, ids: &[&str]) -> (String, Vec<String>) {
    let (text, attributes) = answer.split_once("ATTRS:").unwrap_or((answer, ""));
    let cited = attributes.split("CNT-IDX-").skip(1).map(|rest| {
        let end = rest.find(|char: char| !(char.is_ascii_digit() || char.is_ascii_lowercase())).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    let known = cited.filter(|id| ids.contains(&id.as_str())).collect();
    (text.trim().to_owned(), known)
}

pub fn inputs() -> Value {
    json!({
        "question": "How do I fork?", "content_id": "ATTRS", "documents": [
            {"id": "0a1b2c3d", "content": "Select Fork.", "metadata": {"source_url": "https://docs.gitlab.com/fork", "title": "Forks"}},
            {"id": "ffff", "content": "Pipelines run jobs in stages on runners.", "metadata": {"title": "Pipelines"}},
            {"id": "user/file.md", "content": "Groups hold projects and other groups.", "metadata": {"filename": "user/file.md"}}
        ]
    })
}

fn check(written: &str, text: &str, cited: &[&str]) {
    let (answer, _) = said("chat/documentation_search", &inputs(), written);
    let found = parse(&answer, &["0a1b2c3d", "ffff", "user/file.md"]);
    assert_eq!(
        (found.0.as_str(), found.1.iter().map(String::as_str).collect::<Vec<_>>()),
        (text, cited.to_vec()),
        "{written}"
    );
    // Nothing that GitLab would show as text by accident.
    assert!(!found.0.contains("CNT-IDX"), "{answer}");
}

const FORK: &str = "Select **Fork** on the project page.";

#[test]
fn sources_are_those_that_gitlab_gave() {
    let (answer, _) = said("chat/documentation_search", &inputs(), &format!("{FORK}\n\nATTRS:\n1\n"));
    assert_eq!(answer, format!("{FORK}\n\nATTRS:\nCNT-IDX-0a1b2c3d\n"));
    check(&format!("{FORK}\n\nATTRS:\nCNT-IDX-0a1b2c3d\n"), FORK, &["0a1b2c3d"]);
    check(&format!("{FORK}\n\n**ATTRS:**\n- 2\n- 1"), FORK, &["ffff", "0a1b2c3d"]);
    check(&format!("{FORK}\nATTRS: [1, 2]"), FORK, &["0a1b2c3d", "ffff"]);
    check(&format!("{FORK} (CNT-IDX-0a1b2c3d) "), FORK, &["0a1b2c3d"]);
    check(&format!("{FORK}[CNT-IDX-ffff]"), FORK, &["ffff"]);
    // Ids GitLab's pattern cannot hold, and invented ones.
    check("Groups hold things.\nATTRS:\n3", "Groups hold things.", &[]);
    check("Something else entirely happens.\nATTRS:\n99\nCNT-IDX-dead", "Something else entirely happens.", &[]);
    check(&format!("{FORK}\nATTRS:\nCNT-IDX-dead"), FORK, &["0a1b2c3d"]);
}

#[test]
fn a_forgotten_list_is_made_from_the_words_used() {
    check(FORK, FORK, &["0a1b2c3d"]);
    check("Jobs run in stages, on runners, in pipelines.", "Jobs run in stages, on runners, in pipelines.", &["ffff"]);
    check("Bananas are yellow.", "Bananas are yellow.", &[]);
    check("I do not know. Select Fork.", "I do not know. Select Fork.", &[]);
    check(&format!("{FORK}\n\nATTRS:\n"), FORK, &[]);
}

#[test]
fn nothing_hides_the_answer() {
    check(&format!("ATTRS:\n1\n\n{FORK}"), FORK, &["0a1b2c3d"]);
    check(&format!("<think>ATTRS:\n2</think>\n{FORK}\nATTRS:\n1"), FORK, &["0a1b2c3d"]);
    check("", "", &[]);
    check("ATTRS:\n1", "", &[]);
    check("It ends in CNT-IDX-", "It ends in", &[]);
    check("ATTR is no marker, nor are ATTRS", "ATTR is no marker, nor are ATTRS", &[]);
}

#[test]
fn no_documents_are_no_sources() {
    for documents in [Value::Null, json!([]), json!("x"), json!([{}, null, 7])] {
        let inputs = json!({"question": "How do I fork?", "content_id": "ATTRS", "documents": documents});
        let (answer, _) = said("chat/documentation_search", &inputs, &format!("{FORK}\nATTRS:\n1\nCNT-IDX-0a1b2c3d"));
        assert_eq!(answer, FORK);
    }
}
