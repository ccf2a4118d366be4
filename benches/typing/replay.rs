//! Keystrokes through the real tokenizer, templates and scheduler, without a model: which share of the prompts' tokens
//! the prefix cache holds. Counts, no times: the same on every machine.

use super::keystrokes::{Brackets, Edit, Random, edits};
use sconce::catalog::Catalog;
use sconce::checkpoint::{Checkpoint, Limits};
use sconce::domain::{CacheSalt, Class, Infill, Prompt, SessionKey};
use sconce::feature::completion::window;
use sconce::scheduler::{NewSequence, Sampled, Scheduler, SchedulerConfig, SequenceId};
use sconce::tokenizer::{GgufVocabulary, Renderer, RendererOptions, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// The file that is edited, cut to the size of the workload.
const FILE: &str = include_str!("../../src/engine/worker.rs");
const VOCAB: usize = 4_000;
const OUTPUT_TOKENS: usize = 16;
/// Of a chat that comes between, and how many of them while somebody thinks.
const CHAT_TOKENS: usize = 2_000;
const CHATS_IN_A_PAUSE: usize = 40;
/// Keystrokes between two pauses.
const PAUSE_EVERY: usize = 25;

/// In which order code around the cursor is put, by its name in a model's card.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    SuffixFirst,
    PrefixFirst,
}

/// How much of what follows the cursor is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A quarter of the file where the suffix comes first, a quarter of the prompt where it comes last.
    Quarter,
    /// What completions for GitLab show: windows cut in jumps, mostly what stands before the cursor.
    Window,
}

#[derive(Clone, Copy)]
pub struct Workload {
    pub order: Order,
    pub shown: Shown,
    pub brackets: Brackets,
    /// Chats come while the editor pauses, enough to use every block several times.
    pub has_chats: bool,
    pub file_tokens: usize,
    pub edits: usize,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub jumps: usize,
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    /// Keystrokes that found less than half of their prompt.
    pub misses: usize,
}

impl Figures {
    pub fn share(&self) -> f64 {
        self.cached_tokens as f64 / self.prompt_tokens as f64
    }
}

pub fn replay(workload: Workload) -> Figures {
    let renderer = renderer(workload.order);
    let file = first_tokens(&renderer, workload.file_tokens);
    let mut replay = Replay::new(workload);
    let mut figures = Figures::default();
    for (index, edit) in edits(&file, workload.edits, workload.seed, workload.brackets).iter().enumerate() {
        if workload.has_chats && index % PAUSE_EVERY == PAUSE_EVERY - 1 {
            replay.chat();
        }
        let prompt = renderer.render(&prompt(edit, workload, file.len())).expect("the card infills").tokens;
        let prompt_tokens = prompt.len();
        let cached_tokens = replay.keystroke(prompt);
        figures.jumps += usize::from(edit.is_jump);
        figures.prompt_tokens += prompt_tokens;
        figures.cached_tokens += cached_tokens;
        figures.misses += usize::from(2 * cached_tokens < prompt_tokens);
    }
    replay.finish();
    figures
}

/// The embedded model's tokenizer, with its card in one of both orders.
fn renderer(order: Order) -> Renderer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/embedded/model.gguf");
    let checkpoint = Checkpoint::open(&path, &Limits::default()).expect("the embedded model");
    let metadata = checkpoint.gguf_metadata().expect("GGUF has metadata");
    let vocabulary = GgufVocabulary::from_metadata(metadata).expect("the embedded vocabulary");
    let tokenizer = Tokenizer::from_gguf(&vocabulary, vocabulary.tokens.len()).expect("the embedded vocabulary");
    let catalog = Catalog::load(None).expect("embedded cards");
    let name = match order {
        Order::SuffixFirst => "spm",
        Order::PrefixFirst => "psm",
    };
    let options = RendererOptions { infill_order: Some(name.to_owned()), ..RendererOptions::default() };
    Renderer::new(Arc::new(tokenizer), catalog.card("sconce"), options).expect("trained in both orders")
}

/// So many lines of the file that they are about this many tokens.
fn first_tokens(renderer: &Renderer, tokens_max: usize) -> String {
    let mut text = String::new();
    let mut tokens = 0;
    for line in FILE.split_inclusive('\n') {
        tokens += renderer.render(&Prompt::Text(line.to_owned())).expect("plain text").tokens.len();
        if tokens > tokens_max {
            break;
        }
        text.push_str(line);
    }
    text
}

fn prompt(edit: &Edit, workload: Workload, file_bytes: usize) -> Prompt {
    let (prefix, suffix) = match workload.shown {
        Shown::Window => {
            let shown = window(&edit.prefix, &edit.suffix, &[], workload.file_tokens);
            (shown.prefix, shown.suffix)
        }
        Shown::Quarter => {
            let bytes_max = match workload.order {
                Order::SuffixFirst => file_bytes / 4,
                Order::PrefixFirst => edit.prefix.len() / 3,
            };
            (edit.prefix.as_str(), whole_lines(&edit.suffix, bytes_max))
        }
    };
    Prompt::Infill(Infill { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
}

/// The lines at the beginning of `text` that have at most so many bytes.
fn whole_lines(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut line_ends = text.bytes().enumerate().take(bytes_max).filter(|(_, byte)| *byte == b'\n');
    &text[..line_ends.next_back().map_or(0, |(at, _)| at + 1)]
}

/// A scheduler, and a device that samples at random.
struct Replay {
    scheduler: Scheduler,
    random: Random,
}

impl Replay {
    fn new(workload: Workload) -> Self {
        let config = SchedulerConfig {
            block_tokens: 16,
            // Four such prompts, with answers: half of it is kept for editors.
            num_blocks: (4 * workload.file_tokens + 2 * CHAT_TOKENS) / 16,
            step_tokens_max: 1_024,
            running_max: 16,
            waiting_max: 256,
            context_tokens: 2 * workload.file_tokens + 1_000,
            depth: 0,
            chat_share: 0.125,
            promote_after_us: u64::MAX,
            prefill_chunk_max: 512,
        };
        Self { scheduler: Scheduler::new(config).expect("the configuration is sound"), random: Random(workload.seed) }
    }

    fn add(&mut self, prompt: Vec<u32>, class: Class) -> SequenceId {
        let new = NewSequence {
            prompt,
            class,
            session: (class == Class::Completion).then(|| SessionKey("one editor".into())),
            cache_salt: CacheSalt(1),
            deadline_us: u64::MAX,
            max_tokens: OUTPUT_TOKENS,
            stop_tokens: Arc::new([]),
        };
        self.scheduler.add(new, 0).expect("the queue has room").id
    }

    /// Asks, and computes for a while; the next keystroke may come before the answer has ended. Answers with the prompt
    /// tokens that were found in the cache.
    fn keystroke(&mut self, prompt: Vec<u32>) -> usize {
        let id = self.add(prompt, Class::Completion);
        let mut found = 0;
        for _ in 0..2 + self.random.below(2 * OUTPUT_TOKENS) {
            if !self.step() {
                break;
            }
            found = found.max(self.scheduler.cached_tokens(id));
        }
        found
    }

    fn chat(&mut self) {
        for _ in 0..CHATS_IN_A_PAUSE {
            let prompt = (0..CHAT_TOKENS).map(|_| self.random.below(VOCAB) as u32).collect();
            self.add(prompt, Class::Chat);
        }
        self.finish();
    }

    /// Nobody is left, and every block has come back.
    fn finish(&mut self) {
        while self.step() {}
        assert!(self.scheduler.is_drained(), "{:?}", self.scheduler);
    }

    fn step(&mut self) -> bool {
        let Some(step) = self.scheduler.schedule(0) else { return false };
        let sampling = step.chunks.iter().filter(|chunk| chunk.sampled_rows == 1);
        let sampled: Vec<Sampled> = sampling
            .map(|chunk| Sampled { sequence: chunk.sequence, token: self.random.below(VOCAB) as u32 })
            .collect();
        self.scheduler.commit(step.id, &sampled);
        true
    }
}
