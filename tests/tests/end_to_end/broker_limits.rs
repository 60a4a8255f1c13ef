//! Brokers that refuse, and settings at the edges of what is allowed.

use anyhow::Result;
use hark_tests::{Mosquitto, Settings};

use crate::hark::{Site, count};
use crate::{LIMIT, bundle};

#[test]
fn a_source_of_seventeen_topics_connects() -> Result<()> {
    let broker = Mosquitto::start()?;
    let topics: Vec<_> = (0..17)
        .map(|index| format!("\"plant-{index}/{{sensor}}\""))
        .collect();
    let topics = topics.join(", ");
    let source = format!("[[sources]]\nname = \"many\"\nkind = \"mqtt\"\ntopics = [{topics}]\n");
    let site = Site::at(&broker, &source)?;
    let hark = site.run()?;
    hark.wait_for_link("many")?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "sources.many.connects"), 1);
    Ok(())
}

#[test]
fn the_shortest_keep_alives_work() -> Result<()> {
    for keep_alive_s in [1, 2, 4] {
        let broker = Mosquitto::start()?;
        let heard = broker.subscribe("hark/v1/gateway/status")?;
        let port = broker.port();
        let mqtt = format!("[mqtt]\nport = {port}\nkeep_alive_s = {keep_alive_s}\n");
        let site = Site::with(&mqtt, SOURCE)?;
        let hark = site.run()?;
        hark.wait_for_link("bench")?;
        heard.find(LIMIT, |message| {
            message.text().is_ok_and(|text| text.contains("online"))
        })?;
        let ended = hark.terminate()?;
        let summary = ended.summary()?;
        assert_eq!(count(&summary, "outputs.connects"), 1, "{}", ended.stderr);
        heard.find(LIMIT, |message| {
            message.text().is_ok_and(|text| text.contains("stopped"))
        })?;
    }
    Ok(())
}

const SOURCE: &str =
    "[[sources]]\nname = \"bench\"\nkind = \"mqtt\"\ntopics = [\"bench/{sensor}\"]\n";

#[test]
fn an_alert_that_the_broker_refuses_is_counted_and_named() -> Result<()> {
    let rights = tempfile::NamedTempFile::new()?;
    let lines = "topic read #\ntopic write bench/#\ntopic write hark/v1/gateway/status\n";
    std::fs::write(rights.path(), lines)?;
    let lines = format!("acl_file {}", rights.path().display());
    let broker = Mosquitto::start_configured(&Settings {
        lines: &lines,
        ..Settings::default()
    })?;
    let site = Site::at(&broker, SOURCE)?;
    let hark = site.run()?;
    hark.wait_for_link("bench")?;
    for seq in 0..crate::node::ENOUGH {
        let level = bundle::HIGH;
        let json = format!(r#"{{"seq":{seq},"level":{level},"flow":0}}"#);
        broker.publish("bench/press", &json)?;
    }
    hark.wait_for_alerts(1)?;
    let line = hark.wait_for_stderr("refuses hark/v1/gateway/alert/press")?;
    assert!(line.contains("this client is not authorized"), "{line}");
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_refused"), 1, "{summary}");
    assert_eq!(count(&summary, "outputs.alerts_published"), 0, "{summary}");
    assert_eq!(count(&summary, "outputs.alerts_waiting"), 0, "{summary}");
    Ok(())
}
