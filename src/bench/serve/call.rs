//! What is asked: one [`Call`] for every position in a plan, the same for every server, and new wherever a cache should
//! not help.

use super::code::{BYTES_PER_TOKEN, bytes_of, code, ends_at};
use super::plan::{Plan, Texts};
use super::sample::Kind;
use super::seeded::Seeded;

/// Bursts that a developer types into a file before opening the next.
const BURSTS_PER_FILE: usize = 32;
/// Characters that one key stands for at most: editors send pauses, not keys.
const STROKE_CHARS_MAX: usize = 4;

const SYSTEM: &str = "You are a careful programmer. Answer in one short paragraph.";
const QUESTIONS: [&str; 4] = [
    "What does this file do, and which of its methods would you write differently?",
    "Which methods of this file can fail, and how would a caller notice?",
    "Write a test for the last class of this file.",
    "Explain to a new colleague how these classes belong together.",
];

/// A request as a person would say it, free of any server's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub kind: Kind,
    /// Code up to the cursor; for a chat, the question.
    pub prompt: String,
    /// Code behind the cursor.
    pub suffix: String,
    pub output_tokens: usize,
    /// Whose typing this is: a newer request of the session makes an older one pointless.
    pub session: Option<String>,
}

/// Makes the calls of one load.
#[derive(Clone, Debug)]
pub struct Calls {
    seed: u64,
    texts: Texts,
    keys: usize,
    load_index: u64,
    salt: u64,
}

/// What a number is drawn for; part of its key.
#[derive(Clone, Copy)]
enum For {
    Shared = 1,
    Request = 2,
    File = 3,
    Stroke = 4,
    Pause = 5,
    Arrival = 6,
}

impl Calls {
    pub fn new(plan: &Plan, load_index: usize, target_index: usize) -> Self {
        let salt = plan.salt(target_index);
        Self { seed: plan.seed, texts: plan.texts, keys: plan.typing.keys, load_index: load_index as u64, salt }
    }

    /// The request of this number in a round; `stream` says whose beginning it shares.
    pub fn single(&self, kind: Kind, round: usize, stream: usize, number: usize) -> Call {
        let total = bytes_of(self.texts.prompt_tokens);
        let shared_bytes = (total as f64 * self.texts.shared) as usize;
        let own = self.seeded(For::Request, &[kind as u64, round as u64, number as u64]);
        let mut prompt = String::new();
        if shared_bytes > 0 {
            let shared = code(self.seeded(For::Shared, &[kind as u64, stream as u64]), shared_bytes);
            prompt.push_str(ends_at(&shared, shared_bytes));
            prompt.push('\n');
        }
        let text = code(own.clone(), total.saturating_sub(shared_bytes) + bytes_of(self.texts.suffix_tokens));
        let (above, below) = text.split_at(ends_at(&text, total.saturating_sub(shared_bytes)).len());
        prompt.push_str(above);
        let suffix = ends_at(below, bytes_of(self.texts.suffix_tokens)).to_owned();
        let output_tokens = self.texts.output_tokens;
        match kind {
            Kind::Chat => {
                let question = QUESTIONS[own.clone().below(QUESTIONS.len())];
                Call {
                    kind,
                    prompt: format!("{prompt}\n\n{question}"),
                    suffix: String::new(),
                    output_tokens,
                    session: None,
                }
            }
            Kind::Completion | Kind::Key => Call { kind, prompt, suffix, output_tokens, session: None },
        }
    }

    /// The requests of one burst: each knows a few characters more than the one before.
    pub fn burst(&self, developer: usize, burst: usize) -> Vec<Call> {
        let (file, burst_of_file) = (burst / BURSTS_PER_FILE, burst % BURSTS_PER_FILE);
        let start = bytes_of(self.texts.prompt_tokens);
        let typed_max = BURSTS_PER_FILE * self.stride();
        let suffix_bytes = bytes_of(self.texts.suffix_tokens);
        let text = code(self.seeded(For::File, &[developer as u64, file as u64]), start + typed_max + suffix_bytes);
        let mut strokes = self.seeded(For::Stroke, &[developer as u64, burst as u64]);
        let mut cursor = start + burst_of_file * self.stride();
        // What is behind the cursor does not change while somebody types: it is what follows the burst's last key.
        let below = &text[ends_at(&text, cursor + self.stride()).len()..];
        let suffix = ends_at(below, suffix_bytes);
        let mut calls = Vec::with_capacity(self.keys);
        for _ in 0..self.keys {
            cursor += 1 + strokes.below(STROKE_CHARS_MAX);
            calls.push(Call {
                kind: Kind::Key,
                prompt: ends_at(&text, cursor).to_owned(),
                suffix: suffix.to_owned(),
                output_tokens: self.texts.output_tokens,
                session: Some(format!("bench-{}-{}-{}-{developer}", self.seed, self.salt, self.load_index)),
            });
        }
        calls
    }

    /// How far apart the keys of a burst are, each as a share of the plan's gap.
    pub fn pauses(&self, developer: usize, burst: usize) -> Vec<f64> {
        let mut seeded = self.seeded(For::Pause, &[developer as u64, burst as u64]);
        (0..self.keys).map(|_| 0.6 + 0.8 * seeded.unit()).collect()
    }

    /// The moments at which requests of an open loop begin, in seconds from the start of a round, without end.
    pub fn arrivals(&self, round: usize, per_second: f64) -> impl Iterator<Item = f64> + use<> {
        let mut seeded = self.seeded(For::Arrival, &[round as u64]);
        let mut at = 0.0;
        std::iter::repeat_with(move || {
            at += seeded.gap_seconds(per_second);
            at
        })
    }

    /// A burst, and the characters that were accepted behind it.
    fn stride(&self) -> usize {
        self.keys * STROKE_CHARS_MAX + 5
    }

    fn seeded(&self, what: For, key: &[u64]) -> Seeded {
        // Arrivals and pauses are the same for everybody.
        let salt = if matches!(what, For::Arrival | For::Pause) { 0 } else { self.salt };
        let key: Vec<u64> = [what as u64, self.load_index, salt].into_iter().chain(key.iter().copied()).collect();
        Seeded::new(self.seed, &key)
    }
}

/// The instruction that every chat begins with.
pub fn system_message() -> &'static str {
    SYSTEM
}

/// Said in reports: lengths are meant, not counted, until a server counts them.
pub fn length_note() -> String {
    format!("lengths are of code at {BYTES_PER_TOKEN} bytes a token; the server's own counts are in the table")
}
