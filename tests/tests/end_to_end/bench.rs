//! What `hark bench` and `hark capacity` say of themselves.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::hark::Site;

#[test]
fn what_a_new_sensor_costs_once_is_no_allocation_of_a_reading() -> Result<()> {
    let site = Site::new("")?;
    // Names come over the links, as many as there are places.
    let args = "bench --paths process,pty,mqtt --sensors 20 --rate 20 --for 1s --json";
    let ended = site.finish(&args.split(' ').collect::<Vec<_>>())?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let measured: Value = serde_json::from_str(&ended.stdout)?;
    for path in ["process", "pty", "mqtt"] {
        let allocations = &measured["paths"][path]["allocations_per_reading"]["max"];
        let allocations = allocations.as_f64().context("there were readings")?;
        ensure!(allocations == 0.0, "{path}: {allocations}");
    }
    Ok(())
}

#[test]
fn a_run_that_filled_no_window_says_so_instead_of_p50_0() -> Result<()> {
    let site = Site::new("")?;
    let args = "bench --paths process --sensors 10 --rate 50 --for 200ms";
    let ended = site.finish(&args.split(' ').collect::<Vec<_>>())?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let p50 = ended.stdout.lines().find(|line| line.starts_with("p50"));
    ensure!(
        p50.is_some_and(|line| line.ends_with(" –")),
        "{}",
        ended.stdout
    );
    let why = "a window of this model is 24 readings of a sensor, and each had 10";
    ensure!(ended.stderr.contains(why), "{}", ended.stderr);
    Ok(())
}

#[test]
fn capacity_promises_no_more_sensors_than_are_let_in_and_says_what_it_measured() -> Result<()> {
    let site = Site::new("[[sources]]\nname = \"f\"\nkind = \"file\"\npath = \"-\"\n")?;
    let config = site.path().join("hark.toml");
    let few = fs::read_to_string(&config)?.replace("data_dir", "sensors_max = 3, data_dir");
    fs::write(config, few)?;
    let args = ["capacity", "--config", "hark.toml", "--for", "200ms"];
    let text = site.finish(&args)?;
    for part in [
        "3 sensors at 10 Hz",
        "without a link",
        "device.sensors_max is 3",
        "the links are not measured",
    ] {
        ensure!(text.stdout.contains(part), "no {part:?}: {}", text.stdout);
    }
    let json = site.finish(&[args.as_slice(), &["--json"]].concat())?;
    let capacity: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(capacity["sensors"], 3, "{capacity}");
    assert_eq!(capacity["links_measured"], false, "{capacity}");
    assert_eq!(
        capacity["sources"][0]["is_limited_by_sensors_max"], true,
        "{capacity}"
    );
    Ok(())
}
