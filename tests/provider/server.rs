//! A server that answers each connection with the next part of its script, and keeps what it was asked.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What a connection does after it has read one request.
#[derive(Clone, Debug)]
pub enum Play {
    Send(Vec<u8>),
    /// Waits for the other side to go away, and says so.
    AwaitClose,
    /// Closes so that the other side sees a reset.
    Reset,
    /// Says nothing more for ever.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub head: String,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a body of JSON")
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).expect("a request line")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// One word for every connection that saw the other side go away, and one for every one that hangs.
    pub noticed: mpsc::Receiver<&'static str>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Every connection plays the same.
    pub async fn playing(plays: Vec<Play>) -> Self {
        Self::scripted(vec![plays]).await
    }

    /// A stream of `body`, which each connection cuts in two at another byte: before the first, …, behind the last.
    pub async fn cutting(body: &str) -> Self {
        let script = |cut| {
            let (head, tail) = body.as_bytes().split_at(cut);
            [stream_head(), head.to_vec(), tail.to_vec()].map(Play::Send).to_vec()
        };
        Self::scripted((0..=body.len()).map(script).collect()).await
    }

    /// Connections play the scripts in turn, and then the first again.
    async fn scripted(scripts: Vec<Vec<Play>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (notice, noticed) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let kept = asked.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for plays in scripts.iter().cycle() {
                let Ok((socket, _)) = listener.accept().await else { return };
                connections.spawn(play(socket, plays.clone(), kept.clone(), notice.clone()));
            }
        });
        Self { port, asked, noticed, _tasks: tasks }
    }

    /// A stream of `body`, closed behind it.
    pub async fn streaming(body: &str) -> Self {
        Self::playing(vec![Play::Send(stream_head()), Play::Send(body.as_bytes().to_vec())]).await
    }

    pub async fn refusing(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        Self::playing(vec![Play::Send(format!("{head}{headers}\r\n{body}").into_bytes())]).await
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

pub fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n".to_vec()
}

async fn play(
    mut socket: TcpStream,
    plays: Vec<Play>,
    asked: Arc<Mutex<Vec<Asked>>>,
    notice: mpsc::Sender<&'static str>,
) {
    let Some(request) = read(&mut socket).await else { return };
    asked.lock().expect("nobody panics with it").push(request);
    for play in plays {
        match play {
            Play::Send(bytes) => {
                // The other side may have heard enough.
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Play::AwaitClose => {
                let mut rest = [0; 16];
                while matches!(socket.read(&mut rest).await, Ok(1..)) {}
                notice.send("closed").await.ok();
            }
            Play::Reset => {
                socket.set_zero_linger().expect("a socket");
                return;
            }
            Play::Hang => {
                notice.send("hanging").await.ok();
                std::future::pending::<()>().await;
            }
        }
    }
    drop(socket.shutdown().await);
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let mut asked = Asked { head: String::from_utf8(head).ok()?, body: String::new() };
    let length: usize = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
