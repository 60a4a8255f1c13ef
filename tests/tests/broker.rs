//! The support crate itself, against the broker that it starts.

use std::time::Duration;

use anyhow::Result;
use hark_tests::{Message, Mosquitto, Persistence, wait_until};

/// Generous: a machine busy with other builds must not fail a test.
const LIMIT: Duration = Duration::from_secs(20);

fn message(topic: &str, payload: &str, is_retained: bool) -> Message {
    Message {
        is_retained,
        topic: topic.to_owned(),
        payload: payload.as_bytes().to_vec(),
    }
}

#[test]
fn what_is_published_arrives_in_order_at_whoever_subscribed() -> Result<()> {
    let broker = Mosquitto::start()?;
    let all = broker.subscribe("#")?;
    let one = broker.subscribe("sensors/pump-1")?;
    broker.publish("sensors/pump-1", r#"{"accel_mg": 12}"#)?;
    broker.publish("sensors/pump 2", "")?;
    broker.publish("lines", "one\ntwo é")?;

    let first = message("sensors/pump-1", r#"{"accel_mg": 12}"#, false);
    assert_eq!(all.next(LIMIT)?, first);
    assert_eq!(all.next(LIMIT)?, message("sensors/pump 2", "", false));
    assert_eq!(all.next(LIMIT)?, message("lines", "one\ntwo é", false));
    assert_eq!(one.next(LIMIT)?, first);
    one.expect_silence(Duration::from_millis(100))
}

#[test]
fn a_retained_message_reaches_a_later_subscription_and_says_so() -> Result<()> {
    let broker = Mosquitto::start()?;
    broker.publish_retained("status", "online")?;
    let status = broker.subscribe("status")?;
    assert_eq!(status.next(LIMIT)?, message("status", "online", true));
    broker.publish("status", "noise")?;
    broker.publish("status", "offline")?;
    let offline = status.find(LIMIT, |message| message.payload == b"offline")?;
    assert!(!offline.is_retained);
    Ok(())
}

#[test]
fn two_brokers_at_once_do_not_hear_each_other() -> Result<()> {
    let (one, other) = (Mosquitto::start()?, Mosquitto::start()?);
    assert_ne!(one.port(), other.port());
    let heard = other.subscribe("#")?;
    one.publish("a", "b")?;
    heard.expect_silence(Duration::from_millis(100))
}

fn check_restart(persistence: Persistence, crash: bool, is_kept: bool) -> Result<()> {
    let mut broker = Mosquitto::start_with(persistence)?;
    let url = broker.url();
    broker.publish_retained("status", "online")?;
    if crash {
        broker.kill()?;
    } else {
        broker.stop()?;
    }
    assert!(broker.publish("status", "lost").is_err());
    broker.restart_on_same_port()?;
    assert_eq!(broker.url(), url);

    let status = broker.subscribe("status")?;
    if is_kept {
        assert_eq!(status.next(LIMIT)?, message("status", "online", true));
    }
    status.expect_silence(Duration::from_millis(100))
}

#[test]
fn a_restart_keeps_the_port_and_with_persistence_the_state() -> Result<()> {
    check_restart(Persistence::Off, false, false)?;
    check_restart(Persistence::Off, true, false)?;
    check_restart(Persistence::On, false, true)
}

#[test]
fn a_subscription_survives_a_restart_of_the_broker() -> Result<()> {
    let mut broker = Mosquitto::start()?;
    let heard = broker.subscribe("a")?;
    broker.stop()?;
    broker.restart_on_same_port()?;
    let seen = wait_until(LIMIT, "the client to come back", || {
        broker.publish("a", "again").ok()?;
        heard.next(Duration::from_millis(200)).ok()
    })?;
    assert_eq!(seen.text()?, "again");
    Ok(())
}

#[test]
fn stopping_or_starting_twice_is_an_error() -> Result<()> {
    let mut broker = Mosquitto::start()?;
    assert!(broker.restart_on_same_port().is_err());
    broker.stop()?;
    assert!(broker.stop().is_err());
    assert!(broker.kill().is_err());
    Ok(())
}

#[test]
fn waiting_in_vain_names_what_was_waited_for() {
    let mut looks = 0;
    let error = wait_until(Duration::ZERO, "a miracle", || {
        looks += 1;
        None::<()>
    });
    let text = error.expect_err("no miracle happened").to_string();
    assert_eq!(text, "waited 0ns in vain for a miracle");
    assert_eq!(looks, 1);
}
