//! The numbers a scheduler is built from, and what makes a set of them impossible.

use super::BlockId;

/// Everything the scheduler knows about model and machine. All token counts are positions of the key-value cache.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Positions in one block; 16 is the usual choice.
    pub block_tokens: usize,
    /// Blocks of the preallocated cache.
    pub num_blocks: usize,
    /// Tokens computed in one step, over all sequences. At least `running_max`, so that a decode row per running
    /// sequence always fits and every prefill that runs moves in every step.
    pub step_tokens_max: usize,
    /// Sequences that run at once: the rows of the device's state table.
    pub running_max: usize,
    /// Sequences that wait, not counting those sent back by preemption.
    pub waiting_max: usize,
    /// Prompt and output of one sequence together.
    pub context_tokens: usize,
    /// Steps that may be in flight besides the one being scheduled. 0: every step is committed before the next.
    pub depth: usize,
    /// Share of a step's tokens, of its time, and of the slots, that chat keeps when completions could fill them all.
    /// Range 0..=1. Rounded up to one block of tokens and one slot; where times are known, to one token.
    pub chat_share: f32,
    /// A chat that has waited this long in all is promoted: it competes as a completion, due since that moment.
    pub promote_after_us: u64,
    /// Prompt tokens of one sequence computed in one step.
    pub prefill_chunk_max: usize,
}

/// Which number cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("{setting} is 0, at least 1 is needed")]
    Zero { setting: &'static str },
    #[error("{num_blocks} blocks are asked for, block numbers end at {num_blocks_max}")]
    TooManyBlocks { num_blocks: usize, num_blocks_max: usize },
    #[error("{running_max} sequences may run but a step holds only {step_tokens_max} tokens, one each is needed")]
    StepTooSmall { step_tokens_max: usize, running_max: usize },
    #[error("a chat share of {chat_share} is outside 0 to 1")]
    ChatShare { chat_share: f32 },
}

impl SchedulerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("block_tokens", self.block_tokens),
            ("num_blocks", self.num_blocks),
            ("step_tokens_max", self.step_tokens_max),
            ("running_max", self.running_max),
            ("waiting_max", self.waiting_max),
            ("context_tokens", self.context_tokens),
            ("prefill_chunk_max", self.prefill_chunk_max),
        ];
        if let Some((setting, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError::Zero { setting });
        }
        let num_blocks_max = BlockId::MAX as usize;
        if self.num_blocks > num_blocks_max {
            return Err(ConfigError::TooManyBlocks { num_blocks: self.num_blocks, num_blocks_max });
        }
        if self.step_tokens_max < self.running_max {
            let (step_tokens_max, running_max) = (self.step_tokens_max, self.running_max);
            return Err(ConfigError::StepTooSmall { step_tokens_max, running_max });
        }
        if !(0.0..=1.0).contains(&self.chat_share) {
            return Err(ConfigError::ChatShare { chat_share: self.chat_share });
        }
        Ok(())
    }

    /// Tokens of a step that chat prefills keep against completions.
    pub(super) fn chat_tokens(&self) -> usize {
        share_of(self.step_tokens_max, self.chat_share).max(self.block_tokens)
    }

    /// Slots that completions do not take away from running chats. With a single slot there is nothing to share.
    pub(super) fn chat_slots(&self) -> usize {
        share_of(self.running_max, self.chat_share).max(1).min(self.running_max - 1)
    }

    pub(super) fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }
}

fn share_of(count: usize, share: f32) -> usize {
    (count as f64 * f64::from(share)) as usize
}
