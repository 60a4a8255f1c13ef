//! A serial line that is pulled out and plugged in again, and that hums.

use anyhow::{Context, Result};
use hark_wire::{Health, Message};
use serde_json::Value;

use crate::hark::{Hark, Site, count};
use crate::node::{self, Node, frame, reading};

/// Bytes that are no frame, with delimiters in between: four damaged frames.
const NOISE: &[u8] = b"\xff\x13noise\x00\x01\x02\x00\x07hum\x00\xaa\x55\x00";

#[test]
fn an_unplugged_line_is_survived() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let hark = site.run()?;
    let mut readings = 0;
    for round in 1..=3 {
        readings += check_round(&hark, &link, round)?;
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "sources.line.connects"), 3, "{summary}");
    let rejected = count(&summary, "rejected");
    assert_eq!(
        count(&summary, "readings") - rejected,
        readings,
        "{summary}"
    );
    // Of a frame cut by the unplugging nothing is counted: it never ended.
    assert_eq!(count(&summary, "rejections.corrupt"), 3 * 4, "{summary}");
    assert_eq!(rejected, 3 * 4, "{summary}");
    let example = &summary["sources"]["line"]["examples"]["corrupt"];
    assert!(example.is_string(), "no example: {summary}");
    Ok(())
}

/// Plugs the node in, raises and clears an alert with noise in between, and
/// pulls it out in the middle of a frame. Returns the readings sent.
fn check_round(hark: &Hark, link: &std::path::Path, round: usize) -> Result<u64> {
    let mut node = Node::plug_in(link, "press-1")?;
    node.meet()?;
    node.settle(1.0)?;
    node.send_bytes(NOISE)?;
    node.settle(9.0)?;
    hark.wait_for_alerts(2 * round - 1)
        .with_context(|| format!("raising in round {round}"))?;
    node.settle(1.0)?;
    hark.wait_for_alerts(2 * round)
        .with_context(|| format!("clearing in round {round}"))?;
    let whole = frame(&reading(99, 1.0));
    node.send_bytes(&whole[..whole.len() / 2])?;
    let readings = node.readings();
    drop(node);
    hark.wait_for_event("the lost link", |_| link_losses(hark) == round)?;
    Ok(readings)
}

/// How often an open line has hung up so far.
fn link_losses(hark: &Hark) -> usize {
    let is_loss = |event: &Value| {
        let reason = event["reason"].as_str().unwrap_or_default();
        event["event"] == "link_down" && reason.ends_with("is gone")
    };
    hark.events().iter().filter(|event| is_loss(event)).count()
}

#[test]
fn a_restart_whose_hello_was_lost_is_seen_by_the_nodes_health() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    hark.wait_for_link("line")?;
    assert!(node.wait_for_request()?.say_hello);
    let hello = node::hello("press-1", "bar");
    let boot_id = hello.boot_id;
    node.send_bytes(&frame(&Message::Hello(hello)))?;
    let config = node.wait_for_request()?;
    assert!(!config.say_hello, "what is wanted follows each Hello");
    let health = |boot_id| {
        Message::Health(Health {
            boot_id,
            ..Health::default()
        })
    };
    node.send_bytes(&frame(&health(boot_id)))?;
    node.send_bytes(&frame(&health(boot_id + 1)))?;
    assert!(node.wait_for_request()?.say_hello, "another boot");
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn a_node_whose_hello_was_missed_is_asked_for_it() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    hark.wait_for_link("line")?;
    let asked = node.wait_for_request()?;
    assert!(asked.say_hello && asked.running, "{asked:?}");
    assert_eq!(asked.period_ms, 0, "the node keeps its period");
    node.send(9.0)?;
    hark.wait_for_event("the rejected reading", |event| {
        event["event"] == "rejecting" && event["reason"] == "no_hello"
    })?;
    node.send_bytes(&frame(&Message::Hello(node::hello("press-1", "bar"))))?;
    node.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "rejections.no_hello"), 1);
    assert_eq!(count(&summary, "rejected"), 1);
    Ok(())
}

#[test]
fn a_period_that_the_node_refuses_costs_no_reading() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&format!("{}period_ms = 20000\n", node::source(&link)))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    // It takes a request as a whole or not at all, as the protocol says.
    let asked = node.wait_for_request()?;
    assert_eq!((asked.say_hello, asked.period_ms), (true, 0));
    node.send_bytes(&frame(&Message::Hello(node::hello("press-1", "bar"))))?;
    assert_eq!(node.wait_for_request()?.period_ms, 0, "running, apart");
    assert_eq!(node.wait_for_request()?.period_ms, 20_000);
    node.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");
    Ok(())
}

#[test]
fn a_node_that_shall_not_run_and_does_is_told_again() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&format!("{}running = false\n", node::source(&link)))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    assert!(node.wait_for_request()?.say_hello);
    node.send_bytes(&frame(&Message::Hello(node::hello("press-1", "bar"))))?;
    assert!(!node.wait_for_request()?.running);
    // That request was lost.
    for _ in 0..2 {
        (0..16).try_for_each(|_| node.send(1.0))?;
        let again = node.wait_for_request()?;
        assert_eq!((again.running, again.say_hello), (false, false));
    }
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn a_line_that_opens_and_fails_at_once_is_not_told_as_up_each_time() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    hark.wait_for_link("line")?;
    drop(node);
    for _ in 0..5 {
        Node::plug_in(&link, "press-1")?.wait_for_reader()?;
    }
    let mut node = Node::plug_in(&link, "press-1")?;
    node.meet()?;
    node.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    let ups = hark.events().into_iter();
    let ups = ups.filter(|event| event["event"] == "link_up").count();
    assert_eq!(ups, 2, "once for the first node, and once for the last");
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn a_node_in_anothers_place_clears_that_ones_alert() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let mut old = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    old.meet()?;
    old.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    drop(old);
    let mut new = Node::plug_in(&link, "press-2")?;
    new.meet()?;
    let alerts = hark.wait_for_alerts(2)?;
    assert_eq!(alerts[1]["sensor"], "press-1", "{alerts:?}");
    assert_eq!(alerts[1]["state"], "cleared", "{alerts:?}");
    new.settle(9.0)?;
    let alerts = hark.wait_for_alerts(3)?;
    assert_eq!(alerts[2]["sensor"], "press-2", "{alerts:?}");
    hark.terminate()?.summary()?;
    Ok(())
}
