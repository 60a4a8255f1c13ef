//! No reading costs an allocation once its sensor is known: not on its way to
//! a score, nor on the ladder's ways down and up. A global allocator counts
//! those of each thread; this file has no other test beside its own.

use hark_engine::{
    AlertKind, AlertPolicy, Answers, Counter, Driver, Engine, Fault, Instance, LadderPolicy,
    Limits, ModelRung, NodeClock, Now, PENDING_MAX, Reading, Rung, SensorId, StepReason,
};

use std::time::Duration;

mod counting {
    #![allow(unsafe_code)]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: every call is handed on to `System` unchanged, whose guarantees
    // are therefore this allocator's. Counting touches a const-initialised
    // thread local without a destructor, which neither allocates nor unwinds.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            COUNT.set(COUNT.get() + 1);
            // SAFETY: the caller's promises on `layout` are passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: `pointer` came from `System` with this `layout`.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    /// Allocations of this thread while `run` ran; growing counts as one.
    pub(crate) fn allocations(run: impl FnOnce()) -> u64 {
        let before = COUNT.get();
        run();
        COUNT.get() - before
    }
}

/// Every feature that has buffers of its own, over two channels.
const PIPELINE: &str = r#"
    window = { length = 8, stride = 1 }
    score = { kind = "reconstruction_mse" }
    verdict = { threshold = 0.5, k = 1, n = 2, clear_ratio = 1.0 }
    [[features]]
    kind = "raw"
    clip = 4.0
    [[features]]
    kind = "kurtosis"
    [[features]]
    kind = "ewma"
    alpha = 0.1
    [[features]]
    kind = "bands"
    edges_hz = [0.0, 2.0, 5.0]
    [schema]
    period_ms = 100.0
    channels = [
        { name = "x", unit = "g", min = -9.0, max = 9.0, rate_max = 50.0 },
        { name = "y", unit = "g", min = -9.0, max = 9.0 },
    ]
"#;

/// Says of every row what it said of the row before, or fails.
struct Echo {
    outputs: Vec<f32>,
    fault: Option<Fault>,
}

impl Answers for Echo {
    fn answer(&self, _row: usize) -> Result<&[f32], Fault> {
        self.fault.map_or(Ok(&self.outputs), Err)
    }
}

struct Bench {
    driver: Driver<Echo>,
    sensors: Vec<SensorId>,
    now_us: u64,
    sequence: u64,
    explained: u64,
}

impl Bench {
    fn new(score: &hark_engine::ScoreSpec) -> Self {
        let spec = toml::from_str(PIPELINE).expect("it is written here");
        let limits = Limits {
            sensors_max: 4,
            deadline_us: 1_000,
            keeper_margin_us: 100,
            readings_per_second_max: 0,
            clock: NodeClock::None,
            counter: Counter::Endless,
            is_caching: true,
            explains_verdicts: true,
            alerts: AlertPolicy {
                watches_range: true,
                silent_after_us: 5_000_000,
                link_down_us: 10_000_000,
            },
        };
        let model = |rung| ModelRung {
            rung,
            score: score.clone(),
            threshold: 0.5,
            expires_utc_us: None,
            batch_max: PENDING_MAX,
        };
        let policy = LadderPolicy {
            drift_max: 100.0,
            ..LadderPolicy::default()
        };
        let models = [model(Rung::Model), model(Rung::Previous)];
        let engine = Engine::new(&spec, limits, policy, &models).expect("it can be served");
        let mut driver = Driver::new(engine);
        for model in &models {
            let instance = fresh(model.rung, driver.engine().features_len());
            driver.handle_instance(instance, 0, &mut ());
        }
        let sensors = ["a", "b", "c", "d"].map(|name| driver.sensor(name).expect("it fits"));
        Self {
            driver,
            sensors: sensors.into(),
            now_us: 0,
            sequence: 0,
            explained: 0,
        }
    }

    /// One reading of each sensor; the value makes scores and alerts change.
    fn read(&mut self) {
        // Constant for a while, so that the cache is hit, too.
        self.read_value((self.sequence / 16 % 8) as f32);
    }

    fn read_value(&mut self, x: f32) {
        self.now_us += 100_000;
        self.sequence += 1;
        for &sensor in &self.sensors {
            let mut reading = Reading::empty(2);
            reading.sequence = Some(self.sequence);
            reading.values_mut().copy_from_slice(&[x, -x]);
            let receipt = now(self.now_us).into();
            self.driver
                .handle_reading(sensor, &reading, receipt, &mut ());
        }
    }

    /// Starts all windows as a batch.
    fn start(&mut self) -> Option<Instance<Echo>> {
        let now = now(self.now_us);
        let mut started = self.driver.start_inference(now, false, &mut ());
        if let Some(instance) = &mut started {
            let (model, features) = instance.to_run();
            let last = features.len() - model.outputs.len();
            model.outputs.copy_from_slice(&features[last..]);
            model.outputs[0] += 9.0;
        }
        started
    }

    fn round(&mut self, fault: Option<Fault>) {
        self.read();
        if let Some(mut instance) = self.start() {
            instance.to_run().0.fault = fault;
            self.driver
                .finish_inference(instance, Duration::ZERO, self.now_us, &mut ());
        }
        self.explain();
    }

    /// Runs what says where scores come from.
    fn explain(&mut self) {
        let now = now(self.now_us);
        while let Some(mut rows) = self.driver.start_occlusion(now, false, &mut ()) {
            rows.to_run().0.fault = None;
            self.driver
                .finish_inference(rows, Duration::ZERO, self.now_us, &mut ());
            self.explained += 1;
        }
    }
}

fn fresh(rung: Rung, features_len: usize) -> Instance<Echo> {
    let model = Echo {
        outputs: vec![0.0; features_len],
        fault: None,
    };
    Instance::new(rung, model, PENDING_MAX, features_len)
}

fn now(mono_us: u64) -> Now {
    Now {
        mono_us,
        utc_us: mono_us as i64,
    }
}

#[test]
fn a_reading_allocates_nothing_whatever_becomes_of_it() {
    check(&hark_engine::ScoreSpec::ReconstructionMse {
        residual_scale: vec![],
    });
}

#[test]
fn a_score_that_needs_more_runs_to_be_explained_allocates_nothing() {
    let bench = check(&hark_engine::ScoreSpec::Output {
        index: 0,
        negate: false,
    });
    assert!(bench.explained > 0);
}

fn check(score: &hark_engine::ScoreSpec) -> Bench {
    let mut bench = Bench::new(score);
    let loaded = fresh(Rung::Model, bench.driver.engine().features_len());
    let allocations = counting::allocations(|| {
        (0..1_000).for_each(|_| bench.round(None));
        // Down to the rule, and up again by trials.
        (0..30).for_each(|_| bench.round(Some(Fault::Error)));
        (0..1_000).for_each(|_| bench.round(None));
        // Stuck, given up, loaded afresh.
        bench.read();
        let stuck = bench.start().expect("a model runs");
        assert!(bench.driver.handle_hang(bench.now_us, &mut ()).is_some());
        (0..200).for_each(|_| bench.round(None));
        let (rung, now_us) = (Rung::Model, bench.now_us);
        let wanted = bench.driver.poll_wanted_instance(now_us, &mut ());
        assert_eq!(wanted, Some(rung));
        let missing = StepReason::Missing;
        bench
            .driver
            .handle_no_instance(rung, missing, now_us, &mut ());
        bench.driver.handle_instance(loaded, now_us, &mut ());
        let is_kept = bench.driver.handle_late_return(stuck, now_us, &mut ());
        assert!(!is_kept);
        (0..1_000).for_each(|_| bench.round(None));
        // Nobody runs the model: every place fills, then its deadline comes.
        (0..20).for_each(|_| bench.read());
        bench.driver.handle_timeout(bench.now_us, &mut ());
        // Out of range, silent, unplugged, and back.
        (0..8).for_each(|_| bench.read_value(1e9));
        bench.driver.handle_link_down(bench.now_us);
        bench.now_us += 20_000_000;
        bench.driver.handle_absences(bench.now_us, &mut ());
        bench.driver.handle_link_up(bench.now_us, &mut ());
        (0..8).for_each(|_| bench.read_value(0.0));
    });
    assert_eq!(allocations, 0);
    // Every way was taken.
    let engine = bench.driver.engine();
    let counters = engine.counters();
    assert_eq!(engine.current_rung(), Rung::Model);
    for count in [
        counters.scored,
        counters.fallback,
        counters.cache_hits,
        counters.alerts,
        counters.probes,
        counters.probes_failed,
        counters.hangs,
        counters.late_results,
        counters.model_faults,
        counters.alerts_by_kind[AlertKind::Range.index()],
        counters.alerts_by_kind[AlertKind::Silent.index()],
        counters.alerts_by_kind[AlertKind::Link.index()],
    ] {
        assert!(count > 0, "{counters:?}");
    }
    bench
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        counting::allocations(|| drop(std::hint::black_box(vec![1]))),
        1
    );
}
