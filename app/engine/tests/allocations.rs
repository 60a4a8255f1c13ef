//! No reading costs an allocation once its sensor is known: not on its way to
//! a score, nor on the ladder's ways down and up. A global allocator counts
//! those of each thread; this file has no other test beside its own.

use hark_engine::{
    Engine, Fault, LadderPolicy, Limits, ModelRung, NodeClock, Now, PENDING_MAX, Reading, Rung,
    SensorId, StepReason, Ticket,
};

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

struct Driver {
    engine: Engine,
    sensors: Vec<SensorId>,
    outputs: Vec<f32>,
    tickets: Vec<Ticket>,
    now_us: u64,
    sequence: u64,
}

impl Driver {
    fn new() -> Self {
        let spec = toml::from_str(PIPELINE).expect("it is written here");
        let limits = Limits {
            sensors_max: 4,
            deadline_us: 1_000,
            keeper_margin_us: 100,
            readings_per_second_max: 0,
            clock: NodeClock::None,
            is_caching: true,
        };
        let model = |rung| ModelRung {
            rung,
            score: hark_engine::ScoreSpec::ReconstructionMse {
                residual_scale: vec![],
            },
            threshold: 0.5,
            expires_utc_us: None,
            batch_max: PENDING_MAX,
        };
        let policy = LadderPolicy {
            drift_max: 100.0,
            ..LadderPolicy::default()
        };
        let models = [model(Rung::Model), model(Rung::Previous)];
        let mut engine = Engine::new(&spec, limits, policy, &models).expect("it can be served");
        let sensors = ["a", "b", "c", "d"].map(|name| engine.sensor(name).expect("it fits"));
        Self {
            outputs: vec![0.0; engine.features_len()],
            engine,
            sensors: sensors.into(),
            tickets: Vec::with_capacity(PENDING_MAX),
            now_us: 0,
            sequence: 0,
        }
    }

    /// One reading of each sensor; the value makes scores and alerts change.
    fn read(&mut self) {
        self.now_us += 100_000;
        self.sequence += 1;
        for &sensor in &self.sensors {
            let mut reading = Reading::empty(2);
            reading.sequence = Some(self.sequence);
            // Constant for a while, so that the cache is hit, too.
            let x = (self.sequence / 16 % 8) as f32;
            reading.values_mut().copy_from_slice(&[x, -x]);
            let now = now(self.now_us);
            self.engine.handle_reading(sensor, &reading, now, |_| {});
            while self.engine.poll_output().is_some() {}
        }
    }

    /// Starts all windows as a batch.
    fn start(&mut self) {
        self.tickets.clear();
        while let Some(job) = self.engine.poll_inference(now(self.now_us)) {
            self.outputs.copy_from_slice(job.features);
            self.tickets.push(job.ticket);
        }
    }

    fn answer(&mut self, fault: Option<Fault>) {
        self.outputs[0] += 9.0;
        for &ticket in &self.tickets {
            let outputs = fault.map_or(Ok(&self.outputs[..]), Err);
            self.engine.handle_outputs(ticket, outputs, self.now_us);
        }
        while self.engine.poll_output().is_some() {}
    }
}

fn now(mono_us: u64) -> Now {
    Now {
        mono_us,
        utc_us: mono_us as i64,
    }
}

#[test]
fn a_reading_allocates_nothing_whatever_becomes_of_it() {
    let mut driver = Driver::new();
    let round = |driver: &mut Driver, fault| {
        driver.read();
        driver.start();
        driver.answer(fault);
    };
    let allocations = counting::allocations(|| {
        (0..1_000).for_each(|_| round(&mut driver, None));
        // Down to the rule, and up again by trials.
        (0..30).for_each(|_| round(&mut driver, Some(Fault::Error)));
        (0..1_000).for_each(|_| round(&mut driver, None));
        // Stuck, given up, loaded afresh.
        driver.read();
        driver.start();
        let hang = driver.engine.handle_hang(driver.now_us);
        (0..200).for_each(|_| round(&mut driver, None));
        let wanted = driver.engine.poll_wanted_instance(driver.now_us);
        assert_eq!(wanted, Some(Rung::Model));
        let (rung, now_us) = (Rung::Model, driver.now_us);
        let engine = &mut driver.engine;
        engine.handle_no_instance(rung, StepReason::Missing, now_us);
        engine.handle_instance(rung, now_us);
        assert!(!engine.handle_late_return(hang.expect("it ran"), now_us));
        (0..1_000).for_each(|_| round(&mut driver, None));
        // Nobody runs the model: every slot fills, then its deadline comes.
        (0..20).for_each(|_| driver.read());
        driver.engine.handle_timeout(driver.now_us);
        while driver.engine.poll_output().is_some() {}
    });
    assert_eq!(allocations, 0);
    // Every way was taken.
    let counters = driver.engine.counters();
    assert_eq!(driver.engine.current_rung(), Rung::Model);
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
    ] {
        assert!(count > 0, "{counters:?}");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        counting::allocations(|| drop(std::hint::black_box(vec![1]))),
        1
    );
}
