//! That the binary connects to nobody and asks for no name, unless the configuration names somebody: every call of the C
//! library that could is written down by a small library in front of it (`recorder.c`).

use super::cluster::Cluster;
use super::process::{Folder, Sconce};
use super::{ASK, settings};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The recorder, compiled into `folder`.
fn recorder(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote/recorder.c");
    let library = folder.join("recorder.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let ended = compiler.status().expect("a C compiler, which building needs too");
    assert!(ended.success(), "the recorder does not compile");
    library
}

/// Start, a mixed workload, and the end; what was written down meanwhile.
fn recorded(settings: &str, model: &str) -> String {
    let folder = Folder::new();
    let (library, record) = (recorder(&folder.0), folder.0.join("record"));
    let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
    let environment = [("LD_PRELOAD", &*text(&library)), ("RECORD_TO", &*text(&record))];
    let sconce = Sconce::start(settings, &environment);
    let ask = ASK.replace("coder", model);
    let stream = ask.replace("\"temperature\"", "\"stream\":true,\"temperature\"");
    let infill = ask.replace("\"temperature\"", "\"suffix\":\"\\n\",\"temperature\"");
    for body in [&ask, &stream, &infill, "{", "{\"model\":\"http://elsewhere.example.com/\",\"prompt\":\"a\"}"] {
        sconce.post("/v1/completions", body);
    }
    let chat = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"see http://elsewhere.example.com"}}],"max_tokens":4}}"#
    );
    sconce.post("/v1/chat/completions", &chat);
    let code = r#"{"prompt_version":1,"current_file":{"file_name":"a.py","content_above_cursor":"a","content_below_cursor":""},"model_endpoint":"http://elsewhere.example.com/v1","model_name":"mistral","model_identifier":"custom_openai/elsewhere"}"#;
    sconce.post("/v2/code/completions", code);
    for page in ["/v1/models", "/health", "/monitoring/healthz", "/monitoring/ready", "/metrics", "/nowhere"] {
        sconce.get(page);
    }
    sconce.stop();
    std::fs::read_to_string(&record).unwrap_or_default()
}

#[test]
fn without_a_provider_nobody_is_called() {
    assert_eq!(recorded("", "sconce"), "");
}

#[test]
fn in_an_airgap_nobody_is_called() {
    // GitLab's name would be asked for the keys of its tokens, and by nothing else here; without it there is nobody.
    let text = "[egress]\nmode = \"airgap\"\n[gitlab]\nbypass_external = true\n";
    assert_eq!(recorded(text, "sconce"), "");
}

/// Without this the two above could not fail.
#[test]
fn with_a_provider_it_is_called_and_nobody_else() {
    let cluster = Cluster::start();
    let record = recorded(&settings(&cluster), "far");
    let expected = format!("connect 127.0.0.1 {}", cluster.port());
    assert!(!record.is_empty() && record.lines().all(|line| line == expected), "{record}");
}
