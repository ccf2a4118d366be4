//! A server of OpenAI's API on a port of its own, of which a test decides how it feels.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Clone, Copy, Debug)]
pub enum Mood {
    Answer,
    /// As Bedrock's `ConverseStream` does.
    Converse,
    Refuse(u16, &'static str),
}

pub struct Cluster {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    mood: Mutex<Mood>,
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Cluster {
    /// Its thread ends with the test's process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Answer),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let server = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                server.connections.fetch_add(1, Ordering::SeqCst);
                let server = server.clone();
                thread::spawn(move || server.serve(socket));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().expect("no test panics with it") = mood;
    }

    pub fn asked(&self) -> usize {
        self.shared.requests.lock().expect("no test panics with it").len()
    }

    /// The last request, head and body.
    pub fn last(&self) -> String {
        self.shared.requests.lock().expect("no test panics with it").last().cloned().expect("it was asked")
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
        let mut writer = socket;
        while let Some(request) = read(&mut reader) {
            self.requests.lock().expect("no test panics with it").push(request);
            let mood = *self.mood.lock().expect("no test panics with it");
            let reply = match mood {
                Mood::Answer => answer().into_bytes(),
                Mood::Converse => converse(),
                Mood::Refuse(status, body) => format!(
                    "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes(),
            };
            if writer.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

/// Binary frames of AWS's event stream.
fn converse() -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, payload) in [
        ("messageStart", r#"{"role":"assistant"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"from bedrock"}}"#),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        ("messageStop", r#"{"stopReason":"end_turn"}"#),
        ("metadata", r#"{"usage":{"inputTokens":7,"outputTokens":2,"totalTokens":9}}"#),
    ] {
        let header = |name: &'static str, value: &str| Header::new(name, HeaderValue::String(value.to_owned().into()));
        let message = Message::new(payload.as_bytes())
            .add_header(header(":message-type", "event"))
            .add_header(header(":event-type", kind))
            .add_header(header(":content-type", "application/json"));
        write_message_to(&message, &mut body).expect("a message of a few bytes");
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\n";
    [format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
}

fn answer() -> String {
    let event = |json: &str| {
        let event = format!("data: {json}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    [
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        event(r#"{"choices":[{"index":0,"text":"from "}]}"#),
        event(r#"{"choices":[{"index":0,"text":"the cluster","finish_reason":"stop"}]}"#),
        event(r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#),
        event("[DONE]"),
        "0\r\n\r\n".to_owned(),
    ]
    .concat()
}
