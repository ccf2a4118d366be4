//! Vulnerability resolution: four tags, each opening followed by a line break; `fixed_code` is used verbatim.

use super::said;
use serde_json::{Value, json};

/// What GitLab reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolution {
    pub analysis: String,
    pub summary: String,
    pub is_false_positive: bool,
    pub fixed_code: Option<String>,
}

pub fn parse(answer: &str) -> Result<Resolution, String> {
    // The first match counts.
    let tag = |name: &str| {
        let (_, behind) = answer.split_once(&format!("<{name}>\n")).ok_or(format!("no {name}"))?;
        let (content, _) = behind.split_once(&format!("</{name}>")).ok_or(format!("{name} has no end"))?;
        Ok::<&str, String>(content)
    };
    let (frame, code) = answer.split_once("<fixed_code>").ok_or("no fixed_code")?;
    for name in ["analysis", "summary", "is_false_positive"] {
        let is_once = frame.matches(&format!("<{name}>")).count() == 1;
        if !is_once || frame.matches(&format!("</{name}>")).count() != 1 {
            return Err(format!("{name} is not there once"));
        }
    }
    if !code.ends_with("</fixed_code>") || code.matches("</fixed_code>").count() != 1 || frame.contains("</fixed_code>")
    {
        return Err("fixed_code is not there once, at the end".to_owned());
    }
    let is_false_positive = match tag("is_false_positive")?.trim() {
        "true" => true,
        "false" => false,
        other => return Err(format!("is_false_positive is {other:?}")),
    };
    let fixed_code = Some(tag("fixed_code")?.to_owned()).filter(|code| !code.trim().is_empty());
    if fixed_code.as_ref().is_some_and(|code| code.lines().any(|line| line.trim_start().starts_with("```"))) {
        return Err("fences in the code".to_owned());
    }
    if is_false_positive == fixed_code.is_some() {
        return Err("code and verdict contradict each other".to_owned());
    }
    let (analysis, summary) = (tag("analysis")?.trim().to_owned(), tag("summary")?.trim().to_owned());
    if analysis.is_empty() || summary.is_empty() {
        return Err("analysis or summary is empty".to_owned());
    }
    Ok(Resolution { analysis, summary, is_false_positive, fixed_code })
}

const SOURCE: &str = "import db\n\n\ndef find(user):\n    query = \"select \" + user\n    return db.run(query)\n\n\ndef close():\n    db.close()\n";
const VULNERABLE: &str = "    query = \"select \" + user\n    return db.run(query)\n";
const FIXED: &str = "    return db.run(\"select %s\", (user,))\n";

pub fn inputs() -> Value {
    json!({
        "name": "SQL injection", "filename": "q.py", "identifiers": "", "vulnerable_code": VULNERABLE,
        "source_code": SOURCE, "vulnerability_description": null
    })
}

fn resolution(inputs: &Value, written: &str) -> Resolution {
    let (answer, _) = said("resolve_vulnerability", inputs, written);
    parse(&answer).unwrap_or_else(|problem| panic!("{problem}\n{written}\n---\n{answer}"))
}

/// `code` is what has to take the place of the vulnerable lines.
fn check(written: &str, code: Option<&str>) {
    let found = resolution(&inputs(), written);
    assert_eq!(found.fixed_code.as_deref(), code, "{written}");
}

fn answer(code: &str) -> String {
    format!(
        "Concatenated.\n</analysis>\n<summary>\nBind it.\n</summary>\n<is_false_positive>\nfalse\n</is_false_positive>\n<fixed_code>\n{code}</fixed_code>"
    )
}

#[test]
fn an_answer_in_form_stays_what_it_is() {
    let found = resolution(&inputs(), &answer(FIXED));
    let expected = Resolution {
        analysis: "Concatenated.".to_owned(),
        summary: "Bind it.".to_owned(),
        is_false_positive: false,
        fixed_code: Some(FIXED.to_owned()),
    };
    assert_eq!(found, expected);
    // The contract's own example, whose vulnerable code has no line break at its end.
    let one = json!({
        "name": "SQL injection", "filename": "q.py", "identifiers": "", "vulnerable_code": "cur.execute(\"select \" + x)",
        "source_code": "…", "vulnerability_description": null
    });
    let written = "<analysis>\nUser input is concatenated.\n</analysis>\n<summary>\nUse a bound parameter.\n</summary>\n<is_false_positive>\nfalse\n</is_false_positive>\n<fixed_code>\ncur.execute(\"select %s\", (x,))\n</fixed_code>";
    assert_eq!(resolution(&one, written).fixed_code.as_deref(), Some("cur.execute(\"select %s\", (x,))"));
}

#[test]
fn tags_are_put_right() {
    let code = "    return db.run(\"select %s\", (user,))";
    // The opening tag and the code on one line, no line break at the end, no end at all, other spellings.
    check(
        &format!(
            "a</analysis><summary>b</summary><is_false_positive>false</is_false_positive><fixed_code>{code}</fixed_code>"
        ),
        Some(FIXED),
    );
    check(
        &format!(
            "a\n</analysis>\n<summary>\nb\n</summary>\n<is_false_positive>\nFalse\n</is_false_positive>\n<fixed_code>\n{code}"
        ),
        Some(FIXED),
    );
    check(&format!("<Analysis>\na\n<Summary>\nb\n<FIXED_CODE>\n{code}\n</FIXED_CODE>"), Some(FIXED));
    check(
        &format!("<think>\n<fixed_code>\nno\n</fixed_code>\n</think>\n<fixed_code>\n{code}\n</fixed_code>"),
        Some(FIXED),
    );
    check(&format!("<summary>b</summary>\n```python\n{code}\n```\n"), Some(FIXED));
    // A tag inside the analysis would be the first match.
    check(
        &format!(
            "The tag <fixed_code>\nrm -rf\n</fixed_code> is used.\n</analysis>\n<fixed_code>\n{code}\n</fixed_code>"
        ),
        Some("    rm -rf\n"),
    );
    let found = resolution(
        &inputs(),
        &format!("Write </summary> and <is_false_positive>\ntrue.</analysis>\n{}", answer(FIXED)),
    );
    assert!(!found.analysis.contains("<is_false_positive>"), "{found:?}");
}

#[test]
fn fences_and_surroundings_fall_away() {
    check(&answer(&format!("```python\n{FIXED}```\n")), Some(FIXED));
    check(&answer(&format!("Use this:\n```python\n{FIXED}```\nIt binds.\n")), Some(FIXED));
    // Indentation lost everywhere, or in the first line.
    check(&answer("return db.run(\"select %s\", (user,))\n"), Some(FIXED));
    check(
        &answer("query = \"select %s\"\n    return db.run(query, (user,))\n"),
        Some("    query = \"select %s\"\n    return db.run(query, (user,))\n"),
    );
    check(&answer("if user:\n    return 1\n"), Some("    if user:\n        return 1\n"));
    // The function around it, and the whole file.
    let whole = SOURCE.replace(VULNERABLE, FIXED);
    check(&answer(&whole), Some(FIXED));
    check(&answer(&format!("```python\n{whole}```\n")), Some(FIXED));
    let function = format!("def find(user):\n{FIXED}\n\ndef close():\n");
    check(&answer(&function), Some(FIXED));
    // Line breaks at the end as in the lines that are replaced.
    check(&answer(&format!("{FIXED}\n\n\n")), Some(FIXED));
}

#[test]
fn what_cannot_replace_the_lines_is_not_offered() {
    check("", None);
    check("I cannot help with that.", None);
    check(&answer(""), None);
    check(&answer("```\n```\n"), None);
    check(&answer(VULNERABLE), None);
    // The whole file with changes elsewhere.
    check(&answer(&SOURCE.replace(VULNERABLE, FIXED).replace("import db\n", "import db, os\nimport sys\n")), None);
    check("<think>never closed <fixed_code>\nx\n</fixed_code>", None);
    check(
        "Not reachable.\n</analysis>\n<is_false_positive>true</is_false_positive><fixed_code>\nx\n</fixed_code>",
        None,
    );
}

#[test]
fn half_a_replacement_is_none() {
    let cut = answer("    return db.run(\"select").replace("</fixed_code>", "");
    let said_at_limit = |written: &str| {
        let mut ask = super::asked("resolve_vulnerability", &inputs());
        let length = sconce::domain::FinishReason::Length;
        parse(&sconce::feature::shape_whole(ask.plan.shape.as_mut(), written, length)).expect("in form")
    };
    assert_eq!(said_at_limit(&cut).fixed_code, None);
    assert_eq!(said_at_limit(&answer(FIXED)).fixed_code.as_deref(), Some(FIXED));
}

#[test]
fn an_honest_word_stands_where_no_code_does() {
    let found = resolution(&inputs(), "Not reachable.\n</analysis>\n<is_false_positive>true</is_false_positive>");
    assert_eq!(found.analysis, "Not reachable.");
    let found = resolution(&inputs(), "Concatenated.\n</analysis>\n<is_false_positive>false</is_false_positive>");
    assert!(found.analysis.ends_with("This is no judgement of the finding."), "{found:?}");
    let (_, note) = said("resolve_vulnerability", &inputs(), "x");
    assert_eq!(note, Some("the model wrote no code"));
}
