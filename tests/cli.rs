//! The verbs that need no server, as they are typed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sconce(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    // It need not read.
    drop(process.stdin.take().expect("piped").write_all(input.as_bytes()));
    process.wait_with_output().expect("it ends")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let output = sconce(arguments, &[], "");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing from: {text}");
    }
    text
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the folder is writable");
    path.display().to_string()
}

#[test]
fn fills_in_at_a_cursor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = written(folder.path(), "add.py", b"def add(a, b):\n    return \n\nprint(add(2, 3))\n");
    let arguments = ["complete", &format!("{file}:2"), "--max-tokens", "8", "--kv-memory", "64MiB"];
    let output = sconce(&arguments, &[], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stdout.is_empty());
    assert_eq!(sconce(&arguments, &[], "").stdout, output.stdout, "greedy answers repeat");
}

#[test]
fn says_what_is_left_out_of_a_long_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let long: String = (0..20_000).map(|line| format!("value_{line} = compute({line})\n")).collect();
    let file = written(folder.path(), "long.py", long.as_bytes());
    let place = format!("{file}:10000");
    check(&["complete", &place, "--max-tokens", "4", "--kv-memory", "64MiB"], 0, &["of 20001 lines around the cursor"]);
}

#[test]
fn places_that_are_not_there_are_explained() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = written(folder.path(), "two.py", b"one\ntwo\n");
    let binary = written(folder.path(), "binary", b"\x7fELF\0\0");
    check(&["complete", "two.py"], 2, &["FILE:LINE", "src/main.rs:12"]);
    check(&["complete", "/nowhere/x.py:1"], 1, &["cannot read /nowhere/x.py"]);
    check(&["complete", &format!("{text}:9")], 1, &["has 2 lines", "no line 9"]);
    check(&["complete", &format!("{text}:1:9")], 1, &["ends at column 4", "no column 9"]);
    check(&["complete", &format!("{binary}:1")], 1, &["is not text"]);
    check(&["complete", &format!("{text}:1"), "--model", "ghost"], 2, &["no model `ghost`", "sconce"]);
}

#[test]
fn answers_a_question_from_a_pipe() {
    let arguments = ["chat", "--max-tokens", "8", "--kv-memory", "64MiB"];
    let output = sconce(&arguments, &[], "Hello");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let too_long = sconce(&arguments, &[], &"word ".repeat(20_000));
    let error = String::from_utf8_lossy(&too_long.stderr).into_owned();
    assert_eq!(too_long.status.code(), Some(1), "{error}");
    assert!(error.contains("the context of sconce holds"), "{error}");
    check(&["chat"], 2, &["nothing was asked"]);
}

#[test]
fn lists_models() {
    check(&["models"], 0, &["NAME", "sconce", "MiB"]);
    let json: serde_json::Value = serde_json::from_str(&check(&["models", "--json"], 0, &[])).expect("JSON");
    assert_eq!(json[0]["name"], "sconce");
    assert!(json[0]["parameters"].as_u64() > Some(0), "{json}");
}

#[test]
fn measures_a_shape_without_its_weights() {
    let quick = ["bench", "engine", "--device", "cpu", "--threads", "2", "--context", "20", "--prefill", "20"];
    let tiny = [&quick[..], &["--random", "tiny", "--batch", "2,1", "--steps", "3", "--repeat", "1"]].concat();
    check(&tiny, 0, &["tiny: random weights of seed 1, 115.3 k parameters, BF16", "PREFILL", "OF F32 RATE", "BATCH"]);
    let output = sconce(&[&tiny[..], &["--quantise", "q8_0", "--json"]].concat(), &[], "");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON");
    assert_eq!((&report["bench"], &report["model"]["weight_type"]), (&"engine".into(), &"Q8_0".into()));
    assert_eq!(report["settings"]["batches"], serde_json::json!([1, 2]));
    assert_eq!(report["decode"][1]["batch"], 2);
    assert!(report["decode"][1]["tokens_per_s"]["median"].as_f64() > Some(0.0), "{report}");
    assert!(report["decode"][1]["host_us_per_step"].is_null(), "{report}");
}

#[test]
fn a_bench_that_cannot_be_is_explained() {
    let bench = |arguments: &[&str], code: i32, parts: &[&str]| {
        check(&[&["bench", "engine"], arguments].concat(), code, parts);
    };
    bench(&["--random", "gpt-5"], 2, &["gpt-5", "qwen2.5-coder-0.5b", "llama-3.1-8b"]);
    bench(&["--random", "tiny", "--embedded"], 2, &["cannot be used with"]);
    bench(&["--batch", "4,0"], 2, &["--batch", "0", "1..=1024"]);
    bench(&["--repeat", "0"], 2, &["--repeat", "1..=10000"]);
    bench(&["--quantize", "q2"], 2, &["q2", "q8_0", "int4"]);
    bench(&["--random", "tiny", "--context", "1020"], 2, &["1020", "1024", "--context", "32 steps"]);
    bench(&["--random", "tiny", "--device", "cpu", "--quantize", "fp8"], 4, &["fp8", "none and q8_0"]);
    bench(&["--model", "/nowhere/model.gguf"], 4, &["cannot read /nowhere/model.gguf"]);
}

#[test]
fn settings_say_where_they_come_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = written(folder.path(), "sconce.toml", b"[engine]\nrunning_max = 7\n");
    let environment = [("SCONCE_CONFIG", file.as_str()), ("SCONCE__AUTH__KEYS", "sk-very-secret-0123456789")];
    let output = sconce(&["check-config", "--threads", "2"], &environment, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let origin = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key}"));
    assert!(origin("engine.threads").contains("flag --threads"), "{text}");
    assert!(origin("engine.running_max").contains(&format!("file {file}")), "{text}");
    assert!(origin("auth.keys ").contains("environment SCONCE__AUTH__KEYS"), "{text}");
    assert!(origin("server.listen").contains("default"), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_problems() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = written(folder.path(), "sconce.toml", b"[server]\nlistn = \"127.0.0.1:1\"\n[engine]\nthreads = \"x\"\n");
    let parts = [file.as_str(), "did you mean `server.listen`?", "`engine.threads`"];
    check(&["check-config", "--config", &file], 3, &parts);
    check(&["serve", "--config", &file], 3, &parts);
    check(&["models", "--config", &file], 3, &parts);
    let output = sconce(&["check-config", "--json", "--config", &file], &[], "");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(2), "{json}");
}

#[test]
fn the_small_verbs_answer() {
    check(&["version"], 0, &[env!("CARGO_PKG_VERSION"), "gpu: "]);
    check(&["completions", "bash"], 0, &["_sconce", "check-config"]);
    check(&["key", "new", "alice"], 0, &["sk-sconce-", "alice sha256:"]);
    check(&["key", "new", "not a name"], 2, &["letters"]);
    check(&["--help"], 0, &["Examples", "Exit codes", "complete"]);
    check(&["serve", "--help"], 0, &["--listen", "--kv-memory", "SIGTERM"]);
    check(&["srve"], 2, &["serve"]);
}

#[test]
fn documentation_is_imported_and_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = folder.path().join("docs.db");
    let index = index.to_str().expect("a plain path");
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/search/data");
    check(&["docs", "import", data, "--index", index], 0, &["pages in", "index"]);
    check(&["docs", "status", "--index", index], 0, &["pages", "docs.gitlab.com"]);
    check(&["docs", "import", "/nowhere", "--index", index], 1, &["cannot read the folder /nowhere"]);
    check(&["docs", "status", "--index", "/nowhere/docs.db"], 1, &["no documentation index", "docs import"]);
    check(&["docs", "status"], 3, &["state.dir", "gitlab.docs_index", "--index"]);
}

/// A server that nobody runs: every attempt to connect is refused.
const NOWHERE: &str = "http://127.0.0.1:1";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\\nc2VzYW1lc2VzYW1l\\n-----END PRIVATE KEY-----";
/// Header and payload of a token that nobody signed; its parts are sayings of nobody.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2dpdGxhYi5leGFtcGxlLmNvbSIsImF1ZCI6ImdpdGxhYi1haS1nYXRld2F5Iiwic3ViIjoiaSIsImV4cCI6MSwic2NvcGVzIjpbImNvbXBsZXRlX2NvZGUiXX0.c2VzYW1lc2VzYW1l";

#[test]
fn variables_of_gitlabs_gateway_are_settings_or_notices() {
    let environment = [
        ("AIGW_GITLAB_URL", "https://gitlab.example.com"),
        ("AIGW_FASTAPI__API_HOST", "0.0.0.0"),
        ("AIGW_SNOWPLOW__ENABLED", "true"),
        ("AIGW_GITLAB_ULR", "x"),
    ];
    let output = sconce(&["check-config"], &environment, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in [
        "environment AIGW_GITLAB_URL",
        "environment AIGW_FASTAPI__API_HOST",
        "notice: AIGW_SNOWPLOW__ENABLED has no effect",
        "did you mean AIGW_GITLAB_URL?",
    ] {
        assert!(text.contains(part), "`{part}` is missing from: {text}");
    }
    let output = sconce(&["check-config", "--json"], &environment, "");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["notices"].as_array().map(Vec::len), Some(2), "{json}");
    let open = [environment[0], environment[1], ("AIGW_AUTH__BYPASS_EXTERNAL", "true")];
    let output = sconce(&["serve"], &open, "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("gitlab.bypass_external") && error.contains("loopback only"), "{error}");
}

#[test]
fn the_doctor_explains_and_keeps_secrets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token_file = written(folder.path(), "token.txt", TOKEN.as_bytes());
    let state = folder.path().join("state");
    let environment = [
        ("SCONCE__STATE__DIR", state.to_str().expect("a plain path")),
        ("SCONCE__GITLAB__MODEL_API_KEY", "c2VzYW1lc2VzYW1l"),
        ("AIGW_SELF_SIGNED_JWT__VALIDATION_KEY", PEM),
        ("SCONCE__EGRESS__HTTPS_PROXY", "http://me:c2VzYW1lc2VzYW1l@127.0.0.1:1"),
    ];
    let arguments = ["doctor", "--gitlab", NOWHERE, "--server", NOWHERE, "--token-file", &token_file];
    let mut texts = Vec::new();
    for json in [false, true] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(json.then_some("--json")).collect();
        let output = sconce(&arguments, &environment, "");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // The key that was seeded is none, which ends the look at the token; nothing of it may be shown.
        assert!(!output.status.success(), "{text}");
        assert!(!text.contains("c2VzYW1l") && !text.contains("eyJ"), "shows a secret: {text}");
        texts.push(text);
    }
    assert!(!state.exists(), "a look leaves nothing behind");
    let output = sconce(&["doctor", "--gitlab", NOWHERE, "--json"], &environment[..2], "");
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = json["sections"].as_array().expect("sections").iter().flat_map(|section| section["checks"].as_array());
    let failed: Vec<&serde_json::Value> = checks.flatten().filter(|check| check["verdict"] == "fail").collect();
    assert!(failed.iter().any(|check| check["name"] == "discovery"), "{json}");
    assert!(failed.iter().all(|check| check["next_step"].as_str().is_some_and(|step| !step.is_empty())), "{json}");
    check(&["doctor", "--gitlab", "gitlab.example.com"], 1, &["FAIL", "gitlab.url", "http or https"]);
}

#[test]
fn health_without_a_server_says_what_to_do() {
    check(&["health", "--server", NOWHERE], 1, &["sconce: unreachable: http://127.0.0.1:1", "sconce serve"]);
    check(&["health", "--server", "127.0.0.1:1"], 3, &["127.0.0.1:1", "http or https"]);
    let environment = [("SCONCE__SERVER__LISTEN", "127.0.0.1:1"), ("HTTP_PROXY", "http://127.0.0.1:2")];
    let output = sconce(&["health", "--json"], &environment, "");
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["server"], &json["state"]), (&NOWHERE.into(), &"unreachable".into()), "{json}");
    let environment = [("SCONCE__SERVER__LISTN", "127.0.0.1:1")];
    assert_eq!(sconce(&["health"], &environment, "").status.code(), Some(3), "the configuration is not understood");
}

#[test]
fn a_token_is_explained_and_not_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let environment = [("SCONCE__STATE__DIR", state.to_str().expect("a plain path"))];
    let arguments = ["token", "inspect", "--gitlab", NOWHERE];
    let output = sconce(&arguments, &environment, &format!("Bearer {TOKEN}\n"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["would be refused", "no key of GitLab is known", "https://gitlab.example.com", "complete_code"] {
        assert!(text.contains(part), "`{part}` is missing from: {text}");
    }
    assert!(!text.contains("eyJ") && !text.contains("c2VzYW1l"), "shows the token: {text}");
    assert!(!state.exists(), "a look leaves nothing behind");
    let json = sconce(&["token", "inspect", "--gitlab", NOWHERE, "--json"], &environment, TOKEN);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["is_accepted"], false, "{json}");
    let garbage = sconce(&arguments, &environment, "not a token");
    assert_eq!(garbage.status.code(), Some(1));
    assert_eq!(sconce(&arguments, &environment, "").status.code(), Some(2), "nothing was piped in");
    check(&["token", "inspect", "--file", "/nowhere/token"], 1, &["/nowhere/token"]);
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(["completions", "bash"]).env_clear().stdin(Stdio::null());
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    drop(process.stdout.take());
    let output = process.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), output.stderr.len()),
        (Some(0), 0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
