//! A full disk under the event log: alerts still go out, and what could not be
//! written is counted.

use std::os::unix::fs::symlink;
use std::{fs, iter};

use anyhow::Result;
use hark_tests::Mosquitto;

use crate::LIMIT;
use crate::alerts::payload;
use crate::hark::{Site, count};
use crate::node::{self, Node};

#[test]
fn a_full_disk_costs_the_log_and_no_alert() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/press-1")?;
    let (_folder, link) = node::link()?;
    let site = Site::at(&broker, &node::source(&link))?;
    fs::create_dir(site.path().join("data"))?;
    // Every write to it fails as on a full disk: ENOSPC.
    symlink("/dev/full", site.path().join("data/events.jsonl"))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    let states = iter::repeat_n([(9.0, "raised"), (1.0, "cleared")], 3);
    for (level, state) in states.flatten() {
        node.settle(level)?;
        let alert = payload(&heard.next(LIMIT)?)?;
        assert_eq!(alert["state"], state, "{alert}");
    }
    let ended = hark.terminate()?;
    let summary = ended.summary()?;
    assert_eq!(count(&summary, "alerts"), 3);
    assert_eq!(count(&summary, "outputs.alerts_published"), 6);
    assert_eq!(count(&summary, "outputs.events_logged"), 0, "{summary}");
    // The start, the link, six alerts, the stop.
    assert_eq!(count(&summary, "outputs.events_lost"), 9, "{summary}");
    assert_eq!(ended.stdout.lines().count(), 6 + 1, "{}", ended.stdout);
    let complaints = ended.stderr.matches("event log").count();
    assert_eq!(complaints, 1, "said once: {}", ended.stderr);
    Ok(())
}
