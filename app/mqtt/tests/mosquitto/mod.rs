//! The house's mosquitto, for tests that need not fail where there is none.

#![allow(dead_code, reason = "each test file uses a part")]

use hark_mosquitto::{Mosquitto as Broker, Settings};

pub(crate) struct Mosquitto(Broker);

impl Mosquitto {
    /// A broker with these lines in its configuration, or nothing, loudly, if
    /// there is no mosquitto on this machine.
    pub(crate) fn start(lines: &str) -> Option<Self> {
        Self::start_with(&Settings {
            lines,
            ..Settings::default()
        })
    }

    /// A broker that knows one user.
    pub(crate) fn start_with_login(user: &str, password: &str) -> Option<Self> {
        Self::start_with(&Settings {
            login: Some((user, password)),
            ..Settings::default()
        })
    }

    fn start_with(settings: &Settings) -> Option<Self> {
        Broker::start_or_skip(settings).unwrap().map(Self)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    /// Ends the broker as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Starts it again, on the same port.
    pub(crate) fn restart(&mut self) {
        self.0.restart_on_same_port().unwrap();
    }
}
