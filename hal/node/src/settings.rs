//! What a node is told at its start: `name=pump-1 seed=7 fault=imbalance@20s`.
//!
//! A word without `=` is passed over (an emulator puts the program's name
//! first). A wrong word is told and passed over: a node that does not start
//! helps nobody.

use alloc::vec::Vec;
use core::fmt;

use hark_rig::{EventParseError, FAULTS_MAX, FaultEvent, PERIOD_MS_MAX, PERIOD_MS_MIN};
use hark_wire::NAME_MAX;
use heapless::String;

/// Twenty seconds of health and twenty of imbalance, over and over: whoever
/// joins sees both within a minute.
const FAULT_DEFAULT: &str = "imbalance@20s+20s/40s";

/// What to play, and under which name.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `name`: the node's name.
    pub name: String<NAME_MAX, u8>,
    /// `seed`: everything random of the machine comes from it.
    pub seed: u64,
    /// `period_ms`: time between two readings.
    pub period_ms: u32,
    /// `fault`, once for each, as `hark simulate` takes them; `none`: healthy
    /// for good.
    pub faults: Vec<FaultEvent>,
}

/// A word that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum WrongSetting<'a> {
    /// No such key.
    Key(&'a str),
    /// The value does not fit its key.
    Value(&'a str),
    /// The fault is none.
    Fault(EventParseError),
}

impl fmt::Display for WrongSetting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(
                f,
                "no setting '{key}': there are name, seed, period_ms and fault"
            ),
            Self::Value(word) => write!(f, "'{word}' is out of range or no number"),
            Self::Fault(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WrongSetting<'_> {}

impl Settings {
    /// Reads `text`, and tells `wrong` of each word that cannot be used.
    pub fn parse<'a>(text: &'a str, mut wrong: impl FnMut(WrongSetting<'a>)) -> Self {
        let mut settings = Self {
            name: "pump-1".try_into().expect("it is short"),
            seed: 1,
            period_ms: 100,
            faults: Vec::new(),
        };
        let mut says_fault = false;
        for word in text.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            says_fault |= key == "fault";
            if let Err(error) = settings.set(word, key, value) {
                wrong(error);
            }
        }
        if !says_fault {
            let fault = FAULT_DEFAULT.parse().expect("it is a fault");
            settings.faults.push(fault);
        }
        settings
    }

    fn set<'a>(
        &mut self,
        word: &'a str,
        key: &'a str,
        value: &str,
    ) -> Result<(), WrongSetting<'a>> {
        let misfit = WrongSetting::Value(word);
        match key {
            "name" => {
                let name = String::try_from(value).ok().filter(|name| !name.is_empty());
                self.name = name.ok_or(misfit)?;
            }
            "seed" => self.seed = value.parse().map_err(|_| misfit)?,
            "period_ms" => {
                let period_ms = value.parse().ok();
                let period_ms = period_ms.filter(|ms| (PERIOD_MS_MIN..=PERIOD_MS_MAX).contains(ms));
                self.period_ms = period_ms.ok_or(misfit)?;
            }
            "fault" if value == "none" => self.faults.clear(),
            "fault" if self.faults.len() == FAULTS_MAX => return Err(misfit),
            "fault" => self
                .faults
                .push(value.parse().map_err(WrongSetting::Fault)?),
            _ => return Err(WrongSetting::Key(key)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, seed: u64, period_ms: u32, faults: &[&str], wrong: usize) {
        let mut found = Vec::new();
        let settings = Settings::parse(text, |error| found.push(error.to_string()));
        let expected = Settings {
            name: name.try_into().unwrap(),
            seed,
            period_ms,
            faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        };
        assert_eq!(settings, expected, "{text}");
        assert_eq!(found.len(), wrong, "{text}: {found:?}");
    }

    #[test]
    fn settings_have_defaults_and_what_is_wrong_changes_nothing() {
        let faults = [FAULT_DEFAULT];
        check("", "pump-1", 1, 100, &faults, 0);
        check("/path/hark-node seed=7", "pump-1", 7, 100, &faults, 0);
        check("name=press-2 fault=none", "press-2", 1, 100, &[], 0);
        check(
            "fault=dropout@1s fault=outer_race@2s:0.5",
            "pump-1",
            1,
            100,
            &["dropout@1s", "outer_race@2s:0.5"],
            0,
        );
        check("period_ms=50", "pump-1", 1, 50, &faults, 0);
        check("period_ms=9", "pump-1", 1, 100, &faults, 1);
        check("seed=x name= speed=3", "pump-1", 1, 100, &faults, 3);
        check("fault=fire@1s", "pump-1", 1, 100, &[], 1);
        let long = "name=".to_owned() + &"n".repeat(NAME_MAX + 1);
        check(&long, "pump-1", 1, 100, &faults, 1);
    }
}
