//! What a sequence brings when it takes a row of the table, packed for the device and sent in pieces.

use super::{STATE_WORDS, TOP_LOGPROBS_MAX};
use crate::gpu::PAD;
use crate::gpu::buffer::{Buffer, HostBuffer};
use crate::gpu::count::count;
use crate::gpu::driver::{Argument, Gpu, Launch};
use crate::gpu::error::GpuError;

/// Words of one piece on its way to the device.
const PIECE_WORDS: usize = 16 * 1024;
/// Pieces that may be on their way before the host waits for the oldest.
const PIECES_IN_FLIGHT: usize = 4;
/// Device memory of the staging area.
pub(super) const STAGING_BYTES: usize = PIECE_WORDS * 4;

const THREADS: usize = 128;

// Bits of `RowState::flags`.
const DRAWS: u32 = 1;
const FILTERED: u32 = 2;
const PENALISED: u32 = 4;
const MASKED: u32 = 8;
const REPORTS: u32 = 16;

/// A count of the table: this token is in the prompt.
const IN_PROMPT: u16 = 0x8000;
const GENERATED_MAX: u16 = 0x7fff;

/// How the tokens of a sequence are chosen; the ranges are the caller's to check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingSettings {
    /// 0 is greedy.
    pub temperature: f32,
    /// In (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// In 0..=1; 0 keeps all.
    pub min_p: f32,
    /// 0 keeps all.
    pub top_k: u32,
    /// Above 0; 1 is off.
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// How many of the most likely tokens to report beside the chosen one, at most [`TOP_LOGPROBS_MAX`].
    pub logprobs: Option<u32>,
    /// Whether the mask that is given with the logits restricts this sequence.
    pub is_masked: bool,
}

/// A sequence that takes a state row.
#[derive(Clone, Copy)]
pub struct Entering<'a> {
    pub state_row: u32,
    pub settings: SamplingSettings,
    pub seed: u64,
    /// Tokens sampled so far: the draws go on from there.
    pub sampled_tokens: u64,
    /// For the penalties; not looked at without them. Tokens beyond the vocabulary are no tokens.
    pub prompt: &'a [u32],
    pub generated: &'a [u32],
    /// Added to the logit of a token. What is given for one token several times is added up.
    pub biases: &'a [(u32, f32)],
}

impl std::fmt::Debug for Entering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the tokens: they are somebody's text.
        f.debug_struct("Entering").field("state_row", &self.state_row).field("settings", &self.settings).finish()
    }
}

impl SamplingSettings {
    pub(super) fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    fn draws(&self) -> bool {
        self.temperature > 0.0
    }

    fn flags(&self, top_k: u32) -> u32 {
        let is_filtered = self.draws() && (top_k != 0 || self.top_p < 1.0);
        let flags = [
            (DRAWS, self.draws()),
            (FILTERED, is_filtered),
            (PENALISED, self.has_penalties()),
            (MASKED, self.is_masked),
            (REPORTS, self.logprobs.is_some()),
        ];
        flags.iter().filter(|(_, is_set)| *is_set).map(|(bit, _)| bit).sum()
    }

    /// How far below the largest logit a token may be whose probability is this share of the largest.
    fn span(&self, share: f64) -> f32 {
        (f64::from(self.temperature) * share.ln()) as f32
    }
}

/// A state row that nobody has: greedy, and without a sample.
pub(super) fn vacant_state() -> [u32; STATE_WORDS] {
    let mut words = [0; STATE_WORDS];
    words[STATE_WORDS - 1] = PAD;
    words
}

/// Entries for the device, gathered from all sequences that enter together. Kept between calls.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Row, then its state.
    pub states: Vec<[u32; STATE_WORDS + 1]>,
    /// Row, token, count.
    pub counts: Vec<[u32; 3]>,
    /// Row, place, token, bias.
    pub biases: Vec<[u32; 4]>,
    /// `[vocab]`, zero between sequences.
    occurrences: Vec<u16>,
    sorted_biases: Vec<(u32, f32)>,
}

impl Pieces {
    pub fn new(vocab: usize) -> Self {
        let occurrences = vec![0; vocab];
        Self { states: Vec::new(), counts: Vec::new(), biases: Vec::new(), occurrences, sorted_biases: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.states.clear();
        self.counts.clear();
        self.biases.clear();
    }

    pub fn add(&mut self, entering: &Entering<'_>, biases_max: usize) {
        if entering.settings.has_penalties() {
            self.add_counts(entering);
        }
        let num_biases = self.add_biases(entering);
        assert!(num_biases <= biases_max, "{num_biases} biases, there is room for {biases_max}");
        self.add_state(entering, num_biases);
    }

    /// One entry per token that occurs.
    fn add_counts(&mut self, entering: &Entering<'_>) {
        let first = self.counts.len();
        let prompt = entering.prompt.iter().map(|token| (*token, true));
        let generated = entering.generated.iter().map(|token| (*token, false));
        for (token, is_prompt) in prompt.chain(generated) {
            let Some(count) = self.occurrences.get_mut(token as usize) else { continue };
            if *count == 0 {
                self.counts.push([entering.state_row, token, 0]);
            }
            if is_prompt {
                *count |= IN_PROMPT;
            } else if *count & GENERATED_MAX < GENERATED_MAX {
                *count += 1;
            }
        }
        for [_, token, count] in &mut self.counts[first..] {
            *count = u32::from(std::mem::take(&mut self.occurrences[*token as usize]));
        }
    }

    /// One entry per biased token, in ascending order.
    fn add_biases(&mut self, entering: &Entering<'_>) -> usize {
        let vocab = self.occurrences.len();
        self.sorted_biases.clear();
        self.sorted_biases.extend(entering.biases.iter().filter(|(token, _)| (*token as usize) < vocab));
        self.sorted_biases.sort_by_key(|(token, _)| *token);
        self.sorted_biases.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        let entries = self.sorted_biases.iter().enumerate();
        self.biases
            .extend(entries.map(|(place, (token, bias))| [entering.state_row, count(place), *token, bias.to_bits()]));
        self.sorted_biases.len()
    }

    /// The words of `RowState`, behind the row.
    fn add_state(&mut self, entering: &Entering<'_>, num_biases: usize) {
        let (settings, vocab) = (&entering.settings, self.occurrences.len());
        let num_logprobs = settings.logprobs.unwrap_or(0);
        assert!(num_logprobs as usize <= TOP_LOGPROBS_MAX, "{num_logprobs} log probabilities of {TOP_LOGPROBS_MAX}");
        let top_k = if (settings.top_k as usize) < vocab { settings.top_k } else { 0 };
        let min_p_span =
            if settings.min_p > 0.0 { settings.span(f64::from(settings.min_p)) } else { f32::NEG_INFINITY };
        // Half of what the rest may weigh, against rounding.
        let nucleus_span = if settings.top_p < 1.0 {
            settings.span((1.0 - f64::from(settings.top_p)) / vocab as f64 / 2.0)
        } else {
            f32::NEG_INFINITY
        };
        let (seed, sampled_tokens) = (entering.seed, entering.sampled_tokens);
        self.states.push([
            entering.state_row,
            seed as u32,
            (seed >> 32) as u32,
            sampled_tokens as u32,
            (sampled_tokens >> 32) as u32,
            settings.temperature.to_bits(),
            settings.top_p.to_bits(),
            top_k,
            min_p_span.to_bits(),
            nucleus_span.to_bits(),
            settings.repetition_penalty.to_bits(),
            settings.presence_penalty.to_bits(),
            settings.frequency_penalty.to_bits(),
            settings.flags(top_k),
            num_logprobs,
            count(num_biases),
            PAD,
        ]);
    }
}

/// A kind of entry: the kernel that writes it where it belongs.
pub(super) struct EntryKind<const WORDS: usize> {
    kernel: &'static str,
}

pub(super) const STATE_ENTRY: EntryKind<{ STATE_WORDS + 1 }> = EntryKind { kernel: "sampling_write_states" };
pub(super) const COUNT_ENTRY: EntryKind<3> = EntryKind { kernel: "sampling_write_counts" };
pub(super) const BIAS_ENTRY: EntryKind<4> = EntryKind { kernel: "sampling_write_biases" };

/// The way of entries to the device: page-locked pieces in turn, so that one can be filled while others are copied.
#[derive(Debug)]
pub(super) struct Staging {
    pinned: Vec<HostBuffer<u32>>,
    next: usize,
    device: Buffer<u32>,
}

impl Staging {
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let pinned = (0..PIECES_IN_FLIGHT).map(|_| gpu.host_buffer(PIECE_WORDS)).collect::<Result<_, _>>()?;
        Ok(Self { pinned, next: 0, device: gpu.uninitialised(PIECE_WORDS)? })
    }

    /// Sends entries and has each written to `table`.
    ///
    /// # Safety
    /// Pointers and numbers are the arguments of the kind's kernel besides the entries and their number, and no entry
    /// names a place outside the buffer, nor two the same.
    pub unsafe fn write<const WORDS: usize>(
        &mut self,
        gpu: &Gpu,
        kind: &EntryKind<WORDS>,
        entries: &[[u32; WORDS]],
        pointers: &[Argument],
        numbers: &[Argument],
    ) -> Result<(), GpuError> {
        for piece in entries.chunks(PIECE_WORDS / WORDS) {
            let words = piece.as_flattened();
            let pinned = &mut self.pinned[self.next];
            self.next = (self.next + 1) % PIECES_IN_FLIGHT;
            pinned.values_mut()?[..words.len()].copy_from_slice(words);
            gpu.send(pinned, &mut self.device, 0, words.len())?;

            let length = [Argument::U32(count(piece.len()))];
            let arguments = [&[self.device.argument()], pointers, &length[..], numbers].concat();
            let grid = [count(piece.len().div_ceil(THREADS)), 1, 1];
            let launch = Launch { grid, block: [count(THREADS), 1, 1], shared_bytes: 0 };
            // SAFETY: the entries lie in the staging buffer, and our caller answers for where they go.
            unsafe { gpu.launch(kind.kernel, launch, &arguments)? };
        }
        Ok(())
    }
}
