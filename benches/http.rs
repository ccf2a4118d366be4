//! What HTTP costs: microseconds per request and per streamed token, with a lane that answers at once, over loopback.
//!
//! Workload: one client, keep-alive, a completion request of about 4 kB (seeded text). Whole answers hold one token;
//! streamed ones `TOKENS`, each an event of its own. A token's cost is the difference between streams of `TOKENS` and
//! of one: once for tokens that are ready together and leave in one write, once for tokens that come one by one, each
//! with a write and a wake-up of its own, as they do from an engine. `--json` prints one JSON object instead of the
//! table.

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod support;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sconce::auth::Auth;
use sconce::domain::{Event, Generate, GenerateError, Job};
use sconce::http::{AppState, CallLimits, Health, HttpLimits, Readiness, app, serve_http};
use sconce::route::{Lane, Routes};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Fake, finished, gate, model, started, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SEED: u64 = 7;
const PROMPT_CHARS: usize = 4096;
const TOKENS: usize = 256;
const ROUNDS: usize = 2000;
const WARM_UP_ROUNDS: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let is_json = std::env::args().any(|argument| argument == "--json");
    let few = ROUNDS / 10;
    let (whole, short, ready, spaced) = runtime.block_on(async {
        let whole = measure(lane(1), false, ROUNDS).await;
        let short = measure(lane(1), true, ROUNDS).await;
        let ready = measure(lane(TOKENS), true, few).await;
        (whole, short, ready, measure(Arc::new(OneByOne(lane(TOKENS))), true, few).await)
    });
    let per_token_us = |long| (micros(long) - micros(short)) / (TOKENS - 1) as f64;
    let (ready_us, spaced_us) = (per_token_us(ready), per_token_us(spaced));
    let (whole_us, short_us) = (micros(whole), micros(short));
    if is_json {
        println!(
            r#"{{"bench":"http","seed":{SEED},"whole_request_us":{whole_us:.1},"stream_request_us":{short_us:.1},"ready_token_us":{ready_us:.2},"single_token_us":{spaced_us:.2}}}"#
        );
        return;
    }
    println!("http, loopback, 1 client, {PROMPT_CHARS} characters of prompt, seed {SEED}, median of {ROUNDS} rounds");
    println!("  whole answer       {whole_us:>8.1} µs per request");
    println!("  stream of 1 token  {short_us:>8.1} µs per request");
    println!("  ready token        {ready_us:>8.2} µs per token");
    println!("  single token       {spaced_us:>8.2} µs per token");
}

/// A lane that answers with `tokens` tokens, all of them ready.
fn lane(tokens: usize) -> Arc<Fake> {
    let mut said = vec![started(1024, 1000)];
    said.extend((0..tokens).map(|_| text(" token")));
    said.push(finished(1024, 1000, tokens));
    Fake::saying(said)
}

/// Lets every event wait for its turn, so that none is ready with the one before it.
struct OneByOne(Arc<Fake>);

impl Generate for OneByOne {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        let said = self.0.generate(job);
        said.then(|said| async {
            tokio::task::yield_now().await;
            said
        })
        .boxed()
    }
}

/// The median time of a request to `lane`.
async fn measure(lane: Arc<dyn Generate>, is_stream: bool, rounds: usize) -> Duration {
    let mut serving = JoinSet::new();
    let address = serve(lane, &mut serving).await;
    let request = request(is_stream);
    let end: &[u8] = if is_stream { b"data: [DONE]\n\n\r\n0\r\n\r\n" } else { b"}}}" };
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let mut times = Vec::with_capacity(rounds);
    for round in 0..WARM_UP_ROUNDS.min(rounds) + rounds {
        let begun = Instant::now();
        socket.write_all(&request).await.expect("sent");
        read_until_end(&mut socket, end).await;
        if round >= WARM_UP_ROUNDS.min(rounds) {
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    times[times.len() / 2]
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

fn request(is_stream: bool) -> Arc<[u8]> {
    let mut random = StdRng::seed_from_u64(SEED);
    let prompt: String = (0..PROMPT_CHARS).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    let body = format!(r#"{{"model": "m", "prompt": "{prompt}", "max_tokens": 256, "stream": {is_stream}}}"#);
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    Arc::from(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// Reads one answer, whose last bytes are `end`.
async fn read_until_end(socket: &mut TcpStream, end: &[u8]) {
    let mut last = Vec::with_capacity(64 * 1024);
    while !last.ends_with(end) {
        let bytes = socket.read_buf(&mut last).await.expect("readable");
        assert!(bytes > 0, "the server closed the connection");
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
