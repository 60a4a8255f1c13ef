//! A client of QEMU's machine protocol (QMP): JSON lines on a Unix socket.
//!
//! Synchronous: a command is sent and its answer awaited; events that arrive
//! meanwhile are kept, so that a test can ask later whether a machine was
//! reset, and by whom. One client for each machine.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Longest wait for an answer; QEMU answers from its main loop, which a loaded
/// host may keep waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A look for events that waits for none.
const LOOK: Duration = Duration::from_millis(1);

/// A connection to one machine.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    /// What has arrived of a line that is not complete yet.
    partial: String,
    events: Vec<String>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    ///
    /// # Errors
    /// If nobody listens at `socket` (yet), or who does speaks no QMP.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
            partial: String::new(),
            events: Vec::new(),
        };
        let greeting = qmp.receive(ANSWER_LIMIT)?.context("QEMU said nothing")?;
        ensure!(greeting.get("QMP").is_some(), "no QMP greeting: {greeting}");
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns what it returns.
    ///
    /// # Errors
    /// Names the command and gives QEMU's reason.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        let mut line = request.to_string();
        line.push('\n');
        let stream = self.reader.get_mut();
        stream
            .write_all(line.as_bytes())
            .with_context(|| format!("asking QEMU to {command}"))?;
        loop {
            let answer = self.receive(ANSWER_LIMIT)?;
            let mut answer = answer.with_context(|| format!("no answer to {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            self.keep_event(&answer);
        }
    }

    /// Executes a command of the human monitor and returns what it prints.
    pub(crate) fn monitor(&mut self, command: &str) -> Result<String> {
        let printed = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(printed.as_str().unwrap_or_default().trim().to_owned())
    }

    /// One word of physical memory, as a device's register is read.
    pub(crate) fn word(&mut self, address: u64) -> Result<u32> {
        let printed = self.monitor(&format!("xp /1wx {address:#x}"))?;
        parse_word(&printed).with_context(|| format!("reading `{printed}` of {address:#x}"))
    }

    /// Names of all events since the connection was made, in order.
    pub(crate) fn events(&mut self) -> Result<&[String]> {
        while let Some(message) = self.receive(LOOK)? {
            self.keep_event(&message);
        }
        Ok(&self.events)
    }

    fn keep_event(&mut self, message: &Value) {
        if let Some(event) = message.get("event").and_then(Value::as_str) {
            self.events.push(event.to_owned());
        }
    }

    /// The next message, or none if none is complete within `limit`.
    fn receive(&mut self, limit: Duration) -> Result<Option<Value>> {
        let stream = self.reader.get_ref();
        stream
            .set_read_timeout(Some(limit))
            .context("limiting the wait for QEMU")?;
        match self.reader.read_line(&mut self.partial) {
            Ok(0) => bail!("QEMU closed its monitor"),
            Ok(_) => {
                let line = std::mem::take(&mut self.partial);
                let message = serde_json::from_str(&line);
                message
                    .with_context(|| format!("reading `{}`", line.trim()))
                    .map(Some)
            }
            Err(error) if is_timeout(error.kind()) => Ok(None),
            Err(error) => Err(error).context("reading from QEMU"),
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    // A read with a timeout is not resumed after a signal.
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// The value of `00000000090303fc: 0x00000000`.
fn parse_word(printed: &str) -> Option<u32> {
    let (_, value) = printed.split_once(": 0x")?;
    u32::from_str_radix(value.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_word_is_what_follows_its_address() {
        assert_eq!(parse_word("00000000090303fc: 0x00000108"), Some(0x108));
        assert_eq!(parse_word("Cannot access memory"), None);
    }

    /// Answers one connection with `lines`, one for each request.
    fn serve(lines: &'static [&'static str]) -> Qmp {
        let name = format!("hark-xtask-qmp-{}-{:p}", std::process::id(), lines);
        let socket = std::env::temp_dir().join(name);
        std::fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).expect("a free path");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let mut requests = BufReader::new(stream.try_clone().expect("a second handle"));
            writeln!(stream, r#"{{"QMP": {{}}}}"#).expect("it listens");
            for line in lines {
                let mut request = String::new();
                requests.read_line(&mut request).expect("it asks");
                writeln!(stream, "{line}").expect("it listens");
            }
        });
        let qmp = Qmp::connect(&socket).expect("it greets");
        std::fs::remove_file(&socket).expect("it was bound");
        qmp
    }

    #[test]
    fn events_among_answers_are_kept_in_order() {
        let mut qmp = serve(&[
            r#"{"return": {}}"#,
            "{\"event\": \"WATCHDOG\"}\n{\"event\": \"RESET\"}\n{\"return\": 7}",
        ]);
        assert_eq!(qmp.execute("ask", json!({})).expect("an answer"), 7);
        assert_eq!(qmp.events, ["WATCHDOG", "RESET"]);
    }

    #[test]
    fn a_refusal_names_the_command_and_the_reason() {
        let mut qmp = serve(&[
            r#"{"return": {}}"#,
            r#"{"error": {"class": "DeviceNotFound", "desc": "no usb1"}}"#,
        ]);
        let error = qmp.execute("device_del", json!({})).expect_err("refused");
        let error = error.to_string();
        assert!(error.contains("device_del"), "{error}");
        assert!(error.contains("no usb1"), "{error}");
    }
}
