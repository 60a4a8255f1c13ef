//! What a seed draws before its run starts: the pipeline, its bounds, who is
//! on the lines, and which parts of the world misbehave.
//!
//! Each part of the world is calm in a quarter of the runs, so that a fault is
//! also seen alone; one run in sixteen is calm throughout. The storm ends
//! before the run does: what follows must be flawless.

use crate::broker::BrokerPlan;
use crate::line::LinePlan;
use crate::model::ModelPlan;
use crate::node::NodePlan;
use hark_engine::{
    AlertPolicy, Channel, Counter, FeatureKind, FeatureSpec, LadderPolicy, Limits, NodeClock,
    PipelineSpec, Schema, ScoreSpec, VerdictSpec, WindowSpec,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Simulated time without any fault at the end of a run. Within the first half
/// everything has recovered: the longest stall, inference and wait of the
/// publisher take 3, 2 and 5 seconds. Then a slow node's windows come, up to
/// 1.6 s apart, and some of them are a rung's trials.
const CALM_US: u64 = 20_000_000;
/// Why the second half: see [`CALM_US`].
const RECOVERY_US: u64 = 14_000_000;

/// Everything about a run that does not change while it lasts.
pub(crate) struct Scenario {
    pub(crate) spec: PipelineSpec,
    pub(crate) limits: Limits,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) line: LinePlan,
    pub(crate) model: ModelPlan,
    pub(crate) policy: LadderPolicy,
    /// Somebody declares a stuck batch stuck; otherwise its windows only time
    /// out, and nothing runs until it is back.
    pub(crate) has_keeper: bool,
    /// The driver reads nothing while the model runs, as the hot path does.
    pub(crate) driver_is_inline: bool,
    /// The driver is told of readings that are at hand, and gathers them for a batch.
    pub(crate) driver_gathers: bool,
    pub(crate) broker: BrokerPlan,
    /// How late the driver may call `handle_timeout`.
    pub(crate) keeper_late_us_max: u64,
    /// Who comes first if a timeout and another event fall on one microsecond.
    pub(crate) keeper_is_first: bool,
    pub(crate) storm_end_us: u64,
    /// From here on nothing may be rejected or fall back.
    pub(crate) recovered_us: u64,
    /// When the nodes fall silent.
    pub(crate) end_us: u64,
    /// No fault at all happens.
    pub(crate) is_quiet: bool,
}

impl Scenario {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let is_quiet = rng.random_ratio(1, 16);
        let is_stormy = [(); 5].map(|()| !is_quiet && rng.random_ratio(3, 4));
        let [line, model, broker, nodes_are_wild, driver] = is_stormy;
        let line = LinePlan::draw(rng, line);
        let spec = draw_spec(rng);
        let is_model_stormy = model;
        let model = ModelPlan::draw(rng, model, &spec.score);
        let broker = BrokerPlan::draw(rng, broker);
        let keeper_is_late = driver && rng.random_ratio(1, 4);
        let count = rng.random_range(1..=4);
        let nodes: Vec<_> = (0..count)
            .map(|index| NodePlan::draw(rng, index, nodes_are_wild))
            .collect();
        let storm_end_us = rng.random_range(10_000_000..30_000_000);
        Self {
            spec,
            policy: draw_policy(rng, is_quiet),
            has_keeper: !is_model_stormy || rng.random_ratio(7, 8),
            driver_is_inline: rng.random(),
            driver_gathers: rng.random_ratio(1, 4),
            limits: draw_limits(rng, &nodes, is_quiet),
            nodes,
            line,
            model,
            broker,
            keeper_late_us_max: if keeper_is_late {
                rng.random_range(1..20_000)
            } else {
                0
            },
            keeper_is_first: rng.random(),
            storm_end_us,
            recovered_us: storm_end_us + RECOVERY_US,
            end_us: storm_end_us + CALM_US,
            is_quiet,
        }
    }
}

fn draw_spec(rng: &mut ChaCha8Rng) -> PipelineSpec {
    let length = rng.random_range(1..=16);
    let n = rng.random_range(1..=8);
    let is_autoencoder = rng.random();
    PipelineSpec {
        schema: draw_schema(rng),
        window: WindowSpec {
            length,
            stride: rng.random_range(1..=length),
            gap_max: rng.random_range(0..=3),
        },
        // Of a healthy machine the mean square is below 1, of a faulty one 8.
        features: vec![group(FeatureKind::Rms), group(FeatureKind::Mean)],
        score: if is_autoencoder {
            let residual_scale = vec![];
            ScoreSpec::ReconstructionMse { residual_scale }
        } else {
            ScoreSpec::Output {
                index: 0,
                negate: false,
            }
        },
        verdict: VerdictSpec {
            threshold: 1.0,
            k: rng.random_range(1..=n),
            n,
            clear_ratio: [0.5, 1.0][rng.random_range(0..2)],
            hold_off_ms: [0.0, 250.0, 1000.0][rng.random_range(0..3)],
        },
    }
}

fn draw_schema(rng: &mut ChaCha8Rng) -> Schema {
    let channel = |name: &str, unit: &str, min, max, rate_max| Channel {
        name: name.into(),
        unit: unit.into(),
        min,
        max,
        rate_max,
    };
    Schema {
        // The fastest node's. It is what rates of change go by at least.
        period_ms: 10.0,
        age_max_ms: [None, Some(500.0), Some(2000.0)][rng.random_range(0..3)],
        channels: vec![
            channel("vibration", "g", -8.0, 8.0, None),
            channel("temperature", "°C", -40.0, 125.0, Some(50.0)),
        ],
    }
}

fn group(kind: FeatureKind) -> FeatureSpec {
    FeatureSpec {
        kind,
        channels: vec![],
        alpha: None,
        edges_hz: vec![],
        center: vec![],
        scale: vec![1.0, 100.0],
        clip: None,
    }
}

fn draw_limits(rng: &mut ChaCha8Rng, nodes: &[NodePlan], is_quiet: bool) -> Limits {
    // Half of it, the keeper's greatest margin apart, is enough for two readings
    // of each node, one after the other on one worker in 100 µs each.
    let deadline_us = rng.random_range(3_000..50_000);
    let has_too_few = !is_quiet && rng.random_ratio(1, 8);
    // What the nodes send, with some room: the burst after a stall is more.
    let rate: u64 = nodes.iter().map(|node| 1_000_000 / node.period_us).sum();
    let rate_max = (rate * 5 / 4 + 10) as u32;
    let has_rate = !is_quiet && rng.random_ratio(1, 4);
    Limits {
        sensors_max: if has_too_few {
            nodes.len().max(2) - 1
        } else {
            nodes.len()
        },
        deadline_us,
        keeper_margin_us: rng.random_range(0..=deadline_us / 2),
        readings_per_second_max: if has_rate { rate_max } else { 0 },
        counter: Counter::Endless,
        clock: [NodeClock::None, NodeClock::Node][rng.random_range(0..2)],
        is_caching: rng.random_ratio(1, 4),
        explains_verdicts: deadline_us.is_multiple_of(2),
        alerts: AlertPolicy {
            watches_range: rng.random_ratio(7, 8),
            silent_after_us: [0, 500_000, 2_000_000][rng.random_range(0..3)],
            link_down_us: [0, 300_000, 1_000_000][rng.random_range(0..3)],
        },
    }
}

fn draw_policy(rng: &mut ChaCha8Rng, is_quiet: bool) -> LadderPolicy {
    let misses_of = [1, 4, 8, 64][rng.random_range(0..4)];
    let probe_us_min = rng.random_range(10_000..300_000);
    let drifts = !is_quiet && rng.random_ratio(1, 8);
    LadderPolicy {
        misses_max: rng.random_range(1..=misses_of.min(4)),
        misses_of,
        hang_us: rng.random_range(10_000..600_000),
        probe_us_min,
        probe_us_max: rng.random_range(probe_us_min..1_000_000),
        probes_to_pass: rng.random_range(1..=3),
        drift_max: if drifts { 1.8 } else { 0.0 },
    }
}
