//! What an operator asks of running nodes, by `cmd/node` on the broker.
//!
//! A command is a JSON object, `{"id":"7","source":"line-1","period_ms":50,
//! "running":true}`; `period_ms` and `running` stay as they are where absent. It
//! is answered on `reply/<id>`: `{"id":"7","ok":true}` when it is on its way to
//! the line, or `{"id":"7","ok":false,"error":"…"}`. Without an id that fits a
//! topic nobody can be answered, so such a command is only logged.
//!
//! It decides nothing about nodes: their source sends it, and keeps it for each
//! later start of a node, until hark itself starts anew.

use hark_config::check_level;
use hark_serve::NodeRequest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, TrySendError};

/// The longest command: some hundred bytes, and an id.
const COMMAND_BYTES_MAX: usize = 1024;
/// The longest id.
const ID_BYTES_MAX: usize = 64;
/// The longest period that can be asked for, milliseconds: an hour.
const PERIOD_MS_MAX: u32 = 3_600_000;

/// The sources that take commands, and their topics.
pub struct NodeCommands {
    /// `<root>/<device>`.
    root: String,
    sources: BTreeMap<String, SyncSender<NodeRequest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    id: String,
    source: String,
    period_ms: Option<u32>,
    running: Option<bool>,
}

/// The only thing that is wanted of a command that is wrong.
#[derive(Deserialize)]
struct Id {
    id: String,
}

/// An answer to be published.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
}

impl NodeCommands {
    /// Commands under `root` for these sources.
    pub fn new(root: String, sources: BTreeMap<String, SyncSender<NodeRequest>>) -> Self {
        Self { root, sources }
    }

    /// The topic to subscribe to; None if no source takes commands.
    pub fn topic(&self) -> Option<String> {
        (!self.sources.is_empty()).then(|| format!("{}/cmd/node", self.root))
    }

    /// Hands a command over to its source, and says what to answer.
    pub fn handle(&self, payload: &[u8]) -> Option<Reply> {
        if payload.len() > COMMAND_BYTES_MAX {
            let len = payload.len();
            tracing::warn!(
                "a command for a node of {len} bytes, at most {COMMAND_BYTES_MAX} are taken"
            );
            return None;
        }
        let Some(id) = id_of(payload) else {
            tracing::warn!(
                "a command for a node without an `id` of one topic level, at most \
                 {ID_BYTES_MAX} bytes: it is not taken"
            );
            return None;
        };
        let answer = match self.hand_over(payload) {
            Ok(()) => serde_json::json!({ "id": id, "ok": true }),
            Err(error) => serde_json::json!({ "id": id, "ok": false, "error": error }),
        };
        Some(Reply {
            topic: format!("{}/reply/{id}", self.root),
            payload: answer.to_string(),
        })
    }

    fn hand_over(&self, payload: &[u8]) -> Result<(), String> {
        let command: Command =
            serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let period_ms = command.period_ms;
        if period_ms.is_some_and(|period_ms| !(1..=PERIOD_MS_MAX).contains(&period_ms)) {
            return Err(format!("period_ms: must be 1 to {PERIOD_MS_MAX}"));
        }
        let source = self.sources.get(&command.source).ok_or_else(|| {
            let known: Vec<_> = self.sources.keys().map(String::as_str).collect();
            let known = known.join(", ");
            format!(
                "no source `{}` with nodes; there are: {known}",
                command.source
            )
        })?;
        let request = NodeRequest {
            period_ms,
            running: command.running,
        };
        tracing::info!(
            peer = command.source,
            "{}: command {}: {}",
            command.source,
            command.id,
            describe(&request)
        );
        source.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => "too many commands are on their way; try again".to_owned(),
            TrySendError::Disconnected(_) => "the source has ended".to_owned(),
        })
    }
}

/// For the log.
fn describe(request: &NodeRequest) -> String {
    let period = request
        .period_ms
        .map(|ms| format!("a reading each {ms} ms"));
    let running = request
        .running
        .map(|running| if running { "start" } else { "stop" }.to_owned());
    let wishes: Vec<String> = running.into_iter().chain(period).collect();
    if wishes.is_empty() {
        return "nothing to change".to_owned();
    }
    wishes.join(", ")
}

fn id_of(payload: &[u8]) -> Option<String> {
    let Id { id } = serde_json::from_slice(payload).ok()?;
    (id.len() <= ID_BYTES_MAX && check_level(&id).is_ok()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    fn commands() -> (NodeCommands, Receiver<NodeRequest>) {
        let (sender, receiver) = sync_channel(1);
        let sources = [("line-1".to_owned(), sender)].into();
        (
            NodeCommands::new("hark/v1/gateway".to_owned(), sources),
            receiver,
        )
    }

    /// The error that is answered to command `7`, if any; and what its source got.
    fn check(payload: &str, error: Option<&str>, expected: Option<NodeRequest>) {
        let (commands, requests) = commands();
        let reply = commands.handle(payload.as_bytes()).expect("it has an id");
        assert_eq!(reply.topic, "hark/v1/gateway/reply/7");
        let answer: serde_json::Value = serde_json::from_str(&reply.payload).unwrap();
        assert_eq!(answer["id"], "7");
        assert_eq!(answer["ok"], error.is_none(), "{answer}");
        let found = answer["error"].as_str().unwrap_or_default();
        assert!(found.contains(error.unwrap_or_default()), "{answer}");
        assert_eq!(requests.try_recv().ok(), expected, "{payload}");
    }

    #[test]
    fn commands_reach_their_source_and_what_is_wrong_is_answered() {
        let request = |period_ms, running| Some(NodeRequest { period_ms, running });
        let good = r#"{"id":"7","source":"line-1","period_ms":50,"running":false}"#;
        check(good, None, request(Some(50), Some(false)));
        check(r#"{"id":"7","source":"line-1"}"#, None, request(None, None));
        check(
            r#"{"id":"7","source":"line-2"}"#,
            Some("there are: line-1"),
            None,
        );
        check(r#"{"id":"7"}"#, Some("source"), None);
        check(
            r#"{"id":"7","source":"line-1","speed":1}"#,
            Some("speed"),
            None,
        );
        check(
            r#"{"id":"7","source":"line-1","period_ms":0}"#,
            Some("1 to"),
            None,
        );
        check(
            r#"{"id":"7","source":"line-1","period_ms":-1}"#,
            Some("-1"),
            None,
        );
    }

    #[test]
    fn the_log_says_in_words_what_is_asked_for() {
        let describe = |period_ms, running| super::describe(&NodeRequest { period_ms, running });
        assert_eq!(
            describe(Some(40), Some(true)),
            "start, a reading each 40 ms"
        );
        assert_eq!(describe(None, Some(false)), "stop");
        assert_eq!(describe(None, None), "nothing to change");
    }

    #[test]
    fn nobody_is_answered_on_a_topic_that_is_none() {
        let (commands, requests) = commands();
        let long = format!(r#"{{"id":"{}","source":"line-1"}}"#, "7".repeat(65));
        let huge = format!(
            r#"{{"id":"7","source":"{}"}}"#,
            "x".repeat(COMMAND_BYTES_MAX)
        );
        for payload in [
            "",
            "{}",
            r#"{"id":"a/b","source":"line-1"}"#,
            "\u{0}",
            &long,
            &huge,
        ] {
            assert_eq!(commands.handle(payload.as_bytes()), None, "{payload}");
        }
        assert!(requests.try_recv().is_err());
    }

    #[test]
    fn a_source_that_is_behind_is_an_answer() {
        let (commands, _requests) = commands();
        let command = br#"{"id":"7","source":"line-1"}"#;
        assert!(commands.handle(command).unwrap().payload.contains("true"));
        assert!(
            commands
                .handle(command)
                .unwrap()
                .payload
                .contains("try again")
        );
    }
}
