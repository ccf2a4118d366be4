//! Ten thousand sequences that are cancelled or superseded at random moments: each is gone from the next step on, what
//! it held comes back with the last step it was in, and at the end nothing is left of any.

use super::super::fake::Random;
use super::*;
use crate::scheduler::SchedulerStats;
use std::collections::HashSet;

const ENDS: usize = 10_000;
const EDITORS: usize = 6;

/// A crowd that changes its mind.
struct Crowd {
    bench: Bench,
    random: Random,
    /// Admitted and not known to have ended.
    live: Vec<SequenceId>,
    /// Cancelled or superseded, with the number of steps that were in flight and are not yet collected.
    leaving: Vec<(SequenceId, usize)>,
    gone: HashSet<SequenceId>,
    cancelled: usize,
    superseded: usize,
    /// Of those that ended before their time: how many waited, ran, or had a step in flight.
    moments: [usize; 3],
}

impl Crowd {
    fn new(seed: u64, depth: usize) -> Self {
        let mut random = Random(seed);
        let config = SchedulerConfig {
            num_blocks: 40 + random.below(60),
            step_tokens_max: 8 + random.below(40),
            running_max: 2 + random.below(6),
            waiting_max: 12,
            depth,
            ..config()
        };
        let (live, leaving, gone) = (Vec::new(), Vec::new(), HashSet::new());
        Self { bench: Bench::new(config), random, live, leaving, gone, cancelled: 0, superseded: 0, moments: [0; 3] }
    }

    fn arrive(&mut self) {
        let editor = self.random.below(EDITORS);
        let text = 100 * editor as u32..100 * editor as u32 + 10 + self.random.below(50) as u32;
        let typed = (0..self.random.below(4)).map(|_| self.random.below(VOCAB) as u32).collect::<Vec<_>>();
        let new = NewSequence {
            max_tokens: 1 + self.random.below(20),
            deadline_us: u64::MAX - self.random.below(1_000) as u64,
            ..completion(text.chain(typed))
        };
        let new = match self.random.below(4) {
            0 => NewSequence { class: Class::Chat, ..new },
            1 => new,
            _ => of_session(&format!("editor {editor}"), new),
        };
        let expected = Expected::of(&new, VOCAB, 3);
        let phases: Vec<_> = self.live.iter().map(|id| (*id, self.moment(*id))).collect();
        let Ok(admission) = self.bench.scheduler.add(new, 0) else { return };
        self.bench.device.expected.insert(admission.id, expected);
        self.live.push(admission.id);
        for id in admission.superseded {
            self.superseded += 1;
            let moment = phases.iter().find(|(other, _)| *other == id).expect("who is superseded was live").1;
            self.end(id, moment);
        }
    }

    fn cancel(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let id = self.live[self.random.below(self.live.len())];
        let moment = self.moment(id);
        self.bench.scheduler.cancel(id);
        self.cancelled += 1;
        self.end(id, moment);
    }

    /// 0: it waits, 1: it runs, 2: a step of it is in flight.
    fn moment(&self, id: SequenceId) -> usize {
        let sequence = &self.bench.scheduler.sequences[&id];
        if sequence.in_flight > 0 { 2 } else { usize::from(sequence.is_running()) }
    }

    fn end(&mut self, id: SequenceId, moment: usize) {
        self.moments[moment] += 1;
        self.bench.device.over(id);
        assert!(!self.bench.scheduler.contains(id));
        self.live.retain(|other| *other != id);
        self.leaving.push((id, self.bench.device.in_flight.len()));
        self.gone.insert(id);
        self.check_leaving();
    }

    /// Once the steps are collected that were in flight when it ended, a sequence holds nothing.
    fn check_leaving(&mut self) {
        for (id, _) in self.leaving.extract_if(.., |(_, steps)| *steps == 0) {
            let Some(sequence) = self.bench.scheduler.sequences.get(&id) else { continue };
            assert!(sequence.blocks.is_empty() && sequence.slot.is_none() && sequence.copy.is_none(), "{id:?}");
            assert!(!self.bench.scheduler.leaving.contains(&id), "{id:?}");
        }
    }

    fn submit(&mut self) {
        let Some(step) = self.bench.scheduler.schedule(0) else { return };
        assert!(step.chunks.iter().all(|chunk| !self.gone.contains(&chunk.sequence)), "work goes on for nobody");
        self.bench.scheduler.check_step(&step);
        self.bench.device.submit(step);
    }

    fn collect(&mut self) {
        if self.bench.device.in_flight.is_empty() {
            return;
        }
        self.bench.collect();
        for (_, steps) in &mut self.leaving {
            *steps -= 1;
        }
        self.check_leaving();
        let scheduler = &self.bench.scheduler;
        self.live.retain(|id| scheduler.contains(*id));
    }

    fn turn(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            self.arrive();
        }
        for change in 0..4 {
            if self.random.one_in(5) {
                self.cancel();
            }
            match change {
                0 | 2 => self.submit(),
                _ if self.bench.device.in_flight.len() > self.bench.scheduler.config.depth => self.collect(),
                _ => {}
            }
        }
        self.bench.scheduler.check();
    }

    /// Everybody leaves; what is left is what was there at the beginning.
    fn go_home(&mut self) {
        while !self.live.is_empty() {
            self.cancel();
        }
        while !self.bench.device.in_flight.is_empty() {
            self.collect();
        }
        let scheduler = &mut self.bench.scheduler;
        assert!(scheduler.schedule(0).is_none() && scheduler.is_drained(), "{scheduler:?}");
        scheduler.check();
        let places = [
            ("sequences", scheduler.sequences.len()),
            ("waiting", scheduler.waiting.len()),
            ("running", scheduler.running.len()),
            ("leaving", scheduler.leaving.len() + self.leaving.len()),
            ("ended", scheduler.ended.len()),
            ("deadlines", scheduler.deadlines.len()),
            ("sessions", scheduler.sessions.len()),
            ("completions", scheduler.num_completions + scheduler.num_promoted),
        ];
        for (place, left) in places {
            assert_eq!(left, 0, "{place}");
        }
        assert!(scheduler.blocks.references().iter().all(|references| *references == 0));
        // What is kept for who types again is no more than the sessions there were, and forgotten with the device.
        let SchedulerStats { contexts_retained, .. } = scheduler.stats();
        assert!((1..=3 * EDITORS + 64).contains(&contexts_retained), "{contexts_retained} contexts");
        self.bench.device.check_matchable(scheduler);
        scheduler.reset();
        assert_eq!(scheduler.blocks.num_cached() + scheduler.blocks.num_contexts(), 0);
    }
}

#[test]
fn ten_thousand_ends_at_random_moments_leak_nothing() {
    let (mut cancelled, mut superseded, mut moments) = (0, 0, [0; 3]);
    for seed in 0.. {
        let mut crowd = Crowd::new(seed, seed as usize % 3);
        for _ in 0..100 {
            crowd.turn();
        }
        crowd.go_home();
        cancelled += crowd.cancelled;
        superseded += crowd.superseded;
        moments.iter_mut().zip(crowd.moments).for_each(|(sum, count)| *sum += count);
        if cancelled + superseded >= ENDS {
            break;
        }
    }
    println!("{cancelled} cancelled, {superseded} superseded; waiting, running, in flight: {moments:?}");
    assert!(cancelled > ENDS / 4 && superseded > ENDS / 10 && moments.iter().all(|count| *count > ENDS / 20));
}
