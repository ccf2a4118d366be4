//! What a stream costs on its way through: time to the first token and to the end, of a provider asked directly and of
//! the same provider behind a route, in turns.
//!
//! Workload: chats of about 4 kB answered by 32 tokens, one a millisecond, over loopback; provider, gateway and clients
//! in one process on two threads. First as fast as 64 clients can, through the gateway; then open loop: requests begin at
//! seeded random moments (exponential gaps) at half of that rate whether or not earlier ones have ended, and their times
//! count from the moment they were due. Slices of both kinds in turns, quantiles over all slices of a kind. `--json`
//! prints one JSON object instead of the table.

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod support;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sconce::auth::Auth;
use sconce::domain::{Event, Generate, GenerateError, Job, LaneName};
use sconce::egress::{Egress, EgressSettings};
use sconce::http::{AppState, CallLimits, Health, HttpLimits, Readiness, app, serve_http};
use sconce::provider::{Endpoint, Habits, InfillForm, Key, Kind, OpenAiCompatible, OpenAiSettings, Patience, Remote};
use sconce::route::policy::{BreakerSettings, Candidate, Guard, Policy, PolicySettings, RemoteRule, RouteMetrics};
use sconce::route::{Lane, Routes};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{Fake, finished, gate, model, started, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const SEED: u64 = 7;
const PROMPT_CHARS: usize = 4096;
const TOKENS: usize = 32;
const TOKEN_GAP: Duration = Duration::from_millis(1);
const CLIENTS: usize = 64;
/// Connections that wait for the next request.
const SOCKETS_MAX: usize = 4096;
const SATURATED: Duration = Duration::from_secs(4);
const SLICE: Duration = Duration::from_secs(3);
const SLICES: usize = 4;

/// When the first token came and when the answer ended, from the moment the request was due.
#[derive(Clone, Copy, Debug)]
struct Times {
    first: Duration,
    end: Duration,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let is_json = std::env::args().any(|argument| argument == "--json");
    let (rate, direct, proxied) = runtime.block_on(measure());
    let row = |times: &[Times], of: fn(&Times) -> Duration| {
        let mut sorted: Vec<_> = times.iter().map(of).collect();
        sorted.sort_unstable();
        [0.5, 0.99].map(|share| sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3)
    };
    let rows = [("first token", (|t: &Times| t.first) as fn(&Times) -> Duration), ("whole answer", |t| t.end)];
    let rows = rows.map(|(name, of)| (name, row(&direct, of), row(&proxied, of)));
    if is_json {
        let rows = rows.map(|(name, [a, b], [c, d])| {
            format!(r#"{{"what":"{name}","direct_ms":[{a:.3},{b:.3}],"routed_ms":[{c:.3},{d:.3}]}}"#)
        });
        println!(r#"{{"bench":"proxy","seed":{SEED},"saturated_per_s":{rate:.0},"p50_p99":[{}]}}"#, rows.join(","));
        return;
    }
    println!("proxy, loopback, open loop at {:.0} streams/s, half of the saturated rate, seed {SEED}", rate / 2.0);
    println!("{} and {} streams of {TOKENS} tokens, one each {TOKEN_GAP:?}", direct.len(), proxied.len());
    println!("                   direct p50    p99   routed p50    p99    added p50    p99   (ms)");
    for (name, [a, b], [c, d]) in rows {
        println!("  {name:<14}   {a:>10.2} {b:>6.2}   {c:>10.2} {d:>6.2}   {:>10.2} {:>6.2}", c - a, d - b);
    }
}

async fn measure() -> (f64, Vec<Times>, Vec<Times>) {
    let mut serving = JoinSet::new();
    let provider = serve(Arc::new(Paced(lane())), &mut serving).await;
    let gateway = serve(Arc::new(routed(provider)), &mut serving).await;
    let request = request();
    let rate = saturate(gateway, &request).await;
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..SLICES {
        direct.extend(open_loop(provider, &request, rate / 2.0, &mut random).await);
        proxied.extend(open_loop(gateway, &request, rate / 2.0, &mut random).await);
    }
    (rate, direct, proxied)
}

/// Streams a second that all clients together get, each asking again at once.
async fn saturate(address: SocketAddr, request: &Arc<[u8]>) -> f64 {
    let until = Instant::now() + SATURATED;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let request = request.clone();
        clients.spawn(async move {
            let mut socket = connect(address).await;
            let mut answers = 0;
            while Instant::now() < until {
                ask(&mut socket, &request, Instant::now()).await;
                answers += 1;
            }
            answers
        });
    }
    let answers: usize = clients.join_all().await.into_iter().sum();
    answers as f64 / SATURATED.as_secs_f64()
}

/// Requests at moments that nobody's slowness moves.
async fn open_loop(address: SocketAddr, request: &Arc<[u8]>, rate: f64, random: &mut StdRng) -> Vec<Times> {
    let begun = Instant::now();
    let mut due = begun;
    let mut asking = JoinSet::new();
    let (idle, mut free) = tokio::sync::mpsc::channel(SOCKETS_MAX);
    while due < begun + SLICE {
        due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
        sleep_until(due).await;
        let (request, idle, kept) = (request.clone(), idle.clone(), free.try_recv().ok());
        asking.spawn(async move {
            let mut socket = match kept {
                Some(socket) => socket,
                None => connect(address).await,
            };
            let times = ask(&mut socket, &request, due).await;
            // Whoever comes next takes it; at the end nobody does.
            drop(idle.try_send(socket));
            times
        });
    }
    asking.join_all().await
}

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).await.expect("the server listens");
    socket.set_nodelay(true).expect("a TCP socket");
    socket
}

async fn ask(socket: &mut TcpStream, request: &[u8], due: Instant) -> Times {
    const END: &[u8] = b"data: [DONE]\n\n\r\n0\r\n\r\n";
    const TOKEN: &[u8] = b" token";
    socket.write_all(request).await.expect("sent");
    let (mut read, mut first) = (Vec::with_capacity(16 * 1024), None);
    while !read.ends_with(END) {
        let from = read.len().saturating_sub(TOKEN.len());
        let bytes = socket.read_buf(&mut read).await.expect("readable");
        assert!(bytes > 0, "the server closed the connection: {}", String::from_utf8_lossy(&read));
        if first.is_none() && read[from..].windows(TOKEN.len()).any(|window| window == TOKEN) {
            first = Some(due.elapsed());
        }
    }
    Times { first: first.expect("an answer of tokens"), end: due.elapsed() }
}

fn lane() -> Arc<Fake> {
    let mut said = vec![started(1024, 1000)];
    said.extend((0..TOKENS).map(|_| text(" token")));
    said.push(finished(1024, 1000, TOKENS));
    Fake::forgetful(said)
}

/// A token at a time, as an engine makes them.
struct Paced(Arc<Fake>);

impl Generate for Paced {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        let said = self.0.generate(job);
        said.then(|said| async {
            if matches!(said, Ok(Event::Text { .. })) {
                sleep(TOKEN_GAP).await;
            }
            said
        })
        .boxed()
    }
}

/// The way that a configured route takes.
fn routed(provider: SocketAddr) -> Policy {
    let url = format!("http://{provider}/v1");
    let allowed = vec![url.clone()];
    let egress = Egress::new(&EgressSettings { allowed, ..EgressSettings::default() }).expect("a door");
    let remote = Remote {
        name: Arc::from("cluster"),
        endpoint: Endpoint::new(&url, Some(Key::new("sk-bench".to_owned()))),
        model: "m".to_owned(),
        max_tokens: 256,
        patience: Patience::default(),
    };
    let (habits, extra) = (Habits::of(Kind::Vllm), serde_json::Map::new());
    let lane = OpenAiCompatible::new(egress, OpenAiSettings { remote, habits, infill: InfillForm::None, extra });
    let settings = PolicySettings {
        rule: RemoteRule::Always,
        leave_after: None,
        hedge_after: None,
        longer_elsewhere: false,
        completion_deadline: Duration::from_secs(30),
        chat_deadline: Duration::from_secs(600),
    };
    let guard = Guard::new(BreakerSettings::default());
    let candidate = Candidate { name: LaneName::remote("cluster", "m"), lane: Arc::new(lane), guard };
    let metrics = RouteMetrics::register(&Registry::new()).expect("a new registry");
    Policy::new(vec![candidate], settings, Arc::new(metrics)).expect("one lane")
}

async fn serve(lane: Arc<dyn Generate>, serving: &mut JoinSet<()>) -> SocketAddr {
    let routes = Routes::new(vec![Lane::local(model("m"), Vec::new(), lane)]).expect("one name");
    let health = Health::new(Readiness::Ready);
    let state = AppState::new(routes, gate(Auth::Disabled), health.clone(), CallLimits::default(), &Registry::new());
    let app = app(state.expect("a new registry"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    serving.spawn(async move {
        serve_http(listener, app, health, HttpLimits::default(), std::future::pending()).await;
    });
    address
}

fn request() -> Arc<[u8]> {
    let mut random = StdRng::seed_from_u64(SEED);
    let prompt: String = (0..PROMPT_CHARS).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    let messages = format!(r#"[{{"role": "user", "content": "{prompt}"}}]"#);
    let body = format!(r#"{{"model": "m", "messages": {messages}, "max_tokens": 256, "stream": true}}"#);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    Arc::from(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}
