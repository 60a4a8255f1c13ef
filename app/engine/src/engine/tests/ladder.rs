//! The engine on its ladder: faults, trials, hangs, and the way up again.

use super::*;
use crate::{LadderPolicy, ModelRung, ScoreSpec, StepReason};
use hark_ladder::Hang;

const POLICY: LadderPolicy = LadderPolicy {
    misses_max: 2,
    misses_of: 4,
    hang_us: 50_000,
    probe_us_min: 10_000,
    probe_us_max: 40_000,
    probes_to_pass: 2,
    drift_max: 0.0,
};
const DRIFT: LadderPolicy = LadderPolicy {
    drift_max: 10.0,
    ..POLICY
};
const BATCH_MAX: usize = 4;

/// An engine with windows of one reading, and what it said.
struct Bench {
    engine: Engine,
    sequence: u64,
    verdicts: Vec<(Rung, f32)>,
    steps: Vec<(Rung, Rung, StepReason)>,
}

impl Bench {
    fn new(policy: LadderPolicy, rungs: &[Rung]) -> Self {
        let toml = r#"
            window = { length = 1, stride = 1 }
            features = [{ kind = "raw" }]
            score = { kind = "output", index = 0 }
            verdict = { threshold = 0.5, k = 2, n = 2, clear_ratio = 1.0 }
            [schema]
            period_ms = 100.0
            channels = [{ name = "x", unit = "g", min = -1e9, max = 1e9 }]
        "#;
        let models = rungs.iter().map(|&rung| ModelRung {
            rung,
            score: ScoreSpec::Output {
                index: 0,
                negate: false,
            },
            threshold: 0.5,
            expires_utc_us: (rung == Rung::Delegate).then_some(1_000_000),
            batch_max: BATCH_MAX,
        });
        let models: Vec<_> = models.collect();
        let spec = toml::from_str(toml).unwrap();
        Self {
            engine: Engine::new(&spec, limits(), policy, &models).unwrap(),
            sequence: 0,
            verdicts: vec![],
            steps: vec![],
        }
    }

    fn read(&mut self, x: f32, at_us: u64) -> Step {
        self.sequence += 1;
        let step = read(&mut self.engine, self.sequence, x, at_us);
        self.drain();
        step
    }

    /// Starts the next window; whose model takes it.
    fn start(&mut self, at_us: u64) -> Option<(Rung, Ticket)> {
        let job = poll(&mut self.engine, at_us);
        let job = job.map(|job| (job.rung, job.ticket));
        self.drain();
        job
    }

    fn answer(&mut self, ticket: Ticket, outputs: Result<f32, Fault>, at_us: u64) {
        let score = outputs.map(|score| [score]);
        let outputs = score.as_ref().map(|s| &s[..]).map_err(|&fault| fault);
        self.engine.handle_outputs(ticket, outputs, at_us);
        self.drain();
    }

    /// One reading whose window is answered at once.
    fn score(&mut self, outputs: Result<f32, Fault>, at_us: u64) {
        assert_eq!(self.read(1.0, at_us), Step::Pending);
        let (_, ticket) = self.start(at_us).expect("it waits");
        self.answer(ticket, outputs, at_us);
    }

    /// One reading whose model is taken for stuck at its deadline.
    fn hang(&mut self, at_us: u64) -> Hang {
        assert_eq!(self.read(1.0, at_us), Step::Pending);
        self.start(at_us).expect("it waits");
        let hang = self.engine.handle_hang(at_us + DEADLINE_US);
        self.drain();
        hang.expect("it runs")
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Verdict(v) => self.verdicts.push((v.rung, v.score)),
                Output::Step(s) => self.steps.push((s.from, s.to, s.reason)),
                Output::Alert(_) | Output::Explained(_) => {}
            }
        }
        check_conservation(&self.engine);
    }

    fn take_steps(&mut self) -> Vec<(Rung, Rung, StepReason)> {
        std::mem::take(&mut self.steps)
    }
}

use Rung::{Delegate, Model, Previous, Rule};

#[test]
fn a_fault_steps_down_at_once_to_the_next_model() {
    for (fault, reason) in [
        (Fault::Error, StepReason::Error),
        (Fault::Panic, StepReason::Panic),
        (Fault::NotFinite, StepReason::NotFinite),
    ] {
        let mut bench = Bench::new(POLICY, &[Model, Previous]);
        bench.score(Ok(0.1), 0);
        bench.score(Err(fault), 1);
        assert_eq!(bench.take_steps(), [(Model, Previous, reason)]);
        bench.score(Ok(0.2), 2);
        // The rule still learns: the model's last verdict is repeated.
        let expected = [(Model, 0.1), (Rung::Last, 0.1), (Previous, 0.2)];
        assert_eq!(bench.verdicts, expected);
        let counters = bench.engine.counters();
        assert_eq!((counters.scored, counters.fallback), (1, 2));
    }
}

#[test]
fn a_number_that_is_none_is_found_by_the_engine() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.score(Ok(f32::NAN), 0);
    assert_eq!(bench.take_steps(), [(Model, Rule, StepReason::NotFinite)]);
    assert_eq!(bench.read(1.0, 1), Step::Settled(Outcome::Fallback));
}

#[test]
fn a_rung_comes_up_after_good_trials_spaced_by_the_back_off() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.score(Err(Fault::Error), 0);
    bench.take_steps();
    assert_eq!(bench.read(1.0, 9_999), Step::Settled(Outcome::Fallback));
    bench.score(Err(Fault::Error), 10_000);
    // Twice as long as before.
    assert_eq!(bench.read(1.0, 29_999), Step::Settled(Outcome::Fallback));
    bench.score(Ok(0.1), 30_000);
    assert_eq!(bench.read(1.0, 39_999), Step::Settled(Outcome::Fallback));
    assert_eq!(bench.take_steps(), []);
    bench.score(Ok(0.1), 40_000);
    assert_eq!(bench.take_steps(), [(Rule, Model, StepReason::Recovered)]);
    let counters = bench.engine.counters();
    assert_eq!((counters.probes, counters.probes_failed), (3, 1));
    assert_eq!(counters.ladder_steps, 2);
    // The back-off begins anew.
    bench.score(Err(Fault::Error), 50_000);
    bench.score(Ok(0.1), 60_000);
}

#[test]
fn a_trial_is_one_window_alone() {
    let mut bench = Bench::new(POLICY, &[Model, Previous]);
    bench.score(Err(Fault::Error), 0);
    for _ in 0..3 {
        assert_eq!(bench.read(1.0, 10_000), Step::Pending);
    }
    assert_eq!(bench.engine.batch_len(1.0, 10_000), 1);
    let (rung, ticket) = bench.start(10_000).unwrap();
    assert_eq!(rung, Model);
    assert_eq!(bench.start(10_000), None);
    bench.answer(ticket, Ok(0.1), 10_100);
    // The next ones do not wait for the next trial.
    let rungs = [(); 2].map(|()| bench.start(10_100).unwrap().0);
    assert_eq!(rungs, [Previous; 2]);
}

#[test]
fn nothing_but_one_window_waits_for_a_trial_above_the_rule() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.score(Err(Fault::Error), 0);
    assert_eq!(bench.read(1.0, 10_000), Step::Pending);
    assert_eq!(bench.read(1.0, 10_001), Step::Settled(Outcome::Fallback));
    bench.start(10_002).unwrap();
    assert_eq!(bench.read(1.0, 10_003), Step::Settled(Outcome::Fallback));
}

#[test]
fn a_better_rung_waits_until_the_lower_one_has_held() {
    let mut bench = Bench::new(POLICY, &[Model, Previous]);
    bench.score(Err(Fault::Error), 0);
    bench.score(Err(Fault::Error), 8_000);
    let steps = [
        (Model, Previous, StepReason::Error),
        (Previous, Rule, StepReason::Error),
    ];
    assert_eq!(bench.take_steps(), steps);
    assert_eq!(bench.read(1.0, 17_999), Step::Settled(Outcome::Fallback));
    assert_eq!(bench.read(1.0, 18_000), Step::Pending);
    assert_eq!(bench.start(18_000).unwrap().0, Model);
}

#[test]
fn some_missed_deadlines_are_borne_and_too_many_step_down() {
    let mut bench = Bench::new(POLICY, &[Model]);
    let late = |bench: &mut Bench, at_us| {
        assert_eq!(bench.read(1.0, at_us), Step::Pending);
        let (_, ticket) = bench.start(at_us).unwrap();
        bench.answer(ticket, Ok(0.1), at_us + DEADLINE_US + 1);
    };
    late(&mut bench, 0);
    for n in 1..4 {
        bench.score(Ok(0.1), 10_000 * n);
    }
    late(&mut bench, 40_000);
    assert_eq!(bench.take_steps(), []);
    late(&mut bench, 50_000);
    assert_eq!(bench.take_steps(), [(Model, Rule, StepReason::Deadline)]);
}

#[test]
fn a_stuck_model_leaves_its_windows_to_the_rule_and_the_next_to_the_rung_below() {
    let mut bench = Bench::new(POLICY, &[Model, Previous]);
    for _ in 0..3 {
        bench.read(1.0, 0);
    }
    let tickets = [(); 2].map(|()| bench.start(0).unwrap().1);
    let hang = bench.engine.handle_hang(900).unwrap();
    bench.drain();
    assert_eq!(bench.verdicts, [(Rule, 0.0); 2]);
    // It is only out, not given up.
    assert_eq!(bench.engine.current_rung(), Model);
    let (rung, ticket) = bench.start(901).unwrap();
    assert_eq!(rung, Previous);
    bench.answer(ticket, Ok(0.3), 950);
    // Void, whatever they say.
    for ticket in tickets {
        bench.answer(ticket, Ok(9.0), 960);
    }
    assert_eq!(bench.verdicts.len(), 3);
    let late_before = bench.engine.counters().late_results;
    assert!(bench.engine.handle_late_return(hang, 2_000));
    assert_eq!(bench.engine.counters().late_results, late_before + 2);
    bench.read(1.0, 2_001);
    assert_eq!(bench.start(2_001).unwrap().0, Model);
    assert_eq!(bench.take_steps(), []);
    assert_eq!(bench.engine.counters().deadline_misses, 0);
}

#[test]
fn what_is_due_with_a_stuck_batch_goes_with_it_and_is_not_started() {
    let mut bench = Bench::new(POLICY, &[Model, Previous]);
    for at_us in [0, 0, 500] {
        bench.read(1.0, at_us);
    }
    bench.start(0).unwrap();
    bench.engine.handle_hang(DEADLINE_US).unwrap();
    bench.drain();
    assert_eq!(bench.verdicts.len(), 2);
    // Nor does a driver that comes too late make a model miss.
    assert_eq!(bench.start(500 + DEADLINE_US), None);
    assert_eq!(bench.verdicts.len(), 3);
    assert_eq!(bench.engine.counters().deadline_misses, 0);
}

#[test]
fn windows_that_timed_out_are_no_second_miss_when_the_model_is_stuck() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.read(1.0, 0);
    bench.start(0).unwrap();
    bench.engine.handle_timeout(DEADLINE_US);
    bench.engine.handle_hang(DEADLINE_US).expect("it runs");
    bench.drain();
    assert_eq!(bench.take_steps(), []);
    assert_eq!(bench.verdicts.len(), 1);
}

#[test]
fn an_instance_that_stays_out_is_given_up_and_a_fresh_one_goes_on_trial() {
    let mut bench = Bench::new(POLICY, &[Model]);
    let hang = bench.hang(0);
    let given_up_us = DEADLINE_US + POLICY.hang_us + 1;
    assert_eq!(bench.engine.poll_wanted_instance(given_up_us - 1), None);
    assert_eq!(bench.engine.poll_wanted_instance(given_up_us), None);
    bench.drain();
    assert_eq!(bench.take_steps(), [(Model, Rule, StepReason::Hang)]);
    assert_eq!(bench.engine.counters().hangs, 1);
    // The old one comes too late.
    assert!(!bench.engine.handle_late_return(hang, given_up_us + 1));
    let wanted_us = given_up_us + POLICY.probe_us_min;
    assert_eq!(bench.engine.poll_wanted_instance(wanted_us), Some(Model));
    assert_eq!(bench.engine.poll_wanted_instance(u64::MAX), None, "once");
    bench
        .engine
        .handle_no_instance(Model, StepReason::Corrupt, wanted_us);
    let wanted_us = wanted_us + 2 * POLICY.probe_us_min;
    assert_eq!(bench.engine.poll_wanted_instance(wanted_us - 1), None);
    assert_eq!(bench.engine.poll_wanted_instance(wanted_us), Some(Model));
    bench.engine.handle_instance(Model, wanted_us);
    bench.score(Ok(0.1), wanted_us);
    bench.score(Ok(0.1), wanted_us + POLICY.probe_us_min);
    assert_eq!(bench.take_steps(), [(Rule, Model, StepReason::Recovered)]);
    // Nor does an old thread say anything about a new instance that is out.
    bench.hang(wanted_us + 20_000);
    assert!(!bench.engine.handle_late_return(hang, wanted_us + 30_000));
}

#[test]
fn a_model_that_is_not_there_is_stepped_over() {
    for reason in [StepReason::Missing, StepReason::Corrupt] {
        let mut bench = Bench::new(POLICY, &[Delegate, Model]);
        bench.engine.handle_no_instance(Delegate, reason, 0);
        bench.drain();
        assert_eq!(bench.take_steps(), [(Delegate, Model, reason)]);
        bench.score(Ok(0.1), 1);
        assert_eq!(bench.verdicts, [(Model, 0.1)]);
    }
}

#[test]
fn an_expired_model_steps_down_even_with_windows_that_wait() {
    let mut bench = Bench::new(POLICY, &[Delegate]);
    assert_eq!(bench.read(1.0, 999_999), Step::Pending);
    assert_eq!(bench.start(1_000_000), None);
    assert_eq!(bench.take_steps(), [(Delegate, Rule, StepReason::Expired)]);
    assert_eq!(bench.verdicts, [(Rule, 0.0)]);
    // The wall clock was set right.
    bench.read(1.0, 900_000);
    assert_eq!(
        bench.take_steps(),
        [(Rule, Delegate, StepReason::Recovered)]
    );
}

#[test]
fn drift_steps_down_past_every_model_and_up_when_it_ends() {
    let mut bench = Bench::new(DRIFT, &[Model, Previous]);
    let mut read_until_step = |x: f32| {
        for n in 0..10_000 {
            if bench.read(x, 0) == Step::Pending
                && let Some((_, ticket)) = bench.start(0)
            {
                bench.answer(ticket, Ok(0.1), 0);
            }
            if !bench.steps.is_empty() {
                return (n, bench.take_steps());
            }
        }
        panic!("no step");
    };
    let (n, steps) = read_until_step(20.0);
    assert_eq!(steps, [(Model, Rule, StepReason::Drift)]);
    assert!(n > 100, "not for some odd windows: {n}");
    let (_, steps) = read_until_step(1.0);
    assert_eq!(steps, [(Rule, Model, StepReason::Recovered)]);
}

#[test]
fn without_relief_no_model_is_run() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.read(1.0, 0);
    bench.engine.set_models_allowed(false, 1);
    bench.drain();
    assert_eq!(bench.verdicts, [(Rule, 0.0)]);
    assert_eq!(bench.read(1.0, 2), Step::Settled(Outcome::Fallback));
    bench.engine.set_models_allowed(true, 3);
    bench.score(Ok(0.1), 4);
    let steps = [
        (Model, Rule, StepReason::NoRelief),
        (Rule, Model, StepReason::Recovered),
    ];
    assert_eq!(bench.take_steps(), steps);
}

#[test]
fn a_repeated_verdict_tells_its_age_and_raises_no_alert() {
    let mut bench = Bench::new(POLICY, &[Model]);
    bench.score(Ok(0.9), 0);
    bench.score(Err(Fault::Error), 100);
    bench.read(1.0, 400);
    assert_eq!(bench.verdicts[1..], [(Rung::Last, 0.9); 2]);
    let sensor = bench.engine.sensor("a").unwrap();
    assert_eq!(bench.engine.alert_state(sensor), AlertState::Cleared);
    read(&mut bench.engine, 9, 1.0, 450);
    let Some(Output::Verdict(verdict)) = bench.engine.poll_output() else {
        panic!("a verdict comes first");
    };
    assert_eq!(verdict.age_us, Some(450));
}

#[test]
fn a_batch_is_as_long_as_the_earliest_deadline_allows() {
    let check = |waiting: usize, cost_us: f32, now_us: u64, expected: usize| {
        let mut bench = Bench::new(POLICY, &[Model]);
        for n in 0..waiting {
            bench.read(n as f32, n as u64);
        }
        let len = bench.engine.batch_len(cost_us, now_us);
        assert_eq!(len, expected, "{waiting} at {cost_us} µs, {now_us} µs");
    };
    check(0, 1.0, 0, 0);
    check(3, 1.0, 3, 3);
    check(20, 1.0, 20, BATCH_MAX);
    check(20, 250.0, 0, 4);
    check(20, 334.0, 0, 2);
    check(20, 900.0, 500, 1);
    check(20, 0.0, 20, BATCH_MAX);
    check(20, f32::NAN, 20, BATCH_MAX);
}

#[test]
fn a_batch_grows_until_its_first_answer_and_its_bound() {
    let mut bench = Bench::new(POLICY, &[Model]);
    for _ in 0..2 * BATCH_MAX {
        bench.read(1.0, 0);
    }
    let tickets = [(); BATCH_MAX].map(|()| bench.start(0).unwrap().1);
    assert_eq!(bench.start(0), None, "the batch is full");
    let [first, rest @ ..] = tickets;
    bench.answer(first, Ok(0.1), 10);
    assert_eq!(bench.start(10), None, "the batch is closed");
    // Answers may come in another order.
    for ticket in rest.into_iter().rev() {
        bench.answer(ticket, Ok(0.1), 10);
    }
    assert_eq!(
        bench.engine.batch_len(1.0, 11),
        BATCH_MAX,
        "the next may begin"
    );
    assert_eq!(bench.engine.counters().scored, BATCH_MAX as u64);
    bench.answer(first, Ok(0.1), 12);
    assert_eq!(bench.engine.counters().late_results, 1);
}

#[test]
fn identical_features_are_scored_once_if_caching_is_on() {
    let check = |is_caching, xs: &[f32], inferences: u64| {
        let mut bench = Bench::new(POLICY, &[Model]);
        bench.engine.limits.is_caching = is_caching;
        bench.engine.sensors = Sensors::new(1, usize::from(is_caching));
        for (n, &x) in (0..).zip(xs) {
            if bench.read(x, n) == Step::Pending {
                let (_, ticket) = bench.start(n).unwrap();
                bench.answer(ticket, Ok(x), n);
            }
        }
        let scores: Vec<_> = bench.verdicts.iter().map(|v| v.1).collect();
        assert_eq!(scores, xs);
        let counters = bench.engine.counters();
        let count = xs.len() as u64;
        assert_eq!(
            (counters.scored, counters.cache_hits),
            (count, count - inferences)
        );
    };
    check(true, &[0.1, 0.1, 0.1, 0.2, 0.1, 0.1], 3);
    check(false, &[0.1, 0.1, 0.1], 3);
}

#[test]
fn a_cached_score_is_of_the_rung_that_gave_it() {
    let mut bench = Bench::new(POLICY, &[Model, Previous]);
    bench.engine.limits.is_caching = true;
    bench.engine.sensors = Sensors::new(1, 1);
    bench.score(Ok(0.1), 0);
    assert_eq!(bench.read(1.0, 1), Step::Settled(Outcome::Scored));
    bench
        .engine
        .handle_no_instance(Model, StepReason::Missing, 2);
    bench.drain();
    assert_eq!(bench.read(1.0, 3), Step::Pending);
}

#[test]
fn rungs_out_of_order_and_policies_that_make_no_sense_are_refused() {
    let spec = toml::from_str(
        r#"
        window = { length = 1, stride = 1 }
        features = [{ kind = "raw" }]
        score = { kind = "output", index = 0 }
        verdict = { threshold = 0.5, k = 1, n = 1, clear_ratio = 1.0 }
        schema = { period_ms = 1.0, channels = [{ name = "x", unit = "g", min = 0, max = 1 }] }
        "#,
    )
    .unwrap();
    let check = |rungs: &[Rung], policy: LadderPolicy, field: Option<&str>| {
        let model = |&rung: &Rung| ModelRung {
            rung,
            score: ScoreSpec::Output {
                index: 0,
                negate: false,
            },
            threshold: 0.5,
            expires_utc_us: None,
            batch_max: 1,
        };
        let models: Vec<_> = rungs.iter().map(model).collect();
        let error = Engine::new(&spec, limits(), policy, &models).err();
        assert_eq!(error.map(|e| e.field), field, "{rungs:?} {policy:?}");
    };
    check(&[Delegate, Model, Previous], POLICY, None);
    check(&[], POLICY, None);
    check(&[Model, Delegate], POLICY, Some("models.rung"));
    check(&[Model, Model], POLICY, Some("models.rung"));
    check(&[Model, Rule], POLICY, Some("models.rung"));
    let misses_max = LadderPolicy {
        misses_max: 5,
        ..POLICY
    };
    check(&[Model], misses_max, Some("ladder.misses_max"));
    let probe_us_min = LadderPolicy {
        probe_us_min: 0,
        ..POLICY
    };
    check(&[Model], probe_us_min, Some("ladder.probe_us_min"));
}
