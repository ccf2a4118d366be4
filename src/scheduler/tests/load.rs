//! Completions among chats with endless long prompts, on a machine whose steps take what a formula says: nobody who
//! types may notice the chats much, and chats may hardly notice who types.
//!
//! A day of a small office, in simulated time and without an engine: the trace of arrivals is the same for each policy,
//! and what differs is who goes first. First come, first served is the same scheduler with everybody a chat.

use super::super::fake::Random;
use super::*;
use crate::scheduler::Sampled;
use std::collections::{BTreeMap, VecDeque};

const CHATS: usize = 16;
/// Completions at first that do not count: the cache does not hold the files yet.
const COLD: usize = 20;

/// What a step takes, in microseconds: the shape of a model of half a billion weights on two cores (`benches/README.md`:
/// 24 ms for one row that decodes, 37 ms for eight, 870 ms for 512 prompt tokens).
#[derive(Clone, Copy)]
struct Machine {
    step: f64,
    prompt_token: f64,
    row: f64,
    /// For each position attended to.
    read: f64,
    depth: usize,
}

const TWO_CORES: Machine = Machine { step: 22_500.0, prompt_token: 1_650.0, row: 1_800.0, read: 0.1, depth: 0 };

/// A model of seven billion weights on an accelerator, one step ahead: rows are cheap, weights are not.
const ACCELERATOR: Machine = Machine { step: 3_000.0, prompt_token: 16.0, row: 8.0, read: 0.002, depth: 1 };

impl Machine {
    /// Nothing real takes exactly what a formula says.
    fn micros(&self, step: &Step, random: &mut Random) -> u64 {
        let mut micros = self.step;
        for chunk in &step.chunks {
            let tokens = chunk.tokens.get();
            let reads = tokens * chunk.start + tokens * (tokens + 1) / 2;
            let is_decode = chunk.sampled_rows == tokens;
            let each = if is_decode { self.row } else { self.prompt_token };
            micros += tokens as f64 * each + reads as f64 * self.read;
        }
        (micros * (0.97 + random.below(60) as f64 / 1_000.0)) as u64
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    /// Completions first, their company sized by measured times.
    Timed,
    /// The same with nobody telling the times: chats' prompts come in the largest pieces.
    Untimed,
    FirstComeFirstServed,
    /// No chats at all.
    Idle,
}

/// What one simulated day was like.
#[derive(Debug)]
struct Day {
    /// Of each completion, sorted.
    latencies_us: Vec<u64>,
    chat_tokens: usize,
}

impl Day {
    fn p99(&self) -> u64 {
        self.latencies_us[self.latencies_us.len() * 99 / 100]
    }
}

struct Office {
    machine: Machine,
    policy: Policy,
    random: Random,
    scheduler: Scheduler,
    now_us: u64,
    /// When the device is done with what it was given.
    busy_until_us: u64,
    in_flight: VecDeque<(Step, u64, u64)>,
    /// And whether the time of its answer counts.
    asked_at: BTreeMap<SequenceId, (u64, bool)>,
    chats: Vec<SequenceId>,
    next_arrival: usize,
    day: Day,
}

/// How long is worked, and the mean pause between two keystrokes that are answered.
#[derive(Clone, Copy)]
struct Hours {
    minutes: u64,
    pause_us: u64,
}

/// A completion that is asked for: when, how many tokens of its prompt are new, how many it says.
struct Arrival {
    at_us: u64,
    editor: usize,
    new_tokens: usize,
    max_tokens: usize,
}

/// Three developers who ask now and then.
fn arrivals(seed: u64, hours: Hours) -> Vec<Arrival> {
    let mut random = Random(seed);
    let mut at_us = 1_000_000;
    let mut arrivals = Vec::new();
    while at_us < hours.minutes * 60_000_000 {
        let (new_tokens, max_tokens) = (24 + random.below(80), 8 + random.below(17));
        arrivals.push(Arrival { at_us, editor: random.below(3), new_tokens, max_tokens });
        let even = (random.below(1 << 20) as f64 + 1.0) / f64::from(1 << 20);
        at_us += (-even.ln() * hours.pause_us as f64) as u64;
    }
    arrivals
}

impl Office {
    fn new(machine: Machine, policy: Policy, seed: u64) -> Self {
        let config = SchedulerConfig {
            block_tokens: 16,
            num_blocks: 24_000,
            step_tokens_max: 512,
            running_max: 24,
            waiting_max: 10_000,
            context_tokens: 16_384,
            depth: machine.depth,
            chat_share: 0.25,
            promote_after_us: 2_000_000,
            prefill_chunk_max: 256,
        };
        Self {
            machine,
            policy,
            random: Random(seed),
            scheduler: Scheduler::new(config).expect("sound"),
            now_us: 0,
            busy_until_us: 0,
            in_flight: VecDeque::new(),
            asked_at: BTreeMap::new(),
            chats: Vec::new(),
            next_arrival: 0,
            day: Day { latencies_us: Vec::new(), chat_tokens: 0 },
        }
    }

    fn ask(&mut self, arrival: &Arrival) {
        // 1,200 tokens of the file are the same each time, what is near the cursor is new.
        let file = arrival.editor as u32 * 10_000;
        let mut prompt: Vec<u32> = (file..file + 1_200).collect();
        prompt.extend((0..arrival.new_tokens).map(|_| 100_000 + self.random.below(1 << 30) as u32));
        let class = if self.policy == Policy::FirstComeFirstServed { Class::Chat } else { Class::Completion };
        let new = NewSequence { class, ..self.sequence(prompt, arrival.at_us, arrival.max_tokens) };
        let admission = self.scheduler.add(new, self.now_us).expect("the queue has room");
        self.asked_at.insert(admission.id, (arrival.at_us, self.next_arrival >= COLD));
    }

    /// A stream that ended goes on with another long prompt.
    fn keep_chats_going(&mut self) {
        let scheduler = &self.scheduler;
        self.chats.retain(|id| scheduler.contains(*id));
        while self.policy != Policy::Idle && self.chats.len() < CHATS {
            let prompt = (0..2_000 + self.random.below(6_000)).map(|_| self.random.below(1 << 30) as u32).collect();
            let max_tokens = 16 + self.random.below(48);
            let new = NewSequence { class: Class::Chat, ..self.sequence(prompt, self.now_us, max_tokens) };
            self.chats.push(self.scheduler.add(new, self.now_us).expect("the queue has room").id);
        }
    }

    fn sequence(&self, prompt: Vec<u32>, at_us: u64, max_tokens: usize) -> NewSequence {
        NewSequence { deadline_us: at_us + 3_600_000_000, max_tokens, ..completion(prompt) }
    }

    fn submit(&mut self) {
        while self.in_flight.len() <= self.machine.depth {
            let Some(step) = self.scheduler.schedule(self.now_us) else { break };
            let start_us = self.busy_until_us.max(self.now_us);
            self.busy_until_us = start_us + self.machine.micros(&step, &mut self.random);
            self.in_flight.push_back((step, start_us, self.busy_until_us));
        }
    }

    fn collect(&mut self) {
        let Some((step, start_us, end_us)) = self.in_flight.pop_front() else { return };
        self.now_us = end_us;
        if self.policy != Policy::Untimed {
            self.scheduler.note_time(step.id, end_us - start_us);
        }
        let chats = step.chunks.iter().filter(|chunk| !self.asked_at.contains_key(&chunk.sequence));
        self.day.chat_tokens += chats.map(|chunk| chunk.tokens.get()).sum::<usize>();
        let sampled = step.chunks.iter().filter(|chunk| chunk.sampled_rows > 0);
        let sampled: Vec<_> = sampled.map(|chunk| Sampled { sequence: chunk.sequence, token: 7 }).collect();
        for outcome in self.scheduler.commit(step.id, &sampled) {
            if let Outcome::Finished { sequence, .. } = outcome
                && let Some((asked_us, true)) = self.asked_at.get(&sequence)
            {
                self.day.latencies_us.push(end_us - asked_us);
            }
        }
    }
}

fn day(machine: Machine, policy: Policy, seed: u64, hours: Hours) -> Day {
    let arrivals = arrivals(seed, hours);
    let mut office = Office::new(machine, policy, seed);
    while office.now_us < hours.minutes * 60_000_000 {
        while let Some(arrival) = arrivals.get(office.next_arrival)
            && arrival.at_us <= office.now_us
        {
            office.ask(arrival);
            office.next_arrival += 1;
        }
        office.keep_chats_going();
        office.submit();
        if office.in_flight.is_empty() {
            office.now_us = arrivals.get(office.next_arrival).map_or(u64::MAX, |arrival| arrival.at_us);
        }
        office.collect();
    }
    assert_eq!(office.scheduler.stats().preemptions_total, 0, "tokens are counted once");
    office.day.latencies_us.sort_unstable();
    office.day
}

/// What the chats lose and the completions notice, for each of some seeds: a completion of a hundred takes at most twice
/// as long as without any chat, and chats compute at least nine tokens of ten that they would if nobody went first.
/// Without times, or without an order, neither holds: the day is hard enough to prove something.
fn check(machine: Machine, office_hours: Hours, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let policies = [Policy::Idle, Policy::Timed, Policy::Untimed, Policy::FirstComeFirstServed];
        let [idle, timed, untimed, first] = policies.map(|policy| day(machine, policy, seed, office_hours));
        assert!(idle.latencies_us.len() > 150, "{} completions", idle.latencies_us.len());
        let slower = |day: &Day| day.p99() as f64 / idle.p99() as f64;
        let kept = timed.chat_tokens as f64 / first.chat_tokens as f64;
        let (timed, untimed, first) = (slower(&timed), slower(&untimed), slower(&first));
        println!(
            "seed {seed}: alone {} us, timed x{timed:.2}, untimed x{untimed:.1}, in order x{first:.0}, chats keep {kept:.3}",
            idle.p99(),
        );
        assert!(timed <= 2.0, "seed {seed}: completions take {timed:.2} times as long");
        assert!(kept >= 0.9, "seed {seed}: chats keep {kept:.3} of their tokens");
        assert!(untimed > 2.0 && first > 2.0, "seed {seed}: {untimed:.2} and {first:.2} times as long prove nothing");
    }
}

#[test]
fn who_completes_hardly_notices_chats_on_two_cores() {
    check(TWO_CORES, Hours { minutes: 30, pause_us: 8_000_000 }, 1..6);
}

#[test]
fn who_completes_hardly_notices_chats_on_an_accelerator_one_step_ahead() {
    check(ACCELERATOR, Hours { minutes: 3, pause_us: 800_000 }, 1..4);
}

/// Completions without a pause: chats keep their share of the time.
#[test]
fn chats_keep_their_share_of_the_time_while_completions_never_end() {
    for seed in 1..4 {
        let hours = Hours { minutes: 10, pause_us: 300_000 };
        let Day { chat_tokens, latencies_us } = day(TWO_CORES, Policy::Timed, seed, hours);
        let share = chat_tokens as f64 * TWO_CORES.prompt_token / (hours.minutes * 60_000_000) as f64;
        println!("seed {seed}: {} completions, chats have {share:.3} of the time", latencies_us.len());
        assert!((0.15..0.35).contains(&share), "seed {seed}: chats have {share:.3} of the time");
    }
}
