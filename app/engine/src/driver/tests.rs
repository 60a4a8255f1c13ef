//! The driver by itself: when a batch is due, what it holds, who has the instance.

mod occlusion;

use super::*;
use crate::{
    AlertPolicy, Counter, Fault, LadderPolicy, Limits, ModelRung, NodeClock, Outcome, ScoreSpec,
    Verdict,
};
use Rung::{Model, Previous, Rule};

const DEADLINE_US: u64 = 1_000;
const MARGIN_US: u64 = 100;
const BATCH_MAX: usize = 4;
const HANG_US: u64 = 10_000;

/// Says the same of every row.
struct Parrot(Result<[f32; 1], Fault>);

impl Answers for Parrot {
    fn answer(&self, _row: usize) -> Result<&[f32], Fault> {
        self.0.as_ref().map(|score| &score[..]).map_err(|&f| f)
    }
}

struct Bench {
    driver: Driver<Parrot>,
    sequence: u64,
    outputs: Vec<Output>,
}

impl Bench {
    /// Windows of one reading, whose value is the only feature.
    fn new(keeper_margin_us: u64, rungs: &[Rung]) -> Self {
        let toml = r#"
            window = { length = 1, stride = 1 }
            features = [{ kind = "raw" }]
            score = { kind = "output", index = 0 }
            verdict = { threshold = 0.5, k = 1, n = 1, clear_ratio = 1.0 }
            [schema]
            period_ms = 100.0
            channels = [{ name = "x", unit = "g", min = -1e9, max = 1e9 }]
        "#;
        let limits = Limits {
            sensors_max: 1,
            deadline_us: DEADLINE_US,
            keeper_margin_us,
            readings_per_second_max: 0,
            clock: NodeClock::None,
            counter: Counter::Endless,
            is_caching: false,
            explains_verdicts: false,
            alerts: AlertPolicy::default(),
        };
        let policy = LadderPolicy {
            hang_us: HANG_US,
            probe_us_min: 1_000,
            probes_to_pass: 1,
            ..LadderPolicy::default()
        };
        let models = rungs.iter().map(|&rung| ModelRung {
            rung,
            score: ScoreSpec::Output {
                index: 0,
                negate: false,
            },
            threshold: 0.5,
            expires_utc_us: (rung == Previous).then_some(1_000_000),
            batch_max: BATCH_MAX,
        });
        let models: Vec<_> = models.collect();
        let engine = Engine::new(&toml::from_str(toml).unwrap(), limits, policy, &models);
        let mut bench = Self {
            driver: Driver::new(engine.unwrap()),
            sequence: 0,
            outputs: vec![],
        };
        rungs.iter().for_each(|&rung| bench.load(rung, 0));
        bench
    }

    fn load(&mut self, rung: Rung, at_us: u64) {
        self.load_for(BATCH_MAX, rung, at_us);
    }

    fn load_for(&mut self, rows_max: usize, rung: Rung, at_us: u64) {
        let instance = Instance::new(rung, Parrot(Ok([0.0])), rows_max, 1);
        self.driver
            .handle_instance(instance, at_us, &mut self.outputs);
    }

    fn read(&mut self, x: f32, at_us: u64) -> Step {
        self.sequence += 1;
        let sensor = self.driver.sensor("a").unwrap();
        let mut reading = Reading::empty(1);
        reading.sequence = Some(self.sequence);
        reading.values_mut()[0] = x;
        let receipt = Receipt {
            now: now(at_us),
            read_ns: at_us * 1_000 + 1,
        };
        self.driver
            .handle_reading(sensor, &reading, receipt, &mut self.outputs)
    }

    fn start(&mut self, at_us: u64, has_more: bool) -> Option<Instance<Parrot>> {
        self.driver
            .start_inference(now(at_us), has_more, &mut self.outputs)
    }

    fn finish(&mut self, mut instance: Instance<Parrot>, answer: Result<f32, Fault>, at_us: u64) {
        let took = Duration::from_micros(at_us - (instance.due_us() + MARGIN_US - DEADLINE_US));
        instance.to_run().0.0 = answer.map(|score| [score]);
        self.driver
            .finish_inference(instance, took, at_us, &mut self.outputs);
    }

    /// The verdicts since this was last asked: by whom, which score, how late.
    fn take_verdicts(&mut self) -> Vec<(Rung, f32, u64)> {
        let said = self.outputs.drain(..);
        let verdicts = said.filter_map(|output| match output {
            Output::Verdict(verdict) => Some(verdict),
            _ => None,
        });
        let told = |v: Verdict| (v.rung, v.score, v.latency_us);
        verdicts.map(told).collect()
    }

    fn take_steps(&mut self) -> Vec<(Rung, Rung, StepReason)> {
        let said = self.outputs.drain(..);
        let steps = said.filter_map(|output| match output {
            Output::Step(step) => Some((step.from, step.to, step.reason)),
            _ => None,
        });
        steps.collect()
    }
}

fn now(at_us: u64) -> Now {
    Now {
        mono_us: at_us,
        utc_us: at_us as i64,
    }
}

#[test]
fn a_batch_holds_the_windows_that_wait_and_answers_them_in_order() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    for x in [1.0, 2.0, 3.0] {
        assert_eq!(bench.read(x, 10), Step::Pending);
    }
    let mut instance = bench.start(20, false).unwrap();
    assert_eq!((instance.rung(), instance.rows()), (Model, 3));
    assert_eq!(instance.due_us(), 10 + DEADLINE_US - MARGIN_US);
    assert_eq!(instance.to_run().1, [1.0, 2.0, 3.0]);
    assert!(bench.start(20, false).is_none(), "it is out");
    bench.finish(instance, Ok(0.25), 50);
    let said: Vec<_> = bench.outputs.drain(..).collect();
    let sequences = said.iter().map(|output| match output {
        Output::Verdict(v) => (v.sequence, v.rung, v.score, v.latency_us, v.read_ns),
        other => panic!("{other:?}"),
    });
    let expected = [1, 2, 3].map(|n| (Some(n), Model, 0.25, 40, 10_001));
    assert_eq!(sequences.collect::<Vec<_>>(), expected);
    assert!(bench.start(60, false).is_none(), "nothing waits");
}

#[test]
fn a_verdict_comes_with_its_own_reading_where_no_inference_can_start_in_time() {
    let mut bench = Bench::new(DEADLINE_US, &[Model]);
    for at_us in [0, 60_000_000] {
        assert_eq!(bench.read(1.0, at_us), Step::Settled(Outcome::Fallback));
        assert_eq!(bench.take_verdicts(), [(Rule, 0.0, 0)]);
        assert!(bench.start(at_us, false).is_none());
    }
}

#[test]
fn windows_that_came_too_late_for_a_batch_are_answered_with_the_question_for_one() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.read(1.0, 0);
    assert!(bench.start(DEADLINE_US, false).is_none());
    assert_eq!(bench.take_verdicts(), [(Rule, 0.0, DEADLINE_US)]);
}

#[test]
fn a_model_that_expires_while_windows_wait_leaves_them_to_the_rule_at_once() {
    let mut bench = Bench::new(MARGIN_US, &[Previous]);
    bench.read(1.0, 999_999);
    assert!(bench.start(1_000_000, false).is_none());
    assert_eq!(bench.take_verdicts(), [(Rule, 0.0, 1)]);
}

#[test]
fn a_batch_gathers_what_is_at_hand_until_it_is_full() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    for _ in 1..BATCH_MAX {
        bench.read(1.0, 0);
        assert!(bench.start(0, true).is_none(), "one more is at hand");
    }
    bench.read(1.0, 0);
    let instance = bench.start(0, true).expect("it is full");
    assert_eq!(instance.rows(), BATCH_MAX);
}

#[test]
fn a_batch_gathers_no_more_than_its_instance_takes() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.load_for(1, Model, 0);
    bench.read(0.1, 1);
    assert!(bench.start(2, true).is_some());
}

#[test]
fn a_batch_gathers_no_longer_than_its_first_window_has_time() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.read(1.0, 0);
    let instance = bench.start(0, false).unwrap();
    // A window costs 100 µs.
    bench.finish(instance, Ok(0.1), 100);
    bench.read(1.0, 1_000);
    let due_us = 1_000 + DEADLINE_US - MARGIN_US;
    assert!(bench.start(due_us - 200, true).is_none());
    let instance = bench.start(due_us - 199, true).expect("there is no time");
    assert_eq!(instance.rows(), 1);
}

#[test]
fn a_trial_waits_for_no_other_window() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.read(1.0, 0);
    let instance = bench.start(0, false).unwrap();
    bench.finish(instance, Err(Fault::Error), 10);
    bench.read(1.0, 5_000);
    assert!(bench.start(5_000, true).is_some());
}

#[test]
fn a_stuck_instance_leaves_its_windows_to_the_rule_and_comes_back_late() {
    let mut bench = Bench::new(MARGIN_US, &[Model, Previous]);
    bench.read(1.0, 0);
    let stuck = bench.start(0, false).unwrap();
    let due_us = stuck.due_us();
    let hung = bench.driver.handle_hang(due_us, &mut bench.outputs);
    assert_eq!(hung, Some(Rung::Model));
    assert_eq!(bench.take_verdicts(), [(Rule, 0.0, due_us)]);
    bench.read(2.0, due_us);
    let lower = bench.start(due_us, false).unwrap();
    assert_eq!(lower.rung(), Previous);
    bench.finish(lower, Ok(0.1), due_us + 10);
    let is_kept = bench
        .driver
        .handle_late_return(stuck, due_us + 20, &mut bench.outputs);
    assert!(is_kept);
    assert_eq!(bench.driver.engine().counters().late_results, 1);
    bench.read(3.0, due_us + 30);
    let mut instance = bench.start(due_us + 30, false).unwrap();
    assert_eq!(instance.rung(), Model);
    assert_eq!(instance.to_run().1, [3.0], "nothing of the void batch");
}

#[test]
fn an_instance_given_up_is_dropped_and_a_fresh_one_takes_its_place() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.read(1.0, 0);
    let stuck = bench.start(0, false).unwrap();
    bench.driver.handle_hang(900, &mut bench.outputs);
    bench.take_steps();
    let poll =
        |bench: &mut Bench, at_us| bench.driver.poll_wanted_instance(at_us, &mut bench.outputs);
    let given_up_us = 901 + HANG_US;
    assert_eq!(poll(&mut bench, given_up_us), None);
    // Said with the call that saw it, whoever comes next.
    assert_eq!(bench.take_steps(), [(Model, Rule, StepReason::Hang)]);
    let at_us = given_up_us + 1_000;
    assert_eq!(poll(&mut bench, at_us), Some(Model));
    bench.load(Model, at_us);
    let late = bench
        .driver
        .handle_late_return(stuck, at_us, &mut bench.outputs);
    assert!(!late, "it was given up");
    bench.read(2.0, at_us);
    let instance = bench.start(at_us, false).expect("the fresh one is here");
    bench.finish(instance, Ok(0.1), at_us + 10);
    assert_eq!(bench.take_steps(), [(Rule, Model, StepReason::Recovered)]);
}

#[test]
fn a_rung_without_an_instance_is_never_chosen() {
    let mut bench = Bench::new(MARGIN_US, &[Model, Previous]);
    let missing = StepReason::Missing;
    bench
        .driver
        .handle_no_instance(Model, missing, 0, &mut bench.outputs);
    assert_eq!(bench.take_steps(), [(Model, Previous, missing)]);
    bench.read(1.0, 1);
    assert_eq!(bench.start(1, false).unwrap().rung(), Previous);
    // Nor before its user has said anything about it.
    let Bench { driver, .. } = Bench::new(MARGIN_US, &[Model]);
    let mut bench = Bench {
        driver: Driver::new(driver.engine),
        sequence: 0,
        outputs: vec![],
    };
    assert_eq!(bench.read(1.0, 0), Step::Settled(Outcome::Fallback));
}

#[test]
fn what_models_are_forbidden_is_said_at_once() {
    let mut bench = Bench::new(MARGIN_US, &[Model]);
    bench.read(1.0, 0);
    bench
        .driver
        .set_models_allowed(false, 5, &mut bench.outputs);
    assert_eq!(bench.take_verdicts(), [(Rule, 0.0, 5)]);
}
