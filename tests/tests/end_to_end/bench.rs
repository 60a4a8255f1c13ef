//! What `hark bench` and `hark capacity` say of themselves.

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
