//! Seeded garbage out of the pieces that parsers trip over: whatever a model writes, GitLab's parsers accept the answer.

use super::{documentation, identifier, resolver, review, said};
use sconce::domain::FinishReason;
use sconce::feature::shape_whole;
use serde_json::json;

const PIECES: &[&str] = &[
    "<review>",
    "</review>",
    "<comment ",
    "<comment file=\"app/a.rb\" old_line=\"\" new_line=\"3\">",
    "</comment>",
    "<comment file='lib/deep/b.py' new_line=11>",
    "<from>",
    "</from>",
    "<to>",
    "</to>",
    "<think>",
    "</think>",
    "<summary>",
    "</summary>",
    "<analysis>",
    "</analysis>",
    "<is_false_positive>",
    "</is_false_positive>",
    "<fixed_code>",
    "</fixed_code>",
    "true",
    "false",
    "```",
    "```json",
    "```markdown",
    "~~~",
    "\n",
    "\n",
    "\n",
    " ",
    "    ",
    "\t",
    "\r\n",
    "\0",
    "app/a.rb:3: ",
    "b.py line 11 ",
    "new_line=\"5\"",
    "file=",
    "\"",
    "'",
    ">",
    "<",
    "=",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\\",
    "{\"ResourceIdentifierType\": \"",
    "\"ResourceIdentifier\": \"",
    "current",
    "iid",
    "reference",
    "url",
    "a/b#13",
    "#12",
    "https://h/x/y/-/issues/14",
    "Question:",
    "Observation:",
    "ATTRS:",
    "CNT-IDX-",
    "0a1b2c3d",
    "1",
    "99",
    "I do not know",
    "    x = nil + 1",
    "    query = \"select \" + user",
    "    return db.run(query)",
    "def find(user):",
    "def close():",
    "git push",
    "glab mr list",
    "$ ",
    "`",
    "&&",
    ";",
    "é",
    "😀",
    "\u{202e}",
    "Here is the answer:",
    "Sure!",
    "null",
    "\\_",
];

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn text(&mut self) -> String {
        let pieces = 1 + self.next() % 60;
        (0..pieces).map(|_| PIECES[(self.next() % PIECES.len() as u64) as usize]).collect()
    }
}

#[test]
fn parsers_accept_whatever_a_model_writes() {
    const ROUNDS: u64 = 200;
    let two = "Compare a/b#12 with a/b#13, the newer of https://h/x/y/-/issues/14";
    for seed in 0..ROUNDS {
        let written = Random(seed).text();
        let (answer, _) = said("review_merge_request", &review::inputs(), &written);
        let parsed = review::parse(&answer, review::DIFF);
        assert!(parsed.is_ok(), "seed {seed}: {parsed:?}\n{written}\n---\n{answer}");
        let (answer, _) = said("resolve_vulnerability", &resolver::inputs(), &written);
        let parsed = resolver::parse(&answer);
        assert!(parsed.is_ok(), "seed {seed}: {parsed:?}\n{written}\n---\n{answer}");
        let (answer, _) = said("chat/issue_reader", &json!({"input": two, "suggestions": ""}), &written);
        let parsed = identifier::parse(&answer);
        assert!(parsed.is_ok(), "seed {seed}: {parsed:?}\n{written}\n---\n{answer}");
        let (answer, _) = said("chat/documentation_search", &documentation::inputs(), &written);
        let (_, behind) = answer.split_once("ATTRS:").unwrap_or((&answer, ""));
        let lines_are_ids = behind.lines().filter(|line| !line.is_empty()).all(|line| line.starts_with("CNT-IDX-"));
        assert!(lines_are_ids, "seed {seed}: {written}\n---\n{answer}");
        let (answer, _) = said("categorize_question", &json!({"question": "x"}), &written);
        assert!(serde_json::from_str::<serde_json::Value>(&answer).is_ok(), "seed {seed}: {answer}");
        let (answer, _) = said("generate_commit_message", &json!({"diff": "@@ -1 +1 @@\n-a\n+b"}), &written);
        let subject = answer.lines().next().unwrap_or_default();
        assert!(
            !subject.trim().is_empty() && !answer.lines().any(|line| line.starts_with("```")),
            "seed {seed}: {written}\n---\n{answer}"
        );
        let (answer, _) = said("glab_ask_git_command", &json!({"prompt": "x"}), &written);
        assert!(blocks_hold_one_command_each(&answer), "seed {seed}: {written}\n---\n{answer}");
        said("chat/explain_code", &json!({}), &written);
        said("generate_session_title", &json!({"context": "x"}), &written);
    }
}

#[test]
fn one_thing_without_end_come_to_an_end() {
    const BYTES: usize = 256 * 1024;
    let prompts = [
        ("review_merge_request", review::inputs()),
        ("resolve_vulnerability", resolver::inputs()),
        ("chat/issue_reader", json!({"input": "a/b#12 or a/b#13", "suggestions": ""})),
        ("chat/documentation_search", documentation::inputs()),
        ("generate_commit_message", json!({"diff": "@@ -1 +1 @@\n-a\n+b"})),
        ("glab_ask_git_command", json!({"prompt": "x"})),
        ("categorize_question", json!({"question": "x"})),
        ("chat/explain_code", json!({})),
    ];
    for piece in PIECES.iter().chain(&["a/b#1 ", "***\n", "<from>\nx\n</from>\n<to>\ny\n</to>\n", "git push && "]) {
        let written = piece.repeat(BYTES / piece.len());
        for (id, inputs) in &prompts {
            let mut ask = super::asked(id, inputs);
            let answer = shape_whole(ask.plan.shape.as_mut(), &written, FinishReason::Length);
            assert!(answer.len() <= 8 * BYTES, "{id}: {piece}");
        }
    }
}

fn blocks_hold_one_command_each(answer: &str) -> bool {
    let mut lines = answer.lines();
    while let Some(line) = lines.next() {
        if line == "```" {
            let command = lines.next().unwrap_or_default();
            let is_git = command.starts_with("git ") || command.starts_with("glab ");
            if !is_git || lines.next() != Some("```") {
                return false;
            }
        } else if line.contains('`') {
            return false;
        }
    }
    true
}
