//! A broker that goes away, politely or not: alerts wait, and none is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hark_tests::{Mosquitto, Persistence, Subscription};
use serde_json::Value;

use crate::alerts::payload;
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};
use crate::{LIMIT, bundle};

/// How long the broker is away: long enough for the longest wait between two
/// tries to connect (5 s) to be reached.
const OUTAGE: Duration = Duration::from_secs(10);
/// Changes of state before the outage, and after it.
const CHANGES: usize = 4;

/// What tells one change of state from another.
pub(crate) type Key = (String, u64, String);

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

#[test]
fn killing_the_broker_loses_no_alert() -> Result<()> {
    // At the same time, because each is mostly waiting.
    std::thread::scope(|scope| {
        let runs = [End::Stop, End::Kill].map(|end| scope.spawn(move || check_outage(end)));
        runs.into_iter()
            .try_for_each(|run| run.join().expect("the run panicked"))
    })
}

fn check_outage(end: End) -> Result<()> {
    let mut broker = Mosquitto::start_with(Persistence::On)?;
    let heard = broker.subscribe_with_session("hark/v1/+/alert/+", "operator")?;
    let (_folder, link) = node::link()?;
    let site = Site::at(&broker, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;

    let mut received = Vec::new();
    swing_until(&mut node, &hark, CHANGES)?;
    receive_all(&heard, &hark, &mut received)?;
    match end {
        End::Stop => broker.stop()?,
        End::Kill => broker.kill()?,
    }
    let before = hark.alerts().len();
    let stopped = Instant::now();
    while stopped.elapsed() < OUTAGE {
        node.swing()?;
        Node::pause();
    }
    let after = hark.alerts().len();
    ensure!(after > before + 10, "{before} alerts became only {after}");
    broker.restart_on_same_port()?;
    swing_until(&mut node, &hark, after + CHANGES)?;
    receive_all(&heard, &hark, &mut received)?;

    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "readings"), node.readings());
    assert_eq!(count(&summary, "outputs.alerts_dropped"), 0, "{summary}");
    assert_eq!(count(&summary, "outputs.alerts_waiting"), 0, "{summary}");
    assert!(count(&summary, "outputs.connects") >= 2, "{summary}");
    assert_eq!(
        count(&summary, "outputs.alerts_published"),
        first_of_each(&received).len() as u64,
        "{summary}"
    );
    let kept = broker.subscribe("hark/v1/gateway/alert/press-1")?;
    let kept = kept.next(LIMIT)?;
    assert!(kept.is_retained);
    assert_eq!(Some(&key(&payload(&kept)?)?), received.last());
    Ok(())
}

/// Plays the node until `count` alerts are in the log, and then until its last
/// reading has cleared the last.
pub(crate) fn swing_until(node: &mut Node, hark: &Hark, count: usize) -> Result<()> {
    let started = Instant::now();
    while hark.alerts().len() < count {
        ensure!(started.elapsed() < LIMIT, "no {count} alerts in {LIMIT:?}");
        node.swing()?;
        Node::pause();
    }
    node.settle(bundle::HIGH)?;
    node.settle(bundle::LOW)?;
    let last = node.readings() - 1;
    hark.wait_for_event("the last reading to clear the alert", |event| {
        event["seq"] == last && event["state"] == "cleared"
    })?;
    Ok(())
}

/// Receives until the last alert of the log has come, and compares: each alert
/// of the log, in its order; again is allowed.
pub(crate) fn receive_all(
    heard: &Subscription,
    hark: &Hark,
    received: &mut Vec<Key>,
) -> Result<()> {
    let logged: Vec<Key> = hark.alerts().iter().map(key).collect::<Result<_>>()?;
    let last = logged.last().context("no alert was logged")?;
    while received.last() != Some(last) {
        let message = heard
            .next(LIMIT)
            .with_context(|| format!("after {} of {}", received.len(), logged.len()))?;
        received.push(key(&payload(&message)?)?);
    }
    assert_eq!(first_of_each(received), logged);
    Ok(())
}

fn first_of_each(received: &[Key]) -> Vec<Key> {
    let mut first: Vec<Key> = Vec::new();
    for key in received {
        if !first.contains(key) {
            first.push(key.clone());
        }
    }
    first
}

fn key(alert: &Value) -> Result<Key> {
    let text = |name: &str| alert[name].as_str().map(str::to_owned);
    let key = text("sensor").zip(alert["seq"].as_u64()).zip(text("state"));
    let ((sensor, sequence), state) = key.with_context(|| format!("incomplete: {alert}"))?;
    Ok((sensor, sequence, state))
}
