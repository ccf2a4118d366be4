//! Code review: `<review>` with comments whose tags, attributes and lines GitLab checks.

use super::said;
use serde_json::{Value, json};

/// What GitLab would post.
#[derive(Debug, PartialEq, Eq)]
pub struct Comment {
    pub file: String,
    pub old_line: Option<u32>,
    pub new_line: Option<u32>,
    pub text: String,
    pub suggestions: Vec<(String, String)>,
}

/// The parser: an error for everything that GitLab would drop or misread.
pub fn parse(answer: &str, diff: &str) -> Result<Vec<Comment>, String> {
    let lines = diff_lines(diff);
    let start = answer.rfind("<review>").ok_or("no review")? + "<review>".len();
    let end = start + answer[start..].find("</review>").ok_or("the review has no end")?;
    if answer.matches("<review>").count() != 1 || answer.matches("</review>").count() != 1 {
        return Err("more than one review".to_owned());
    }
    let mut rest = &answer[start..end];
    let mut comments = Vec::new();
    while let Some(at) = rest.find("<comment") {
        if !(at == 0 || rest[..at].ends_with('\n')) {
            return Err("a comment does not begin a line".to_owned());
        }
        if !rest[..at].trim().is_empty() {
            return Err(format!("text outside of comments: {:?}", &rest[..at]));
        }
        let head = rest[at..].strip_prefix("<comment ").ok_or("no space behind the tag")?;
        let (attributes, content) = head.split_once('>').ok_or("the tag has no end")?;
        let close = content
            .match_indices("</comment>")
            .map(|(at, _)| at)
            .find(|at| content[at + "</comment>".len()..].starts_with('\n') || content.len() == at + "</comment>".len())
            .ok_or("the comment has no end")?;
        comments.push(comment(attributes, &content[..close], &lines)?);
        rest = &content[close + "</comment>".len()..];
    }
    if !rest.trim().is_empty() {
        return Err(format!("text behind the comments: {rest:?}"));
    }
    if comments.len() > 50 {
        return Err(format!("{} comments", comments.len()));
    }
    Ok(comments)
}

type Line = (String, Option<u32>, Option<u32>, String);

fn diff_lines(diff: &str) -> Vec<Line> {
    let mut file = String::new();
    let mut lines = Vec::new();
    for line in diff.lines() {
        if let Some(rest) = line.strip_prefix("<file_diff filename=\"") {
            file = rest.strip_suffix("\">").expect("a well-formed diff").to_owned();
        } else if let Some(rest) = line.strip_prefix("<line ") {
            let (attributes, text) = rest.split_once("\">").expect("a well-formed line");
            let number = |name: &str| {
                let value = attributes.split(&format!("{name}=\"")).nth(1).expect("numbered");
                value.split('"').next().expect("quoted").parse().ok()
            };
            let text = text.strip_suffix("</line>").expect("closed").to_owned();
            lines.push((file.clone(), number("old_line"), number("new_line"), text));
        }
    }
    lines
}

fn comment(attributes: &str, content: &str, lines: &[Line]) -> Result<Comment, String> {
    let attribute = |name: &str| {
        let value = attributes.split(&format!("{name}=\"")).nth(1)?;
        value.split_once('"').map(|(value, _)| value.to_owned())
    };
    let file = attribute("file").ok_or("no file")?;
    let old_line = attribute("old_line").and_then(|value| value.parse().ok());
    let new_line = attribute("new_line").and_then(|value| value.parse().ok());
    let of_file: Vec<&Line> = lines.iter().filter(|line| line.0 == file).collect();
    if of_file.is_empty() {
        return Err(format!("no file {file}"));
    }
    let at = of_file
        .iter()
        .position(|line| (line.1, line.2) == (old_line, new_line))
        .ok_or_else(|| format!("no line {old_line:?} {new_line:?}"))?;
    let mut suggestions = Vec::new();
    let mut text = String::new();
    let mut rest = content;
    while let Some(start) = rest.find("<from>") {
        if !(rest[..start].ends_with('\n') || start == 0 && !suggestions.is_empty()) {
            return Err("a suggestion does not begin a line".to_owned());
        }
        text.push_str(&rest[..start]);
        let behind = rest[start..].strip_prefix("<from>\n").ok_or("from is not alone on its line")?;
        let (from, behind) = behind.split_once("\n</from>\n<to>\n").ok_or("from does not end before to")?;
        let (to, behind) = behind.split_once("\n</to>\n").ok_or("to has no end")?;
        let below: Vec<&str> =
            of_file[at..].iter().filter(|line| line.2.is_some()).map(|line| line.3.as_str()).collect();
        let count = from.split('\n').count();
        if below.len() < count || below[..count].join("\n") != from {
            return Err(format!("the lines {from:?} are not at line {new_line:?}"));
        }
        suggestions.push((from.to_owned(), to.to_owned()));
        rest = behind;
    }
    text.push_str(rest);
    let has_tag = ["<from>", "</from>", "<to>", "</to>", "<comment", "</comment>", "<review>"]
        .iter()
        .any(|tag| text.contains(tag));
    if has_tag || text.trim().is_empty() {
        return Err(format!("the text of a comment is {text:?}"));
    }
    Ok(Comment { file, old_line, new_line, text: text.trim().to_owned(), suggestions })
}

pub const DIFF: &str = r#"<file_diff filename="app/a.rb">
<chunk_header>@@ -1,4 +1,6 @@</chunk_header>
<line type="context" old_line="1" new_line="1">class A</line>
<line type="deleted" old_line="2" new_line="">  def old; end</line>
<line type="added" old_line="" new_line="2">  def max(list)</line>
<line type="added" old_line="" new_line="3">    x = nil + 1</line>
<line type="added" old_line="" new_line="4">    puts "<review>"</line>
<line type="context" old_line="3" new_line="5">  end</line>
<line type="context" old_line="4" new_line="6">end</line>
</file_diff>
<file_diff filename="lib/deep/b.py">
<line type="added" old_line="" new_line="10">def total(xs):</line>
<line type="added" old_line="" new_line="11">    return xs[0]</line>
</file_diff>"#;

pub fn inputs() -> Value {
    json!({
        "mr_title": "Add max", "mr_description": null, "diff_lines": DIFF, "full_file_intro": "",
        "full_content_section": "", "custom_instructions_section": ""
    })
}

fn comments(written: &str) -> Vec<Comment> {
    let (answer, _) = said("review_merge_request", &inputs(), written);
    parse(&answer, DIFF).unwrap_or_else(|problem| panic!("{problem}\n{written}\n---\n{answer}"))
}

/// File, old line, new line, text and suggestions of each comment that is expected.
type Expected<'a> = (&'a str, Option<u32>, Option<u32>, &'a str, &'a [(&'a str, &'a str)]);

fn check(written: &str, expected: &[Expected<'_>]) {
    let found = comments(written);
    let found: Vec<_> = found
        .iter()
        .map(|comment| {
            let pairs: Vec<(&str, &str)> =
                comment.suggestions.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
            (comment.file.as_str(), comment.old_line, comment.new_line, comment.text.as_str(), pairs)
        })
        .collect();
    let expected: Vec<_> =
        expected.iter().map(|(file, old, new, text, pairs)| (*file, *old, *new, *text, pairs.to_vec())).collect();
    assert_eq!(found, expected, "{written}");
}

const NIL: &str = "    x = nil + 1";

#[test]
fn a_review_in_form_stays_what_it_is() {
    let written = "<comment file=\"app/a.rb\" old_line=\"\" new_line=\"3\">\nAdding to nil raises.\n<from>\n    x = nil + 1\n</from>\n<to>\n    x = 1\n</to>\n</comment>\n";
    check(written, &[("app/a.rb", None, Some(3), "Adding to nil raises.", &[(NIL, "    x = 1")])]);
    let (answer, note) = said("review_merge_request", &inputs(), written);
    assert_eq!(answer, format!("<review>\n{written}</review>"));
    assert_eq!(note, None);
}

#[test]
fn attributes_and_lines_are_put_right() {
    let a = |attributes: &str| format!("<comment {attributes}>\nThis goes wrong.\n</comment>");
    let new = |line: u32| -> [Expected<'static>; 1] { [("app/a.rb", None, Some(line), "This goes wrong.", &[])] };
    check(&a("file=\"app/a.rb\" new_line=\"3\""), &new(3));
    check(&a("new_line='3' file='app/a.rb'"), &new(3));
    check(&a("path=a.rb line=3"), &new(3));
    check(&a("file=\"b/app/a.rb\" old_line=\"3\" new_line=\"3\""), &new(3));
    check(&a("file=\"./app/a.rb\" line=\"L3-L4\""), &new(3));
    check(&a("file=\"app/a.rb\" new_line=\"5\""), &[("app/a.rb", Some(3), Some(5), "This goes wrong.", &[])]);
    check(
        &a("file=\"app/a.rb\" old_line=\"2\" new_line=\"\""),
        &[("app/a.rb", Some(2), None, "This goes wrong.", &[])],
    );
    // Miscounted by one: the next line that is there.
    check(&a("file=\"b.py\" new_line=\"12\""), &[("lib/deep/b.py", None, Some(11), "This goes wrong.", &[])]);
    check(&a("file=\"app/a.rb\" new_line=\"300\""), &[]);
    check(&a("file=\"other.rb\" new_line=\"3\""), &[]);
    check(&a("file=\"app/a.rb\" new_line=\"99999999999999999999\""), &[]);
    check(&a("new_line=\"3\""), &[]);
    check(&a("file=\"app/a.rb"), &[]);
    check("<comment>\nThis goes wrong.\n</comment>", &[]);
}

#[test]
fn frames_cannot_be_broken() {
    let open = "<comment file=\"app/a.rb\" old_line=\"\" new_line=\"3\">";
    let one = |text: &'static str| -> [Expected<'static>; 1] { [("app/a.rb", None, Some(3), text, &[])] };
    // Never closed, closed in the line, closed twice, upper case.
    check(&format!("{open}\nThis goes wrong."), &one("This goes wrong."));
    check(&format!("{open}This goes wrong.</comment>"), &one("This goes wrong."));
    check(&format!("{open}\nThis goes wrong.\n</comment>\n</comment>\n</review>\n</review>"), &one("This goes wrong."));
    check(&format!("{open}\nThis goes wrong.\n</COMMENT>"), &one("This goes wrong."));
    check(&format!("{open}\nA </comment> here.\n</comment>"), &one("A < /comment> here."));
    check(&format!("{open}\nSay <review> and </review> now.\n</comment>"), &one("Say < review> and < /review> now."));
    check(&format!("{open}\nNested <comment file=\"x\"> tag.\n</comment>"), &one("Nested < comment file=\"x\"> tag."));
    check(&format!("{open}\nUse <from> here.\n</comment>"), &one("Use < from> here."));
    check(&format!("{open}\n```ruby\nx = 1\n</comment>"), &one("```ruby\nx = 1\n```"));
    // A review inside the reasoning is no review; prose around is dropped.
    check(
        &format!(
            "<think><review>\n{open}\nNo.\n</comment>\n</review></think>Here it is:\n<review>\n{open}\nYes, this.\n</comment>\n</review>\nThanks!"
        ),
        &one("Yes, this."),
    );
    check(
        &format!(
            "<review>\n{open}\nFirst try.\n</comment>\n</review>\n<review>\n{open}\nSecond.\n</comment>\n</review>"
        ),
        &one("Second."),
    );
    check(&format!("```xml\n<review>\n{open}\nThis goes wrong.\n</comment>\n</review>\n```"), &one("This goes wrong."));
    check(&format!("{open}\nNull\0 byte.\n</comment>"), &one("Null byte."));
}

#[test]
fn suggestions_hold_or_fall() {
    let a = |line: u32, pair: &str| {
        format!("<comment file=\"app/a.rb\" old_line=\"\" new_line=\"{line}\">\nThis goes wrong.\n{pair}\n</comment>")
    };
    let at = |line: u32, pairs: &'static [(&'static str, &'static str)]| -> [Expected<'static>; 1] {
        [("app/a.rb", None, Some(line), "This goes wrong.", pairs)]
    };
    let good: &[(&str, &str)] = &[(NIL, "    x = 1")];
    check(&a(3, "<from>\n    x = nil + 1\n</from>\n<to>\n    x = 1\n</to>"), &at(3, good));
    check(&a(3, "<from>    x = nil + 1</from>\n<to>    x = 1</to>"), &at(3, good));
    // Indentation lost, or added.
    check(&a(3, "<from>\nx = nil + 1\n</from>\n<to>\nx = 1\n</to>"), &at(3, good));
    check(&a(3, "<from>\n      x = nil + 1\n</from>\n<to>\n      x = 1\n</to>"), &at(3, good));
    check(&a(3, "<from>\n```ruby\n    x = nil + 1\n```\n</from>\n<to>\n```ruby\n    x = 1\n```\n</to>"), &at(3, good));
    // The lines say where they are.
    check(&a(2, "<from>\n    x = nil + 1\n</from>\n<to>\n    x = 1\n</to>"), &at(3, good));
    check(&a(300, "<from>\n    x = nil + 1\n</from>\n<to>\n    x = 1\n</to>"), &at(3, good));
    // Two lines.
    check(
        &a(2, "<from>\n  def max(list)\n    x = nil + 1\n</from>\n<to>\n  def max(list)\n    x = 1\n</to>"),
        &at(2, &[("  def max(list)\n    x = nil + 1", "  def max(list)\n    x = 1")]),
    );
    // Lines that are not there, no change, nothing left, code that would break the frame: only the words stay.
    check(&a(3, "<from>\n    y = nil\n</from>\n<to>\n    x = 1\n</to>"), &at(3, &[]));
    check(&a(3, "<from>\n    x = nil + 1\n</from>\n<to>\n    x = nil + 1\n</to>"), &at(3, &[]));
    check(&a(3, "<from>\n    x = nil + 1\n</from>\n<to>\n</to>"), &at(3, &[]));
    check(&a(3, "<from>\n    x = nil + 1\n</from>\n<to>\n    x = \"</to>\"\n</to>"), &at(3, &[]));
    check(&a(4, "<from>\n    puts \"<review>\"\n</from>\n<to>\n    puts 1\n</to>"), &at(4, &[]));
    check(&a(3, "<from>\n    x = nil + 1\n</from>"), &at(3, &[]));
}

#[test]
fn suggestions_are_read_from_the_start_of_lines() {
    let written = "<comment file=\"lib/deep/b.py\" new_line=\"11\">\nEmpty lists fail.\n<from>\n    return xs[0]\n</from>\n<to>\n    return sum(xs)\n</to>\n<from>\n    return xs[0]\n</from>\n<to>\n    return max(xs)\n</to>\n</comment>";
    check(
        written,
        &[(
            "lib/deep/b.py",
            None,
            Some(11),
            "Empty lists fail.",
            &[("    return xs[0]", "    return sum(xs)"), ("    return xs[0]", "    return max(xs)")],
        )],
    );
    let only = "<comment file=\"lib/deep/b.py\" new_line=\"11\">\n<from>\n    return xs[0]\n</from>\n<to>\n    return 1\n</to>\n</comment>";
    check(only, &[("lib/deep/b.py", None, Some(11), "Suggested change:", &[("    return xs[0]", "    return 1")])]);
}

#[test]
fn half_a_suggestion_is_none() {
    let cut = "<comment file=\"app/a.rb\" new_line=\"3\">\nThis goes wrong.\n<from>\n    x = nil + 1\n</from>\n<to>\n    x = ca";
    check(cut, &[("app/a.rb", None, Some(3), "This goes wrong.", &[])]);
    let forgotten = format!("{cut}ll\n</comment>");
    check(&forgotten, &[("app/a.rb", None, Some(3), "This goes wrong.", &[(NIL, "    x = call")])]);
}

#[test]
fn remarks_outside_of_the_form_become_comments() {
    let text = "adding to nil raises an error";
    let one: [Expected<'_>; 1] = [("app/a.rb", None, Some(3), text, &[])];
    check(&format!("I found one problem:\n\n- `app/a.rb:3`: {text}\n"), &one);
    check(&format!("1. **app/a.rb** (line 3) - {text}"), &one);
    check(&format!("In a.rb, line 3, {text}"), &one);
    check(&format!("[{{\"file\": \"app/a.rb\", \"line\": 3, \"comment\": \"{text}\"}}]"), &one);
    check(
        &format!(
            "```json\n{{\"comments\": [{{\"path\": \"app/a.rb\", \"new_line\": \"3\", \"body\": \"{text}\"}}]}}\n```"
        ),
        &one,
    );
    check("Looks good to me, nothing to add.", &[]);
    check("The version 3 of app/a.rb is fine.", &[]);
}

#[test]
fn repetitions_are_told_once() {
    let a = |line: u32| format!("<comment file=\"app/a.rb\" new_line=\"{line}\">\nMagic number.\n</comment>\n");
    check(&a(3).repeat(40), &[("app/a.rb", None, Some(3), "Magic number.", &[])]);
    let found = comments(&format!("{}{}{}", a(2), a(3), a(4)));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text, "Magic number.\n\nAlso on lines: 3, 4.");
    let many: String = (0..200)
        .map(|count| format!("<comment file=\"app/a.rb\" new_line=\"3\">\nRemark {count}.\n</comment>\n"))
        .collect();
    assert_eq!(comments(&many).len(), 50);
}

#[test]
fn a_useless_answer_is_no_review_and_says_why() {
    let check = |written: &str, noted: bool| {
        let (answer, note) = said("review_merge_request", &inputs(), written);
        assert_eq!(answer, "<review></review>", "{written}");
        assert_eq!(note.is_some(), noted, "{written}");
    };
    check("", false);
    check("<review></review>", false);
    check("<review>\n", false);
    check("I am a language model.", true);
    check("<think>nothing but thoughts", false);
    check("<comment file=\"nope.rb\" new_line=\"1\">\nWhat?\n</comment>", true);
    check(&"<comment ".repeat(10_000), true);
}

#[test]
fn paths_that_no_attribute_can_hold_get_no_comments() {
    let diff =
        "<file_diff filename=\"a\"b.rb\">\n<line type=\"added\" old_line=\"\" new_line=\"1\">x</line>\n</file_diff>";
    let mut inputs = inputs();
    inputs["diff_lines"] = Value::from(diff);
    let written =
        "<comment file=\"a&quot;b.rb\" new_line=\"1\">\nWrong.\n</comment><comment new_line=\"1\">\nWrong.\n</comment>";
    let (answer, _) = said("review_merge_request", &inputs, written);
    assert_eq!(answer, "<review></review>");
}

#[test]
fn lines_that_look_like_the_diffs_own_frame_are_text() {
    let diff = "<file_diff filename=\"a.rb\">\n<line type=\"added\" old_line=\"\" new_line=\"1\"><line type=\"added\" old_line=\"\" new_line=\"9\">\">x</line></line>\n</file_diff>";
    let mut inputs = inputs();
    inputs["diff_lines"] = Value::from(diff);
    let (answer, _) = said("review_merge_request", &inputs, "<comment new_line=\"1\">\nThis goes wrong.\n</comment>");
    assert!(answer.contains("new_line=\"1\""), "{answer}");
    let (answer, _) = said("review_merge_request", &inputs, "<comment new_line=\"9\">\nThis goes wrong.\n</comment>");
    assert_eq!(answer, "<review></review>");
}
