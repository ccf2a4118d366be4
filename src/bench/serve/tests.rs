//! Whole benches: against a server made here that answers as told, and against stand-ins on a clock that tests hold.

use super::call::{Call, Calls};
use super::client::Answers;
use super::drive::{Stage, round};
use super::figures::{CountedBy, Distribution, Figures};
use super::run::measure;
use super::sample::{Counts, Kind, Outcome, Trace};
use super::*;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

fn plan(urls: &[&str], workload: Workload, loads: &[Load]) -> Plan {
    let target = |url: &&str| Target {
        label: format!("server {url}"),
        url: (*url).to_owned(),
        dialect: Dialect::Openai,
        model: Some("m".to_owned()),
        headers: SecretHeaders(vec![("authorization", "Bearer sesame-key".to_owned())]),
        extra: Map::new(),
    };
    Plan {
        targets: urls.iter().map(target).collect(),
        workload,
        loads: loads.to_vec(),
        rounds: 2,
        amount: Amount::Requests(6),
        texts: Texts { prompt_tokens: 64, suffix_tokens: 0, output_tokens: 4, shared: 0.0 },
        typing: Typing { keys: 3, gap: Duration::from_millis(30) },
        chats: 2,
        goals: Goals::default(),
        timeout: Duration::from_secs(20),
        seed: 1,
    }
}

// What a request looks like, and what a server made here does with it.

#[derive(Clone, Debug)]
struct Asked {
    path: String,
    head: String,
    body: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// Three pieces of text, then usage.
    Events,
    /// Three pieces of bare text.
    Raw,
    /// All at once, as JSON.
    Whole,
    Status(u16),
    /// Ends in the middle of a stream.
    Breaks,
    /// A whole body, but no last event.
    Unfinished,
    Garbage,
    ErrorEvent,
    /// One piece, then nothing until the client goes.
    Hangs,
    /// Hangs when the text does not end a burst.
    HangsOnEarlyKeys,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    /// Connections that a client closed while it was being answered.
    hung_up: usize,
}

struct Fake {
    url: String,
    seen: Arc<Mutex<Seen>>,
    /// Ends with the test.
    _tasks: JoinSet<()>,
}

async fn fake(manner: Manner) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let known = seen.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let known = known.clone();
            connections.spawn(async move { drop(serve(stream, manner, &known).await) });
        }
    });
    Fake { url, seen, _tasks: tasks }
}

async fn serve(mut stream: TcpStream, manner: Manner, seen: &Mutex<Seen>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(asked) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        let number = {
            let mut seen = seen.lock().expect("no test panics with it");
            seen.asked.push(asked.clone());
            seen.asked.len()
        };
        let manner = match manner {
            // The keys of a burst come in threes, one developer alone.
            Manner::HangsOnEarlyKeys if number % 3 == 0 => Manner::Events,
            Manner::HangsOnEarlyKeys => Manner::Hangs,
            other => other,
        };
        if !answer(&mut stream, manner).await? {
            return Ok(());
        }
        if manner == Manner::Hangs {
            let gone = stream.read(&mut [0; 16]).await;
            if matches!(gone, Ok(0) | Err(_)) {
                seen.lock().expect("no test panics with it").hung_up += 1;
            }
            return Ok(());
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let length: usize = length.unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let body = serde_json::from_slice(&buffer[end + 4..end + 4 + length]).unwrap_or(Value::Null);
                buffer.drain(..end + 4 + length);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                return Ok(Some(Asked { path, head, body }));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether the connection may serve another request.
async fn answer(stream: &mut TcpStream, manner: Manner) -> std::io::Result<bool> {
    let text =
        |text: &str| format!("data: {}\n\n", json!({ "choices": [{ "text": text, "delta": { "content": text } }] }));
    let usage = json!({ "choices": [], "usage": {
        "prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": { "cached_tokens": 15 },
        "completion_tokens_details": { "accepted_prediction_tokens": 3, "rejected_prediction_tokens": 1 },
    }});
    let last = format!(
        "data: {}\n\ndata: {usage}\n\ndata: [DONE]\n\n",
        json!({ "choices": [{ "text": "", "finish_reason": "stop" }] })
    );
    let (kind, pieces) = match manner {
        Manner::Events => ("text/event-stream", vec![text("a"), text("b"), text("c"), last]),
        Manner::Raw => ("text/event-stream", ["a", "b", "c"].map(str::to_owned).to_vec()),
        Manner::Whole => (
            "application/json",
            vec![json!({ "choices": [{ "text": "abc" }], "usage": { "completion_tokens": 3 } }).to_string()],
        ),
        Manner::Breaks | Manner::Hangs => ("text/event-stream", vec![text("a")]),
        Manner::Unfinished => ("text/event-stream", vec![text("a"), text("b")]),
        Manner::Garbage => ("text/event-stream", vec!["data: <html>\n\n".to_owned()]),
        Manner::ErrorEvent => {
            ("text/event-stream", vec![text("a"), "data: {\"error\":{\"message\":\"out of memory\"}}\n\n".to_owned()])
        }
        Manner::Status(_) => ("application/json", vec!["{\"error\":{\"message\":\"no, sesame-key, no\"}}".to_owned()]),
        Manner::HangsOnEarlyKeys => unreachable!("decided before"),
    };
    let status = if let Manner::Status(status) = manner { status } else { 200 };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for piece in pieces {
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await?;
        stream.flush().await?;
        // So that pieces arrive one by one, where bare text has no other bounds.
        sleep(Duration::from_millis(2)).await;
    }
    match manner {
        Manner::Breaks => return Ok(false),
        Manner::Hangs => {}
        _ => stream.write_all(b"0\r\n\r\n").await?,
    }
    Ok(true)
}

async fn bench(plan: &Plan) -> Result<ServeReport, ServeBenchError> {
    run(plan, &[], &mut |_| {}).await
}

#[tokio::test]
async fn every_request_of_a_closed_loop_is_counted() {
    for (workload, kind, path) in [
        (Workload::Completion, Kind::Completion, "/v1/completions"),
        (Workload::Chat, Kind::Chat, "/v1/chat/completions"),
    ] {
        let server = fake(Manner::Events).await;
        let plan = plan(&[&format!("{}/v1/", server.url)], workload, &[Load::Concurrency(1), Load::Concurrency(3)]);
        let report = bench(&plan).await.expect("a report");
        assert_eq!(report.rows.len(), 2);
        for row in &report.rows {
            let figures = &row.figures;
            assert_eq!((row.kind, figures.answered, figures.failed), (kind, 12, 0));
            assert_eq!((figures.output_tokens, figures.counted_by), (12 * 7, CountedBy::Usage));
            assert_eq!((figures.cached_share, figures.accepted_share), (Some(0.75), Some(0.75)));
            assert_eq!(figures.inter_token_ms.map(|gaps| gaps.count), Some(12 * 2));
            assert_eq!(row.rounds.iter().map(|round| round.answered).collect::<Vec<_>>(), [6, 6]);
        }
        // Two rounds of six at either load, and a warm-up of one request a stream.
        let seen = server.seen.lock().expect("no test panics with it");
        assert_eq!(seen.asked.len(), 12 + 1 + 12 + 3);
        assert!(seen.asked.iter().all(|asked| asked.path == path));
        assert!(seen.asked.iter().all(|asked| asked.body["stream"] == true && asked.body["model"] == "m"));
        let mut bodies: Vec<String> = seen.asked.iter().map(|asked| asked.body.to_string()).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), seen.asked.len(), "no two requests are the same");
    }
}

#[tokio::test]
async fn a_key_closes_the_connection_of_the_one_before() {
    let server = fake(Manner::HangsOnEarlyKeys).await;
    let mut plan = plan(&[&server.url], Workload::Typing, &[Load::Concurrency(1)]);
    plan.typing.gap = Duration::from_millis(60);
    let report = bench(&plan).await.expect("a report");
    let figures = &report.rows[0].figures;
    assert_eq!((figures.answered, figures.cancelled, figures.failed), (12, 24, 0));
    // The server counts the tokens of what it finished; what was given up had at most one piece each.
    assert!((12 * 7..=12 * 7 + 24).contains(&figures.output_tokens), "{}", figures.output_tokens);
    assert_eq!(figures.end_to_end_ms.map(|latency| latency.count), Some(12));
    while server.seen.lock().expect("no test panics with it").hung_up < 13 * 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let seen = server.seen.lock().expect("no test panics with it");
    // With the burst of the warm-up.
    assert_eq!((seen.asked.len(), seen.hung_up), (13 * 3, 13 * 2));
    let sessions: Vec<bool> = seen.asked.iter().map(|asked| asked.head.contains("x-session-id: bench-1-")).collect();
    assert!(sessions.iter().all(|has_session| *has_session));
    for burst in seen.asked.chunks(3) {
        let prompts: Vec<&str> = burst.iter().filter_map(|asked| asked.body["prompt"].as_str()).collect();
        assert!(prompts.windows(2).all(|pair| pair[1].starts_with(pair[0]) && pair[1].len() > pair[0].len()));
    }
}

#[tokio::test]
async fn chats_run_beside_the_typing_and_end_with_it() {
    let server = fake(Manner::Events).await;
    let plan = plan(&[&server.url], Workload::Mixed, &[Load::Concurrency(2)]);
    let report = bench(&plan).await.expect("a report");
    let [typing, chats] = report.rows.as_slice() else { panic!("two rows") };
    assert_eq!((typing.kind, typing.figures.answered, typing.figures.failed), (Kind::Key, 12, 0));
    let early = typing.figures.answered_early + typing.figures.cancelled;
    assert_eq!(early, 24);
    assert!(chats.kind == Kind::Chat && chats.figures.answered > 0 && chats.figures.failed == 0);
    assert!(chats.figures.cut <= 2 * plan.chats);
}

#[tokio::test]
async fn a_gateway_of_gitlab_is_asked_in_its_words() {
    let server = fake(Manner::Raw).await;
    let mut plan = plan(&[&server.url], Workload::Completion, &[Load::Rate(500.0)]);
    plan.targets[0].dialect = Dialect::Gitlab;
    plan.texts.suffix_tokens = 16;
    let report = bench(&plan).await.expect("a report");
    let figures = &report.rows[0].figures;
    assert_eq!((figures.answered, figures.failed, figures.empty), (12, 0, 0));
    assert_eq!(figures.counted_by, CountedBy::Pieces);
    let asked = std::mem::take(&mut server.seen.lock().expect("no test panics with it").asked);
    for Asked { path, head, body } in &asked {
        assert_eq!(path, "/v2/code/completions");
        assert!(head.contains("authorization: bearer sesame-key"));
        let file = &body["current_file"];
        assert!(file["content_above_cursor"].as_str().is_some_and(|text| text.len() > 100), "{file}");
        assert!(file["content_below_cursor"].as_str().is_some_and(|text| text.len() > 20), "{file}");
        assert_eq!(body["model_identifier"], "custom_openai/m");
    }
    plan.workload = Workload::Chat;
    assert!(matches!(bench(&plan).await, Err(ServeBenchError::NoChats { workload: "chat" })));
}

#[tokio::test]
async fn what_goes_wrong_is_counted_and_explained() {
    for (manner, kind, status, message) in [
        (Manner::Status(503), "status", Some(503), "no, (hidden), no"),
        (Manner::Breaks, "closed_early", None, ""),
        (Manner::Unfinished, "closed_early", None, "the stream ended without its last event"),
        (Manner::Garbage, "not_understood", None, "an event that is not of OpenAI's API"),
        (Manner::ErrorEvent, "error_in_stream", None, "out of memory"),
        (Manner::Hangs, "timeout", None, ""),
    ] {
        let server = fake(manner).await;
        let mut plan = plan(&[&server.url], Workload::Completion, &[Load::Concurrency(2)]);
        (plan.timeout, plan.rounds, plan.amount) = (Duration::from_millis(300), 1, Amount::Requests(2));
        let answers = super::client::Server::open(&plan.targets[0], Vec::new(), plan.timeout).await.expect("a door");
        let stage = Arc::new(Stage::new(Arc::new(answers), &plan, 0, 0));
        let round = round(&stage, 1, plan.amount, |_| {}).await;
        let figures = Figures::of(&[round], Kind::Completion, plan.goals);
        assert_eq!((figures.answered, figures.failed), (0, 2), "{manner:?}");
        let [failures] = figures.failures.as_slice() else { panic!("{manner:?}: {:?}", figures.failures) };
        assert_eq!((failures.kind, failures.status, failures.count), (kind, status, 2), "{manner:?}");
        assert!(failures.message.contains(message) && !failures.message.contains("sesame"), "{failures:?}");
        // A server of which nothing works is a mistake, and said at once.
        let error = bench(&plan).await.expect_err("no request was answered").to_string();
        assert!(error.contains("answered none of 2 request(s)") && !error.contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_measured_as_it_is() {
    let server = fake(Manner::Whole).await;
    let plan = plan(&[&server.url], Workload::Completion, &[Load::Concurrency(1)]);
    let report = bench(&plan).await.expect("a report");
    let figures = &report.rows[0].figures;
    assert_eq!((figures.answered, figures.output_tokens, figures.inter_token_ms), (12, 36, None));
}

#[tokio::test]
async fn nobody_there_is_an_error_before_the_bench() {
    let mut plan = plan(&["http://127.0.0.1:9"], Workload::Completion, &[Load::Concurrency(1)]);
    let error = bench(&plan).await.expect_err("nobody listens").to_string();
    assert!(error.contains("answered none of 1 request(s)"), "{error}");
    plan.targets[0].model = None;
    assert!(matches!(bench(&plan).await, Err(ServeBenchError::Address { .. })));
}

// Stand-ins on a clock that stands still until everybody waits.

/// Answers in 10 ms, but not between the first and the third second of its life.
struct Stalling {
    begun: Instant,
}

impl Answers for Stalling {
    async fn answer(&self, _: &Call, trace: &mut Trace) {
        let (from, to) = (self.begun + Duration::from_secs(1), self.begun + Duration::from_secs(3));
        if (from..to).contains(&Instant::now()) {
            sleep_until(to).await;
        }
        sleep(Duration::from_millis(10)).await;
        trace.texts.push(Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_shows_the_stall_that_a_closed_one_hides() {
    let slow_ones = async |load: Load| {
        let mut plan = plan(&["http://one"], Workload::Completion, &[load]);
        plan.amount = Amount::Duration(Duration::from_secs(4));
        let stage = Arc::new(Stage::new(Arc::new(Stalling { begun: Instant::now() }), &plan, 0, 0));
        let done = round(&stage, 1, plan.amount, |_| {}).await;
        let is_slow = |sample: &&super::sample::Sample| sample.end > Duration::from_millis(100);
        (done.samples.iter().filter(is_slow).count(), done.samples.len())
    };
    // The one stream waits once, and nobody else is there to wait.
    let (slow, all) = slow_ones(Load::Concurrency(1)).await;
    assert_eq!(slow, 1);
    assert!(all > 100, "{all}");
    // Of those who come on their own, all wait who come in the stall, but for its last tenth of a second.
    let calls = Calls::new(&plan(&["http://one"], Workload::Completion, &[Load::Rate(20.0)]), 0, 0);
    let arrivals: Vec<f64> = calls.arrivals(1, 20.0).take_while(|at| *at < 4.0).collect();
    let (slow, all) = slow_ones(Load::Rate(20.0)).await;
    assert_eq!(all, arrivals.len());
    let waiting = arrivals.iter().filter(|at| (1.0..2.91).contains(*at)).count();
    assert!(slow.abs_diff(waiting) <= 1 && slow > 20, "{slow} of {all} waited, {waiting} came in the stall");
}

/// Answers after a fixed time.
struct Steady {
    delay: Duration,
    tokens: u64,
}

impl Answers for Steady {
    async fn answer(&self, _: &Call, trace: &mut Trace) {
        for _ in 0..2 {
            sleep(self.delay).await;
            trace.texts.push(Instant::now());
        }
        trace.counts = Counts { output_tokens: Some(self.tokens), ..Counts::default() };
    }
}

#[tokio::test(start_paused = true)]
async fn two_servers_are_compared_round_by_round() {
    let mut plan = plan(&["http://one", "http://two"], Workload::Completion, &[Load::Concurrency(2), Load::Rate(4.0)]);
    plan.goals = Goals { first_token: None, end_to_end: Some(Duration::from_millis(30)) };
    let steady = |millis| Arc::new(Steady { delay: Duration::from_millis(millis), tokens: 2 });
    let report = measure(&plan, &[steady(10), steady(40)], &mut |_| {}).await.expect("a report");
    assert_eq!((report.rows.len(), report.ratios.len()), (4, 2));
    let of = |name| report.ratios[0].ratios.iter().find(|ratio| ratio.figure == name).expect(name);
    assert_eq!(of("end_to_end_p50").rounds, 2);
    assert!((of("end_to_end_p50").advantage.median - 4.0).abs() < 0.2, "{:?}", of("end_to_end_p50"));
    assert!((of("requests_per_s").advantage.median - 4.0).abs() < 0.2, "{:?}", of("requests_per_s"));
    let goodput = |row: usize| report.rows[row].figures.goodput.map(|goodput| goodput.share);
    assert_eq!((goodput(0), goodput(1)), (Some(1.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn a_typist_waits_for_nobody() {
    // Slower than the keys: every key but the last is cancelled, at its moment.
    let plan = plan(&["http://one"], Workload::Typing, &[Load::Rate(3.0)]);
    let answers = Arc::new(Steady { delay: Duration::from_millis(100), tokens: 2 });
    let stage = Arc::new(Stage::new(answers, &plan, 0, 0));
    let done = round(&stage, 1, Amount::Requests(5), |_| {}).await;
    let count = |outcome: Outcome| done.samples.iter().filter(|sample| sample.outcome == outcome).count();
    assert_eq!((count(Outcome::Answered), count(Outcome::Cancelled)), (5, 10));
    for sample in &done.samples {
        assert!(sample.lag <= Duration::from_millis(2), "{:?}", sample.lag);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_plan_asks_the_same() {
    let plan = plan(&["http://one", "http://two", "http://one/v1/"], Workload::Typing, &[Load::Concurrency(1)]);
    let ask = |target_index| {
        let calls = Calls::new(&plan, 0, target_index);
        (calls.single(Kind::Completion, 1, 0, 5), calls.burst(2, 40), calls.pauses(2, 40))
    };
    assert_eq!(ask(0), ask(0));
    assert_eq!(ask(0), ask(1), "both servers get the same texts");
    let (first, again) = (ask(0), ask(2));
    assert!(first.0 != again.0 && first.1 != again.1, "the same server gets others");
    assert_eq!(first.2, again.2, "at the same moments");
}

#[test]
fn impossible_plans_are_refused() {
    let check = |change: fn(&mut Plan)| {
        let mut plan = plan(&["http://one"], Workload::Mixed, &[Load::Concurrency(1)]);
        assert!(plan.check().is_ok());
        change(&mut plan);
        assert!(plan.check().is_err());
    };
    check(|plan| plan.targets.clear());
    check(|plan| plan.loads.clear());
    check(|plan| plan.loads.push(Load::Rate(0.0)));
    check(|plan| plan.loads.push(Load::Rate(f64::NAN)));
    check(|plan| plan.loads.push(Load::Concurrency(CONCURRENCY_MAX + 1)));
    check(|plan| plan.rounds = 0);
    check(|plan| plan.chats = 0);
    check(|plan| plan.typing.keys = 0);
    check(|plan| plan.targets[0].dialect = Dialect::Gitlab);
}

#[test]
fn percentiles_are_exact() {
    let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
    let Distribution { count, mean, p50, p90, p95, p99, max } = Distribution::of(values).expect("values");
    assert_eq!((count, mean), (1000, 500.5));
    assert_eq!([p50, p90, p95, p99, max], [500.0, 900.0, 950.0, 990.0, 1000.0]);
    assert_eq!(Distribution::of(Vec::new()), None);
    assert_eq!(Distribution::of(vec![3.0]).map(|one| [one.p50, one.p99, one.max]), Some([3.0; 3]));
}

// What is written.

async fn small_report(label: &str) -> ServeReport {
    let mut plan = plan(&["http://one", "http://two"], Workload::Completion, &[Load::Concurrency(1), Load::Rate(9.0)]);
    plan.targets[0].label = label.to_owned();
    let steady = |millis| Arc::new(Steady { delay: Duration::from_millis(millis), tokens: 2 });
    measure(&plan, &[steady(5), steady(7)], &mut |_| {}).await.expect("a report")
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn names_for_machines_are_stable() {
    let json = serve_report_json(&small_report("a").await);
    let check = |value: &Value, want: &[&str]| {
        let (mut found, mut want) = (names(value), want.to_vec());
        found.sort_unstable();
        want.sort_unstable();
        assert_eq!(found, want);
    };
    assert_eq!((&json["bench"], &json["schema"]), (&json!("serve"), &json!(1)));
    let top = ["bench", "schema", "version", "begun_unix_s", "machine", "client_cores", "targets", "settings", "notes"];
    check(&json, &[&top[..], &["results", "ratios"]].concat());
    check(&json["targets"][0], &["label", "url", "dialect", "model"]);
    check(&json["results"][0], &["kind", "load", "target", "figures", "rounds"]);
    check(&json["results"][0]["load"], &["loop", "streams", "requests_per_s"]);
    let figures = &json["results"][0]["figures"];
    let rates = ["wall_s", "requests", "requests_per_s", "output_tokens", "output_tokens_per_s"];
    let latencies = ["first_token_ms", "inter_token_ms", "per_output_token_ms", "end_to_end_ms", "send_lag_ms"];
    let counts = ["prompt_tokens", "cached_tokens", "cached_share", "drafted_tokens", "accepted_tokens"];
    let others = ["output_tokens_counted_by", "goodput_requests_per_s", "goodput_share", "accepted_share", "failures"];
    check(figures, &[&rates[..], &latencies, &counts, &others].concat());
    check(&figures["requests"], &["answered", "empty", "failed", "cancelled", "answered_early", "cut_at_end"]);
    check(&figures["end_to_end_ms"], &["count", "mean", "p50", "p90", "p95", "p99", "max"]);
    check(&json["ratios"][0], &["kind", "load", "first", "second", "advantage_of_first"]);
    check(&json["ratios"][0]["advantage_of_first"]["end_to_end_p50"], &["median", "min", "max", "rounds"]);
}

#[tokio::test(start_paused = true)]
async fn the_page_needs_nothing_else_and_trusts_no_name() {
    let page = serve_report_html(&small_report("<script>alert('x')</script>&").await);
    for word in ["<script", "href=", "src=", "url(", "@import", "xlink", "<link", "<img", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;"));
    // Four distributions, nothing over one load of a sort, two timelines.
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (6, 6));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    assert!(page.contains("coordinated omission"));
}

#[tokio::test(start_paused = true)]
async fn the_table_tells_loops_apart() {
    let text = serve_report_text(&small_report("a").await);
    for words in ["1 stream", "9/s", "coordinated omission is corrected", "coordinated omission hides", "a over server"]
    {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(!text.contains("sesame"));
}
