use crate::*;
use std::sync::LazyLock;

const SEEDS: [u64; 3] = [1, 2, 77];

/// Half an hour of healthy running, made once: unoptimised, the rig makes only some thousand
/// readings a second.
static HEALTHY: LazyLock<Vec<RigReading>> = LazyLock::new(|| run(SEEDS[0], &[], 18_000));
const ACCEL_MOTOR: usize = 0;
const ACCEL_PUMP: usize = 1;
const CURRENT: usize = 2;
const PRESSURE: usize = 3;
const TEMPERATURE: usize = 4;
const FLOW: usize = 6;

fn run(seed: u64, faults: &[&str], count: usize) -> Vec<RigReading> {
    let faults = faults
        .iter()
        .map(|text| text.parse().expect(text))
        .collect();
    let config = RigConfig {
        seed,
        faults,
        ..RigConfig::default()
    };
    Rig::new(config)
        .expect("a valid config")
        .take(count)
        .collect()
}

fn column(readings: &[RigReading], channel: usize) -> impl Iterator<Item = f64> + Clone {
    readings
        .iter()
        .map(move |reading| f64::from(reading.values[channel]))
}

fn mean(readings: &[RigReading], channel: usize) -> f64 {
    column(readings, channel).sum::<f64>() / readings.len() as f64
}

fn std(readings: &[RigReading], channel: usize) -> f64 {
    let mean = mean(readings, channel);
    (column(readings, channel)
        .map(|x| (x - mean) * (x - mean))
        .sum::<f64>()
        / readings.len() as f64)
        .sqrt()
}

/// Standard deviation of the change from one reading to the next: unrest, free of the load
/// profile.
fn unrest(readings: &[RigReading], channel: usize) -> f64 {
    let later = column(readings, channel).skip(1);
    let squares = column(readings, channel)
        .zip(later)
        .map(|(a, b)| (a - b) * (a - b));
    (squares.sum::<f64>() / (readings.len() - 1) as f64).sqrt()
}

/// FNV-1a over everything that a reading says.
fn digest(readings: &[RigReading]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for reading in readings {
        eat(&reading.sequence.to_le_bytes());
        eat(&reading.time_us.to_le_bytes());
        reading
            .values
            .iter()
            .for_each(|value| eat(&value.to_bits().to_le_bytes()));
        eat(reading.label.map_or("", Fault::name).as_bytes());
        eat(&reading.severity.to_bits().to_le_bytes());
        eat(&[u8::from(reading.sent)]);
    }
    hash
}

#[test]
fn one_seed_gives_one_run_and_another_seed_another() {
    assert_eq!(
        run(5, &["imbalance@3s"], 300),
        run(5, &["imbalance@3s"], 300)
    );
    assert_ne!(run(5, &[], 300), run(6, &[], 300));
}

/// A promise: the bytes hold on every target and in every build profile. If this fails, change
/// the code, or say in the changelog that every recorded run and trained model is of another rig.
#[test]
fn the_bytes_of_a_run_with_every_fault_are_frozen() {
    let faults = [
        "imbalance@5s:0.5+20s",
        "cavitation@10s+20s",
        "closing_valve@35s:0.7+15s",
        "outer_race@50s:0.8",
        "stuck_sensor@60s+20s",
        "dropout@80s",
    ];
    assert_eq!(digest(&run(42, &faults, 1_000)), 44_851_814_079_583_880);
}

#[test]
fn long_healthy_running_stays_well_inside_the_ranges() {
    for reading in HEALTHY.iter() {
        for (value, channel) in reading.values.iter().zip(CHANNELS) {
            assert!(
                *value > channel.min && *value < channel.max,
                "{}: {value} in {reading:?}",
                channel.name
            );
        }
        assert_eq!(
            (reading.label, reading.severity, reading.sent),
            (None, 0.0, true)
        );
    }
}

#[test]
fn faults_at_full_severity_are_readings_not_nonsense() {
    let all = Fault::ALL.map(|fault| format!("{fault}@1s"));
    let together: Vec<&str> = all.iter().map(String::as_str).collect();
    let runs = all.iter().map(|one| vec![one.as_str()]).chain([together]);
    for reading in runs.flat_map(|faults| run(9, &faults, 250)) {
        for (value, channel) in reading.values.iter().zip(CHANNELS) {
            assert!(
                *value >= channel.min && *value < channel.max,
                "{}: {value} in {reading:?}",
                channel.name
            );
        }
    }
}

#[test]
fn the_start_is_in_thermal_equilibrium() {
    let start = mean(&HEALTHY[..300], TEMPERATURE);
    let later = mean(&HEALTHY[9_000..], TEMPERATURE);
    assert!((start - later).abs() < 2.0, "{start} °C, later {later} °C");
}

/// 30 s under `fault`, its ramp over, beside the same 30 s without it: the means differ, in the
/// direction of the sign, by more than three standard deviations of half an hour.
fn check_means(fault: Fault, moved: &[(usize, f64)]) {
    for seed in SEEDS {
        let healthy = &run(seed, &[], 400)[100..];
        let faulty = &run(seed, &[&format!("{fault}@5s")], 400)[100..];
        for (channel, sign) in moved {
            let shift = mean(faulty, *channel) - mean(healthy, *channel);
            let visible = 3.0 * std(&HEALTHY, *channel);
            let name = CHANNELS[*channel].name;
            assert!(
                shift * sign > visible,
                "{fault}, seed {seed}: {name} moved by {shift}, healthy 3σ is {visible}"
            );
        }
    }
}

#[test]
fn every_fault_of_the_machine_moves_its_channels_out_of_the_healthy_variation() {
    check_means(Fault::Imbalance, &[(ACCEL_MOTOR, 1.0), (ACCEL_PUMP, 1.0)]);
    check_means(Fault::Cavitation, &[(ACCEL_MOTOR, 1.0), (ACCEL_PUMP, 1.0)]);
    check_means(
        Fault::ClosingValve,
        &[
            (FLOW, -1.0),
            (PRESSURE, 1.0),
            (CURRENT, -1.0),
            (ACCEL_PUMP, 1.0),
        ],
    );
    check_means(Fault::OuterRace, &[(ACCEL_MOTOR, 1.0), (ACCEL_PUMP, 1.0)]);
}

#[test]
fn a_fault_leaves_alone_what_it_does_not_touch() {
    let check = |fault: &str, untouched: &[usize]| {
        let healthy = run(3, &[], 300);
        let faulty = run(3, &[&format!("{fault}@10s")], 300);
        for channel in untouched {
            assert!(
                column(&healthy, *channel).eq(column(&faulty, *channel)),
                "{fault}: {}",
                CHANNELS[*channel].name
            );
        }
    };
    check("imbalance", &[CURRENT, PRESSURE, TEMPERATURE, FLOW]);
    check("dropout", &[0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn cavitation_makes_flow_and_pressure_unsteady_and_costs_pressure() {
    for seed in SEEDS {
        let healthy = &run(seed, &[], 400)[100..];
        let faulty = &run(seed, &["cavitation@5s"], 400)[100..];
        for channel in [FLOW, PRESSURE] {
            let (before, after) = (unrest(healthy, channel), unrest(faulty, channel));
            assert!(
                after > 4.0 * before,
                "seed {seed}, {}: {before} to {after}",
                CHANNELS[channel].name
            );
        }
        assert!(mean(faulty, PRESSURE) < mean(healthy, PRESSURE));
    }
}

#[test]
fn a_spalled_bearing_warms() {
    let healthy = run(4, &[], 1_200);
    let faulty = run(4, &["outer_race@0s"], 1_200);
    let warming = mean(&faulty[1_100..], TEMPERATURE) - mean(&healthy[1_100..], TEMPERATURE);
    assert!(
        (1.0..3.0).contains(&warming),
        "{warming} K after two minutes"
    );
}

#[test]
fn more_severity_shakes_more() {
    for fault in ["imbalance", "outer_race"] {
        let levels = [0.1, 0.3, 0.6, 1.0].map(|severity| {
            let readings = run(2, &[&format!("{fault}@0s:{severity}")], 350);
            mean(&readings[50..], ACCEL_MOTOR)
        });
        assert!(levels.is_sorted_by(|a, b| a < b), "{fault}: {levels:?}");
    }
}

#[test]
fn labels_and_effects_begin_and_end_with_the_fault() {
    let healthy = run(8, &[], 400);
    let faulty = run(8, &["imbalance@12s:0.8+10s"], 400);
    for (reading, twin) in faulty.iter().zip(&healthy) {
        let is_faulty = (12_000_000..22_000_000).contains(&reading.time_us);
        assert_eq!(
            reading.label,
            is_faulty.then_some(Fault::Imbalance),
            "{reading:?}"
        );
        assert_eq!(
            reading.severity > 0.0,
            is_faulty && reading.time_us > 12_000_000,
            "{reading:?}"
        );
        if !is_faulty {
            assert_eq!(reading.values, twin.values);
        }
    }
    assert_eq!(faulty[171].severity, 0.8);
}

#[test]
fn a_stuck_sensor_holds_one_channel_at_its_last_value_and_lets_go() {
    let mut channels_seen = std::collections::HashSet::new();
    for seed in 0..15 {
        let healthy = run(seed, &[], 70);
        let faulty = run(seed, &["stuck_sensor@3s+3s"], 70);
        let differs = |channel: &usize| !column(&faulty, *channel).eq(column(&healthy, *channel));
        let stuck: Vec<usize> = (0..CHANNELS.len()).filter(differs).collect();
        assert_eq!(stuck.len(), 1, "seed {seed}: {stuck:?}");
        let held = faulty[29].values[stuck[0]];
        assert!(
            faulty[30..60]
                .iter()
                .all(|reading| reading.values[stuck[0]] == held),
            "seed {seed}"
        );
        assert_eq!(faulty[60].values, healthy[60].values, "seed {seed}");
        channels_seen.extend(stuck);
    }
    assert!(
        channels_seen.len() > 3,
        "only channels {channels_seen:?} ever stick"
    );
}

#[test]
fn dropouts_leave_gaps_in_the_sequence_of_what_is_sent() {
    let readings = run(11, &["dropout@10s+40s"], 600);
    assert!(
        readings
            .iter()
            .zip(0..)
            .all(|(reading, sequence)| reading.sequence == sequence)
    );
    let sent: Vec<u64> = readings
        .iter()
        .filter(|r| r.sent)
        .map(|r| r.sequence)
        .collect();
    let gaps = sent.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
    assert!((10..100).contains(&gaps), "{gaps} gaps");
    assert!(
        readings[..100]
            .iter()
            .chain(&readings[500..])
            .all(|reading| reading.sent)
    );
}

#[test]
fn bad_configs_are_refused_with_the_value() {
    let check = |config: RigConfig, expected: ConfigError| {
        assert_eq!(Rig::new(config).err(), Some(expected));
    };
    let healthy = RigConfig::default;
    check(
        RigConfig {
            period_ms: 9,
            ..healthy()
        },
        ConfigError::Period(9),
    );
    check(
        RigConfig {
            period_ms: 10_001,
            ..healthy()
        },
        ConfigError::Period(10_001),
    );
    let event = FaultEvent::new(Fault::Dropout, 0);
    let too_many = vec![event; FAULTS_MAX + 1];
    check(
        RigConfig {
            faults: too_many,
            ..healthy()
        },
        ConfigError::TooManyFaults(FAULTS_MAX + 1),
    );
    let too_bad = vec![
        event,
        FaultEvent {
            severity: 1.5,
            ..event
        },
    ];
    check(
        RigConfig {
            faults: too_bad,
            ..healthy()
        },
        ConfigError::Severity(1.5),
    );
    let nan = RigConfig {
        faults: vec![FaultEvent {
            severity: f64::NAN,
            ..event
        }],
        ..healthy()
    };
    assert!(matches!(Rig::new(nan), Err(ConfigError::Severity(severity)) if severity.is_nan()));
}

#[test]
fn other_periods_see_the_same_machine() {
    let mean_at = |period_ms: u32, channel| {
        let config = RigConfig {
            seed: 6,
            period_ms,
            ..RigConfig::default()
        };
        let count = 60_000 / period_ms as usize;
        let readings: Vec<RigReading> = Rig::new(config)
            .expect("a valid period")
            .take(count)
            .collect();
        assert_eq!(
            readings[count - 1].time_us,
            u64::from(period_ms) * 1_000 * (count as u64 - 1)
        );
        mean(&readings, channel)
    };
    for period_ms in [PERIOD_MS_MIN, 33, 1_000] {
        for (channel, tolerance) in [
            (ACCEL_MOTOR, 0.005),
            (ACCEL_PUMP, 0.01),
            (FLOW, 30.0),
            (TEMPERATURE, 5.0),
        ] {
            let (other, usual) = (mean_at(period_ms, channel), mean_at(100, channel));
            assert!(
                (other - usual).abs() < tolerance,
                "{period_ms} ms, {}: {other}, {usual}",
                CHANNELS[channel].name
            );
        }
    }
}
