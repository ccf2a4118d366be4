//! Everything else that GitLab uses verbatim: messages, summaries, commands, small objects, labels.

use super::said;
use serde_json::{Value, json};

const DIFF: &str =
    "diff --git a/app/a.rb b/app/a.rb\nindex 1..2 100644\n--- a/app/a.rb\n+++ b/app/a.rb\n@@ -1 +1 @@\n-a\n+b\n";

fn check(id: &str, inputs: &Value, written: &str, expected: &str) {
    let (answer, _) = said(id, inputs, written);
    assert_eq!(answer, expected, "{id}: {written}");
}

#[test]
fn commit_messages_are_bare() {
    let check =
        |written: &str, expected: &str| check("generate_commit_message", &json!({"diff": DIFF}), written, expected);
    check("Replace a with b", "Replace a with b");
    check("Replace a with b\n\nBecause b is right.", "Replace a with b\n\nBecause b is right.");
    check("```\nReplace a with b\n```", "Replace a with b");
    check("Here is the commit message:\n\n```text\nReplace a with b\n```\n\nLet me know!", "Replace a with b");
    check("**Commit message:** Replace a with b", "Replace a with b");
    check("\"Replace a with b\"", "Replace a with b");
    check("\"Replace a with b\n\nBecause.\"", "Replace a with b\n\nBecause.");
    check("Subject: `Replace a with b`\n- one\n- two", "Replace a with b\n\n- one\n- two");
    check("# Replace a with b\n\nThis commit message follows the rules.", "Replace a with b");
    check("<think>\nhm\n</think>\n\nReplace a with b", "Replace a with b");
    let long = format!("Replace {}", "a with b and ".repeat(20));
    check(&long, long.trim());
    for blank in ["", "\n\n", "```\n```", "<think>only", "\"\"", "```", "***"] {
        check(blank, "Update a.rb");
    }
}

#[test]
fn a_commit_message_is_made_from_the_files_where_there_is_none() {
    let from = |diff: &str, expected: &str| check("generate_commit_message", &json!({"diff": diff}), "", expected);
    from("@@ -1 +1 @@\n-a\n+b", "Update code");
    from(&format!("{DIFF}{}", DIFF.replace("a.rb", "b.rb")), "Update a.rb and b.rb");
    from(&format!("{DIFF}{}{}", DIFF.replace("a.rb", "b.rb"), DIFF.replace("a.rb", "c.rb")), "Update 3 files");
    from("diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x", "Add x");
    from("diff --git a/x b/x\ndeleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x", "Remove x");
    from("--- a/dir/x.c\n+++ b/dir/x.c\n@@ -1 +1 @@\n-a\n+b", "Update x.c");
}

#[test]
fn summaries_stand_alone() {
    let summary = |written: &str, expected: &str| {
        check("summarize_new_merge_request", &json!({"extracted_diff": DIFF}), written, expected);
    };
    summary("Adds x.\n\n- one", "Adds x.\n\n- one");
    summary("```markdown\nAdds x.\n```", "Adds x.");
    summary("Sure! Here is the description:\n```\nAdds x.\n```", "Adds x.");
    summary("", "Changes in this merge request:\n\n- Update `app/a.rb`");
    let notes = json!({"draft_notes_content": "Comment: Rename this. It is unclear.\nComment: Add a test\n"});
    check("summarize_review", &notes, "```\nPlease rename it.\n```", "Please rename it.");
    check("summarize_review", &notes, "", "I left comments on these points:\n\n- Rename this.\n- Add a test");
    let note = json!({"content": "login fails", "template": null});
    check(
        "generate_description",
        &note,
        "```markdown\n## Problem\n```sh\nls\n```\nEnd\n```",
        "## Problem\n```sh\nls\n```\nEnd",
    );
    let (answer, note) = said("generate_description", &note, "");
    assert_eq!((answer.as_str(), note), ("", Some("the model wrote nothing")));
}

#[test]
fn commands_stand_alone_in_blocks() {
    let check = |written: &str, expected: &str| {
        check("glab_ask_git_command", &json!({"prompt": "undo last commit"}), written, expected);
    };
    check("Undo it:\n```\ngit reset --soft HEAD~1\n```", "Undo it:\n```\ngit reset --soft HEAD~1\n```");
    check(
        "```bash\n$ git add .\n$ git commit -m \"a && b; c\"\n```",
        "```\ngit add .\n```\n```\ngit commit -m \"a && b; c\"\n```",
    );
    check("git add . && git push", "```\ngit add .\n```\n```\ngit push\n```");
    check("Run:\n\ngit stash\n\nThen:\n`glab mr list`", "Run:\n\n```\ngit stash\n```\n\nThen:\n```\nglab mr list\n```");
    check("1. `git fetch`\n2. git merge origin/main", "```\ngit fetch\n```\n```\ngit merge origin/main\n```");
    check("Use `git stash` to keep your work.", "Use git stash to keep your work.\n```\ngit stash\n```");
    check("git reset moves the branch, be careful.", "git reset moves the branch, be careful.");
    check("```sh\n# go there\ncd repo\ngit log \\\n  --oneline\n```", "go there\ncd repo\n```\ngit log --oneline\n```");
    // What a shell would do beyond git is shown, not offered.
    check("```\nrm -rf ~\ngit log | head\ngit x $(rm y)\n```", "rm -rf ~\ngit log | head\ngit x $(rm y)");
    check("```\ngit add . && rm -rf ~\n```", "```\ngit add .\n```\nrm -rf ~");
    check("```git status```", "git status\n```\ngit status\n```");
    check("", "");
}

#[test]
fn small_objects_have_their_keys() {
    let question = json!({"question": "Wie?", "previous_answer": null});
    let category = |written: &str, expected: &str| check("categorize_question", &question, written, expected);
    let full = r#"{"category":"Use GitLab","detailed_category":"Fork","labels":["a"],"language":"de"}"#;
    category(full, full);
    category(&full[1..], full);
    category(&format!("```json\n{full}\n```"), full);
    category(&format!("Let me think {{}} and: {full}"), full);
    category(
        r#"{"category": "Use GitLab", "labels": "a", "language": "DE-at", "x": 1}"#,
        r#"{"category":"Use GitLab","detailed_category":"Use GitLab","labels":["a"],"language":"de"}"#,
    );
    let other = r#"{"category":"Other","detailed_category":"Other","labels":[],"language":"en"}"#;
    category("no", other);
    category(&"{".repeat(100_000), other);
    category(r#"{"category": 7, "language": "german"}"#, other);

    let comment = json!({"content": "Bad code."});
    check(
        "measure_comment_temperature",
        &comment,
        r#"{"rating": "3", "issues": ["x"]}"#,
        r#"{"rating":3,"issues":["x"]}"#,
    );
    check("measure_comment_temperature", &comment, "I would say 4.", r#"{"rating":4,"issues":[]}"#);
    check("measure_comment_temperature", &comment, "99", r#"{"rating":1,"issues":[]}"#);

    let search = json!({"catalog": ["Merge trains", "Protected branches"], "query": "protect my branches"});
    let find = |written: &str, expected: &str| check("feature_discovery_search", &search, written, expected);
    find(r#""merge trains", "Nonsense"]}"#, r#"{"features":["Merge trains"]}"#);
    find(r#"{"features": ["Protected branches"]}"#, r#"{"features":["Protected branches"]}"#);
    find(r#"{"features": []}"#, r#"{"features":[]}"#);
    find("none", r#"{"features":["Protected branches"]}"#);
}

#[test]
fn titles_and_labels_are_short() {
    let title = |written: &str, expected: &str| {
        check(
            "generate_session_title",
            &json!({"context": "Fix the login.\nIt fails.", "definition": "x"}),
            written,
            expected,
        );
    };
    title("Fix flaky login test", "Fix flaky login test");
    title("Title: \"Fix flaky login test.\"\nBecause.", "Fix flaky login test");
    title("## **Fix it**", "Fix it");
    title("", "Fix the login");
    title("***\n\n", "Fix the login");
    let (long, _) = said("generate_session_title", &json!({"context": "x"}), &"word ".repeat(50));
    assert!(long.chars().count() <= 80 && long.ends_with("word…"), "{long}");

    let intent = |message: &str, written: &str, expected: &str| {
        check("classify_code_review_mention_intent", &json!({"message": message}), written, expected);
    };
    intent("x", "review", "review");
    intent("x", "The intent is **Question**.", "question");
    intent("Please have another look", "?", "review");
    intent("Can you rename it", "", "change");
    intent("Why?", "banana", "question");
    intent("Thanks!", "", "other");
}

#[test]
fn markdown_comes_as_it_is() {
    let inputs = json!({"input": "Explain", "selected_text": "puts 1", "file_content": "", "language_info": ""});
    let check = |written: &str, expected: &str| check("chat/explain_code", &inputs, written, expected);
    check("It prints 1.", "It prints 1.");
    check("\n\n  It prints 1.\n", "  It prints 1.\n");
    check("<think>hm</think>\n\nIt prints 1.", "It prints 1.");
    check("hm</think>\n\nIt prints 1.", "It prints 1.");
    check("```ruby\nputs 1\n```\nDone.", "```ruby\nputs 1\n```\nDone.");
    check("```markdown\nIt prints:\n```ruby\nputs 1\n```\n```\n", "It prints:\n```ruby\nputs 1\n```\n");
    check("```markdown\nIt prints:\n```ruby\nputs 1\n```\n", "It prints:\n```ruby\nputs 1\n```\n");
    check("```md\nIt prints 1.\n```", "It prints 1.\n");
    check("``", "``");
    check("Null\0 byte", "Null byte");
    let (answer, note) = said("chat/explain_code", &inputs, "<think>never closed");
    assert_eq!((answer.as_str(), note), ("", Some("the model wrote nothing, or only reasoning")));
}

#[test]
fn the_connection_test_gets_a_sign() {
    let ask = || super::asked("model_configuration/check", &json!({}));
    let whole = |text: &str| {
        let mut ask = ask();
        sconce::feature::shape_whole(ask.plan.shape.as_mut(), text, sconce::domain::FinishReason::Length)
    };
    assert_eq!(whole("Hello"), "Hello");
    assert_eq!(whole("<think>\nOkay"), "<think>\nOkay");
    assert_eq!(whole(" \n"), "OK");
    assert_eq!(whole(""), "OK");
    let mut out = String::new();
    let flow = ask().plan.shape.push("Hel", &mut out);
    assert_eq!((flow, out.as_str()), (sconce::feature::Flow::Enough, "Hel"));
}
