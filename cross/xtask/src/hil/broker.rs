//! A real mosquitto on this host, and a subscriber that misses nothing.
//!
//! The subscriber is mosquitto's own client, not hark's, with a session that
//! the broker keeps; what it hears is appended to `mqtt.log`, a message a line:
//! its topic, `retained` or `live`, and its payload.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::hil::child::Process;
use crate::hil::wait;
use crate::process::find_program;

/// Everything that hark says, whatever the device is called.
const TOPICS: &str = "hark/v1/#";

/// One message of `mqtt.log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The part of the topic after the device: `alert/pump-1`.
    pub(crate) topic: String,
    /// Whether the broker kept it from before the subscription.
    pub(crate) is_retained: bool,
    pub(crate) payload: String,
}

/// A broker and its subscriber.
pub(crate) struct Broker {
    broker: Process,
    /// Held because it ends when dropped.
    _subscriber: Process,
    folder: PathBuf,
    port: u16,
}

impl Broker {
    /// Starts both on a free port; `is_open` lets other hosts in.
    pub(crate) fn start(folder: &Path, is_open: bool) -> Result<Self> {
        let port = free_port()?;
        let address = if is_open { "0.0.0.0" } else { "127.0.0.1" };
        // Saved at each change, so that the subscriber's session outlives a killed
        // broker. Started as root, mosquitto would leave that user and then
        // could not write beside the logs.
        let config = format!(
            "listener {port} {address}\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n",
            folder.display()
        );
        fs::write(folder.join("mosquitto.conf"), config).context("writing mosquitto.conf")?;
        let broker = start_broker(folder, port)?;
        let subscriber = start_subscriber(folder, port)?;
        Ok(Self {
            broker,
            _subscriber: subscriber,
            folder: folder.to_owned(),
            port,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills the broker.
    pub(crate) fn kill(&mut self) {
        self.broker.kill();
    }

    /// Starts it again, on its old port.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.broker = start_broker(&self.folder, self.port)?;
        Ok(())
    }

    /// Every message so far, in the order of arrival.
    pub(crate) fn messages(&self) -> Result<Vec<Message>> {
        let log = fs::read(self.folder.join("mqtt.log")).context("reading mqtt.log")?;
        let log = String::from_utf8_lossy(&log);
        // A last line without its end is still being written.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        Ok(complete.lines().filter_map(parse).collect())
    }

    /// How many messages there are: what is later has come since.
    pub(crate) fn mark(&self) -> Result<usize> {
        Ok(self.messages()?.len())
    }

    /// Waits for a message that came after `mark` and that `is_it` takes.
    pub(crate) fn wait(
        &self,
        mark: usize,
        what: &str,
        is_it: impl Fn(&Message) -> bool,
    ) -> Result<Message> {
        wait::until(what, || {
            let messages = self.messages()?;
            Ok(messages.into_iter().skip(mark).find(&is_it))
        })
    }
}

fn start_broker(folder: &Path, port: u16) -> Result<Process> {
    let mosquitto = find_program("mosquitto").context("`mosquitto` is not installed")?;
    let config = folder.join("mosquitto.conf");
    let args = [OsString::from("-c"), config.into()];
    let mut broker = Process::start(&mosquitto, &args, &folder.join("mosquitto.log"))?;
    wait::until("mosquitto to listen", || {
        broker.check_running()?;
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
    })?;
    Ok(broker)
}

fn start_subscriber(folder: &Path, port: u16) -> Result<Process> {
    let client = find_program("mosquitto_sub").context("`mosquitto_sub` is not installed")?;
    let port = port.to_string();
    let args = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        TOPICS,
        "-q",
        "1",
        "-V",
        "5",
        "-i",
        "hil-subscriber",
        "-c",
        "-x",
        "3600",
        "-F",
        "%t %r %p",
    ];
    Process::start(&client, &args, &folder.join("mqtt.log"))
}

/// A line like `hark/v1/hil/alert/pump-1 0 {…}`.
fn parse(line: &str) -> Option<Message> {
    let (topic, rest) = line.split_once(' ')?;
    let (retained, payload) = rest.split_once(' ')?;
    let topic = topic.strip_prefix("hark/v1/")?.split_once('/')?.1;
    Some(Message {
        topic: topic.to_owned(),
        is_retained: retained == "1",
        payload: payload.to_owned(),
    })
}

/// A port that nobody listened at a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    Ok(listener.local_addr().context("asking for the port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_topic_without_its_device_a_flag_and_a_payload() {
        let message = parse(r#"hark/v1/hil/alert/pump-1 1 {"state": "raised"}"#);
        let message = message.expect("a message");
        assert_eq!(message.topic, "alert/pump-1");
        assert!(message.is_retained);
        assert_eq!(message.payload, r#"{"state": "raised"}"#);
        assert_eq!(parse("Connection Refused: not authorised."), None);
    }
}
