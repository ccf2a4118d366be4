use super::*;
use crate::domain::FinishReason;
use crate::feature::{Flow, shape_whole};

fn model(has_infill: bool, has_chat: bool) -> ModelInfo {
    ModelInfo {
        name: "example".to_owned(),
        architecture: "qwen2".to_owned(),
        context_tokens: 8192,
        vocab_size: 1000,
        parameters: 1,
        has_infill,
        has_chat,
        created: 0,
    }
}

const SETTINGS: Settings = Settings { family: None, prompt_tokens_max: 4096, max_tokens: None };

fn input(prefix: &str) -> Input {
    Input { file_name: "src/area.py".to_owned(), prefix: prefix.to_owned(), ..Input::default() }
}

/// What becomes of `text`, whole and however it is cut.
#[track_caller]
fn check(input: &Input, text: &str, expected: &str) {
    let shape = || GenerationShape::new(input, None);
    assert_eq!(shape_whole(&mut shape(), text, FinishReason::Stop), expected, "whole: {text:?}");
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
        shape.finish(FinishReason::Stop, &mut out);
        assert_eq!(out, expected, "in pieces: {pieces:?}");
    }
}

#[test]
fn only_code_reaches_the_editor() {
    let input = input("# the area of a circle\n");
    let code = "def area(radius):\n    return 3 * radius ** 2\n";
    check(&input, code, code);
    check(&input, &format!("{code}</new_code>"), code);
    check(&input, &format!("<new_code>\n{code}</new_code>\nThis is the area."), code);
    check(&input, &format!("```python\n{code}```"), code);
    check(&input, &format!("```python\n{code}```\nThis is the area."), code);
    check(&input, &format!("```\n{code}\n\n```"), code);
    check(&input, &format!("<new_code>\n```python\n{code}```\n</new_code>"), code);
    check(&input, &format!("<new_code><new_code>\n{code}</new_code></new_code>"), code);
    check(&input, &format!("Here is the function:\n\n```python\n{code}```"), code);
    check(&input, &format!("Sure, here it is:\n<new_code>\n{code}</new_code>"), code);
    check(&input, &format!("<think>\nA circle, ```so``` pi.\n</think>\n\n{code}"), code);
    check(&input, &format!("<think>short</think>{code}"), code);
    check(&input, &format!("```python\n{code}"), code);
    check(&input, &format!("{code}<|im_end|>\n<|im_start|>user"), code);
    check(&input, "x = 1```", "x = 1");
    check(&input, "<new_code>x = 1</new_code>", "x = 1");
    check(&input, "```py\nx = 1\n```\n```py\ny = 2\n```", "x = 1\n");
    // An announcement that announces nothing is all there is.
    check(&input, "Here is the function:", "Here is the function:");
}

#[test]
fn blank_answers_are_empty() {
    for text in
        ["", "\n", " \n\t\n", "```python\n```", "<new_code>\n</new_code>", "<think>hm", "</new_code>", "<new_code>"]
    {
        check(&input("x = 1\n"), text, "");
        check(&Input { begins_line: true, ..input("x = 1") }, text, "");
    }
}

#[test]
fn what_stands_before_the_cursor_is_not_said_again() {
    let prefix = "import math\n\n# the area of a circle\n";
    check(&input(prefix), "# the area of a circle\ndef area(r):\n    pass\n", "def area(r):\n    pass\n");
    check(
        &input(prefix),
        "import math\n\n# the area of a circle\ndef area(r):\n    pass\n",
        "def area(r):\n    pass\n",
    );
    check(&input(prefix), "import math\ndef area(r):\n", "import math\ndef area(r):\n");
    check(&input(prefix), "def area(r):\n    # the area of a circle\n", "def area(r):\n    # the area of a circle\n");
    check(&input("def area("), "def area(r):\n    pass\n", "r):\n    pass\n");
    check(&input("def f():\n    x = 1\n    }\n"), "}\ny = 2\n", "}\ny = 2\n");
    check(&input("# sum"), "# sum\nx = 1\n", "\nx = 1\n");
}

#[test]
fn whole_answers_begin_a_line_where_the_endpoint_asks_for_it() {
    let begins = |prefix: &str| Input { begins_line: true, ..input(prefix) };
    check(&begins("# the area"), "def area():\n", "\ndef area():\n");
    check(&begins("# the area"), "\ndef area():\n", "\ndef area():\n");
    check(&begins("# the area\n"), "def area():\n", "def area():\n");
    check(&begins(""), "def area():\n", "def area():\n");
    check(&begins("def area("), "def area(r):\n", "r):\n");
    check(&input("# the area"), "def area():\n", "def area():\n");
}

#[test]
fn fences_of_markdown_stay() {
    let markdown = Input { file_name: "README.md".to_owned(), ..Input::default() };
    check(&markdown, "Run:\n```sh\nmake\n```\nDone.\n", "Run:\n```sh\nmake\n```\nDone.\n");
    check(&markdown, "<new_code>\n```sh\nmake\n```\n</new_code>", "```sh\nmake\n```\n");
}

#[test]
fn underscores_are_unescaped_for_models_that_escape_them() {
    let mut shape = GenerationShape::new(&input(""), Some(Family::Mixtral));
    assert_eq!(shape_whole(&mut shape, "my\\_name = 1\n", FinishReason::Stop), "my_name = 1\n");
}

#[test]
fn hostile_answers_end_soon() {
    let mut shape = GenerationShape::new(&input("x\n"), None);
    let mut out = String::new();
    let piece = "y".repeat(1000);
    let taken = (0..10_000).take_while(|_| shape.push(&piece, &mut out) == Flow::More).count();
    shape.finish(FinishReason::Length, &mut out);
    assert!(taken < 20, "{taken} pieces taken in");
    assert_eq!(out, "");
    let nested = format!("{}x = 1\n{}", "<new_code>".repeat(50), "</new_code>".repeat(50));
    check(&input("y\n"), &nested, "x = 1\n");
    check(&input("y\n"), "`".repeat(200).as_str(), "");
}

#[test]
fn the_prompt_holds_what_gitlab_knows() {
    let mut asked = input("import math\n# the area of a circle\n");
    asked.suffix = "print(area(2))\n".to_owned();
    asked.user_instruction = Some("Use math.pi.".to_owned());
    asked.related = vec!["<file_content file_name=\"a.py\">\nPI = 3\n</file_content>\n".to_owned()];
    asked.libraries = vec!["numpy".to_owned(), "scipy".to_owned()];
    asked.examples = vec![Example { code: "# one\n".to_owned(), answer: "<new_code>ONE = 1</new_code>".to_owned() }];
    let planned = plan(&asked, &model(true, true), &SETTINGS);
    let Prompt::Chat(chat) = planned.plan.prompt else { panic!("a model trained to converse") };
    assert_eq!(chat.answer_prefix, "<new_code>\n");
    let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(chat.messages[2].content, "<new_code>\nONE = 1\n</new_code>");
    let question = &chat.messages[3].content;
    for part in
        ["src/area.py", "python", "# the area of a circle", "print(area(2))", "PI = 3", "numpy, scipy", "Use math.pi."]
    {
        assert!(question.contains(part), "{part} is missing in {question}");
    }
    assert_eq!(planned.plan.stop.max_tokens, Some(2048));
    assert_eq!(planned.plan.stop.stop, ["</new_code>"]);
    assert_eq!(planned.plan.class, Class::Chat);
}

#[test]
fn a_prompt_that_was_sent_is_used_as_it_is() {
    let given = Given::Text("Write a haiku.".to_owned());
    let planned = plan(&Input { given: Some(given), ..input("x\n") }, &model(true, true), &SETTINGS);
    let Prompt::Chat(chat) = planned.plan.prompt else { panic!("a model trained to converse") };
    assert_eq!((chat.messages.len(), chat.messages[0].content.as_str()), (1, "Write a haiku."));
    assert_eq!(chat.answer_prefix, "");
    let message = Message { role: Role::User, content: "Hello".to_owned() };
    let planned =
        plan(&Input { given: Some(Given::Messages(vec![message])), ..input("x\n") }, &model(true, true), &SETTINGS);
    assert!(matches!(planned.plan.prompt, Prompt::Chat(chat) if chat.messages[0].content == "Hello"));
}

#[test]
fn models_that_cannot_be_asked_go_on_with_the_code() {
    let mut planned = plan(&input("# area\ndef area(r):"), &model(true, false), &SETTINGS);
    assert!(matches!(&planned.plan.prompt, Prompt::Infill(infill) if infill.prefix == "# area\ndef area(r):"));
    let text = "\n    return 3 * r\n\ndef other():\n";
    let shaped = shape_whole(planned.plan.shape.as_mut(), text, FinishReason::Length);
    assert_eq!(shaped, "\n    return 3 * r");
    let planned = plan(&input("# area\n"), &model(false, false), &SETTINGS);
    assert!(matches!(&planned.plan.prompt, Prompt::Text(text) if text == "# area\n"));
}

#[test]
fn what_does_not_fit_is_cut_and_counted() {
    let long: String = (0..5000).map(|number| format!("value_{number} = {number}\n")).collect();
    let planned = plan(&input(&long), &model(false, true), &SETTINGS);
    assert!(planned.trimmed.prefix_chars_dropped > 0);
    let Prompt::Chat(chat) = planned.plan.prompt else { panic!("a model trained to converse") };
    assert!(chat.messages[1].content.contains("value_4999 = 4999"));
    assert!(!chat.messages[1].content.contains("value_0 = 0\n"));
}
