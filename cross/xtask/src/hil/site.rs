//! The configuration of the gateway under test.

use std::fmt::Write;

/// What differs between the kinds of gateways.
#[derive(Default)]
pub(crate) struct Site {
    /// The configuration that it builds on; "" = the built-in defaults.
    pub(crate) inherit: String,
    /// The gateway's serial port.
    pub(crate) port: String,
    /// The broker as the gateway reaches it.
    pub(crate) broker_host: String,
    pub(crate) broker_port: u16,
    /// Where the node's ELF lies on the gateway; "" = not there.
    pub(crate) node_elf: String,
    /// The chip, and the lines of the alarm output and of the heartbeat.
    pub(crate) gpio: Option<(String, u32, u32)>,
    /// The watchdog device.
    pub(crate) watchdog: Option<String>,
}

/// The time without progress until a reset, seconds. Longer than a loaded host
/// keeps an emulated core waiting, short enough not to be waited for in vain.
pub(crate) const WATCHDOG_S: u64 = 10;

impl Site {
    /// `hark.toml`: one serial line with a node, and every verdict published.
    pub(crate) fn to_toml(&self) -> String {
        let Self {
            port,
            broker_host,
            broker_port,
            node_elf,
            ..
        } = self;
        let mut toml = String::new();
        if !self.inherit.is_empty() {
            toml = format!("inherit = \"{}\"\n\n", self.inherit);
        }
        write!(
            toml,
            r#"[device]
name = "hil"
data_dir = "/var/lib/hark"
# An emulated core takes its time; what is tested here is what happens, not how fast.
deadline_ms = 2000.0

[mqtt]
host = "{broker_host}"
port = {broker_port}
verdicts = true
keep_alive_s = 5

[[sources]]
name = "line-1"
kind = "serial"
port = "{port}"
format = "wire"
"#
        )
        .expect("a String takes everything");
        if !node_elf.is_empty() {
            writeln!(toml, "elf = \"{node_elf}\"").expect("a String takes everything");
        }
        if let Some((chip, alarm, heartbeat)) = &self.gpio {
            write!(
                toml,
                "\n[gpio]\nchip = \"{chip}\"\nalarm_line = {alarm}\nheartbeat_line = {heartbeat}\n"
            )
            .expect("a String takes everything");
        }
        if let Some(device) = &self.watchdog {
            write!(
                toml,
                "\n[watchdog]\ndevice = \"{device}\"\ntimeout_s = {WATCHDOG_S}\nstall_s = 5\n"
            )
            .expect("a String takes everything");
        }
        toml
    }
}
