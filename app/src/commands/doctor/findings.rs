//! What `hark doctor` says of a machine: one [`Finding`] for each thing, with
//! what would be right where it is not.
//!
//! A problem is what keeps the configuration from running as it says; a note is
//! what an operator may want to know; everything else is in order.

mod devices;
mod machine;

pub(super) use devices::serial_port;

use super::missing::missing;
use devices::{delegates, gpio, serial, watchdogs};
use hark_config::Config;
use hark_hal::Board;
use machine::{clock, cores, identity, kernel, memory, realtime, storage};
use serde::Serialize;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    Note,
    Problem,
}

/// One thing about the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) topic: &'static str,
    pub(super) state: State,
    pub(super) says: String,
    /// What would be right; none where it is.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(topic: &'static str, says: impl Into<String>) -> Self {
        Self {
            topic,
            state: State::Ok,
            says: says.into(),
            advice: None,
        }
    }

    pub(super) fn note(self, advice: impl Into<String>) -> Self {
        self.worse(State::Note, advice)
    }

    pub(super) fn problem(self, advice: impl Into<String>) -> Self {
        self.worse(State::Problem, advice)
    }

    fn worse(self, state: State, advice: impl Into<String>) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// Everything about `board`, on which `config` is to run.
pub(super) fn findings(config: &Config, board: &Board) -> Vec<Finding> {
    let mut all = vec![identity(board), kernel(config, board), cores(config, board)];
    all.extend(memory(board));
    all.push(realtime(config));
    all.extend(serial(board));
    all.extend(gpio(board));
    all.extend(watchdogs(config, board));
    all.push(storage(config));
    all.push(clock(config));
    all.push(delegates(config, board));
    all.extend(missing(config, board).iter().map(|remark| {
        let advice = match remark.key.as_str() {
            "board.compatible" => "take the file that is for this board",
            _ => "name what is there, or connect what is named",
        };
        Finding::ok("config", remark.to_string()).problem(advice)
    }));
    all
}
