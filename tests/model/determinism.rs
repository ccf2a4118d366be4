//! The same request gives the same logits bit for bit: alone or in a batch, whole or in chunks, cache cold or warm,
//! on one thread or several.

use crate::check::{Model, Piece};
use crate::golden;

const MODELS: &[&str] = &["llama3", "mistral", "qwen2-window"];
const QUANTISED: &[&str] = &["q8_0", "q4_0", "q4_k", "q5_k", "q6_k"];

fn paths() -> Vec<std::path::PathBuf> {
    let folders = MODELS.iter().map(|family| golden::folder(family));
    folders.chain(QUANTISED.iter().map(|kind| golden::quantised(kind))).collect()
}

/// A small generator, so that schedules are random and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn tokens(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(vocab) as u32).collect()
    }
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect()
}

/// Every row of the prompt, computed alone in one step.
fn alone(model: &mut Model, prompt: &[u32]) -> Vec<Vec<u32>> {
    bits(&model.logits(prompt))
}

#[test]
fn chunks_do_not_matter() {
    for path in paths() {
        let mut model = Model::load(&path).unwrap();
        let mut random = Random(7);
        let prompt = random.tokens(83, 300);
        let whole = alone(&mut model, &prompt);
        let schedules =
            [vec![1; 83], vec![16, 16, 16, 16, 16, 3], vec![15, 2, 15, 17, 33, 1], vec![82, 1], vec![64, 19]];
        for schedule in schedules {
            model.reset();
            let mut rows = Vec::new();
            let mut start = 0;
            for tokens in schedule {
                let piece = Piece { sequence: 0, start, tokens: &prompt[start..start + tokens] };
                rows.extend(model.step(&[piece]).remove(0));
                start += tokens;
            }
            assert!(bits(&rows) == whole, "{}: chunks change the logits", path.display());
        }
    }
}

#[test]
fn company_does_not_matter() {
    for path in paths() {
        let mut model = Model::load(&path).unwrap();
        let mut random = Random(11);
        let prompts: Vec<Vec<u32>> = (0..16).map(|i| random.tokens(3 + 5 * i, 300)).collect();
        let expected: Vec<_> = prompts.iter().map(|prompt| alone(&mut model, prompt)).collect();
        for _ in 0..3 {
            model.reset();
            let mut done = vec![0; prompts.len()];
            let mut rows: Vec<Vec<Vec<f32>>> = vec![Vec::new(); prompts.len()];
            while done.iter().zip(&prompts).any(|(done, prompt)| *done < prompt.len()) {
                // Some sequences rest, some take one token, some take many, in an order of their own.
                let mut pieces = Vec::new();
                let first = random.below(prompts.len());
                for index in (0..prompts.len()).map(|i| (i + first) % prompts.len()) {
                    let left = prompts[index].len() - done[index];
                    let tokens = [0, 1, 1, 7, 40][random.below(5)].min(left);
                    if tokens > 0 {
                        let start = done[index];
                        pieces.push(Piece { sequence: index, start, tokens: &prompts[index][start..start + tokens] });
                        done[index] += tokens;
                    }
                }
                if pieces.is_empty() {
                    continue;
                }
                let sequences: Vec<usize> = pieces.iter().map(|piece| piece.sequence).collect();
                for (sequence, computed) in sequences.into_iter().zip(model.step(&pieces)) {
                    rows[sequence].extend(computed);
                }
            }
            for (index, (got, want)) in rows.iter().zip(&expected).enumerate() {
                assert!(bits(got) == *want, "{}: sequence {index} differs in company", path.display());
            }
        }
    }
}

#[test]
fn cached_blocks_do_not_matter() {
    for path in paths() {
        let mut model = Model::load(&path).unwrap();
        let mut random = Random(13);
        let prompt = random.tokens(70, 300);
        let whole = alone(&mut model, &prompt);
        for shared_blocks in [1, 3, 4] {
            model.reset();
            // Another sequence with the same beginning went before; its blocks are read, not computed again.
            let shared = shared_blocks * model.block_tokens();
            let mut other = prompt[..shared].to_vec();
            other.extend(random.tokens(9, 300));
            model.step(&[Piece { sequence: 1, start: 0, tokens: &other }]);
            model.share(1, 0, shared_blocks);
            let rows = model.step(&[Piece { sequence: 0, start: shared, tokens: &prompt[shared..] }]).remove(0);
            assert!(bits(&rows) == whole[shared..], "{}: cached blocks change the logits", path.display());
        }
    }
}

#[test]
fn threads_do_not_matter() {
    for path in paths() {
        let mut random = Random(17);
        let prompt = random.tokens(50, 300);
        let one = alone(&mut Model::load_with_threads(&path, 1).unwrap(), &prompt);
        for threads in [2, 3, 5] {
            let several = alone(&mut Model::load_with_threads(&path, threads).unwrap(), &prompt);
            assert!(one == several, "{}: {threads} threads change the logits", path.display());
        }
    }
}

#[test]
fn rows_without_logits_do_not_matter() {
    for path in paths() {
        let mut model = Model::load(&path).unwrap();
        let mut random = Random(19);
        let prompts: Vec<Vec<u32>> = (0..5).map(|i| random.tokens(4 + 9 * i, 300)).collect();
        let expected: Vec<_> = prompts.iter().map(|prompt| alone(&mut model, prompt)).collect();
        for sampled in [1, 3] {
            model.reset();
            let piece = |(sequence, prompt)| Piece { sequence, start: 0, tokens: prompt };
            let pieces: Vec<_> = prompts.iter().map(Vec::as_slice).enumerate().map(piece).collect();
            for (rows, want) in model.step_sampling(&pieces, sampled).iter().zip(&expected) {
                assert!(bits(rows) == want[want.len() - sampled..], "{}: sampling few rows differs", path.display());
            }
        }
    }
}
