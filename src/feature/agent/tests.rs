//! Whole steps: what a model may write, cut at every character, and the prompt it is asked with.

use super::*;
use crate::domain::{Chat, FinishReason, ModelInfo, Prompt, Role};
use crate::feature::{Family, Flow};

/// What GitLab makes of the events of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Answer { text: String, reason: FinishReason },
    Action { tool: &'static str, tool_input: String, thought: String },
    Unknown(String),
}

/// A call with its facts.
#[derive(Clone, Default)]
struct Case {
    input: Input,
    family: Option<Family>,
    without: &'static [&'static str],
    version: Option<&'static str>,
    answer_now: bool,
    context_tokens: Option<usize>,
}

impl Case {
    fn asking(question: &str) -> Self {
        Self { input: Input { turns: vec![turn(Role::User, question)], ..Input::default() }, ..Self::default() }
    }

    fn after(mut self, steps: &[(&str, &str, &str)]) -> Self {
        self.input.steps = steps
            .iter()
            .map(|(tool, tool_input, observation)| Step {
                thought: "I need it".to_owned(),
                tool: (*tool).to_owned(),
                tool_input: (*tool_input).to_owned(),
                observation: (*observation).to_owned(),
            })
            .collect();
        self
    }

    fn planned(&self) -> Planned {
        let model = model(self.context_tokens.unwrap_or(32_768), true);
        let facts = Facts {
            model: &model,
            family: self.family,
            has_scope: &|scope| !self.without.contains(&scope),
            gitlab_version: self.version,
            current_date: "October 05, 2026",
            max_tokens: None,
            answer_now: self.answer_now,
        };
        plan(self.input.clone(), &facts).expect("the model can chat")
    }

    fn chat(&self) -> Chat {
        match self.planned().plan.prompt {
            Prompt::Chat(chat) => chat,
            other => panic!("a chat is asked as one, not as {other:?}"),
        }
    }

    /// Reads the pieces and holds the events to the one rule: deltas, or one action, or one unknown text.
    fn said<'a>(&self, pieces: impl IntoIterator<Item = &'a str>, reason: FinishReason) -> Said {
        let mut parser = self.planned().parser;
        let mut events = Vec::new();
        for piece in pieces {
            if parser.push(piece, &mut events) == Flow::Enough {
                break;
            }
        }
        parser.finish(reason, &mut events);
        let spoken = events.len();
        parser.finish(reason, &mut events);
        assert_eq!(events.len(), spoken, "an answer ends once");
        said(events)
    }
}

fn said(events: Vec<AgentEvent>) -> Said {
    let last = events.len().checked_sub(1).expect("silence has no words");
    let mut answer = String::new();
    for (index, event) in events.into_iter().enumerate() {
        match event {
            AgentEvent::Delta { text, finish_reason } => {
                assert!(!text.is_empty(), "an empty delta");
                assert_eq!(finish_reason.is_some(), index == last, "the last delta, and only it, says why it ended");
                answer.push_str(&text);
                if let Some(reason) = finish_reason {
                    return Said::Answer { text: answer, reason };
                }
            }
            AgentEvent::Action { tool, tool_input, thought } => {
                assert_eq!(last, 0, "an action stands alone");
                return Said::Action { tool, tool_input, thought };
            }
            AgentEvent::Unknown { text } => {
                assert!(last == 0 && !text.trim().is_empty(), "an unknown text stands alone and says something");
                return Said::Unknown(text);
            }
        }
    }
    panic!("an answer without an end");
}

fn turn(role: Role, content: &str) -> Turn {
    Turn { role, content: content.to_owned(), context: Context::default() }
}

fn model(context_tokens: usize, has_chat: bool) -> ModelInfo {
    ModelInfo {
        name: "coder".to_owned(),
        architecture: "qwen2".to_owned(),
        context_tokens,
        vocab_size: 1000,
        parameters: 1,
        has_infill: true,
        has_chat,
        created: 0,
    }
}

fn answer(text: &str) -> Said {
    Said::Answer { text: text.to_owned(), reason: FinishReason::Stop }
}

fn action(tool: &'static str, tool_input: &str, thought: &str) -> Said {
    Said::Action { tool, tool_input: tool_input.to_owned(), thought: thought.to_owned() }
}

fn unknown(text: &str) -> Said {
    Said::Unknown(text.to_owned())
}

/// Whole, cut in two at every character, and character by character.
fn check(case: &Case, text: &str, expected: &Said) {
    assert_eq!(case.said([text], FinishReason::Stop), *expected, "whole: {text:?}");
    for (at, _) in text.char_indices() {
        assert_eq!(case.said([&text[..at], &text[at..]], FinishReason::Stop), *expected, "cut at {at}: {text:?}");
    }
    let chars: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(case.said(chars.iter().map(String::as_str), FinishReason::Stop), *expected, "in pieces: {text:?}");
}

const EMPTY: &str = "The model returned an empty answer. Please try again, or put the question differently.";

#[test]
fn answers_are_found_behind_their_marker() {
    let case = Case::asking("What is issue 12 about?");
    let check = |text: &str, expected: &str| check(&case, text, &answer(expected));
    check(" I know.\nFinal Answer: Hello! How can I help?", "Hello! How can I help?");
    check(" I know.\n\n**Final Answer:** **Bold** it is", "**Bold** it is");
    check("I know.\n**Final Answer**: It is\n\n- a\n- b\n\n", "It is\n\n- a\n- b");
    check("Thought: I know. Final Answer: yes", "yes");
    check("**Thought:** I know.\n### final answer :\n\nyes", "yes");
    check("I know.\nfinal_answer：да, это так", "да, это так");
    check("x\nFinal Answer: a\nObservation: made up", "a");
    check("x\nFinal Answer: a\n\n**Observation**: made up\nFinal Answer: b", "a");
    check("x\nFinal Answer: An Observation: it rains", "An Observation: it rains");
    check(
        "x\nFinal Answer: see\n```\nObservation: quoted\nFinal Answer: too\n```\ndone",
        "see\n```\nObservation: quoted\nFinal Answer: too\n```\ndone",
    );
    check(
        "x\nFinal Answer: a\n~~~~ text\n```\nObservation: b\n~~~~\nObservation: c",
        "a\n~~~~ text\n```\nObservation: b\n~~~~",
    );
    check("x\nFinal Answer: Observations are fun\nObservatory", "Observations are fun\nObservatory");
    check("x\nFinal Answer: steps\nAction: press the button\nend", "steps\nAction: press the button\nend");
    check("x\nFinal Answer: a\nAction: issue_reader\nAction Input: 12", "a");
    check("x\nAction: issue_reader\nAction Input: 12\nThought: I know\nFinal Answer: it", "it");
    check("x\nFinal Answer: Ünïcödé 🦀 ok", "Ünïcödé 🦀 ok");
    check("x\nFinal Answer: a\\_b", "a\\_b");
}

#[test]
fn actions_are_read_in_any_spelling() {
    let case = Case::asking("What is issue 12 about?");
    let check = |text: &str, tool: &'static str, tool_input: &str, thought: &str| {
        check(&case, text, &action(tool, tool_input, thought));
    };
    let thought = "I need the issue";
    check(" I need the issue\nAction: issue_reader\nAction Input: issue 12", "issue_reader", "issue 12", thought);
    check(
        "I need the issue\nAction: IssueReader\nAction Input: \"issue 12\"\nObservation: x",
        "issue_reader",
        "issue 12",
        thought,
    );
    check(
        "I need the issue\n**Action:** `issue reader`\n**Action Input:** `issue 12`\n",
        "issue_reader",
        "issue 12",
        thought,
    );
    check(
        "Thought: I need the issue. Action: issue_reader Action Input: issue 12 Observation: no",
        "issue_reader",
        "issue 12",
        "I need the issue.",
    );
    check("I need the issue\nAction: MergeRequestReader\nAction Input: !3", "merge_request_reader", "!3", thought);
    check("I need the issue\nAction: issue\\_reader\nInput: the\\_issue", "issue_reader", "the_issue", thought);
    check("I need the issue\nAction: issue_reader(\"issue 12\")", "issue_reader", "issue 12", thought);
    check("I need the issue\nAction: Use the issue_reader tool now\nAction Input: 12", "issue_reader", "12", thought);
    check("I need the issue\nAction: issue_reader", "issue_reader", "What is issue 12 about?", thought);
    check("I need the issue\nAction: issue_reader\nAction Input:", "issue_reader", "What is issue 12 about?", thought);
    check("Action: gitlab_documentation\nAction Input: a\nb\n", "gitlab_documentation", "a\nb", "");
    check(
        "I need the issue\nAction: issue_reader\nAction Input: {\"question\": \"issue 12\"}",
        "issue_reader",
        "issue 12",
        thought,
    );
    check(
        "I need the issue\nAction: issue_reader\nAction Input: 1\nAction: epic_reader\nAction Input: 2",
        "issue_reader",
        "1",
        thought,
    );
    check(
        "I need the issue\n<tool_call>\n{\"name\": \"issue_reader\", \"arguments\": {\"question\": \"issue: 12\"}}\n</tool_call>",
        "issue_reader",
        "issue: 12",
        thought,
    );
    check(
        "<think>Action: epic_reader\n</think>\n\nI need the issue\nAction: issue_reader\nAction Input: 12",
        "issue_reader",
        "12",
        thought,
    );
}

#[test]
fn what_gitlab_does_not_know_never_reaches_it() {
    let no_tool = "I have no tool for this here, so I could not look it up. Please paste the text in question, or ask in \
                   another way.";
    let case = Case { without: &["ask_issue"], ..Case::asking("What is issue 12 about?") };
    check(&case, "I need it\nAction: issue_reader\nAction Input: 12", &unknown(&format!("I need it\n\n{no_tool}")));
    check(&case, "I need it\nAction: web_search\nAction Input: 12", &unknown(&format!("I need it\n\n{no_tool}")));
    check(&case, "Action: web_search", &unknown(no_tool));
    check(&case, "I know\nAction: None\nAction Input: It is about login.", &unknown("It is about login."));
    check(&case, "x\nAction: web_search\nAction Input: 12\nFinal Answer: It is.", &answer("It is."));
    check(&case, "<tool_call>{\"name\": \"rm\"}</tool_call>", &unknown(no_tool));
    check(&case, "<tool_call>{\"name\": \"epic_reader\", \"argu", &unknown(no_tool));
    check(&case, "The GitHub Action: builds\nit all", &answer("The GitHub Action: builds\nit all"));
    check(&case, "The GitHub Action: builds", &unknown("The GitHub Action: builds"));
    let old = Case { version: Some("17.4.0"), ..Case::asking("q") };
    check(&old, "x\nAction: build_reader\nAction Input: 1", &unknown(&format!("x\n\n{no_tool}")));
    let done = "I need it\nAction: issue_reader\nAction Input: Issue 12!";
    let again = Case::asking("q").after(&[("IssueReader", "issue 12", "title: ```Login``` fails")]);
    check(
        &again,
        done,
        &unknown("I looked this up with `issue_reader`. GitLab returned:\n\n````text\ntitle: ```Login``` fails\n````"),
    );
    let unanswered = Case::asking("q").after(&[("issue_reader", "issue 12", "")]);
    check(&unanswered, done, &action("issue_reader", "Issue 12!", "I need it"));
    let mut parser = again.planned().parser;
    parser.push(done, &mut Vec::new());
    assert!(parser.repeats_itself());
    let mut parser = unanswered.planned().parser;
    parser.push(done, &mut Vec::new());
    assert!(!parser.repeats_itself());
}

#[test]
fn text_without_a_form_is_still_an_answer() {
    let case = Case::asking("What is issue 12 about?");
    check(&case, "It is about login.", &unknown("It is about login."));
    check(&case, " **Thought:** It is about login. ", &unknown("It is about login."));
    check(&case, "Question: q\nThought: It is", &unknown("It is"));
    check(&case, "It is\nObservation: made up\nFinal Answer: no", &unknown("It is"));
    check(&case, "Observation: It is", &unknown("It is"));
    check(&case, "", &unknown(EMPTY));
    check(&case, " \n", &unknown(EMPTY));
    check(&case, "x\nFinal Answer:\n\n", &unknown(EMPTY));
    check(&case, "<think>x</think>", &unknown(EMPTY));
    check(&case, "<think>x", &unknown(EMPTY));
    check(&case, "<think>a<think>b</think>c</think>d", &unknown("d"));
    check(&case, "hm</think>\nFinal Answer: d", &answer("d"));
    let long = "word ".repeat(60);
    check(&case, &long, &answer(long.trim()));
    check(
        &case,
        &format!("{long}\nFinal Answer: It is.\n"),
        &answer(&format!("{}\nIt is.", long.trim_end().to_owned() + " ")),
    );
    check(&case, &format!("{long}\nAction: issue_reader\nAction Input: 12"), &answer(long.trim()));
    check(&case, &format!("{long}\nObservation: no"), &answer(long.trim()));
    // The limit of 256 characters falls into a marker.
    for length in 236..262 {
        let thought = "t".repeat(length);
        check(
            &case,
            &format!("{thought}\nFinal Answer: It is."),
            &match length {
                ..=255 => answer("It is."),
                _ => answer(&format!("{thought}\nIt is.")),
            },
        );
    }
    assert_eq!(
        case.said(["x\nFinal Answer: cut he"], FinishReason::Length),
        Said::Answer { text: "cut he".to_owned(), reason: FinishReason::Length }
    );
    let cut = case.said(["<think>x"], FinishReason::Length);
    assert!(matches!(cut, Said::Unknown(text) if text.starts_with("The model ran out of room")));
}

#[test]
fn an_announced_answer_is_said_as_it_comes() {
    let forced = Case { answer_now: true, ..Case::asking("q") };
    let steps = ("issue_reader", "12", "title");
    for case in [forced, Case::asking("q").after(&[steps, steps]), Case { without: TOOL_SCOPES, ..Case::asking("q") }] {
        check(&case, " It is.", &answer("It is."));
        check(&case, "Final Answer: It is.", &answer("It is."));
        check(&case, "**Thought:** I know\nFinal Answer: It is.", &answer("I know\nIt is."));
        check(&case, "It is.\nFinal Answer: It is.\nFinal Answer: It is.", &answer("It is."));
    }
    let case = Case { answer_now: true, ..Case::asking("q") };
    check(&case, "Action: issue_reader\nAction Input: 12", &unknown(EMPTY));
    let mixtral = Case { family: Some(Family::Mixtral), ..Case::asking("q") };
    check(&mixtral, "x\nFinal Answer: a\\_b\\\\_c\\", &answer("a_b\\_c\\"));
}

#[test]
fn the_first_words_of_an_answer_do_not_wait_for_the_last() {
    let mut parser = Case::asking("q").planned().parser;
    let mut events = Vec::new();
    assert_eq!(
        parser.push(&format!("{}\nFinal Answer: Hello wor", "I know this. ".repeat(8)), &mut events),
        Flow::More
    );
    assert_eq!(events, [AgentEvent::Delta { text: "Hello wo".to_owned(), finish_reason: None }]);
    parser.push("ld\n\nObs", &mut events);
    parser.push("erv", &mut events);
    assert_eq!(events[1..], [AgentEvent::Delta { text: "rl".to_owned(), finish_reason: None }]);
    parser.push("e!", &mut events);
    assert_eq!(events[2..], [AgentEvent::Delta { text: "d\n\nObserve".to_owned(), finish_reason: None }]);
    assert_eq!(parser.push(" it\nObservation:", &mut events), Flow::Enough);
    parser.push("never read", &mut events);
    parser.finish(FinishReason::Length, &mut events);
    let last = AgentEvent::Delta { text: "t".to_owned(), finish_reason: Some(FinishReason::Stop) };
    assert_eq!(events.last(), Some(&last));
}

#[test]
fn enormous_texts_are_bounded() {
    let case = Case::asking("q");
    let words = "word ".repeat(2_000_000);
    let Said::Answer { text, .. } = case.said([words.as_str()], FinishReason::Length) else { panic!("text is text") };
    assert_eq!(text, words.trim());
    let thinking = format!("<think>{words}</think>Final Answer: ok");
    assert_eq!(case.said([thinking.as_str()], FinishReason::Stop), answer("ok"));
    let Said::Action { tool_input, .. } =
        case.said([format!("x\nAction: issue_reader\nAction Input: {words}").as_str()], FinishReason::Stop)
    else {
        panic!("a long question is a question");
    };
    assert_eq!(tool_input.chars().count(), 2000);
    let colons = ":".repeat(1_000_000);
    for head in ["", "x\nAction: issue_reader\nAction Input: ", "Final Answer: "] {
        case.said([format!("{head}{colons}").as_str()], FinishReason::Stop);
    }
    let fences = "```\n".repeat(1_000_000);
    case.said([format!("Final Answer: {fences}").as_str()], FinishReason::Stop);
    case.said(["\n".repeat(1_000_000).as_str()], FinishReason::Stop);
}

#[test]
fn garbage_is_always_one_of_three_things_and_where_it_is_cut_changes_nothing() {
    const WORDS: &[&str] = &[
        "Final Answer:",
        "Action:",
        "Action Input:",
        "Observation:",
        "Thought:",
        "Question:",
        "issue_reader",
        "\n",
        "\n\n",
        " ",
        "**",
        "`",
        "```",
        "~~~",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "{\"name\": \"epic_reader\"}",
        "\\_",
        "word",
        "é",
        "🦀",
        ":",
        "web_search",
        "_",
        "final answer",
        "(",
        ")",
        "\"",
        "longer words to fill a line with ",
    ];
    let cases = [
        Case::asking("q"),
        Case { answer_now: true, ..Case::asking("q") },
        Case { family: Some(Family::Mixtral), ..Case::asking("q").after(&[("issue_reader", "word", "done")]) },
    ];
    let mut random = Random(7);
    for round in 0..6000 {
        let text: String = (0..random.below(40)).map(|_| WORDS[random.below(WORDS.len())]).collect();
        let case = &cases[round % cases.len()];
        let whole = case.said([text.as_str()], FinishReason::Stop);
        let (mut pieces, mut rest) = (Vec::new(), text.as_str());
        while !rest.is_empty() {
            let cut = rest.char_indices().map(|(at, _)| at).nth(1 + random.below(9)).unwrap_or(rest.len());
            pieces.push(&rest[..cut]);
            rest = &rest[cut..];
        }
        assert_eq!(case.said(pieces, FinishReason::Stop), whole, "{text:?}");
    }
}

/// A small generator (xorshift64*), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

#[test]
fn the_prompt_says_who_what_and_how() {
    let mut case = Case::asking("What is this issue about?");
    case.input.unavailable = vec!["Pipelines".to_owned(), " ".to_owned(), "Vulnerabilities".to_owned()];
    case.input.turns[0].context = Context {
        resource: Some(Resource {
            kind: "merge_request".to_owned(),
            title: Some("Fix \"it\"\n".to_owned()),
            content: None,
        }),
        current_file: Some(CurrentFile { path: "a.rb".to_owned(), data: "puts 1\n".to_owned(), is_selection: true }),
        items: vec![Item {
            category: "file".to_owned(),
            id: Some("lib/b.rb".to_owned()),
            label: None,
            content: "puts 2".to_owned(),
        }],
    };
    let chat = case.chat();
    let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User]);
    assert_eq!(chat.answer_prefix, "Thought:");
    let system = &chat.messages[0].content;
    for part in [
        "- issue_reader: reads one issue",
        "- gitlab_documentation:",
        "Action Input:",
        "Final Answer:",
        "Example:\nQuestion: What is issue 7 about?",
        "cannot look at these: Pipelines, Vulnerabilities.",
        "Today is October 05, 2026.",
    ] {
        assert!(system.contains(part), "{part}: {system}");
    }
    assert_eq!(
        chat.messages[1].content,
        "<file name=\"lib/b.rb\">\nputs 2\n</file>\n\nI am looking at this merge request: \"Fix  it \".\n\nI have selected \
         this code:\n<file name=\"a.rb\">\nputs 1\n</file>\n\nQuestion: What is this issue about?"
    );
    let few = Case { without: &["ask_issue"], version: Some("17.11.0"), ..case }.chat();
    assert!(!few.messages[0].content.contains("issue_reader") && !few.messages[0].content.contains("work_item_reader"));
    assert!(few.messages[0].content.contains("Action: epic_reader"));
}

#[test]
fn what_was_said_stays_a_prefix_of_what_comes_next() {
    let mut first = Case::asking("What is issue 12 about?");
    let asked = first.chat().messages;
    let stepped =
        first.clone().after(&[("issue_reader", "issue 12", "title: Login"), ("epic_reader", "&4", "")]).chat();
    assert!(stepped.messages[..2] == asked[..]);
    let tail: Vec<_> = stepped.messages[2..].iter().map(|message| (message.role, message.content.as_str())).collect();
    assert_eq!(
        tail,
        [
            (Role::Assistant, "Thought: I need it\nAction: issue_reader\nAction Input: issue 12"),
            (Role::User, "Observation:\n<observation>\ntitle: Login\n</observation>"),
            (Role::Assistant, "Thought: I need it\nAction: epic_reader\nAction Input: &4"),
            (Role::User, "Observation: the tool returned nothing. Answer with what you know, or say what is missing."),
        ]
    );
    first.input.turns.extend([turn(Role::Assistant, "Login."), turn(Role::User, "Who wrote it?")]);
    let next = first.chat().messages;
    assert!(next[..2] == asked[..]);
    assert_eq!(next[2].content, "Thought: I can answer this.\nFinal Answer: Login.");
    assert_eq!(next.len(), 4);
}

#[test]
fn templates_get_the_roles_they_can_take() {
    let check = |case: &Case, expected: &[Role]| {
        let roles: Vec<Role> = case.chat().messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, expected);
    };
    let mut case = Case::asking("a");
    case.input.turns.insert(0, turn(Role::Assistant, "b"));
    case.input.turns.insert(0, turn(Role::System, "Be brief."));
    check(&case, &[Role::System, Role::User, Role::Assistant, Role::User]);
    assert!(case.chat().messages[0].content.ends_with("Be brief."));
    case.input.turns.push(turn(Role::User, "c"));
    check(&case, &[Role::System, Role::User, Role::Assistant, Role::User]);
    case.family = Some(Family::Mistral);
    check(&case, &[Role::User, Role::Assistant, Role::User]);
    case.input.turns.push(turn(Role::Assistant, "d"));
    check(&case, &[Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User]);
    check(&Case::default(), &[Role::System, Role::User]);
}

#[test]
fn context_is_cut_where_it_has_to_and_says_so() {
    let mut case = Case { context_tokens: Some(4000), ..Case::asking("q") };
    let item = |name: &str, chars: usize| Item {
        category: "file".to_owned(),
        id: Some(name.to_owned()),
        label: None,
        content: "ä".repeat(chars),
    };
    case.input.turns[0].context.items = vec![item("small", 100), item("large", 10_000), item("larger", 20_000)];
    let planned = case.planned();
    // Of 3000 tokens three quarters are left, at three characters each; half of them for context.
    assert_eq!(planned.context_chars_dropped, 30_100 - 100 - 2 * 2200);
    let text = &case.chat().messages[1].content;
    assert!(text.contains("[7800 more characters do not fit here and are not shown]"));
    assert!(text.contains("[17800 more characters do not fit here and are not shown]"));
    let whole = Case { context_tokens: Some(128_000), ..case };
    assert_eq!(whole.planned().context_chars_dropped, 0);
}

#[test]
fn limits_follow_family_model_and_operator() {
    let check = |context_tokens: usize, family: Option<Family>, operator: Option<usize>, expected: usize| {
        let model = model(context_tokens, true);
        let facts = Facts {
            model: &model,
            family,
            has_scope: &|_| true,
            gitlab_version: None,
            current_date: "",
            max_tokens: operator,
            answer_now: false,
        };
        let planned = plan(Case::asking("q").input, &facts).expect("the model can chat");
        assert_eq!(planned.plan.stop.max_tokens, Some(expected));
        assert!(planned.plan.stop.stop.is_empty());
    };
    check(128_000, None, None, 8192);
    check(128_000, Some(Family::Llama3), None, 4096);
    check(4096, None, None, 1024);
    check(128_000, None, Some(500), 500);
    check(128_000, Some(Family::Llama3), Some(9000), 9000);
    check(1, None, None, 1);
    let base = model(4096, false);
    let facts = Facts {
        model: &base,
        family: None,
        has_scope: &|_| true,
        gitlab_version: None,
        current_date: "",
        max_tokens: None,
        answer_now: false,
    };
    let error = plan(Case::asking("q").input, &facts).err().map(|error| error.to_string());
    let expected = "the model coder has no chat template: choose a model trained for chat for GitLab Duo Chat";
    assert_eq!(error.as_deref(), Some(expected));
}

#[test]
fn after_eight_steps_an_answer_is_asked_for() {
    let tools = ["issue_reader", "epic_reader"];
    let inputs: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let steps: Vec<_> =
        inputs.iter().enumerate().map(|(index, input)| (tools[index % 2], input.as_str(), "x")).collect();
    let forced = "Thought: I have what I need to answer.\nFinal Answer:";
    assert_eq!(Case::asking("q").after(&steps[..7]).chat().answer_prefix, "Thought:");
    assert_eq!(Case::asking("q").after(&steps).chat().answer_prefix, forced);
    let twice = [steps[0], steps[0]];
    assert_eq!(Case::asking("q").after(&twice).chat().answer_prefix, forced);
    assert_eq!(Case { without: TOOL_SCOPES, ..Case::asking("q") }.chat().answer_prefix, "");
}
