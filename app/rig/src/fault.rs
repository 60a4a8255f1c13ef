//! The faults the rig can have, by name.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// What can be wrong with the machine, its sensors or its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A mass off the impeller's centre: 1× vibration grows, most at the pump.
    Imbalance,
    /// The liquid arrives too hot: vapour bubbles collapse in the impeller. Broadband vibration
    /// at the pump, unsteady flow and pressure, some loss of head.
    Cavitation,
    /// The valve closes: flow falls towards shut, pressure rises towards the shut-off head,
    /// current falls.
    ClosingValve,
    /// A spall on the outer race of the motor's drive-end bearing: impacts at BPFO, some friction
    /// heat.
    OuterRace,
    /// One channel, drawn from the seed, freezes at its last value.
    StuckSensor,
    /// The link loses readings in bursts: they are not sent, and the sequence numbers show the
    /// gap.
    Dropout,
}

impl Fault {
    /// Every fault, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Imbalance,
        Self::Cavitation,
        Self::ClosingValve,
        Self::OuterRace,
        Self::StuckSensor,
        Self::Dropout,
    ];

    /// The name in flags, labels and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imbalance => "imbalance",
            Self::Cavitation => "cavitation",
            Self::ClosingValve => "closing_valve",
            Self::OuterRace => "outer_race",
            Self::StuckSensor => "stuck_sensor",
            Self::Dropout => "dropout",
        }
    }

    /// How long this fault takes to reach its severity unless an event says otherwise, in ms.
    /// Faults of the machine grow, quickly enough to be watched; faults of a sensor or a link
    /// strike at once.
    pub fn ramp_ms(self) -> u64 {
        match self {
            Self::Imbalance | Self::Cavitation | Self::ClosingValve | Self::OuterRace => 5_000,
            Self::StuckSensor | Self::Dropout => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.name() == name)
            .ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

/// The name is no fault's. Displays the valid ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault(pub String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fault::ALL.map(Fault::name).join(", ");
        write!(f, "unknown fault '{}': expected one of {names}", self.0)
    }
}

impl core::error::Error for UnknownFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_the_name_it_displays() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
            assert_eq!(fault as usize, index);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_valid_ones() {
        let error = "outer-race"
            .parse::<Fault>()
            .expect_err("a hyphen is not the name");
        let text = error.to_string();
        assert!(text.contains("'outer-race'"), "{text}");
        assert!(
            Fault::ALL.iter().all(|fault| text.contains(fault.name())),
            "{text}"
        );
    }
}
