//! Bundles whose files are small, and whose models ask for more than a gateway has.
//!
//! Each is loaded by a process of its own, under limits, before the running hark
//! would load it: here that one has 128 MiB beyond what it needs for its start.

use std::fs;

use anyhow::{Result, ensure};
use hark_tests::wait_until;

use crate::hark::{Hark, Site, count};
use crate::{LIMIT, bundle};

/// What hark may take beyond its start.
const MEMORY_BYTES: u64 = 128 << 20;

const SOURCE: &str = "[[sources]]\nname = \"lasting\"\nkind = \"file\"\npath = \"lasting.csv\"\n\
                      speed = 1\nperiod_ms = 100\n";

/// A source that goes on for long, a reading every 100 ms.
fn site() -> Result<Site> {
    let site = Site::new(SOURCE)?;
    let rows = "1,1\n".repeat(3_000);
    fs::write(
        site.path().join("lasting.csv"),
        "level,flow\n".to_owned() + &rows,
    )?;
    Ok(site)
}

/// Model files, and what each is refused for.
fn hostile() -> [(Vec<u8>, &'static str); 3] {
    [
        (bundle::padded(), "takes more memory than it may"),
        (
            bundle::with_huge_constant(),
            "takes more memory than it may",
        ),
        (bundle::chain(200_000), "200000 nodes, at most 10000"),
    ]
}

/// Ends it, after a check that it ran the whole time and lost nothing.
fn check_end(hark: Hark, rung: &str) -> Result<()> {
    let summary = hark.terminate()?.summary()?;
    assert_eq!(summary["sources"]["lasting"]["rung"], rung, "{summary}");
    ensure!(count(&summary, "readings") > 0, "{summary}");
    assert_eq!(count(&summary, "deadline_misses"), 0, "{summary}");
    Ok(())
}

#[test]
fn the_old_model_serves_on_while_reloads_of_hostile_bundles_are_refused() -> Result<()> {
    let site = site()?;
    let mut hark = site.run()?;
    hark.wait_for_link("lasting")?;
    hark.limit_memory(MEMORY_BYTES)?;
    let refusals = |hark: &Hark| {
        let mut events = hark.events();
        events.retain(|event| event["event"] == "not_reloaded");
        events
    };
    for (index, (model, _)) in hostile().iter().enumerate() {
        bundle::write_with(site.path(), model, &bundle::golden(3.0))?;
        hark.signal("HUP")?;
        let what = format!("refusal {index}");
        let refused = wait_until(LIMIT, &what, || refusals(&hark).get(index).cloned())?;
        // The third takes more than is left here before its nodes are counted.
        let told = refused["reason"].as_str().unwrap_or_default();
        ensure!(told.contains("model bundle level: "), "{told}");
    }
    // It would still take a sound one.
    bundle::write_with(site.path(), &bundle::chain(2), &bundle::golden(3.0))?;
    hark.signal("HUP")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    assert_eq!(refusals(&hark).len(), hostile().len(), "each is told once");
    check_end(hark, "model")
}

#[test]
fn a_start_on_a_hostile_bundle_leaves_the_rule() -> Result<()> {
    for (model, reason) in hostile() {
        let site = site()?;
        bundle::write_with(site.path(), &model, &bundle::golden(3.0))?;
        let hark = site.run()?;
        hark.wait_for_event(reason, |event| {
            let told = event["reason"].as_str().unwrap_or_default();
            event["event"] == "model_refused" && told.contains(reason)
        })?;
        hark.wait_for_link("lasting")?;
        hark.limit_memory(MEMORY_BYTES)?;
        check_end(hark, "rule")?;
    }
    Ok(())
}
