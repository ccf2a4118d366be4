//! The real binary with a configuration file, its banner, its log and its answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Sconce {
    process: Child,
    banner: String,
    address: String,
    folder: Folder,
}

/// Removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("sconce-remote-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Drop for Sconce {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What `sconce doctor` prints.
pub fn doctor(settings: &str) -> String {
    let folder = Folder::new();
    let file = folder.0.join("sconce.toml");
    std::fs::write(&file, settings).expect("the file is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(["doctor", "--server", "http://127.0.0.1:9", "--config"]).arg(file).env_clear().stdin(Stdio::null());
    String::from_utf8(command.output().expect("the binary runs").stdout).expect("text")
}

fn command(folder: &Folder, settings: &str) -> Command {
    let file = folder.0.join("sconce.toml");
    std::fs::write(&file, settings).expect("the file is written");
    let log = std::fs::File::create(folder.0.join("log")).expect("a file for the log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--threads", "2", "--config"]).arg(file).env_clear();
    command.env("SCONCE__METRICS__LISTEN", "127.0.0.1:0").env("SCONCE__ENGINE__KV_MEMORY", "64MiB");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command
}

impl Sconce {
    pub fn start(settings: &str, environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let mut command = command(&folder, &format!("catalog.embedded = \"on\"\n{settings}"));
        let mut process = command.envs(environment.iter().copied()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut banner = String::new();
        while !banner.contains("curl ") {
            let read = stdout.read_line(&mut banner).expect("the banner is text");
            let log = || std::fs::read_to_string(folder.0.join("log")).unwrap_or_default();
            assert_ne!(read, 0, "the server ended before it was ready:\n{banner}{}", log());
        }
        let listening = banner.lines().find_map(|line| line.trim_start().strip_prefix("listening"));
        let address = listening.expect("the address").trim().trim_start_matches("http://").to_owned();
        Self { process, banner, address, folder }
    }

    /// What it says of settings that it does not start with.
    pub fn refused(settings: &str) -> String {
        let folder = Folder::new();
        let ended = command(&folder, settings).stderr(Stdio::piped()).output().expect("the binary runs");
        assert!(!ended.status.success());
        String::from_utf8(ended.stderr).expect("text")
    }

    pub fn banner(&self) -> &str {
        &self.banner
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.exchange("POST", path, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.exchange("GET", path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut socket = TcpStream::connect(&self.address).expect("the server listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut reply = String::new();
        socket.read_to_string(&mut reply).expect("the server answers in text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Ends it, and gives back its log.
    pub fn stop(mut self) -> String {
        let signalled = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(signalled.expect("kill runs").success());
        assert!(self.process.wait().expect("it ends").success());
        std::fs::read_to_string(self.folder.0.join("log")).expect("a log")
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}
