//! Whether the providers answer: one call of one token to every model that a route leads to, over the same door that
//! serving uses.

use super::report::{Section, fail, ok, warn};
use crate::auth::gitlab::{Check, Verdict};
use crate::config::{Config, Provider};
use crate::domain::{
    CacheSalt, CallId, Chat, Class, Event, Generate, GenerateError, Job, LaneName, Message, Prompt, Role,
    SamplingParams, StopRules, UpstreamClass,
};
use crate::egress::{Ask, Egress, Method};
use crate::route::policy::Candidate;
use crate::serve;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REACHABLE: &str = "reachable";
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for a model that has to be fetched first.
const DEADLINE: Duration = Duration::from_secs(60);

/// One section for each provider; none where there is none.
pub async fn sections(config: &Config) -> Vec<Section> {
    let mut sections = Vec::with_capacity(config.providers.len());
    let (lanes, door) = (serve::provider_lanes(config), serve::provider_door(config));
    for provider in &config.providers {
        let title = format!("provider {} at {}", provider.name, provider.url);
        let checks = match &lanes {
            Ok(lanes) => checks(provider, lanes, &door).await,
            Err(error) => vec![fail("settings", error.to_string(), "put right what is named")],
        };
        sections.push(Section { title, checks });
    }
    sections
}

async fn checks(provider: &Provider, lanes: &[Candidate], door: &Result<Egress, serve::ServeError>) -> Vec<Check> {
    let reached = match door {
        Ok(door) => reachable(provider, door).await,
        Err(error) => fail(REACHABLE, error.to_string(), "put right what is named"),
    };
    if reached.verdict == Verdict::Fail {
        return vec![reached];
    }
    let mut checks = vec![reached];
    for lane in lanes.iter().filter(|lane| lane.name.provider() == provider.name) {
        checks.push(check(&lane.name, lane.lane.as_ref()).await);
    }
    if checks.len() == 1 {
        let step = format!("name {}:MODEL in `lanes` of a route or model, or take the provider out", provider.name);
        let found = match provider.by_identifier {
            true => ok("routes", "models are named by GitLab's calls; none is called from here"),
            false => warn("routes", "no route leads there: it is never asked", step),
        };
        checks.push(found);
    }
    checks
}

/// Whether anybody is there: what goes wrong on the way is told apart here, and says what to do.
async fn reachable(provider: &Provider, door: &Egress) -> Check {
    let url = provider.url.split('?').next().unwrap_or(&provider.url);
    let ask = Ask { method: Method::Get, url, headers: &[], body: None, timeout: REACH_TIMEOUT };
    match door.open(ask, REACH_TIMEOUT).await {
        Ok(answer) => ok(REACHABLE, format!("answers, with status {} where no key is shown", answer.status)),
        Err(error) => fail(REACHABLE, error.to_string(), format!("check `url` of [providers.{}]", provider.name)),
    }
}

async fn check(name: &LaneName, lane: &dyn Generate) -> Check {
    const NAME: &str = "answers";
    let begun = Instant::now();
    match ask(lane).await {
        Ok(()) => ok(NAME, format!("{}: a token after {} ms", name.model(), begun.elapsed().as_millis())),
        Err(error) => {
            let (found, step) = (format!("{}: {error}", name.model()), next_step(&error, name));
            match &error {
                GenerateError::Upstream(upstream) if is_passing(upstream.class) => warn(NAME, found, step),
                _ => fail(NAME, found, step),
            }
        }
    }
}

async fn ask(lane: &dyn Generate) -> Result<(), GenerateError> {
    let message = Message { role: Role::User, content: "1".to_owned() };
    let mut events = lane.generate(Job {
        id: CallId(Arc::from("doctor")),
        prompt: Prompt::Chat(Chat { messages: vec![message], answer_prefix: String::new() }),
        sampling: SamplingParams::default(),
        stop: StopRules { max_tokens: Some(1), stop: Vec::new() },
        class: Class::Chat,
        session: None,
        cache_salt: CacheSalt::default(),
        deadline: Some(DEADLINE),
    });
    while let Some(event) = events.next().await {
        if matches!(event?, Event::Finished { .. }) {
            return Ok(());
        }
    }
    Err(GenerateError::StepFailed { reason: "the answer has no end".to_owned() })
}

fn is_passing(class: UpstreamClass) -> bool {
    matches!(class, UpstreamClass::Limited | UpstreamClass::Overloaded)
}

fn next_step(error: &GenerateError, lane: &LaneName) -> String {
    let provider = lane.provider();
    let GenerateError::Upstream(upstream) = error else {
        return format!("see [providers.{provider}] with `sconce check-config`");
    };
    match upstream.class {
        UpstreamClass::Setup => format!(
            "check `api_key` and `url` of [providers.{provider}], whether {} is the name over there, and whether the \
             account may use it",
            lane.model()
        ),
        UpstreamClass::Limited | UpstreamClass::Overloaded => {
            "wait and look again; if it stays so, raise the quota over there".to_owned()
        }
        UpstreamClass::Failed | UpstreamClass::Broken => {
            format!("check that `kind` of [providers.{provider}] is what is spoken there, and its own log")
        }
        UpstreamClass::Request | UpstreamClass::TooLong | UpstreamClass::Policy => {
            format!("check `kind` of [providers.{provider}]: a call of one word was refused")
        }
    }
}
