//! Why: what alerts, and verdicts where that is asked for, say of their scores.

use super::*;
use crate::causes::{Cause, Causes};

/// Windows of two readings of two channels, and an autoencoder over their means.
const PIPELINE: &str = r#"
    window = { length = 2, stride = 1 }
    score = { kind = "reconstruction_mse", residual_scale = [1.0, 0.5] }
    verdict = { threshold = 1.0, k = 1, n = 1, clear_ratio = 1.0 }
    [[features]]
    kind = "mean"
    center = [10.0, 50.0]
    scale = [1.0, 4.0]
    clip = 8.0
    [schema]
    period_ms = 100.0
    channels = [
        { name = "x", unit = "g", min = -1000.0, max = 1000.0 },
        { name = "y", unit = "g", min = -1000.0, max = 1000.0 },
    ]
"#;
const RESIDUALS: &str = r#"{ kind = "reconstruction_mse", residual_scale = [1.0, 0.5] }"#;

struct Bench {
    engine: Engine,
    sequence: u64,
    now_us: u64,
}

impl Bench {
    fn new(score: &str, limits: Limits) -> Self {
        let toml = PIPELINE.replace(RESIDUALS, score);
        let spec = toml::from_str(&toml).unwrap();
        Self {
            engine: Engine::with_model(&spec, limits).unwrap(),
            sequence: 0,
            now_us: 0,
        }
    }

    /// One reading; what the engine says once the model has said `outputs`.
    fn read(&mut self, values: [f32; 2], outputs: Result<&[f32], Fault>) -> Vec<Output> {
        self.now_us += 100_000;
        self.sequence += 1;
        let sensor = self.engine.sensor("a").unwrap();
        let mut reading = Reading::empty(2);
        reading.sequence = Some(self.sequence);
        reading.values_mut().copy_from_slice(&values);
        let receipt = now(self.now_us).into();
        self.engine
            .handle_reading(sensor, &reading, receipt, |_| {});
        if let Some(job) = poll(&mut self.engine, self.now_us) {
            let ticket = job.ticket;
            self.engine.handle_outputs(ticket, outputs, self.now_us);
        }
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }
}

fn causes(outputs: &[Output]) -> (Vec<Cause>, Option<Vec<Cause>>) {
    let of = |verdict: &Verdict| verdict.causes.as_slice().to_vec();
    let mut verdicts = outputs.iter().filter_map(|output| match output {
        Output::Verdict(verdict) => Some(of(verdict)),
        _ => None,
    });
    let alert = outputs.iter().find_map(|output| match output {
        Output::Alert(Alert::Anomaly(verdict)) => Some(of(verdict)),
        _ => None,
    });
    (verdicts.next_back().unwrap_or_default(), alert)
}

fn cause(channel: u8, feature: Option<u16>, share: f32, value: f32, normal: f32) -> Cause {
    Cause {
        channel,
        feature,
        share,
        value,
        normal,
    }
}

#[test]
fn an_alert_of_residuals_names_channels_with_value_and_normal() {
    let mut bench = Bench::new(RESIDUALS, limits());
    bench.read([10.0, 50.0], Ok(&[0.0, 0.0]));
    let calm = bench.read([10.0, 50.0], Ok(&[0.0, 0.0]));
    assert_eq!(causes(&calm), (vec![], None));
    // Normalised [3, 1]: the residuals are 3 and 1 / 0.5 of the outputs.
    let (verdict, alert) = causes(&bench.read([16.0, 58.0], Ok(&[0.0, 0.0])));
    assert_eq!(verdict, [], "nobody asked");
    let share = |part: f32| (part / 13.0 * 4096.0).floor() / 4096.0;
    let expected = [
        cause(0, Some(0), share(9.0), 13.0, 10.0),
        cause(1, Some(1), share(4.0), 54.0, 50.0),
    ];
    assert_eq!(alert, Some(expected.to_vec()));
}

#[test]
fn a_verdict_has_its_causes_where_that_is_asked_for() {
    let limits = Limits {
        explains_verdicts: true,
        ..limits()
    };
    let mut bench = Bench::new(RESIDUALS, limits);
    bench.read([10.0, 50.0], Ok(&[0.0, 0.0]));
    // Clipped at 8: the value is what it was.
    let (verdict, alert) = causes(&bench.read([40.0, 50.0], Ok(&[0.0, 0.0])));
    assert_eq!(verdict, [cause(0, Some(0), 1.0, 25.0, 10.0)]);
    assert_eq!(alert, Some(verdict));
}

#[test]
fn an_alert_of_the_rule_names_channels_by_their_distance() {
    let mut bench = Bench::new(RESIDUALS, limits());
    // The rule learns, and the model fails.
    for n in 0..300 {
        bench.read([(n % 3) as f32, (n % 5) as f32], Err(Fault::Error));
    }
    let found = (0..20).find_map(|_| causes(&bench.read([1.0, 60.0], Err(Fault::Error))).1);
    let found = found.expect("an alert is raised");
    let first = found[0];
    assert_eq!((first.channel, first.feature, first.value), (1, None, 60.0));
    assert!(first.share > 0.9 && first.normal < 5.0, "{found:?}");
}

#[test]
fn a_score_that_is_repeated_has_the_causes_of_the_first() {
    let limits = Limits {
        is_caching: true,
        ..limits()
    };
    let toml = PIPELINE.replace("k = 1, n = 1", "k = 2, n = 2");
    let spec = toml::from_str(&toml).unwrap();
    let mut bench = Bench {
        engine: Engine::with_model(&spec, limits).unwrap(),
        sequence: 0,
        now_us: 0,
    };
    for _ in 0..2 {
        let (_, alert) = causes(&bench.read([10.0, 90.0], Ok(&[0.0, 0.0])));
        assert_eq!(alert, None);
    }
    let (_, alert) = causes(&bench.read([10.0, 90.0], Ok(&[0.0, 0.0])));
    assert_eq!(bench.engine.counters().cache_hits, 1);
    assert_eq!(alert, Some(vec![cause(1, Some(1), 1.0, 90.0, 50.0)]));
}

#[test]
fn a_sensor_that_is_gone_is_cleared_without_causes() {
    let mut bench = Bench::new(RESIDUALS, limits());
    bench.read([16.0, 50.0], Ok(&[0.0, 0.0]));
    bench.read([16.0, 50.0], Ok(&[0.0, 0.0]));
    let sensor = bench.engine.sensor("a").unwrap();
    bench.engine.handle_gone(sensor, bench.now_us);
    let Some(Output::Alert(Alert::Anomaly(cleared))) = bench.engine.poll_output() else {
        panic!("the alert that stood is cleared");
    };
    assert_eq!(cleared.causes, Causes::NONE);
}
