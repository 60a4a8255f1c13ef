//! What one reading costs in the engine alone, the model left out.
//!
//! Run with `cargo run --release -p hark-engine --example reading_cost`. For
//! each pipeline and number of sensors it prints the median, least and greatest
//! of [`RUNS`] runs, in nanoseconds a reading.

use hark_engine::{
    AlertPolicy, Answers, Counter, Driver, Engine, Fault, Instance, Limits, NodeClock, Now,
    PipelineSpec, Reading, Rung,
};
use std::time::{Duration, Instant};

const RUNS: usize = 5;
const READINGS: usize = 200_000;

fn main() {
    println!(
        "{:24} {:>8} {:>9} {:>7} {:>7}",
        "pipeline", "sensors", "ns median", "min", "max"
    );
    let raw = r#"[{ kind = "raw", center = [0.1], scale = [2.0], clip = 6.0 }]"#;
    let moments = r#"[{ kind = "rms" }, { kind = "std" }, { kind = "slope" }, { kind = "ewma", alpha = 0.1 }]"#;
    let shape = r#"[{ kind = "crest" }, { kind = "kurtosis" }]"#;
    let bands = r#"[{ kind = "bands", edges_hz = [0.0, 5.0, 20.0, 50.0] }]"#;
    for sensors in [1, 1_000, 10_000] {
        measure(
            "raw 640, MSE",
            sensors,
            &spec(640, 1, raw, "reconstruction_mse"),
        );
        measure(
            "raw 16×8, MSE",
            sensors,
            &spec(16, 8, raw, "reconstruction_mse"),
        );
        measure(
            "moments 32×4",
            sensors,
            &spec(32, 4, moments, "reconstruction_mse"),
        );
        measure(
            "crest, kurtosis 32×4",
            sensors,
            &spec(32, 4, shape, "reconstruction_mse"),
        );
        measure(
            "bands 64×4",
            sensors,
            &spec(64, 4, bands, "reconstruction_mse"),
        );
    }
}

fn spec(length: usize, channels: usize, features: &str, score: &str) -> PipelineSpec {
    let features = match channels {
        1 => features.to_owned(),
        _ => features.replace("center = [0.1], scale = [2.0], ", ""),
    };
    let channel = |n| format!("{{ name = \"c{n}\", unit = \"g\", min = -100.0, max = 100.0 }}");
    let channels: Vec<_> = (0..channels).map(channel).collect();
    let toml = format!(
        "window = {{ length = {length}, stride = 1 }}\nfeatures = {features}\n\
         score = {{ kind = \"{score}\" }}\n\
         verdict = {{ threshold = 1.0, k = 1, n = 1, clear_ratio = 1.0 }}\n\
         schema = {{ period_ms = 10.0, channels = [{}] }}",
        channels.join(", ")
    );
    toml::from_str(&toml).expect("it is written here")
}

fn measure(name: &str, sensors: usize, spec: &PipelineSpec) {
    let mut nanoseconds: Vec<f64> = (0..RUNS).map(|_| run(sensors, spec)).collect();
    nanoseconds.sort_by(f64::total_cmp);
    let [min, median, max] = [0, RUNS / 2, RUNS - 1].map(|at| nanoseconds[at]);
    println!("{name:24} {sensors:8} {median:9.0} {min:7.0} {max:7.0}");
}

/// Gives back what it was given.
struct Echo(Vec<f32>);

impl Answers for Echo {
    fn answer(&self, _row: usize) -> Result<&[f32], Fault> {
        Ok(&self.0)
    }
}

fn run(sensors: usize, spec: &PipelineSpec) -> f64 {
    let limits = Limits {
        sensors_max: sensors,
        deadline_us: 1_000_000,
        keeper_margin_us: 0,
        readings_per_second_max: 0,
        clock: NodeClock::None,
        counter: Counter::Endless,
        is_caching: false,
        explains_verdicts: false,
        alerts: AlertPolicy {
            watches_range: true,
            silent_after_us: 5_000_000,
            link_down_us: 10_000_000,
        },
    };
    let engine = Engine::with_model(spec, limits).expect("it can be served");
    let features_len = engine.features_len();
    let mut driver = Driver::new(engine);
    let echo = Echo(vec![0.0; features_len]);
    let instance = Instance::new(Rung::Model, echo, 1, features_len);
    driver.handle_instance(instance, 0, &mut ());
    let ids: Vec<_> = (0..sensors)
        .map(|n| driver.sensor(&n.to_string()).expect("it fits"))
        .collect();
    let mut reading = Reading::empty(spec.schema.channels.len());
    // Windows are full before the clock starts.
    let warm_up = spec.window.length * sensors;
    let mut start = Instant::now();
    for n in 0..warm_up + READINGS {
        if n == warm_up {
            start = Instant::now();
        }
        reading.sequence = Some((n / sensors) as u64);
        let x = (n % 17) as f32;
        reading.values_mut().iter_mut().for_each(|slot| *slot = x);
        let now = Now {
            mono_us: n as u64,
            utc_us: n as i64,
        };
        driver.handle_reading(ids[n % sensors], &reading, now.into(), &mut ());
        if let Some(mut instance) = driver.start_inference(now, false, &mut ()) {
            let (echo, features) = instance.to_run();
            echo.0.copy_from_slice(features);
            driver.finish_inference(instance, Duration::ZERO, n as u64, &mut ());
        }
    }
    start.elapsed().as_nanos() as f64 / READINGS as f64
}
