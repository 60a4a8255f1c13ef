//! What feeds a watchdog, and what stops it: seen by the service manager's. The
//! board's own is fed in the same breath.

use anyhow::{Result, ensure};

use crate::hark::Site;
use crate::node::{self, Node};
use crate::systemd::Manager;

const FED: &str = "WATCHDOG=1";
/// Sent every 5 s, which is longer than a stall takes to be seen here.
const STATUS: &str = "STATUS=";

/// A site where a stall is seen as soon as may be, with these further keys.
fn site(keys: &str, sources: &str) -> Result<Site> {
    let tables = format!("watchdog.stall_s = 3\n{keys}\n[mqtt]\nenabled = false\n");
    Site::with(&tables, sources)
}

fn is_fed(heard: &[String]) -> bool {
    heard.iter().any(|heard| heard == FED)
}

#[test]
fn a_pipeline_that_is_silent_is_fed_for() -> Result<()> {
    let mut manager = Manager::new()?;
    let (folder, link) = node::link()?;
    // A node that says nothing, a port that is not there, a broker whose name
    // nobody knows, and a recording with a gap of a minute.
    let sources = format!(
        "{}\n[[sources]]\nname = \"absent\"\nkind = \"serial\"\nport = \"{}\"\n\
         [[sources]]\nname = \"nowhere\"\nkind = \"mqtt\"\nhost = \"broker.invalid\"\n\
         topics = [\"s/{{sensor}}\"]\n\
         [[sources]]\nname = \"recording\"\nkind = \"file\"\npath = \"rec.csv\"\n\
         speed = 1\nperiod_ms = 60000\n",
        node::source(&link),
        folder.path().join("absent").display()
    );
    let site = site("", &sources)?;
    std::fs::write(site.path().join("rec.csv"), "1,1\n1,1\n1,1\n")?;
    let node = Node::plug_in(&link, "press-1")?;
    let hark = manager.run(&site, &[])?;
    node.meet()?;
    manager.wait_for(STATUS)?;
    let heard = manager.wait_for(STATUS)?;
    ensure!(is_fed(&heard), "{heard:?}");
    let heard = manager.wait_for(FED)?;
    ensure!(!heard.concat().contains("stalled"), "{heard:?}");
    let events = hark.events();
    ensure!(
        events.iter().all(|event| event["event"] != "stalled"),
        "{events:?}"
    );
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_serving_thread_that_stalls_starves_it_and_is_named() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = site("", &node::source(&link))?;
    let hark = manager.run(&site, &["--inject", "stall", "--inject-after", "1s"])?;
    manager.wait_for(FED)?;
    let stalled = hark.wait_for_event("the stall", |event| event["event"] == "stalled")?;
    assert_eq!(stalled["thread"], "source line");
    ensure!(
        stalled["silent_ms"].as_u64().is_some_and(|ms| ms >= 3000),
        "{stalled}"
    );
    // Nothing feeds it any more: only the status is told, every 5 s.
    manager.drain()?;
    for _ in 0..2 {
        let heard = manager.wait_for(STATUS)?;
        assert_eq!(heard, ["STATUS=stalled: source line"]);
    }
    hark.kill()
}

#[test]
fn a_model_that_hangs_does_not_starve_it() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = site("ladder.hang_ms = 200", &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = manager.run(&site, &["--inject", "hang", "--inject-after", "0s"])?;
    node.meet()?;
    hark.wait_for_event("the fault", |event| event["event"] == "fault_injected")?;
    node.settle(1.0)?;
    hark.wait_for_stderr("its thread is given up")?;
    manager.drain()?;
    // While the thread hangs the line is served and the watchdog fed.
    for _ in 0..3 {
        manager.wait_for(FED)?;
        node.settle(1.0)?;
    }
    // The last readings may wait behind a trial of the model, and a stop would leave
    // them on the line. Twice, since the first feeding may be of before they came.
    manager.wait_for(FED)?;
    manager.wait_for(FED)?;
    let events = hark.events();
    ensure!(
        events.iter().all(|event| event["event"] != "stalled"),
        "{events:?}"
    );
    let summary = hark.terminate()?.summary()?;
    assert_eq!(summary["readings"], node.readings());
    Ok(())
}

#[test]
fn a_source_that_nobody_could_relieve_starves_it() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let keys = "ladder.hang_ms = 200\nladder.threads_abandoned_max = 1";
    let site = site(keys, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = manager.run(&site, &["--inject", "hang", "--inject-after", "0s"])?;
    node.meet()?;
    hark.wait_for_event("the fault", |event| event["event"] == "fault_injected")?;
    node.settle(1.0)?;
    hark.wait_for_event("no relief", |event| event["event"] == "no_relief")?;
    // The look that is under way may have fed it.
    manager.wait_for(STATUS)?;
    manager.wait_for(STATUS)?;
    let heard = manager.wait_for(STATUS)?;
    ensure!(!is_fed(&heard), "{heard:?}");
    // The readings are answered all the same, by the rule.
    node.settle(1.0)?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_watchdog_that_cannot_be_opened_is_refused_at_the_start() -> Result<()> {
    let (_folder, link) = node::link()?;
    for (device, told) in [
        ("/dev/null", "/dev/null is not a watchdog"),
        ("/dev/watchdog77", "no watchdog /dev/watchdog77"),
    ] {
        let keys = format!("watchdog.device = \"{device}\"");
        let site = site(&keys, &node::source(&link))?;
        let ended = site.finish(&["run", "--config", "hark.toml"])?;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        ensure!(ended.stderr.contains(told), "{}", ended.stderr);
        ensure!(ended.stderr.contains("watchdog.device"), "{}", ended.stderr);
    }
    Ok(())
}

#[test]
fn a_replay_leaves_the_board_alone() -> Result<()> {
    let source = "[[sources]]\nname = \"old\"\nkind = \"file\"\npath = \"rec.csv\"\n";
    let site = site("watchdog.device = \"/dev/watchdog77\"", source)?;
    std::fs::write(site.path().join("rec.csv"), "level,flow\n1,1\n1,1\n1,1\n")?;
    let ended = site.finish(&["replay", "--config", "hark.toml", "--json"])?;
    ended.summary().map(drop)
}
