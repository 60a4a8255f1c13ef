//! Outputs of the board by the GPIO character device: an alarm, a heartbeat.
//!
//! An [`Output`] has the level that its owner last gave it, from the moment in
//! which it is opened. When it is dropped or its process dies, the kernel frees
//! the line, and what level it has then is the driver's own: most leave it as it
//! was, some make it an input again. So wire an alarm that must not be missed
//! for the level of a dead gateway: active low, with a pull-down, held high while
//! all is well.

use crate::board::Board;
use gpiocdev::line::Value;
use gpiocdev::{Chip, Request};
use std::path::{Path, PathBuf};

/// Who uses the line, as `gpioinfo` shows it.
const CONSUMER: &str = "hark";

/// The most lines that a message names: it is for a person.
const LINES_NAMED_MAX: u32 = 64;

/// What went wrong with an output, by what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum GpioError {
    /// No chip has this path or label.
    #[error("no GPIO chip {chip:?}; {}", listed(available))]
    NoChip {
        /// The chip that was named.
        chip: String,
        /// The chips that there are, see [`gpio_chips`].
        available: Vec<String>,
    },
    /// The chip has fewer lines.
    #[error("GPIO chip {chip} has no line {line}; it has {lines}")]
    NoLine {
        /// The chip.
        chip: String,
        /// The line that was named.
        line: u32,
        /// The lines that there are.
        lines: String,
    },
    /// Another program or a driver has the line.
    #[error("line {line} of GPIO chip {chip} is in use by {consumer:?}; the chip has {lines}")]
    Busy {
        /// The chip.
        chip: String,
        /// The line.
        line: u32,
        /// Who has it.
        consumer: String,
        /// The lines that there are.
        lines: String,
    },
    /// Anything else: a permission, for one.
    #[error("cannot use GPIO {what}: {cause}")]
    Io {
        /// The chip, and its line if one is meant.
        what: String,
        /// What the system says.
        cause: gpiocdev::Error,
    },
}

/// Which line of which chip, and what its levels mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// The chip's device, such as `/dev/gpiochip0`; its label; or the name of the
    /// device that it belongs to, such as `4804c000.gpio`, see [`gpio_owner`].
    pub chip: String,
    /// The line's offset on the chip.
    pub line: u32,
    /// Whether the line is low while it is active.
    pub is_active_low: bool,
}

/// A line that is an output.
#[derive(Debug)]
pub struct Output {
    request: Request,
    /// For messages.
    name: String,
}

impl Output {
    /// Makes the line an output, active at once or not.
    ///
    /// # Errors
    /// [`GpioError`]; it names the chips, or the chip's lines, that there are.
    pub fn open(settings: &OutputSettings, is_active: bool) -> Result<Self, GpioError> {
        let chip = find_chip(&settings.chip)?;
        let (line, name) = (settings.line, settings.chip.clone());
        let failed = |cause| GpioError::Io {
            what: name.clone(),
            cause,
        };
        let lines = chip.info().map_err(failed)?.num_lines;
        if line >= lines {
            return Err(GpioError::NoLine {
                lines: describe_lines(&chip, lines),
                chip: settings.chip.clone(),
                line,
            });
        }
        let name = format!("{} line {line}", settings.chip);
        let failed = |cause| GpioError::Io {
            what: name.clone(),
            cause,
        };
        let known = chip.line_info(line).map_err(failed)?;
        if known.used {
            return Err(GpioError::Busy {
                lines: describe_lines(&chip, lines),
                chip: settings.chip.clone(),
                line,
                consumer: known.consumer,
            });
        }
        let mut builder = Request::builder();
        builder
            .on_chip(chip.path())
            .with_consumer(CONSUMER)
            .with_line(line)
            .as_output(Value::from(is_active));
        if settings.is_active_low {
            builder.as_active_low();
        }
        let request = builder.request().map_err(failed)?;
        Ok(Self { request, name })
    }

    /// Gives the line a level.
    ///
    /// # Errors
    /// [`GpioError::Io`].
    pub fn set(&self, is_active: bool) -> Result<(), GpioError> {
        let set = self.request.set_lone_value(Value::from(is_active));
        set.map_err(|cause| GpioError::Io {
            what: self.name.clone(),
            cause,
        })
    }
}

/// The chips of this machine, as in `/dev/gpiochip0 (pinctrl-bcm2711, 58 lines)`.
pub fn gpio_chips() -> Vec<String> {
    let describe = |path: PathBuf| {
        let known = Chip::from_path(&path).and_then(|chip| chip.info());
        match known {
            Ok(info) => {
                let owner = gpio_owner(&path).filter(|owner| *owner != info.label);
                let owner = owner.map_or_else(String::new, |owner| format!(", {owner}"));
                format!(
                    "{} ({}{owner}, {} lines)",
                    path.display(),
                    info.label,
                    info.num_lines
                )
            }
            Err(error) => format!("{} ({error})", path.display()),
        }
    };
    paths().into_iter().map(describe).collect()
}

/// The device that a chip belongs to, by the kernel's name of it: its address
/// and kind, such as `4804c000.gpio`. Unlike number and label it does not depend
/// on the order in which chips are found.
pub fn gpio_owner(chip: &Path) -> Option<String> {
    let link = Path::new("/sys/bus/gpio/devices").join(chip.file_name()?);
    let owner = std::fs::canonicalize(link).ok()?;
    Some(owner.parent()?.file_name()?.to_string_lossy().into_owned())
}

fn paths() -> Vec<PathBuf> {
    gpiocdev::chip::chips().unwrap_or_default()
}

/// The chip at a path, or the first one that is called so.
fn find_chip(name: &str) -> Result<Chip, GpioError> {
    let path = if name.starts_with('/') {
        Some(name.to_owned())
    } else {
        let mut chips = Board::this().gpio_chips().into_iter();
        let chip = chips.find(|chip| chip.is_called(name));
        chip.map(|chip| chip.path)
    };
    let found = path.and_then(|path| Chip::from_path(Path::new(&path)).ok());
    found.ok_or_else(|| GpioError::NoChip {
        chip: name.to_owned(),
        available: gpio_chips(),
    })
}

/// As in `lines 0 to 2: 0 "ID_SDA", 1, 2 "BUTTON" (used by gpio-keys)`.
fn describe_lines(chip: &Chip, lines: u32) -> String {
    let describe = |offset| {
        let Ok(info) = chip.line_info(offset) else {
            return offset.to_string();
        };
        let name = match info.name.as_str() {
            "" => String::new(),
            name => format!(" {name:?}"),
        };
        match (info.used, info.consumer) {
            (false, _) => format!("{offset}{name}"),
            (true, consumer) => format!("{offset}{name} (used by {consumer:?})"),
        }
    };
    let shown: Vec<String> = (0..lines.min(LINES_NAMED_MAX)).map(describe).collect();
    let more = if lines > LINES_NAMED_MAX { ", …" } else { "" };
    format!(
        "lines 0 to {}: {}{more}",
        lines.saturating_sub(1),
        shown.join(", ")
    )
}

fn listed(available: &[String]) -> String {
    if available.is_empty() {
        "this machine has none, or this user may open none".to_owned()
    } else {
        format!("there are: {}", available.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_is_not_there_is_named_with_those_that_are() {
        for chip in ["/dev/gpiochip99", "no-such-label", "/dev/null"] {
            let settings = OutputSettings {
                chip: chip.to_owned(),
                line: 0,
                is_active_low: false,
            };
            let said = Output::open(&settings, false).unwrap_err().to_string();
            assert!(said.contains(&format!("{chip:?}")), "{said}");
            let expected = listed(&gpio_chips());
            assert!(said.ends_with(&expected), "{said}");
        }
    }
}
