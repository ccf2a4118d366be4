use super::*;
use crate::domain::FinishReason;
use crate::feature::{Flow, shape_whole};

const LENGTH: FinishReason = FinishReason::Length;
const STOP: FinishReason = FinishReason::Stop;

fn model(has_infill: bool, has_chat: bool, context_tokens: usize) -> ModelInfo {
    ModelInfo {
        name: "example".to_owned(),
        architecture: "qwen2".to_owned(),
        context_tokens,
        vocab_size: 1000,
        parameters: 1,
        has_infill,
        has_chat,
        created: 0,
    }
}

fn settings(family: Option<Family>) -> Settings {
    Settings { family, prompt_tokens_max: 2048, max_tokens: None }
}

fn input(file_name: &str, prefix: &str, suffix: &str) -> Input {
    Input { file_name: file_name.to_owned(), prefix: prefix.to_owned(), suffix: suffix.to_owned(), ..Input::default() }
}

/// Splits `case` at `|`, the cursor, and checks what becomes of the model's `text`, whole and however it is cut.
#[track_caller]
fn check(language: &str, case: &str, text: &str, reason: FinishReason, expected: &str) {
    let (prefix, suffix) = case.split_once('|').expect("a cursor");
    let shape = || CompletionShape::new(language, prefix, suffix, ShapeOptions::default());
    check_pieces(shape, text, reason, expected);
}

/// Every way to cut a text in two, and one that cuts it everywhere, says the same as the whole text.
#[track_caller]
fn check_pieces<S: Shape>(shape: impl Fn() -> S, text: &str, reason: FinishReason, expected: &str) {
    assert_eq!(shape_whole(&mut shape(), text, reason), expected, "whole: {text:?}");
    let single: Vec<&str> = text.split("").filter(|piece| !piece.is_empty()).collect();
    let pairs = text.char_indices().map(|(at, _)| vec![&text[..at], &text[at..]]);
    for pieces in pairs.chain([single]) {
        let mut shape = shape();
        let mut out = String::new();
        for piece in &pieces {
            if shape.push(piece, &mut out) == Flow::Enough {
                break;
            }
        }
        shape.finish(reason, &mut out);
        assert_eq!(out, expected, "in pieces: {pieces:?}");
    }
}

#[test]
fn code_behind_the_cursor_keeps_the_answer_on_its_line() {
    check("python", "x = | + 1\n", "compute(a)\ny = 2\n", LENGTH, "compute(a)");
    check("python", "if |:\n    pass\n", "x > 0:\n    return", LENGTH, "x > 0");
    check("python", "foo(|, b)\n", "a, b)\nbar()", LENGTH, "a");
    check("python", "print(\"hello |\")\n", "world\")\nprint(1)", LENGTH, "world");
    check("js", "const f = (|) => {\n", "a, b) => {\n  return", LENGTH, "a, b");
    check("rust", "let x = foo.| + 1;\n", "len() + 1;\nlet y", LENGTH, "len()");
    check("python", "value = | if x else 0\n", "   \n", STOP, "");
}

#[test]
fn a_line_put_before_another_brings_its_line_break() {
    check("python", "def f():\n    |return x\n", "x = 1\n    return x\n", STOP, "x = 1\n    ");
    check("python", "def f():\n    |return x\n", "return x\n", STOP, "");
    check(
        "python",
        "def f():\n    |return x\n",
        "if y:\n        x = 1\n    return x",
        STOP,
        "if y:\n        x = 1\n    ",
    );
    check("js", "|foo();\n", "bar();\nbaz();\n", LENGTH, "bar();\n");
    // The model ends where the code behind the cursor begins: nothing is put between.
    check("python", "def f():\n    |foo(x)\n", "self.", STOP, "self.");
}

#[test]
fn what_follows_the_cursor_is_not_said_again() {
    check("python", "def area(r):\n    return |\n\nprint(area(2))\n", "3 * r\n\nprint(area(2))\nfoo", LENGTH, "3 * r");
    check("python", "def f():\n    a = |\n    return a\n", "1\n    return a\n\n\ndef g():", LENGTH, "1");
    check("js", "foo(|);\n", "a, b);\nbar();", LENGTH, "a, b");
    check("js", "foo(|)\n", "() => {\n  bar();\n})\nbaz()", LENGTH, "() => {\n  bar();\n}");
    check("python", "abbr = match.gro|)\nx = 1\n", "up(\"a\")\nx = 1\n", LENGTH, "up(\"a\"");
    check("python", "x = [|]\n", "1, 2]\ny = 3", LENGTH, "1, 2");
    check("python", "x = [\n    1,\n|\n]\n", "    2,\n    3,\n]\ny = 1", LENGTH, "    2,\n    3,");
    check("rust", "fn f() {\n    let x = |\n}\n", "5;\n}\n\nfn g() {", LENGTH, "5;");
    check("rust", "fn f() {\n    if x {|\n}\n", "\n        y();\n    }\n}\n", LENGTH, "\n        y();\n    }");
    check("ruby", "def f\n  |\nend\n", "x = 1\nend\n\ndef g", LENGTH, "x = 1");
    check("ruby", "class A\n  |\nend\n", "def f\n    1\n  end\nend\n", LENGTH, "def f\n    1\n  end");
    check("ruby", "def f|\nend\n", "(x)\n  x\nend\n", LENGTH, "(x)\n  x");
}

#[test]
fn blocks_that_nobody_closes_below_are_closed() {
    check("rust", "fn f() {\n    let x = |", "5;\n}\n\nfn g() {\n    1\n}\n", LENGTH, "5;\n}");
    check("js", "foo(|", "a,\n  b);\nbar(", LENGTH, "a,\n  b);");
    check("python", "x = foo(|\n", "a,\n        b)\ny = [1,\n", LENGTH, "a,\n        b)");
    check("ruby", "def f|", "\n  1\nend\n\ndef g\n", LENGTH, "\n  1\nend");
    check("python", "print(\"a|\nprint(2)\n", "bc\")\nprint(2)", LENGTH, "bc\")");
}

#[test]
fn an_answer_ends_with_the_block_of_the_cursor() {
    check("python", "def f():\n    |", "x = 1\n    y = 2\n\n\ndef g():\n    pass\n", LENGTH, "x = 1\n    y = 2");
    check("python", "def |", "f(x):\n    return x\n\n\ndef g():\n    pass\n", LENGTH, "f(x):\n    return x");
    check("python", "def f(x):|", "\n    return x\n\nprint(f(1))\n", LENGTH, "\n    return x");
    check("python", "if x:|\n", "\n    a()\nelse:\n    b()\nc()\n", LENGTH, "\n    a()\nelse:\n    b()");
    check("python", "def f():\n    if x:\n        |\n    return 1\n", "a()\n    b()\n", STOP, "a()");
    check("js", "function |", "f(x) {\n  return x;\n}\n\nfunction g() {\n}\n", LENGTH, "f(x) {\n  return x;\n}");
    check("c", "if (x) {|\n", "\n  a();\n} else {\n  b();\n}\nc();\n", LENGTH, "\n  a();\n} else {\n  b();\n}");
}

#[test]
fn python_is_cut_back_to_where_the_file_fits_together() {
    // Half a statement goes, whole ones stay.
    check("python", "def f():\n    |", "x = 1\n    y = foo(x,\n", LENGTH, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    y = \"abc\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    if x:\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    try:\n        y()\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    @cached\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    y = x +\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    if x\n        y\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n        y = 2\n", STOP, "x = 1");
    check("python", "def f():\n    |", "x = 1\n    else:\n        y = 2\n", STOP, "x = 1");
    // What follows has to fit as well.
    check("python", "if x:\n    a()|\nelse:\n    b()\n", "\n    c()\nd()\n", STOP, "\n    c()");
    check("python", "try:\n    |\nexcept E:\n    pass\n", "a()\n    b(\n", LENGTH, "a()");
    check("python", "try:\n    |\nx = 1\n", "a()\nexcept E:\n    b()\n", STOP, "a()\nexcept E:\n    b()");
    check("python", "|\n    return x\n", "def f(x):\n    y = 1\n", STOP, "def f(x):\n    y = 1");
    // Where the file fits together without an answer, no half statement is put in.
    check("python", "x = 1\n|\ny = 2\n", "z = foo(\n    1,\n", LENGTH, "");
    // What cannot stand there at all is worse than nothing.
    check("python", "try:\n    a()\n    |\n    b()\n", "else:\n        c()\n", STOP, "");
    // Where it does not, the beginning of one is better than nothing.
    check("python", "x = foo(|\n", "a,\n    b,\n    c(", LENGTH, "a,\n    b,");
    check("python", "def f():\n    x = |\n", "foo(bar", LENGTH, "foo(bar");
    check("js", "let x = |\n", "foo(bar", LENGTH, "foo(bar");
    check("js", "let x;\n|\n", "foo(bar", LENGTH, "");
    // Texts over several lines, comments and characters in texts are no code.
    check(
        "python",
        "def f():\n    |",
        "\"\"\"A (note.\n\n    More: [\n    \"\"\"\n    x = ')'  # {\n",
        STOP,
        "\"\"\"A (note.\n\n    More: [\n    \"\"\"\n    x = ')'  # {",
    );
}

#[test]
fn the_last_line_goes_if_it_was_cut_by_the_token_limit() {
    check("js", "function f() {\n  |\n}\n", "let a = 1;\n  let b = a.le", LENGTH, "let a = 1;");
    check("js", "function f() {\n  |\n}\n", "let a = 1;\n  let b = a.length;", STOP, "let a = 1;\n  let b = a.length;");
    check("js", "function f() {\n  |\n}\n", "let a = 1", LENGTH, "let a = 1");
    // The model had ended, and was cut in what it went on to say.
    check("js", "function f() {\n  |\n}\n", "let a = 1;\n  a<|endoftext|>b", LENGTH, "let a = 1;\n  a");
}

#[test]
fn circles_are_left() {
    let above: String = (0..8).map(|number| format!("value_{number} = {number}\n")).collect();
    check("js", "let a;\n|\n", &"x();\n".repeat(20), LENGTH, "x();\nx();\nx();\nx();");
    check("python", &format!("{above}other = 1\n|"), &format!("new = 2\n{above}"), LENGTH, "new = 2");
    check("python", "def f(self):\n    |\n", &"self.y = total\n    ".repeat(9), LENGTH, "self.y = total");
    check("python", "x = |\n", &format!("f({}", "name, ".repeat(30)), LENGTH, "");
    check("python", "x = |\n", &format!("1\ny = 0x{}", "0".repeat(90)), LENGTH, "1");
    check(
        "python",
        "x = 1\n|\n",
        &format!("# {}\ny = 1\n", "-=".repeat(35)),
        STOP,
        &format!("# {}\ny = 1", "-=".repeat(35)),
    );
    // Four lines in a row may well occur twice.
    let four: String = above.lines().take(4).map(|line| format!("{line}\n")).collect();
    check("python", &format!("{above}other = 1\n|"), &format!("{four}end = 1\n"), STOP, &format!("{four}end = 1"));
}

#[test]
fn control_tokens_are_no_text() {
    check("python", "x = |\n", "1<|endoftext|>import os", LENGTH, "1");
    check("python", "x = |\n", "<|fim_middle|>1", STOP, "1");
    check("python", "x = |\n", "a<|cursor|> + b", STOP, "a + b");
    check("python", "x = |\n", "1</s>", STOP, "1");
    check("python", "x = |\n", "1<fim_suffix>\ny", STOP, "1");
    check("python", "x = |\n", "1 <EOT>", STOP, "1 ");
    check("python", "x = |\n", "a <｜end▁of▁sentence｜>", STOP, "a ");
    // Code that begins like one.
    check("fsharp", "let x = |\n", "a <| b |> c", STOP, "a <| b |> c");
    check("haskell", "p = |\n", "a <|> b", STOP, "a <|> b");
    check("cpp", "auto x = |\n", "a <fim", STOP, "a <fim");
    check("html", "<p><s>a|</p>\n", "</s>", STOP, "</s>");
    check("html", "<p>\n|\n</p>\n", "<s>a</s>", STOP, "<s>a</s>");
    check("python", "x = |\n", "<|<|endoftext|>", STOP, "<|");
}

#[test]
fn underscores_are_unescaped_for_models_that_escape_them() {
    let options = ShapeOptions { unescapes_underscores: true };
    check_pieces(|| CompletionShape::new("python", "x = ", "\n", options), "a\\_b + \"\\n\"", STOP, "a_b + \"\\n\"");
    check("python", "x = |\n", "a\\_b", STOP, "a\\_b");
}

#[test]
fn blank_answers_are_empty() {
    for text in ["", " ", "\n\n  \n", "\t", "<|endoftext|>", "\r\n"] {
        for case in ["x = |\n", "|\n", "    |return x\n", "f(|, 1)\n"] {
            check("python", case, text, STOP, "");
            check("js", case, text, LENGTH, "");
        }
    }
}

#[test]
fn line_ends_are_the_files_own() {
    check("js", "a();\r\n|\r\nb();\r\n", "x();\ny();\n", STOP, "x();\r\ny();");
    check("js", "a();\r\n|\r\nb();\r\n", "x();\r\ny();\r\n", STOP, "x();\r\ny();");
    check("js", "a();\n|\n", "x();\r\ny();\r\n", STOP, "x();\ny();");
}

#[test]
fn hostile_answers_end_soon() {
    let endless = "x".repeat(10 * 1024 * 1024);
    let mut shape = CompletionShape::new("python", "y = ", "\n", ShapeOptions::default());
    let mut out = String::new();
    let mut taken = 0;
    for piece in endless.as_bytes().chunks(1000) {
        taken += piece.len();
        if shape.push(std::str::from_utf8(piece).expect("ASCII"), &mut out) == Flow::Enough {
            break;
        }
    }
    shape.finish(LENGTH, &mut out);
    assert!(taken < 10_000, "{taken} bytes taken in");
    assert_eq!(out, "");
    assert_eq!(finish_whole("python", "y = ", "\n", &endless, LENGTH), "");
    let deep = "(".repeat(2000);
    assert_eq!(finish_whole("python", "y = ", "\n", &format!("{deep}\n{deep}\n"), LENGTH), deep);
    assert_eq!(finish_whole("js", "y = ", "\n", &")]}".repeat(1000), STOP), ")]}".repeat(1000));
    let quotes = "\"'`".repeat(700);
    assert_eq!(finish_whole("js", "y = ", "\n", &quotes, STOP), quotes);
}

#[test]
fn nobody_is_asked_about_a_file_of_no_language() {
    let check = |file: &str, identifier: Option<&str>, is_asked: bool| {
        let mut input = input(file, "Permission", "");
        input.language_identifier = identifier.map(str::to_owned);
        assert_eq!(plan(&input, &model(true, false, 4096), &settings(None)).is_some(), is_asked, "{file}");
    };
    check("LICENSE", None, false);
    check("LICENSE", Some(""), false);
    check("LICENSE", Some("plaintext"), true);
    check("notes.unheard", None, true);
}

#[test]
fn a_model_is_asked_in_the_way_it_was_trained_for() {
    let mut asked = input("src/area.py", "def area(radius):\n    return ", "\n\nprint(area(2))\n");
    asked.context = vec!["PI = 3.14159\n".to_owned()];
    let planned = plan(&asked, &model(true, true, 4096), &settings(Some(Family::Codestral))).expect("python");
    let Prompt::Infill(infill) = planned.plan.prompt else { panic!("a model trained to infill") };
    assert_eq!(infill.prefix, "PI = 3.14159\n\ndef area(radius):\n    return ");
    assert_eq!(infill.suffix, "\n\nprint(area(2))\n");
    assert_eq!(planned.plan.stop.max_tokens, Some(64));
    assert_eq!(planned.plan.stop.stop, ["[INST]", "[/INST]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"]);
    assert_eq!(planned.plan.sampling.temperature, 0.0);
    assert_eq!(planned.plan.class, Class::Completion);
    assert!(planned.trimmed.is_nothing());
    assert!(planned.context_tokens_sent > 0);
    assert_eq!(planned.context_tokens_sent, planned.context_tokens_used);

    let planned = plan(&asked, &model(false, true, 4096), &settings(None)).expect("python");
    let Prompt::Chat(chat) = planned.plan.prompt else { panic!("a model trained to converse") };
    assert_eq!(chat.answer_prefix, "```\n    return");
    assert!(chat.messages[1].content.contains("PI = 3.14159"), "further files are shown");
    assert_eq!(planned.plan.stop.max_tokens, Some(128));

    let planned = plan(&asked, &model(false, false, 4096), &settings(None)).expect("python");
    assert!(matches!(planned.plan.prompt, Prompt::Text(text) if text.ends_with("    return ")));

    let one_line = input("a.py", "x = ", " + 1\n");
    let planned = plan(&one_line, &model(true, false, 4096), &settings(None)).expect("python");
    assert_eq!(planned.plan.stop.stop, ["\n"]);
}

#[test]
fn prompts_fit_the_models_context() {
    let long: String = (0..5000).map(|number| format!("value_{number} = {number}\n")).collect();
    for context_tokens in [64, 512, 4096] {
        for (has_infill, has_chat) in [(true, false), (false, true)] {
            let asked = input("a.py", &long, &long);
            let planned = plan(&asked, &model(has_infill, has_chat, context_tokens), &settings(None)).expect("python");
            let shown = match planned.plan.prompt {
                Prompt::Infill(infill) => estimated_tokens(&infill.prefix) + estimated_tokens(&infill.suffix),
                Prompt::Chat(chat) => {
                    let code = chat.messages[1].content.clone();
                    estimated_tokens(&code).saturating_sub(120)
                }
                _ => panic!("neither infill nor chat"),
            };
            let max_tokens = planned.plan.stop.max_tokens.expect("always limited");
            assert!(shown + max_tokens <= context_tokens, "{shown} + {max_tokens} of {context_tokens}");
            assert!(planned.trimmed.prefix_chars_dropped > 0);
        }
    }
}

#[test]
fn a_conversational_answer_is_cut_down_to_code() {
    let check = |case: &str, text: &str, expected: &str| {
        let (prefix, suffix) = case.split_once('|').expect("a cursor");
        let shape = || {
            let shape = CompletionShape::new("python", prefix, suffix, ShapeOptions::default());
            InstructShape::new(shape, prefix)
        };
        check_pieces(shape, text, STOP, expected);
    };
    let case = "def area(radius):\n    return |\n\nprint(area(2))\n";
    // The answer was begun with a fence and the cursor's line: the model goes on.
    check(case, " 3 * radius\n```\nThis returns the area.", "3 * radius");
    check(case, "3 * radius\n```", "3 * radius");
    // The beginning was not kept: the model begins itself.
    check(case, "```python\n    return 3 * radius\n```", "3 * radius");
    check(case, "\n```python\n    return 3 * radius\n```\n", "3 * radius");
    check(case, "return 3 * radius", "3 * radius");
    check(case, "<think>\nThe area is [pi r^2.\n</think>\n\n```python\n    return 3 * radius\n```\n", "3 * radius");
    check(case, "```python\n```", "");
    let case = "def area(radius):\n    |\n\nprint(area(2))\n";
    check(case, "    return 3 * radius\n```", "return 3 * radius");
    check(case, "return 3 * radius\n```", "return 3 * radius");
    check(case, "    x = 3\n    return x * radius\n```", "x = 3\n    return x * radius");
    let case = "def area(radius):|\n\nprint(area(2))\n";
    check(case, "\n    return 3 * radius\n```", "\n    return 3 * radius");
    check(case, "```\ndef area(radius):\n    return 3 * radius\n```", "\n    return 3 * radius");
}

#[test]
fn debug_output_shows_no_code() {
    let shown = format!("{:?}", input("a.py", "secret = 1", "hidden"));
    assert_eq!(shown, "Input(10 + 6 bytes, 0 further files)");
}

/// Numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn text(&mut self, parts: &[&str], count_max: usize) -> String {
        let count = self.below(count_max + 1);
        (0..count).map(|_| parts[self.below(parts.len())]).collect()
    }
}

#[test]
fn whatever_a_model_says_comes_out_the_same_in_pieces_and_never_outside_of_it() {
    const PARTS: &[&str] = &[
        "\n",
        "\n",
        "\n    ",
        "\n        ",
        " ",
        "x",
        "foo",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        "`",
        ":",
        " = ",
        ",",
        "#",
        "//",
        "/*",
        "*/",
        "--",
        "def f():",
        "if x:",
        "else:",
        "try:",
        "except E:",
        "return",
        "end",
        "do",
        "class A",
        "@x",
        "\\",
        "\t",
        "é",
        "漢",
        "<|fim",
        "<|endoftext|>",
        "</s>",
        "\\_",
        ";",
        "+",
        "\r\n",
    ];
    let mut dice = Dice(7);
    for round in 0..1500 {
        let language = ["python", "js", "rust", "ruby", "lua", "html", "bash", "unheard"][dice.below(8)];
        let (prefix, suffix) = (dice.text(PARTS, 30), dice.text(PARTS, 30));
        let text = dice.text(PARTS, 24).replace("\\_", "_");
        let reason = if dice.below(2) == 0 { LENGTH } else { STOP };
        let shape = || CompletionShape::new(language, &prefix, &suffix, ShapeOptions::default());
        let whole = shape_whole(&mut shape(), &text, reason);
        check_pieces(shape, &text, reason, &whole);
        let bare = |text: &str| -> String {
            let text = text.replace("</s>", "").replace("<|endoftext|>", "");
            text.chars().filter(|char| !char.is_whitespace()).collect()
        };
        assert!(bare(&text).contains(&bare(&whole)), "round {round}: {whole:?} of {text:?}");
    }
}
