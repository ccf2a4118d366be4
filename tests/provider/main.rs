//! Providers against servers that speak their protocols, through the real door, on loopback: what is sent, what is heard,
//! and what every kind of failure becomes.

mod anthropic;
mod azure;
mod bedrock;
mod bodies;
mod event_stream;
mod faults;
mod gateway;
mod server;
mod streams;
mod vertex;

use futures::StreamExt as _;
use sconce::domain::{
    CacheSalt, CallId, Chat, Class, Event, FinishReason, Generate, GenerateError, Infill, Job, Message, Prompt, Role,
    SamplingParams, StopRules, UpstreamError, Usage,
};
use sconce::egress::{Egress, EgressSettings};
use sconce::provider::{
    Anthropic, AnthropicSampling, AnthropicSettings, Endpoint, Habits, InfillForm, Key, Kind, OpenAiCompatible,
    OpenAiSettings, Patience, Remote,
};
use server::Server;
use std::sync::Arc;

fn job(prompt: Prompt) -> Job {
    Job {
        id: CallId(Arc::from("01TEST")),
        prompt,
        sampling: SamplingParams::default(),
        stop: StopRules { max_tokens: Some(16), stop: Vec::new() },
        class: Class::Chat,
        session: None,
        cache_salt: CacheSalt::default(),
        deadline: None,
    }
}

fn chat(messages: &[(Role, &str)]) -> Prompt {
    let messages = messages.iter().map(|(role, content)| Message { role: *role, content: (*content).to_owned() });
    Prompt::Chat(Chat { messages: messages.collect(), answer_prefix: String::new() })
}

fn question() -> Prompt {
    chat(&[(Role::User, "sesame?")])
}

fn begun(prefix: &str) -> Prompt {
    let messages = vec![Message { role: Role::User, content: "go".to_owned() }];
    Prompt::Chat(Chat { messages, answer_prefix: prefix.to_owned() })
}

fn infill() -> Prompt {
    Prompt::Infill(Infill { prefix: "a(".to_owned(), suffix: ")\n".to_owned() })
}

fn door(server: &Server) -> Egress {
    let allowed = vec![server.url()];
    Egress::new(&EgressSettings { allowed, ..EgressSettings::default() }).expect("settings that can be used")
}

fn remote(server: &Server) -> Remote {
    Remote {
        name: Arc::from("eu"),
        endpoint: Endpoint::new(&format!("{}/v1/", server.url()), Some(Key::new("sk-key".to_owned()))),
        model: "large".to_owned(),
        max_tokens: 1024,
        patience: Patience::default(),
    }
}

fn openai_settings(server: &Server, kind: Kind) -> OpenAiSettings {
    let (remote, habits, extra) = (remote(server), Habits::of(kind), serde_json::Map::new());
    OpenAiSettings { remote, habits, infill: InfillForm::None, extra }
}

fn openai(server: &Server, kind: Kind) -> OpenAiCompatible {
    OpenAiCompatible::new(door(server), openai_settings(server, kind))
}

fn claude(server: &Server) -> Anthropic {
    let sampling = AnthropicSampling::One;
    Anthropic::new(door(server), AnthropicSettings { remote: remote(server), sampling, has_answer_prefix: true })
}

/// An answer folded: its text, and how it ended.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    end: Result<(FinishReason, Usage), GenerateError>,
}

impl Told {
    /// The error of a provider, which is what the stream has to end with.
    #[track_caller]
    fn upstream(self) -> UpstreamError {
        match self.end {
            Err(GenerateError::Upstream(error)) => *error,
            other => panic!("ended with {other:?} behind {:?}", self.text),
        }
    }
}

/// Holds the stream to its contract: a beginning first, one end last.
async fn tell(lane: &impl Generate, job: Job) -> Told {
    let events: Vec<_> = lane.generate(job).collect().await;
    let mut text = String::new();
    let mut end = None;
    for (index, event) in events.into_iter().enumerate() {
        assert!(end.is_none(), "something follows the end");
        match event {
            Ok(Event::Started { .. }) => assert_eq!(index, 0, "started late"),
            Ok(Event::Text { text: more, .. }) => {
                assert!(index > 0, "text before the beginning");
                text.push_str(&more);
            }
            Ok(Event::Finished { reason, usage }) => end = Some(Ok((reason, usage))),
            Ok(Event::Taken(_)) => panic!("who is taken is not a provider's to say"),
            Err(error) => end = Some(Err(error)),
        }
    }
    Told { text, end: end.expect("an end") }
}
