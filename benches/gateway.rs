//! What GitLab's gateway costs apart from models: `POST /v2/code/completions` with a token that is checked, in front of a
//! lane that answers at once, over loopback, at 1, 16 and 64 clients.
//!
//! Workload: codestral family, 640 bytes above and 200 below the cursor (seeded), not streamed, keep-alive. CPU time is
//! that of the whole process, the clients' part included, so the gateway's own is lower. `--json` prints one JSON object
//! instead of the table. Peer: the reference gateway, 19 ms of CPU per request and about 50 requests/s for a worker (its
//! figures are in benches/README.md).

#[path = "../tests/support/full.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod support;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::gateway::{Gateway, Options};
use support::gitlab::tokens::{INSTANCE_ID, USER_ID};
use support::{Fake, finished, started, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const SEED: u64 = 7;
const ABOVE_BYTES: usize = 640;
const BELOW_BYTES: usize = 200;
const REQUESTS: usize = 20_000;
const WARM_UP: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let is_json = std::env::args().any(|argument| argument == "--json");
    let rows: Vec<Row> = runtime.block_on(async {
        let said = vec![started(300, 280), text("3.14159 * radius"), finished(300, 280, 8)];
        let options = Options { models: vec!["example-coder"], ..Options::default() };
        let gateway = Gateway::start(Fake::forgetful(said), options).await;
        let request = request(&gateway.gitlab.token());
        let mut rows = Vec::new();
        measure(gateway.address(), &request, 1, WARM_UP).await;
        for clients in [1, 16, 64] {
            rows.push(measure(gateway.address(), &request, clients, REQUESTS).await);
        }
        rows
    });
    if is_json {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        println!(r#"{{"bench":"gateway","seed":{SEED},"requests":{REQUESTS},"rows":[{}]}}"#, rows.join(","));
        return;
    }
    println!("gateway, loopback, {REQUESTS} completions of a file each, token checked, seed {SEED}");
    println!("  clients   requests/s     p50 µs     p95 µs     p99 µs   CPU µs/request (clients included)");
    for row in &rows {
        println!(
            "  {:>7} {:>12.0} {:>10.0} {:>10.0} {:>10.0} {:>16.1}",
            row.clients, row.per_second, row.p50_us, row.p95_us, row.p99_us, row.cpu_us
        );
    }
}

struct Row {
    clients: usize,
    per_second: f64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

impl Row {
    fn json(&self) -> String {
        let Self { clients, per_second, p50_us, p95_us, p99_us, cpu_us } = self;
        format!(
            r#"{{"clients":{clients},"requests_per_s":{per_second:.0},"p50_us":{p50_us:.0},"p95_us":{p95_us:.0},"p99_us":{p99_us:.0},"cpu_us_per_request":{cpu_us:.1}}}"#
        )
    }
}

async fn measure(address: SocketAddr, request: &Arc<[u8]>, clients: usize, requests: usize) -> Row {
    let each = requests / clients;
    let (begun, cpu_begun) = (Instant::now(), cpu_time());
    let mut running = JoinSet::new();
    for _ in 0..clients {
        running.spawn(client(address, request.clone(), each));
    }
    let mut times: Vec<Duration> = running.join_all().await.into_iter().flatten().collect();
    let (elapsed, cpu) = (begun.elapsed(), cpu_time() - cpu_begun);
    times.sort_unstable();
    let at = |share: f64| micros(times[((times.len() - 1) as f64 * share) as usize]);
    let done = times.len() as f64;
    Row {
        clients,
        per_second: done / elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p95_us: at(0.95),
        p99_us: at(0.99),
        cpu_us: micros(cpu) / done,
    }
}

async fn client(address: SocketAddr, request: Arc<[u8]>, requests: usize) -> Vec<Duration> {
    let mut socket = TcpStream::connect(address).await.expect("the gateway listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let mut times = Vec::with_capacity(requests);
    let mut answer = Vec::with_capacity(4096);
    for _ in 0..requests {
        let begun = Instant::now();
        socket.write_all(&request).await.expect("sent");
        answer.clear();
        // The body ends in the flags of the request, which are known.
        while !answer.ends_with(br#""enabled_feature_flags":[""]}}"#) {
            assert_ne!(socket.read_buf(&mut answer).await.expect("readable"), 0, "the gateway hung up");
        }
        times.push(begun.elapsed());
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    times
}

fn request(token: &str) -> Arc<[u8]> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut code = |bytes: usize| -> String {
        let letter = |random: &mut StdRng| match random.random_range(0..9) {
            0 => '\n',
            1 => ' ',
            _ => char::from(random.random_range(b'a'..=b'z')),
        };
        (0..bytes).map(|_| letter(&mut random)).collect()
    };
    let body = serde_json::json!({
        "project_path": "demo/app",
        "project_id": 7,
        "current_file": {
            "file_name": "src/area.py",
            "language_identifier": "python",
            "content_above_cursor": code(ABOVE_BYTES),
            "content_below_cursor": format!("\n{}", code(BELOW_BYTES)),
        },
        "stream": false,
        "telemetry": [],
        "prompt_version": 2,
        "prompt": null,
        "model_provider": "litellm",
        "model_name": "codestral",
        "model_endpoint": "http://127.0.0.1:5052/v1",
        "model_identifier": "custom_openai/example-coder",
    })
    .to_string();
    let head = format!(
        "POST /v2/code/completions HTTP/1.1\r\nHost: gateway:5052\r\nAuthorization: Bearer {token}\r\n\
         X-Gitlab-Authentication-Type: oidc\r\nX-Gitlab-Realm: self-managed\r\nX-Gitlab-Instance-Id: {INSTANCE_ID}\r\n\
         X-Gitlab-Global-User-Id: {USER_ID}\r\nX-Gitlab-Version: 18.9.0\r\nX-Gitlab-Enabled-Feature-Flags: \r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Arc::from([head.as_bytes(), body.as_bytes()].concat())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// User and system time of this process, from the kernel's books: fields 14 and 15 of `/proc/self/stat` (proc(5)), in
/// ticks of 10 ms.
fn cpu_time() -> Duration {
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let behind_name = stat.rsplit(')').next().expect("the name is in parentheses");
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * TICK_MS)
}
