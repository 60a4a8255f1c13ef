//! A shell at the end of a Unix socket, one command at a time.
//!
//! The shell reads one line, runs it and prints; this side appends a line of
//! its own to every command, which carries a number that no earlier command
//! had and the exit status. What comes before it is the output.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longest wait for a command to end. What takes longer runs in the background
/// and is looked for.
const LIMIT: Duration = Duration::from_secs(30);
/// The first words of a booting shell may be lost; the next try comes soon.
const SILENCE_AT_START: Duration = Duration::from_secs(2);
/// More than any command of a scenario prints.
const OUTPUT_MAX: usize = 4 << 20;

/// The socket, connected at the first command.
pub(crate) struct Console {
    socket: PathBuf,
    stream: Option<UnixStream>,
    commands: u64,
    has_answered: bool,
}

impl Console {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            stream: None,
            commands: 0,
            has_answered: false,
        }
    }

    /// Runs one line and returns what it printed, trimmed.
    ///
    /// # Errors
    /// If nobody answers, or it exits with another status than 0: then with
    /// what it printed.
    pub(crate) fn run(&mut self, line: &str) -> Result<String> {
        ensure!(!line.contains('\n'), "one line at a time: {line}");
        self.commands += 1;
        let end = format!("@@end{}:", self.commands);
        // Two pieces, so that an echo of the command is not taken for its end.
        let request = format!("({line}); echo \"@@\"end{}:$?\n", self.commands);
        let printed = self.converse(&request, &end);
        if printed.is_err() {
            // A shell that was reset has forgotten what was asked.
            self.stream = None;
            self.has_answered = false;
        }
        let printed = printed.with_context(|| format!("running `{line}`"))?;
        self.has_answered = true;
        let (text, status) = printed;
        ensure!(status == 0, "`{line}` exited with {status}: {text}");
        Ok(text)
    }

    fn converse(&mut self, request: &str, end: &str) -> Result<(String, i32)> {
        let limit = if self.has_answered {
            LIMIT
        } else {
            SILENCE_AT_START
        };
        let deadline = Instant::now() + limit;
        if self.stream.is_none() {
            self.stream = Some(UnixStream::connect(&self.socket).context("connecting")?);
        }
        let stream = self.stream.as_mut().expect("connected above");
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .context("limiting the wait")?;
        stream.write_all(request.as_bytes()).context("writing")?;
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the console is closed"),
                Ok(length) => heard.extend_from_slice(&buffer[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("reading"),
            }
            if let Some(answer) = parse(&String::from_utf8_lossy(&heard), end) {
                return Ok(answer);
            }
            ensure!(heard.len() <= OUTPUT_MAX, "it prints without an end");
            ensure!(
                Instant::now() < deadline,
                "no answer within {} s",
                limit.as_secs()
            );
        }
    }
}

/// What was printed before `end`, and the status after it.
fn parse(heard: &str, end: &str) -> Option<(String, i32)> {
    let (printed, rest) = heard.split_once(end)?;
    let (status, _) = rest.split_once('\n')?;
    // What an earlier command printed late ends with its own mark.
    let printed = match printed.rfind("@@end") {
        Some(earlier) => printed[earlier..].split_once('\n')?.1,
        None => printed,
    };
    let printed = printed.replace('\r', "").trim().to_owned();
    Some((printed, status.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(heard: &str, expected: Option<(&str, i32)>) {
        let expected = expected.map(|(text, status)| (text.to_owned(), status));
        assert_eq!(parse(heard, "@@end7:"), expected);
    }

    #[test]
    fn the_output_is_what_comes_before_the_commands_own_mark() {
        check("ttyUSB0\r\n@@end7:0\r\n", Some(("ttyUSB0", 0)));
        check("@@end7:1\n", Some(("", 1)));
        check("late\n@@end6:0\nnow\n@@end7:0\n", Some(("now", 0)));
    }

    #[test]
    fn without_a_complete_mark_there_is_no_output_yet() {
        check("ttyUSB0\r\n", None);
        check("ttyUSB0\r\n@@end7:", None);
        check("ttyUSB0\r\n@@end7:1", None);
    }
}
