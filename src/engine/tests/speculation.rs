//! Guessed tokens end to end: no answer changes by them, edits come several tokens a step, and what is guessed in vain
//! is counted.

mod edits;

use super::*;
use std::sync::atomic::AtomicUsize;

/// Room for long answers of a few sequences at once.
fn roomy() -> SchedulerConfig {
    SchedulerConfig {
        num_blocks: 4_000,
        step_tokens_max: 512,
        prefill_chunk_max: 256,
        running_max: 8,
        context_tokens: 8_000,
        ..config(0, 0)
    }
}

/// What a run of requests has said and cost.
#[derive(Debug, PartialEq)]
struct Run {
    answers: Vec<(String, Option<FinishReason>)>,
    rows: usize,
    /// Steps in which somebody got a token.
    sampling_steps: usize,
    drafted: u64,
    accepted: u64,
}

/// Requests with the answers that the device is taught, all at once.
struct Lesson {
    config: SchedulerConfig,
    vocab: u32,
    tokenizer: Arc<Tokenizer>,
    /// Prompt, and what the model says to it.
    texts: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Lesson {
    fn run(&self, step_drafts_max: usize, ask: &dyn Fn(usize) -> Ask) -> Run {
        let ledger = Arc::new(Ledger::default());
        let mut runner = FakeRunner::new(&self.config, self.vocab, &ledger);
        runner.step_drafts_max = step_drafts_max;
        for (prompt, answer) in &self.texts {
            runner.teach(&[&prompt[..], answer].concat());
        }
        let tokenizer = Arc::clone(&self.tokenizer);
        let mut bench = Bench::speaking(tokenizer, self.config.clone(), runner, Restart::Never, ledger);
        let asked = self.texts.iter().enumerate().map(|(index, (prompt, answer))| {
            let max_tokens = answer.len();
            bench.ask(Ask { prompt: prompt.clone(), max_tokens, deadline: Duration::from_secs(1 << 20), ..ask(index) })
        });
        let mut asked: Vec<Answer> = asked.collect();
        bench.drive();
        bench.assert_nothing_held();
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Run {
            answers: asked.iter_mut().map(Answer::text).collect(),
            rows: count(&bench.ledger.rows),
            sampling_steps: count(&bench.ledger.sampling_steps),
            drafted: bench.metrics.draft_tokens.get(),
            accepted: bench.metrics.draft_tokens_accepted.get(),
        }
    }
}

/// Texts of few words, so that much is guessed and some of it right.
fn babble(count: usize, seed: u64) -> Lesson {
    let mut random = seed;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % limit) as u32
    };
    let phrases: Vec<Vec<u32>> = (0..6).map(|_| (0..12).map(|_| below(u64::from(VOCAB))).collect()).collect();
    let mut text = |phrase_count: u64, end: usize| {
        let words: Vec<u32> = (0..phrase_count)
            .flat_map(|_| {
                let phrase = &phrases[below(6) as usize];
                phrase[..4 + below(8) as usize].to_vec()
            })
            .collect();
        words[..end.min(words.len())].to_vec()
    };
    let texts = (0..count).map(|index| (text(8, 30 + index % 7), text(12, 40 + index % 5))).collect();
    let config = SchedulerConfig { context_tokens: 128, step_tokens_max: 32, ..config(0, 200) };
    Lesson { config, vocab: VOCAB, tokenizer: tokenizer(), texts }
}

#[test]
fn guesses_change_no_answer_in_any_company_or_chunking() {
    let mut accepted = 0;
    for (num_blocks, running_max, chunk, session) in
        [(400, 8, 8, None), (400, 1, 3, Some("one editor")), (40, 8, 8, None), (45, 4, 16, None), (400, 4, 16, None)]
    {
        let mut lesson = babble(12, num_blocks as u64 + chunk as u64);
        lesson.config = SchedulerConfig { num_blocks, running_max, prefill_chunk_max: chunk, ..lesson.config };
        let mixed = |index: usize| Ask {
            class: if index.is_multiple_of(3) || session.is_some() { Class::Chat } else { Class::Completion },
            session,
            ..Ask::default()
        };
        let (off, on) = (lesson.run(0, &mixed), lesson.run(24, &mixed));
        assert_eq!(on.answers, off.answers, "{num_blocks} blocks, {running_max} at once, chunks of {chunk}");
        assert!(on.answers.iter().all(|(_, finished)| *finished == Some(FinishReason::Length)));
        assert_eq!((off.drafted, off.accepted), (0, 0));
        assert!(on.sampling_steps <= off.sampling_steps);
        accepted += on.accepted;
    }
    assert!(accepted > 200, "{accepted} guesses were right, too few to prove anything");
}

#[test]
fn stop_strings_and_stop_tokens_in_the_middle_of_verified_guesses_end_where_they_would_without() {
    let lesson = babble(12, 5);
    let plain = lesson.run(0, &|_| Ask::default());
    let mut stopped = 0;
    for place in [3, 11, 17, 23] {
        let stop_string = |index: usize| {
            let (text, _) = &plain.answers[index];
            let text: Vec<char> = text.chars().collect();
            let middle = text[(place * text.len() / 40).min(text.len() - 3)..][..2].iter().collect();
            Ask { stop: vec![middle], ..Ask::default() }
        };
        let stop_token = |index: usize| Ask { stop_tokens: vec![lesson.texts[index].1[place]], ..Ask::default() };
        for stop in [&stop_string as &dyn Fn(usize) -> Ask, &stop_token] {
            let (off, on) = (lesson.run(0, stop), lesson.run(24, stop));
            assert_eq!(on.answers, off.answers);
            assert!(on.accepted > 0);
            stopped += on.answers.iter().filter(|(_, finished)| *finished == Some(FinishReason::Stop)).count();
        }
    }
    assert!(stopped > 60, "{stopped} answers were stopped");
}

#[test]
fn who_leaves_in_the_middle_of_verified_guesses_leaves_nothing_behind() {
    for turns in 0..20 {
        let lesson = babble(3, turns);
        let ledger = Arc::new(Ledger::default());
        let mut runner = FakeRunner::new(&lesson.config, VOCAB, &ledger);
        runner.step_drafts_max = 24;
        for (prompt, answer) in &lesson.texts {
            runner.teach(&[&prompt[..], answer].concat());
        }
        let mut bench = Bench::over(lesson.config.clone(), runner, Restart::Never, ledger);
        let ask = |index: usize, deadline_ms: u64| {
            let (prompt, answer) = &lesson.texts[index];
            let deadline = Duration::from_millis(deadline_ms);
            let session = Some("an editor");
            Ask { prompt: prompt.clone(), max_tokens: answer.len().min(20), session, deadline, ..Ask::default() }
        };
        let leaver = bench.ask(Ask { session: None, ..ask(0, 60_000) });
        let mut late = bench.ask(Ask { session: None, ..ask(1, 6 + turns) });
        let mut older = bench.ask(ask(2, 60_000));
        for _ in 0..turns {
            bench.turn();
        }
        drop(leaver);
        let mut newer = bench.ask(ask(2, 60_000));
        bench.drive();
        assert_eq!(newer.text(), (bench.said(&lesson.texts[2].1[..20]), Some(FinishReason::Length)));
        let ends = [older.collect().pop(), late.collect().pop()];
        let [older, late] = ends;
        let is_superseded = matches!(older, Some(Err(GenerateError::Superseded)));
        assert!(is_superseded || matches!(older, Some(Ok(Event::Finished { .. }))), "{older:?}");
        let is_late = matches!(late, Some(Err(GenerateError::DeadlineExceeded { .. })));
        assert!(is_late || matches!(late, Some(Ok(Event::Finished { .. }))), "{late:?}");
        bench.assert_nothing_held();
    }
}

impl Bench {
    fn said(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.tokenizer.token_bytes(*token).to_vec()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[test]
fn where_no_guess_is_ever_right_one_row_in_fifty_is_lost() {
    // After "1 2 3" always comes something that has never come before.
    let prompt: Vec<u32> = (0..25).flat_map(|index| [1, 2, 3, 1_000 + index]).collect();
    let answer: Vec<u32> = (25..525).flat_map(|index| [1, 2, 3, 1_000 + index]).collect();
    let lesson = Lesson { config: roomy(), vocab: 4_000, tokenizer: tokenizer(), texts: vec![(prompt, answer)] };
    let (off, on) = (lesson.run(0, &|_| Ask::default()), lesson.run(24, &|_| Ask::default()));
    assert_eq!(on.answers, off.answers);
    assert_eq!((on.accepted, on.sampling_steps), (0, off.sampling_steps));
    assert_eq!(on.rows, off.rows + on.drafted as usize);
    assert!(on.drafted > 0 && on.rows * 100 <= off.rows * 102, "{} rows instead of {}", on.rows, off.rows);
}

#[test]
fn the_next_keystrokes_answer_is_guessed_from_the_last_one() {
    let prompt: Vec<u32> = (0..150).collect();
    let answer: Vec<u32> = (0..40).map(|index| 150 + (index * 7) % 50).collect();
    let texts = vec![(prompt.clone(), answer.clone())];
    let lesson = Lesson { config: roomy(), vocab: VOCAB, tokenizer: tokenizer(), texts };
    for (session, other, expected) in [(Some("a"), Some("a"), true), (Some("a"), Some("b"), false), (None, None, false)]
    {
        let ledger = Arc::new(Ledger::default());
        let mut runner = FakeRunner::new(&lesson.config, VOCAB, &ledger);
        runner.step_drafts_max = 24;
        runner.teach(&[&prompt[..], &answer].concat());
        let mut bench = Bench::over(lesson.config.clone(), runner, Restart::Never, ledger);
        for (session, typed) in [(session, 0), (other, 2)] {
            let prompt = [&prompt[..], &answer[..typed]].concat();
            let mut told = bench.ask(Ask { prompt, max_tokens: 30, session, ..Ask::default() });
            bench.drive();
            assert_eq!(told.text().0, bench.said(&answer[typed..typed + 30]));
        }
        assert_eq!(bench.metrics.draft_tokens_accepted.get() > 15, expected, "{session:?} then {other:?}");
    }
}

#[test]
fn a_full_house_is_given_no_guesses() {
    let mut lesson = babble(64, 3);
    lesson.config = SchedulerConfig {
        running_max: 64,
        num_blocks: 4_000,
        step_tokens_max: 256,
        context_tokens: 128,
        ..lesson.config
    };
    lesson.config.waiting_max = 64;
    for (index, (prompt, answer)) in lesson.texts.iter_mut().enumerate() {
        *prompt = vec![index as u32, 7, 8, 9];
        answer.truncate(40);
    }
    let on = lesson.run(24, &|_| Ask::default());
    let alone = Lesson { texts: lesson.texts[..1].to_vec(), ..lesson }.run(24, &|_| Ask::default());
    assert_eq!(on.drafted, 0, "64 decode together");
    assert_eq!(on.answers[0], alone.answers[0]);
}
