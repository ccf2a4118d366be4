//! The real binary and the machines around it: what it asks them, what it says about it, and that it asks nobody where
//! nobody was named.

mod cluster;
mod process;
#[cfg(target_os = "linux")]
mod silence;

use cluster::{Cluster, Mood};
use process::Sconce;

const ASK: &str = r#"{"model":"coder","prompt":"def add(a, b):","max_tokens":4,"temperature":0}"#;

/// Two lines make the fallback; the provider has to be somewhere.
fn settings(cluster: &Cluster) -> String {
    format!(
        "[providers.cluster]\nkind = \"vllm\"\nurl = \"{}\"\napi_key = \"sk-of-the-cluster\"\n\
         [models.coder]\nlanes = [\"local:sconce\", \"cluster:qwen2.5-coder-7b\"]\nremote = \"on_failure\"\n\
         [models.far]\nlanes = [\"cluster:qwen2.5-coder-7b\"]\nremote = \"always\"\n",
        cluster.url()
    )
}

#[test]
fn work_stays_here_while_it_can() {
    let cluster = Cluster::start();
    let sconce = Sconce::start(&settings(&cluster), &[]);
    let answer = sconce.post("/v1/completions", ASK);
    assert_eq!((answer.status, answer.header("x-sconce-lane")), (200, Some("local:sconce")), "{answer:?}");
    assert_eq!((answer.header("x-sconce-passed"), cluster.asked()), (None, 0));
    assert!(sconce.banner().contains("remote models   on: cluster at 127.0.0.1:"), "{}", sconce.banner());
}

#[test]
fn a_model_that_cannot_answer_is_stood_in_for_and_everybody_is_told() {
    let cluster = Cluster::start();
    // More than the context of the built-in model holds.
    let text = settings(&cluster).replace("[models.coder]\n", "[models.coder]\nlonger_elsewhere = true\n");
    let sconce = Sconce::start(&text, &[]);
    let long = ASK.replace("def add(a, b):", &"def add(a, b):\\n    return a + b\\n".repeat(200));
    let answer = sconce.post("/v1/completions", &long);
    assert_eq!((answer.status, answer.header("x-sconce-lane")), (200, Some("cluster:qwen2.5-coder-7b")), "{answer:?}");
    assert_eq!(answer.header("x-sconce-passed"), Some("local:sconce;too_long"));
    assert_eq!(answer.json()["choices"][0]["text"], "from the cluster");
    let asked = cluster.last();
    assert!(asked.contains("Bearer sk-of-the-cluster") && asked.contains(r#""model":"qwen2.5-coder-7b""#), "{asked}");
    let log = sconce.stop();
    assert!(log.contains(r#""lane":"cluster:qwen2.5-coder-7b","passed":"local:sconce;too_long""#), "{log}");
    assert!(!log.contains("sk-of-the-cluster") && !log.contains("return a + b"), "{log}");
}

#[test]
fn bedrock_stands_in_with_two_lines() {
    let cluster = Cluster::start();
    cluster.set(Mood::Converse);
    let settings = format!(
        "[providers.aws]\nkind = \"bedrock\"\nregion = \"eu-central-1\"\nurl = \"{}\"\napi_key = \"bedrock-key\"\n\
         [models.talker]\nlonger_elsewhere = true\n\
         lanes = [\"local:sconce\", \"aws:eu.anthropic.claude-sonnet-4:0\"]\nremote = \"on_failure\"\n",
        cluster.url()
    );
    let sconce = Sconce::start(&settings, &[]);
    let question = "why? ".repeat(2000);
    let ask = format!(
        r#"{{"model":"talker","messages":[{{"role":"user","content":"{question}"}}],"max_tokens":8,"temperature":0.5}}"#
    );
    let answer = sconce.post("/v1/chat/completions", &ask);
    let (lane, passed) = (answer.header("x-sconce-lane"), answer.header("x-sconce-passed"));
    assert_eq!((answer.status, lane), (200, Some("aws:eu.anthropic.claude-sonnet-4:0")), "{answer:?}");
    assert_eq!(passed, Some("local:sconce;too_long"));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "from bedrock");
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 7);
    let asked = cluster.last();
    assert!(asked.contains("/model/eu.anthropic.claude-sonnet-4%3A0/converse-stream"), "{asked}");
    assert!(asked.contains("Bearer bedrock-key"), "{asked}");
    let log = sconce.stop();
    assert!(log.contains(r#""passed":"local:sconce;too_long""#) && !log.contains("bedrock-key"), "{log}");
}

#[test]
fn an_unwell_cluster_is_named_and_its_words_stay_with_it() {
    let cluster = Cluster::start();
    let sconce = Sconce::start(&settings(&cluster), &[]);
    let ask = ASK.replace("coder", "far");
    cluster.set(Mood::Refuse(401, r#"{"error":{"message":"wrong key sk-of-the-cluster"}}"#));
    let answer = sconce.post("/v1/completions", &ask);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("does not take the credentials") && !answer.body.contains("sk-of"), "{answer:?}");
    // It is left alone for a while, however well it may be.
    cluster.set(Mood::Answer);
    let answer = sconce.post("/v1/completions", &ask);
    assert_eq!((answer.status, cluster.asked()), (503, 1), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

#[test]
fn a_provider_is_asked_over_one_connection_again_and_again() {
    let cluster = Cluster::start();
    let sconce = Sconce::start(&settings(&cluster), &[]);
    for _ in 0..5 {
        assert_eq!(sconce.post("/v1/completions", &ASK.replace("coder", "far")).status, 200);
    }
    assert_eq!((cluster.asked(), cluster.connections()), (5, 1));
}

#[test]
fn the_doctor_calls_what_a_route_leads_to() {
    let cluster = Cluster::start();
    let text = process::doctor(&settings(&cluster));
    assert!(text.contains("ok    answers    qwen2.5-coder-7b: a token after "), "{text}");
    assert_eq!(cluster.asked(), 2, "one to see whether anybody is there, one for a token");
    cluster.set(Mood::Refuse(404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#));
    let text = process::doctor(&settings(&cluster));
    assert!(text.contains("FAIL  answers    qwen2.5-coder-7b: the provider cluster does not know the model"), "{text}");
    assert!(text.contains("[providers.cluster]") && !text.contains("sk-of-the-cluster"), "{text}");
}

#[test]
fn an_airgap_refuses_remote_lanes_at_the_start() {
    let cluster = Cluster::start();
    let text = format!("[egress]\nmode = \"airgap\"\n{}", settings(&cluster));
    let refused = Sconce::refused(&text);
    assert!(refused.contains("egress.mode` is airgap") && refused.contains("providers.cluster"), "{refused}");
}
