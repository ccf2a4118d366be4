//! The real binary with the embedded model on a port of its own choosing: what a newcomer, a client and a supervisor
//! see.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

const KEY: &str = "sk-test-0123456789abcdef";

fn sconce(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// A server that is up. Killed when dropped, so that a failed test leaves nothing behind.
struct Server {
    process: Child,
    banner: String,
    address: String,
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("SCONCE__METRICS__LISTEN", "127.0.0.1:0"),
            ("SCONCE__ENGINE__KV_MEMORY", "64MiB"),
            ("SCONCE__LOG__LEVEL", "warn"),
        ];
        all.extend_from_slice(environment);
        let mut command = sconce(&["serve", "--listen", "127.0.0.1:0", "--threads", "2"], &all);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut banner = String::new();
        while !banner.contains("curl ") {
            let read = stdout.read_line(&mut banner).expect("the banner is text");
            assert_ne!(read, 0, "the server ended before it was ready:\n{banner}");
        }
        let address = Self::line(&banner, "listening").trim_start_matches("http://").to_owned();
        Self { process, banner, address, _stdout: stdout }
    }

    /// What the banner says behind `label`.
    fn line(banner: &str, label: &str) -> String {
        let line = banner.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no `{label}` in:\n{banner}")).trim().to_owned()
    }

    fn get(&self, path: &str) -> Answer {
        exchange(&self.address, "GET", path, &[], "")
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        exchange(&self.address, "POST", path, &[], body)
    }

    fn terminate(&mut self) -> ExitStatus {
        let signalled = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(signalled.expect("kill runs").success());
        self.process.wait().expect("the process can be waited for")
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

fn exchange(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).expect("the server answers in text");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Answer { status, body: if is_chunked { unchunk(body) } else { body.to_owned() } }
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        if length == 0 {
            return text;
        }
        text.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    panic!("a chunked answer was cut off behind: {text}");
}

/// The answer that README.md shows for a request, which it has to show as well.
fn printed_answer(request: &str) -> serde_json::Value {
    let readme = include_str!("../README.md");
    let (_, behind) = readme.split_once(request).expect("README.md shows the request of the banner");
    let (_, json) = behind.split_once("```json\n").expect("an answer below it");
    let (json, _) = json.split_once("```").expect("an end of it");
    serde_json::from_str(json).expect("valid JSON")
}

/// Runs to the end: for starts that must fail.
fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32, parts: &[&str]) {
    let output = sconce(arguments, environment).output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing from: {error}");
    }
}

#[test]
fn a_newcomer_is_served() {
    let server = Server::start(&[]);
    for part in ["sconce", "infill", "authentication  off", "remote models   off"] {
        assert!(server.banner.contains(part), "`{part}` is missing from:\n{}", server.banner);
    }
    assert_eq!(server.get("/monitoring/healthz").status, 200);
    assert_eq!(server.get("/monitoring/ready").status, 200);

    let models = server.get("/v1/models").json();
    let model = models["data"][0]["id"].as_str().expect("a model").to_owned();

    // The line to copy, word for word.
    let curl = server.banner.lines().find(|line| line.contains("curl ")).expect("a line to copy");
    let body = curl.rsplit('\'').nth(1).expect("a quoted body");
    assert!(curl.contains(&format!("http://{}/v1/completions ", server.address)), "{curl}");
    let answer = server.post("/v1/completions", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let printed = printed_answer(body);
    for part in ["choices", "usage", "object"] {
        assert_eq!(answer[part], printed[part], "README.md prints another answer than the real one: {answer}");
    }
    assert!(answer["usage"]["prompt_tokens"].as_u64() > Some(0), "{answer}");

    let chat = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}],"max_tokens":8,"temperature":0}}"#
    );
    let answer = server.post("/v1/chat/completions", &chat);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["choices"][0]["message"]["content"].is_string(), "{answer:?}");

    let stream = format!(r#"{{"model":"{model}","prompt":"def add(","max_tokens":8,"temperature":0,"stream":true}}"#);
    let answer = server.post("/v1/completions", &stream);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("data: {") && answer.body.trim_end().ends_with("data: [DONE]"), "{answer:?}");

    let wrong = server.post("/v1/completions", r#"{"model":"nobody","prompt":"x"}"#);
    assert_eq!(wrong.status, 404, "{wrong:?}");
    assert!(wrong.json()["error"]["message"].as_str().is_some_and(|message| message.contains("nobody")), "{wrong:?}");
    assert_eq!(server.post("/v1/completions", "{").status, 400);

    let metrics = Server::line(&server.banner, "metrics");
    let metrics = metrics.trim_start_matches("http://").trim_end_matches("/metrics");
    let metrics = exchange(metrics, "GET", "/metrics", &[], "");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("sconce_"), "{metrics:?}");
}

#[test]
fn keys_are_asked_for_where_they_are_configured() {
    let server = Server::start(&[("SCONCE__AUTH__KEYS", &format!("tester={KEY}"))]);
    assert!(
        server.banner.contains("on, 1 key") && server.banner.contains("Authorization: Bearer"),
        "{}",
        server.banner
    );
    let refused = server.get("/v1/models");
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.json()["error"]["message"].is_string(), "{refused:?}");
    let with = |key: &str| {
        let header = format!("Bearer {key}");
        exchange(&server.address, "GET", "/v1/models", &[("Authorization", &header)], "").status
    };
    assert_eq!(with("sk-test-fedcba9876543210"), 401);
    assert_eq!(with(KEY), 200);
}

#[test]
fn health_is_what_the_server_says() {
    let check = |server: &Server, code: i32, line: &str| {
        // The configuration that the server was started with, but for the port, which it chose.
        let output = sconce(&["health"], &[("SCONCE__SERVER__LISTEN", &server.address)]).output().expect("it starts");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), text.lines().count()), (Some(code), 1), "{text}");
        assert!(text.contains(line), "`{line}` is missing from: {text}");
    };
    let mut server = Server::start(&[("SCONCE__AUTH__KEYS", &format!("tester={KEY}"))]);
    check(&server, 0, &format!("ready: http://{} takes calls", server.address));
    server.terminate();
    check(&server, 1, &format!("sconce: unreachable: http://{}", server.address));
    let closed = Server::start(&[("SCONCE__ACCESS__ALLOW", "10.0.0.0/8")]);
    check(&closed, 1, "it is not in access.allow; add the address");
}

#[test]
fn answers_finish_after_sigterm() {
    let mut server = Server::start(&[]);
    let ready = std::sync::Barrier::new(5);
    let address = server.address.as_str();
    let body = r#"{"model":"sconce","prompt":"def fibonacci(n):\n","max_tokens":48,"temperature":0.9,"stream":true}"#;
    let pid = server.process.id().to_string();
    let answers = std::thread::scope(|scope| {
        let client = || {
            let mut socket = TcpStream::connect(address).expect("the server listens");
            let length = body.len();
            let head =
                format!("POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
            let request = format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            socket.write_all(request.as_bytes()).expect("the server reads");
            let mut reply = [0; 16];
            socket.read_exact(&mut reply).expect("the answer begins");
            ready.wait();
            let mut rest = String::new();
            socket.read_to_string(&mut rest).expect("the answer goes on");
            rest
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        ready.wait();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    for answer in answers {
        assert!(answer.contains("data: [DONE]"), "cut off: {answer}");
    }
    let status = server.process.wait().expect("the process can be waited for");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_idle_server_ends_at_once() {
    let mut server = Server::start(&[]);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn other_machines_are_let_in_only_with_keys() {
    let parts = ["0.0.0.0:0", "sconce key new", "SCONCE__AUTH__KEYS_FILE", "keys_file"];
    refused(&["serve", "--listen", "0.0.0.0:0"], &[], 3, &parts);
}

#[test]
fn a_start_that_cannot_be_says_why() {
    refused(&["serve"], &[("SCONCE__SERVER__LISTN", "127.0.0.1:0")], 3, &["SCONCE__SERVER__LISTEN"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().expect("it has one").to_string();
    let port = address.rsplit(':').next().expect("a port");
    let off = [("SCONCE__METRICS__LISTEN", "off")];
    refused(&["serve", "--listen", &address], &off, 1, &[port, "taken", "--listen 127.0.0.1:0"]);

    let missing = ["serve", "--listen", "127.0.0.1:0", "--model", "ghost=/nowhere/model.gguf"];
    refused(&missing, &off, 4, &["ghost", "/nowhere/model.gguf"]);
}
