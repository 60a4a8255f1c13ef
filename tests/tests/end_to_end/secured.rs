//! Brokers as they are run: by TLS alone, with certificates of their clients,
//! with passwords and rights, and with files that are renewed under load.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use hark_tests::{Authority, Issued, Mosquitto, Persistence, Settings, Subject, Tls};

use crate::alerts::payload;
use crate::broker_loss::{receive_all, swing_until};
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};
use crate::{LIMIT, bundle};

const SOURCE: &str =
    "[[sources]]\nname = \"bench\"\nkind = \"mqtt\"\ntopics = [\"bench/{sensor}\"]\n";

/// What is not to be seen anywhere.
const PASSWORD: &str = "hunter2-and-more";

/// Sends readings that raise an alert through `broker`, and waits for it.
fn raise(broker: &Mosquitto, hark: &Hark) -> Result<()> {
    hark.wait_for_link("bench")?;
    let heard = broker.subscribe("hark/v1/gateway/alert/press")?;
    for seq in 0..node::ENOUGH {
        let json = format!(r#"{{"seq":{seq},"level":{},"flow":0}}"#, bundle::HIGH);
        broker.publish("bench/press", &json)?;
    }
    let alert = payload(&heard.next(LIMIT)?)?;
    ensure!(alert["state"] == "raised", "{alert}");
    Ok(())
}

/// Copies what `issued` holds into `site` as `hark.pem` and `hark.key`.
fn give(issued: &Issued, site: &Path) -> Result<()> {
    fs::copy(&issued.certificate, site.join("hark.pem"))?;
    fs::copy(&issued.key, site.join("hark.key"))?;
    Ok(())
}

#[test]
fn a_broker_that_takes_nothing_but_tls_is_read_from_and_published_to() -> Result<()> {
    check_secured(false)
}

#[test]
fn a_broker_that_wants_certificates_is_shown_one() -> Result<()> {
    check_secured(true)
}

fn check_secured(wants_certificates: bool) -> Result<()> {
    let house = Authority::new("house")?;
    let own = house.issue("broker", &Subject::default())?;
    let operator = house.issue("operator", &Subject::default())?;
    let broker = Mosquitto::start_configured(&Settings {
        tls: Some(Tls {
            own: &own,
            ca_file: &house.own().certificate,
            client: wants_certificates.then_some(&operator),
        }),
        ..Settings::default()
    })?;
    let identity = if wants_certificates {
        "cert_file = \"hark.pem\"\nkey_file = \"hark.key\"\n"
    } else {
        ""
    };
    let mqtt = format!(
        "[mqtt]\nhost = \"mqtts://localhost:{}\"\nca_file = \"ca.pem\"\nverdicts = true\n{identity}",
        broker.port()
    );
    let site = Site::with(&mqtt, SOURCE)?;
    fs::copy(house.own().certificate, site.path().join("ca.pem"))?;
    give(&house.issue("hark", &Subject::default())?, site.path())?;
    let checked = site.finish(&["check", "--config", "hark.toml"])?;
    ensure!(checked.status.success(), "{}", checked.stderr);
    let hark = site.run()?;
    raise(&broker, &hark)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_waiting"), 0, "{summary}");
    Ok(())
}

#[test]
fn a_certificate_that_will_not_do_is_told_by_hark() -> Result<()> {
    let house = Authority::new("house")?;
    let years = [2000, 2001];
    let own = house.issue(
        "broker",
        &Subject {
            years,
            ..Subject::default()
        },
    )?;
    let broker = Mosquitto::start_configured(&Settings {
        tls: Some(Tls {
            own: &own,
            ca_file: &house.own().certificate,
            client: None,
        }),
        ..Settings::default()
    })?;
    let mqtt = format!(
        "[mqtt]\nhost = \"localhost\"\nport = {}\ntls = true\nca_file = \"ca.pem\"\n",
        broker.port()
    );
    let site = Site::with(&mqtt, SOURCE)?;
    fs::copy(house.own().certificate, site.path().join("ca.pem"))?;
    let hark = site.run()?;
    let said = hark.wait_for_stderr("alerts wait")?;
    ensure!(said.contains("certificate expired at 2001-01-01"), "{said}");
    let down = hark.wait_for_event("the source's link", |event| event["event"] == "link_down")?;
    let why = down["reason"].as_str().unwrap_or_default();
    ensure!(why.contains("certificate expired at 2001-01-01"), "{down}");
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn a_password_comes_from_a_file_a_credential_or_the_environment_and_is_never_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("pw"), format!("{PASSWORD}\n"))?;
    let rights = folder.path().join("rights");
    fs::write(
        &rights,
        "user hark\ntopic readwrite bench/#\ntopic readwrite hark/v1/gateway/#\n\
         topic readwrite hark-tests/#\n",
    )?;
    let broker = Mosquitto::start_configured(&Settings {
        login: Some(("hark", PASSWORD)),
        lines: &format!("acl_file {}", rights.display()),
        ..Settings::default()
    })?;
    let mqtt = format!(
        "[mqtt]\nhost = \"127.0.0.1:{}\"\nusername = \"hark\"\n",
        broker.port()
    );
    let in_folder = folder.path().join("pw").display().to_string();
    let credentials = folder.path().display().to_string();
    let ways = [
        (format!("password_file = \"{in_folder}\"\n"), None),
        (
            "password_file = \"$CREDENTIALS_DIRECTORY/pw\"\n".to_owned(),
            Some(("CREDENTIALS_DIRECTORY", credentials.as_str())),
        ),
        (String::new(), Some(("HARK_MQTT__PASSWORD", PASSWORD))),
    ];
    for (key, variable) in &ways {
        let site = Site::with(&format!("{mqtt}{key}"), SOURCE)?;
        let run = ["run", "--config", "hark.toml", "--json"];
        let variables: Vec<_> = variable.iter().copied().collect();
        let variables = [&variables[..], &[("HARK_LOG", "trace")]].concat();
        let hark = site.start_with(&run, &variables)?;
        raise(&broker, &hark)?;
        let ended = hark.terminate()?;
        check_untold(&site, &[&ended.stdout, &ended.stderr])?;
        ended.summary()?;
        let show = ["check", "--config", "hark.toml", "--show"];
        let shown = site.start_with(&show, &variables)?.wait()?;
        ensure!(shown.status.success(), "{}", shown.stderr);
        check_untold(&site, &[&shown.stdout, &shown.stderr])?;
    }
    let site = Site::with(&mqtt, SOURCE)?;
    let wrong = [("HARK_MQTT__PASSWORD", "something-else")];
    let hark = site.start_with(&["run", "--config", "hark.toml", "--json"], &wrong)?;
    let said = hark.wait_for_stderr("alerts wait")?;
    ensure!(said.contains("refused the connection"), "{said}");
    let ended = hark.terminate()?;
    ensure!(!ended.stderr.contains("something-else"), "{}", ended.stderr);
    Ok(())
}

fn check_untold(site: &Site, told: &[&str]) -> Result<()> {
    let log = fs::read_to_string(site.path().join("data/events.jsonl")).unwrap_or_default();
    for text in told.iter().copied().chain([log.as_str()]) {
        ensure!(!text.contains(PASSWORD), "{text}");
    }
    Ok(())
}

#[test]
fn certificates_that_are_renewed_under_load_lose_no_alert() -> Result<()> {
    let (house, next) = (Authority::new("house")?, Authority::new("next")?);
    let subject = Subject::default();
    // The broker's side, and the operator who listens, know both.
    let both = house.own().certificate.with_file_name("both.pem");
    let text = [&house, &next].map(|authority| fs::read(authority.own().certificate));
    let [first, second] = text;
    fs::write(&both, [first?, second?].concat())?;
    let own = house.issue("broker", &subject)?;
    let operator = house.issue("operator", &subject)?;
    let mut broker = Mosquitto::start_configured(&Settings {
        persistence: Persistence::On,
        tls: Some(Tls {
            own: &own,
            ca_file: &both,
            client: Some(&operator),
        }),
        ..Settings::default()
    })?;
    let heard = broker.subscribe_with_session("hark/v1/+/alert/+", "operator")?;
    let (_folder, link) = node::link()?;
    let mqtt = format!(
        "[mqtt]\nhost = \"mqtts://localhost:{}\"\nca_file = \"ca.pem\"\ncert_file = \"hark.pem\"\n\
         key_file = \"hark.key\"\n",
        broker.port()
    );
    let site = Site::with(&mqtt, &node::source(&link))?;
    let ca_file = site.path().join("ca.pem");
    fs::copy(house.own().certificate, &ca_file)?;
    give(&house.issue("hark", &subject)?, site.path())?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    let mut received = Vec::new();
    swing_until(&mut node, &hark, 4)?;
    receive_all(&heard, &hark, &mut received)?;

    // The broker first: until hark's side is renewed, too, alerts wait.
    next.issue("broker", &subject)?.replace(&own)?;
    broker.stop()?;
    broker.restart_on_same_port()?;
    swing_until(&mut node, &hark, received.len() + 10)?;
    hark.wait_for_stderr("comes from an unknown authority")?;
    // Halfway through, the key does not belong to the certificate.
    let renewed = next.issue("hark", &subject)?;
    fs::copy(&renewed.certificate, site.path().join("hark.pem"))?;
    swing_until(&mut node, &hark, received.len() + 20)?;
    hark.wait_for_stderr("is not the key of the first certificate")?;
    give(&renewed, site.path())?;
    fs::copy(next.own().certificate, &ca_file)?;
    swing_until(&mut node, &hark, received.len() + 30)?;
    receive_all(&heard, &hark, &mut received)?;

    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "readings"), node.readings());
    assert_eq!(count(&summary, "outputs.alerts_dropped"), 0, "{summary}");
    assert_eq!(count(&summary, "outputs.alerts_waiting"), 0, "{summary}");
    assert!(count(&summary, "outputs.connects") >= 2, "{summary}");
    Ok(())
}
