//! Who has a place in the table of sensors, whoever else comes.

use super::*;
use crate::Driver;

const SECOND: u64 = 1_000_000;

/// A driver without models and with two places: the rule answers.
fn driver() -> Driver<()> {
    Driver::new(two_readings())
}

fn reading(sequence: u64, x: f32) -> Reading {
    let mut reading = Reading::empty(1);
    reading.sequence = Some(sequence);
    reading.values_mut()[0] = x;
    reading
}

/// Hands in a reading as a source does: whoever has no place asks for one.
fn read(driver: &mut Driver<()>, name: &str, sequence: u64, at_us: u64) -> Result<Step, Rejection> {
    let reading = reading(sequence, 1.0);
    let known = driver.engine().find(name);
    let sensor = match known {
        Some(sensor) => sensor,
        None => driver.newcomer(name, &reading, now(at_us), &mut ())?,
    };
    Ok(driver.handle_reading(sensor, &reading, now(at_us).into(), &mut ()))
}

/// Both windows full: whoever `name` is has had a verdict.
fn make_known(driver: &mut Driver<()>, name: &str, at_us: u64) {
    for sequence in 0..2 {
        read(driver, name, sequence, at_us).unwrap();
    }
}

fn names(driver: &Driver<()>, names: &[&str]) -> Vec<bool> {
    let engine = driver.engine();
    names
        .iter()
        .map(|name| engine.find(name).is_some())
        .collect()
}

#[test]
fn a_place_is_taken_only_by_a_valid_reading() {
    let mut driver = driver();
    let mut check = |reading: &Reading, expected| {
        let taken = driver.newcomer("a", reading, now(0), &mut ());
        assert_eq!(taken, Err(expected));
        assert_eq!(driver.engine().sensors_len(), 0);
    };
    check(&Reading::empty(2), Rejection::ChannelCount);
    let not_finite = Rejection::NotFinite { channel: 0 };
    check(&reading(0, f32::NAN), not_finite);
    assert!(read(&mut driver, "a", 0, 0).is_ok());
    assert!(read(&mut driver, "", 0, 0).is_err());
    assert_eq!(driver.engine().sensors_len(), 1);
}

#[test]
fn a_machine_in_trouble_from_its_first_reading_takes_a_free_place_only() {
    let mut driver = driver();
    let hot = reading(0, 1e6);
    let out_of_range = Rejection::Range { channel: 0 };
    assert!(driver.newcomer("hot", &hot, now(0), &mut ()).is_ok());
    read(&mut driver, "a", 0, 0).unwrap();
    let refused = driver.newcomer("b", &hot, now(9 * SECOND), &mut ());
    assert_eq!(refused, Err(out_of_range));
    assert_eq!(names(&driver, &["hot", "a", "b"]), [true, true, false]);
}

#[test]
fn a_reading_beyond_the_rate_of_its_source_takes_no_place() {
    let mut engine = two_readings();
    engine.limits.readings_per_second_max = 1;
    let mut driver = Driver::new(engine);
    read(&mut driver, "a", 0, 0).unwrap();
    assert_eq!(read(&mut driver, "b", 0, 1), Err(Rejection::SourceRate));
    assert!(read(&mut driver, "b", 0, SECOND).is_ok());
}

#[test]
fn a_flood_of_names_reaches_neither_known_nor_configured_sensors() {
    let mut engine = two_readings();
    engine.sensors = Sensors::new(40, 0);
    let mut driver = Driver::new(engine);
    driver.sensor("configured").unwrap();
    make_known(&mut driver, "pump", 0);
    for n in 0..10_000 {
        let at_us = n * 1_000;
        read(&mut driver, &format!("invented-{n}"), 0, at_us).unwrap();
    }
    assert_eq!(driver.engine().sensors_len(), 40);
    assert_eq!(names(&driver, &["configured", "pump"]), [true, true]);
    assert_eq!(driver.engine().counters().sensors_replaced, 10_000 - 38);
    // The last ones are there: those before them had been silent for longer.
    assert_eq!(
        names(&driver, &["invented-9999", "invented-9000"]),
        [true, false]
    );
    // And who comes only now is served.
    assert!(read(&mut driver, "late", 0, 10 * SECOND).is_ok());
}

#[test]
fn the_longest_silent_newcomer_gives_its_place() {
    let mut driver = driver();
    read(&mut driver, "a", 0, 0).unwrap();
    read(&mut driver, "b", 0, 1).unwrap();
    driver.handle_restart(driver.engine().find("a").unwrap());
    read(&mut driver, "a", 0, 2).unwrap();
    read(&mut driver, "c", 0, 3).unwrap();
    assert_eq!(names(&driver, &["a", "b", "c"]), [true, false, true]);
}

#[test]
fn a_known_sensor_gives_its_place_after_a_long_silence_and_with_it_its_alert() {
    let mut engine = two_readings();
    let quiet = engine.take_in("quiet").unwrap();
    let spec = engine.verdict.clone();
    let state = engine.sensors.get_mut(quiet);
    state.tenure = Tenure::Known;
    assert!(state.alerts.handle_score(&spec, 2.0, 0), "it is raised");
    let mut driver = Driver::new(engine);
    make_known(&mut driver, "loud", 5 * SECOND);
    let full = Err(Rejection::UnknownSensor);
    assert_eq!(read(&mut driver, "new", 0, 59 * SECOND), full);
    let loud = driver.engine().find("loud").unwrap();

    // One with an alert that stands goes last.
    let mut said = Vec::new();
    let new = driver.newcomer("new", &reading(0, 1.0), now(70 * SECOND), &mut said);
    assert_eq!((new, &said[..]), (Ok(loud), &[][..]));
    make_known(&mut driver, "new", 70 * SECOND);
    let next = driver.newcomer("next", &reading(0, 1.0), now(80 * SECOND), &mut said);
    assert_eq!(next, Ok(quiet));
    let [Output::Alert(alert)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(alert.sensor(), Some(quiet));
    assert_eq!(alert.state(), AlertState::Cleared);
    assert_eq!(
        names(&driver, &["quiet", "loud", "new", "next"]),
        [false, false, true, true]
    );
}

#[test]
fn a_sensor_whose_window_waits_for_its_verdict_keeps_its_place() {
    let mut engine = two_readings();
    let sensor = engine.take_in("a").unwrap();
    engine.take_in("b").unwrap();
    for sequence in 0..2 {
        engine.handle_reading(sensor, &reading(sequence, 1.0), now(0).into(), |_| {});
    }
    assert_eq!(engine.pending_len(), 1);
    engine.sensors.get_mut(sensor).tenure = Tenure::Newcomer;
    let b = engine.find("b");
    assert_eq!(engine.longest_silent(now(99 * SECOND)), b);
    engine.replace(b.unwrap(), "c");
    engine.sensors.get_mut(b.unwrap()).heard_us = 99 * SECOND;
    assert_eq!(
        engine.longest_silent(now(99 * SECOND)),
        b,
        "not the one that waits"
    );
}

#[test]
fn a_sensor_whose_alert_stood_before_the_start_gives_its_place_if_it_never_comes() {
    let mut driver = driver();
    let gone = driver.handle_standing("gone", AlertKind::Anomaly, 0);
    make_known(&mut driver, "pump", 0);
    let mut said = Vec::new();
    let new = driver.newcomer("new", &reading(0, 1.0), now(SECOND), &mut said);
    assert_eq!(new, gone);
    let [Output::Alert(alert)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(alert.state(), AlertState::Cleared);
    assert_eq!(
        names(&driver, &["gone", "pump", "new"]),
        [false, true, true]
    );
}
