//! Causes of scores that are no sum: they follow, and nothing waits for them.

use super::*;
use crate::{Alert, Cause, Explained, OCCLUSIONS_MAX};

/// Says `0.1·x + y` of each row, as if nobody knew.
struct Formula(Vec<[f32; 1]>);

impl Answers for Formula {
    fn answer(&self, row: usize) -> Result<&[f32], Fault> {
        let score = self.0[row];
        // A score that is no number stands for a model that fails.
        if score[0].is_nan() {
            return Err(Fault::Error);
        }
        Ok(&self.0[row])
    }
}

struct Watch {
    driver: Driver<Formula>,
    now_us: u64,
    outputs: Vec<Output>,
}

/// Channels `x`, `z` and `y`, of which the model does not see `z`.
const PIPELINE: &str = r#"
    window = { length = 1, stride = 1 }
    features = [{ kind = "raw", channels = ["x", "y"], center = [10.0, 20.0], scale = [1.0, 2.0] }]
    score = { kind = "output", index = 0 }
    verdict = { threshold = 4.0, k = 1, n = 1, clear_ratio = 1.0 }
    [schema]
    period_ms = 100.0
    channels = [
        { name = "x", unit = "g", min = -1e9, max = 1e9 },
        { name = "z", unit = "g", min = -1e9, max = 1e9 },
        { name = "y", unit = "g", min = -1e9, max = 1e9 },
    ]
"#;

impl Watch {
    fn new(explains_verdicts: bool) -> Self {
        let limits = Limits {
            sensors_max: OCCLUSIONS_MAX + 2,
            deadline_us: DEADLINE_US,
            keeper_margin_us: MARGIN_US,
            readings_per_second_max: 0,
            clock: NodeClock::None,
            counter: crate::Counter::Endless,
            is_caching: false,
            explains_verdicts,
            alerts: AlertPolicy::default(),
        };
        let spec = toml::from_str(PIPELINE).unwrap();
        let engine = Engine::with_model(&spec, limits).unwrap();
        let mut watch = Self {
            driver: Driver::new(engine),
            now_us: 0,
            outputs: vec![],
        };
        let instance = Instance::new(Model, Formula(vec![]), BATCH_MAX, 2);
        watch.driver.handle_instance(instance, 0, &mut ());
        // A fresh instance is on trial.
        watch.verdict("a", [10.0, 20.0]);
        watch.verdict("a", [10.0, 20.0]);
        watch.verdict("a", [10.0, 20.0]);
        watch.outputs.clear();
        watch
    }

    fn read(&mut self, name: &str, [x, y]: [f32; 2]) {
        self.now_us += 10_000;
        let sensor = self.driver.sensor(name).unwrap();
        let mut reading = Reading::empty(3);
        reading.values_mut().copy_from_slice(&[x, 0.0, y]);
        let receipt = now(self.now_us).into();
        self.driver
            .handle_reading(sensor, &reading, receipt, &mut self.outputs);
    }

    /// A reading, and the model's verdict.
    fn verdict(&mut self, name: &str, values: [f32; 2]) {
        self.read(name, values);
        let now = now(self.now_us);
        let started = self.driver.start_inference(now, false, &mut self.outputs);
        self.finish(started.expect("a model runs"), 1);
    }

    fn start(&mut self, has_more: bool) -> Option<Instance<Formula>> {
        let now = now(self.now_us);
        self.driver
            .start_occlusion(now, has_more, &mut self.outputs)
    }

    fn finish(&mut self, mut instance: Instance<Formula>, took_us: u64) {
        let (model, rows) = instance.to_run();
        let scores = rows.chunks_exact(2).map(|row| [0.1 * row[0] + row[1]]);
        model.0 = scores.collect();
        let took = Duration::from_micros(took_us);
        self.driver
            .finish_inference(instance, took, self.now_us, &mut self.outputs);
    }

    /// Whether the last alert awaits its causes, and what became of such since this
    /// was last asked.
    fn take(&mut self) -> (Option<bool>, Vec<Explained>) {
        let (mut alert, mut explained) = (None, vec![]);
        for output in self.outputs.drain(..) {
            match output {
                Output::Alert(Alert::Anomaly(verdict)) => {
                    alert = Some(verdict.causes.are_awaited());
                }
                Output::Explained(found) => explained.push(found),
                _ => {}
            }
        }
        (alert, explained)
    }

    fn unknown(&self) -> u64 {
        self.driver.engine().counters().causes_unknown
    }
}

fn causes(explained: &[Explained]) -> Vec<Vec<Cause>> {
    let list = |e: &Explained| e.verdict.causes.as_slice().to_vec();
    explained.iter().map(list).collect()
}

/// Of a score of `0.1·5 + 10`.
const HIGH: [f32; 2] = [15.0, 40.0];

fn of_high() -> Vec<Cause> {
    let share = |part: f32| (part / 10.5 * 4096.0).floor() / 4096.0;
    let cause = |channel, feature, share, value, normal| Cause {
        channel,
        feature: Some(feature),
        share,
        value,
        normal,
    };
    vec![
        cause(2, 1, share(10.0), 40.0, 20.0),
        cause(0, 0, share(0.5), 15.0, 10.0),
    ]
}

#[test]
fn causes_follow_the_alert_once_the_model_was_asked_without_each_channel() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    assert_eq!(watch.take(), (Some(true), vec![]));
    let mut run = watch.start(false).unwrap();
    assert_eq!((run.rows(), run.windows()), (2, 0));
    assert_eq!(run.to_run().1, [0.0, 10.0, 5.0, 0.0]);
    assert!(watch.start(false).is_none(), "it is out");
    watch.finish(run, 1);
    let (_, explained) = watch.take();
    assert_eq!(causes(&explained), [of_high()]);
    assert!(explained[0].is_alert);
    assert!(watch.start(false).is_none(), "all is said");
    let counters = watch.driver.engine().counters();
    assert_eq!((counters.scored, counters.causes_unknown), (4, 0));
}

#[test]
fn a_window_waits_for_no_causes_and_causes_wait_for_windows() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    watch.now_us -= 9_900;
    watch.read("b", [10.0, 20.0]);
    watch.now_us -= 9_900;
    assert!(watch.start(false).is_none(), "a window waits");
    let now = now(watch.now_us);
    let batch = watch.driver.start_inference(now, false, &mut ()).unwrap();
    assert_eq!(batch.windows(), 1);
    assert!(watch.start(false).is_none(), "the model runs");
    watch.finish(batch, 1);
    assert!(watch.start(true).is_none(), "readings are at hand");
    let run = watch.start(false).unwrap();
    // What comes meanwhile has its verdict by the deadline, though the run hangs.
    watch.read("b", [10.0, 20.0]);
    assert!(run.due_us() < watch.now_us + DEADLINE_US - MARGIN_US);
}

#[test]
fn causes_that_take_longer_than_a_deadline_are_unknown() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    watch.now_us += DEADLINE_US - 1;
    assert!(watch.start(true).is_none());
    assert_eq!(watch.take(), (Some(true), vec![]));
    watch.now_us += 1;
    assert!(watch.start(true).is_none());
    assert_eq!(causes(&watch.take().1), [vec![]]);
    assert_eq!(watch.unknown(), 1);
}

#[test]
fn a_model_too_slow_for_a_quarter_of_the_deadline_explains_nothing() {
    let mut watch = Watch::new(false);
    for _ in 0..40 {
        watch.read("a", HIGH);
        let now = now(watch.now_us);
        let run = watch.driver.start_inference(now, false, &mut watch.outputs);
        watch.finish(run.unwrap(), DEADLINE_US / 2);
    }
    assert!(watch.start(false).is_none());
    assert_eq!(causes(&watch.take().1), [vec![]]);
}

#[test]
fn few_rows_at_a_time_come_to_the_same() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    let cost_us = (DEADLINE_US - MARGIN_US) as f32 / 5.0;
    watch.driver.cost_us[Model as usize] = cost_us;
    for _ in 0..2 {
        let run = watch.start(false).unwrap();
        assert_eq!(run.rows(), 1);
        watch.finish(run, cost_us as u64);
    }
    assert_eq!(causes(&watch.take().1), [of_high()]);
}

#[test]
fn a_run_that_hangs_costs_the_causes_and_is_no_late_result() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    let run = watch.start(false).unwrap();
    let stuck = watch.driver.handle_hang(watch.now_us, &mut watch.outputs);
    assert_eq!(stuck, Some(Model));
    assert_eq!(causes(&watch.take().1), [vec![]]);
    // The rule answers meanwhile.
    watch.read("a", HIGH);
    let late = watch
        .driver
        .handle_late_return(run, watch.now_us, &mut watch.outputs);
    assert!(late, "it is taken back");
    watch.verdict("a", HIGH);
    let counters = watch.driver.engine().counters();
    assert_eq!((counters.late_results, counters.deadline_misses), (0, 0));
    assert_eq!(counters.fallback, 1);
}

#[test]
fn a_model_that_fails_without_a_channel_stays_on_the_ladder() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    let mut run = watch.start(false).unwrap();
    run.to_run().0.0 = vec![[f32::NAN]; 2];
    let now_us = watch.now_us;
    watch
        .driver
        .finish_inference(run, Duration::ZERO, now_us, &mut watch.outputs);
    assert_eq!(causes(&watch.take().1), [vec![]]);
    assert_eq!(watch.driver.engine().counters().model_faults, 0);
    assert_eq!(watch.driver.engine().current_rung(), Model);
}

#[test]
fn of_two_alerts_of_a_sensor_the_first_is_explained_first() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    let run = watch.start(false).unwrap();
    // Cleared by the rule's word, while the run is under way.
    let sensor = watch.driver.sensor("a").unwrap();
    watch
        .driver
        .handle_gone(sensor, watch.now_us, &mut watch.outputs);
    let order = watch.outputs.iter().map(|output| match output {
        Output::Alert(alert) => alert.state().name(),
        Output::Explained(_) => "explained",
        _ => "-",
    });
    let order: Vec<_> = order.filter(|name| *name != "-").collect();
    assert_eq!(order, ["raised", "explained", "cleared"]);
    watch.outputs.clear();
    watch.finish(run, 1);
    assert_eq!(watch.take(), (None, vec![]));
}

#[test]
fn more_alerts_than_fit_are_told_at_once_without_causes() {
    let mut watch = Watch::new(false);
    let mut awaited = 0;
    for index in 0..=OCCLUSIONS_MAX {
        watch.now_us -= 9_999;
        watch.verdict(&format!("s{index}"), HIGH);
        awaited += usize::from(watch.take().0 == Some(true));
    }
    assert_eq!((awaited, watch.unknown()), (OCCLUSIONS_MAX, 1));
    while let Some(run) = watch.start(false) {
        watch.finish(run, 1);
    }
    let (_, explained) = watch.take();
    assert_eq!(causes(&explained), vec![of_high(); OCCLUSIONS_MAX]);
}

#[test]
fn each_verdict_is_explained_where_that_is_asked_for() {
    let mut watch = Watch::new(true);
    // Those of the start are too old by now.
    assert!(watch.start(true).is_none());
    watch.outputs.clear();
    for values in [HIGH, HIGH] {
        watch.verdict("a", values);
        let run = watch.start(false).unwrap();
        watch.finish(run, 1);
    }
    let (_, explained) = watch.take();
    assert_eq!(causes(&explained[1..]), [of_high(), of_high()]);
    let are_alerts: Vec<bool> = explained[1..].iter().map(|e| e.is_alert).collect();
    assert_eq!(are_alerts, [true, false]);
}

#[test]
fn a_source_that_ends_leaves_no_alert_unsaid() {
    let mut watch = Watch::new(false);
    watch.verdict("a", HIGH);
    watch.driver.handle_end(&mut watch.outputs);
    assert_eq!(causes(&watch.take().1), [vec![]]);
}
