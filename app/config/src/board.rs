//! What the board has beside its links: `[gpio]` and `[watchdog]`.

use super::section::Section;
use std::path::PathBuf;
use std::time::Duration;

/// The most lines that a chip is taken to have. The kernel's own chips have a few
/// hundred at most.
const LINE_MAX: i32 = 1023;

/// `[gpio]`: outputs of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioConfig {
    /// The chip's device, such as `/dev/gpiochip0`, or its label. None: no outputs.
    pub chip: Option<String>,
    /// The alarm output: the line's offset on the chip, 0 to 1023.
    pub alarm_line: Option<u32>,
    /// Whether the alarm output is low while it is active.
    pub is_alarm_active_low: bool,
    /// The heartbeat LED: the line's offset on the chip, 0 to 1023.
    pub heartbeat_line: Option<u32>,
}

impl GpioConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let gpio = Self {
            chip: section.text_or_none("chip"),
            alarm_line: read_line(section, "alarm_line"),
            is_alarm_active_low: section.boolean("alarm_active_low"),
            heartbeat_line: read_line(section, "heartbeat_line"),
        };
        for (key, line) in [
            ("alarm_line", gpio.alarm_line),
            ("heartbeat_line", gpio.heartbeat_line),
        ] {
            if line.is_some() && gpio.chip.is_none() && section.is_sound(&["chip", key]) {
                section.wrong(key, "a line needs its `chip`, such as \"/dev/gpiochip0\"");
            }
        }
        if gpio.alarm_line.is_some() && gpio.alarm_line == gpio.heartbeat_line {
            section.wrong("heartbeat_line", "the line is `alarm_line` already");
        }
        gpio
    }
}

fn read_line(section: &mut Section<'_, '_>, key: &'static str) -> Option<u32> {
    u32::try_from(section.integer(key, -1..=LINE_MAX)).ok()
}

/// `[watchdog]`: what resets the board when the pipeline stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogConfig {
    /// The device, such as `/dev/watchdog0`.
    pub device: Option<PathBuf>,
    /// From the last feeding to the reset: 10 s, within which an orderly stop
    /// comes to its end, to an hour.
    pub timeout: Duration,
    /// How long a thread may not pass until it counts as stalled: 3 s to 10
    /// minutes, less than `timeout`.
    pub stall: Duration,
}

impl WatchdogConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        // A read of a file or a line may take a second or two, which is no stall.
        let stall_s = section.integer("stall_s", 3..=600_u64);
        let timeout_s = section.integer("timeout_s", 10..=3600_u64);
        if section.is_sound(&["stall_s", "timeout_s"]) && stall_s >= timeout_s {
            let message = format!(
                "must be below `timeout_s`, {timeout_s}: a stall that the board does not survive \
                 cannot be reported"
            );
            section.wrong("stall_s", message);
        }
        Self {
            device: section.text_or_none("device").map(PathBuf::from),
            timeout: Duration::from_secs(timeout_s),
            stall: Duration::from_secs(stall_s),
        }
    }
}
