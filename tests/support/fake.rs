//! A lane without a model.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sconce::domain::{Event, FinishReason, Generate, GenerateError, Job, ModelInfo, Usage};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Jobs by hand that no test has taken yet.
const JOBS_MAX: usize = 64;

type Said = Result<Event, GenerateError>;

/// Answers every job as its script says, and remembers the jobs.
pub struct Fake {
    script: Script,
    jobs: Mutex<Vec<Job>>,
}

enum Script {
    Say(Vec<Said>),
    /// As `Say`, and the jobs are not kept: for long runs.
    SayAndForget(Vec<Said>),
    /// Says the same text for ever, without ever having to wait. Counts how often.
    Endless {
        text: String,
        said: Arc<AtomicUsize>,
    },
    /// Hands every job to the test.
    ByHand(mpsc::Sender<Handle>),
}

/// A job in the hands of a test.
pub struct Handle {
    said: mpsc::Sender<Said>,
}

impl Handle {
    pub async fn say(&self, said: Said) {
        self.said.send(said).await.expect("somebody listens");
    }

    /// Resolves when the stream of the job has been dropped.
    pub async fn dropped(&self) {
        self.said.closed().await;
    }
}

impl Fake {
    pub fn saying(said: Vec<Said>) -> Arc<Self> {
        Self::with(Script::Say(said))
    }

    pub fn forgetful(said: Vec<Said>) -> Arc<Self> {
        Self::with(Script::SayAndForget(said))
    }

    /// Says "Hello" and " world" to a prompt of 5 tokens, of which 2 were cached.
    pub fn hello() -> Arc<Self> {
        Self::saying(vec![started(5, 2), text("Hello"), text(" world"), finished(5, 2, 2)])
    }

    pub fn failing(error: GenerateError) -> Arc<Self> {
        Self::saying(vec![Err(error)])
    }

    pub fn endless(text: &str) -> (Arc<Self>, Arc<AtomicUsize>) {
        let said = Arc::new(AtomicUsize::new(0));
        (Self::with(Script::Endless { text: text.to_owned(), said: said.clone() }), said)
    }

    pub fn by_hand() -> (Arc<Self>, mpsc::Receiver<Handle>) {
        let (sender, receiver) = mpsc::channel(JOBS_MAX);
        (Self::with(Script::ByHand(sender)), receiver)
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.jobs.lock().expect("no test panics while it holds it").clone()
    }

    fn with(script: Script) -> Arc<Self> {
        Arc::new(Self { script, jobs: Mutex::new(Vec::new()) })
    }
}

impl Generate for Fake {
    fn generate(&self, job: Job) -> BoxStream<'static, Said> {
        if !matches!(self.script, Script::SayAndForget(_)) {
            self.jobs.lock().expect("no test panics while it holds it").push(job);
        }
        match &self.script {
            Script::Say(said) | Script::SayAndForget(said) => stream::iter(said.clone()).boxed(),
            Script::Endless { text, said } => {
                let (text, said) = (text.clone(), said.clone());
                let endless = stream::repeat_with(move || {
                    said.fetch_add(1, Ordering::Relaxed);
                    Ok(Event::Text { text: text.clone(), logprobs: Vec::new() })
                });
                stream::iter([started(1, 0)]).chain(endless).boxed()
            }
            Script::ByHand(handles) => {
                let (said, heard) = mpsc::channel(1);
                handles.try_send(Handle { said }).expect("the test takes its jobs");
                stream::unfold(heard, |mut heard| async { heard.recv().await.map(|said| (said, heard)) }).boxed()
            }
        }
    }
}

pub fn started(prompt_tokens: usize, cached_tokens: usize) -> Said {
    Ok(Event::Started { prompt_tokens, cached_tokens, queue_wait: Duration::ZERO })
}

pub fn text(text: &str) -> Said {
    Ok(Event::Text { text: text.to_owned(), logprobs: Vec::new() })
}

pub fn finished(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize) -> Said {
    let usage = Usage { prompt_tokens, completion_tokens, cached_tokens };
    Ok(Event::Finished { reason: FinishReason::Stop, usage })
}

pub fn model(name: &str) -> ModelInfo {
    ModelInfo {
        name: name.to_owned(),
        architecture: "llama".to_owned(),
        context_tokens: 2048,
        vocab_size: 32_000,
        parameters: 1_000_000,
        has_infill: true,
        has_chat: true,
        created: 1_700_000_000,
    }
}
