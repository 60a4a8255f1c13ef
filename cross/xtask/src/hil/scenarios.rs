//! The scenarios: what a gateway must live through.
//!
//! Each is a name, a sentence and a function over a [`Stand`]. It builds on
//! nothing that another one left behind. What it is about is done through
//! [`Stand::cause`], so that `--break` can withhold it: every scenario must then
//! fail, or it would prove nothing.

mod alerts;
mod disk;
mod line;
mod supervision;

use anyhow::{Result, bail};

use crate::hil::gateway::Ability;
use crate::hil::stand::{Boots, Stand};

/// One thing that is proved.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) proves: &'static str,
    /// What the gateway must be able to do.
    pub(crate) needs: &'static [Ability],
    pub(crate) boots: Boots,
    pub(crate) run: fn(&mut Stand) -> Result<()>,
}

/// All of them, the quick ones first.
pub(crate) static SCENARIOS: [Scenario; 13] = [
    Scenario {
        name: "boot",
        proves: "from power-on to the first verdict, with nobody logging in",
        needs: &[],
        boots: Boots::RamDisk,
        run: alerts::boot,
    },
    Scenario {
        name: "alert",
        proves: "a node's fault sets the alarm output and reaches the broker",
        needs: &[],
        boots: Boots::RamDisk,
        run: alerts::alert,
    },
    Scenario {
        name: "broker",
        proves: "an alert raised while the broker is gone arrives when it is back",
        needs: &[],
        boots: Boots::RamDisk,
        run: alerts::broker,
    },
    Scenario {
        name: "node-log",
        proves: "the node's defmt log appears in the gateway's log",
        needs: &[Ability::NodeLog],
        boots: Boots::RamDisk,
        run: line::node_log,
    },
    Scenario {
        name: "noise",
        proves: "a noisy line costs readings, each counted, and nothing else",
        needs: &[],
        boots: Boots::RamDisk,
        run: line::noise,
    },
    Scenario {
        name: "unplug",
        proves: "a serial adapter that is unplugged and comes back is taken up again",
        needs: &[Ability::Unplug],
        boots: Boots::RamDisk,
        run: line::unplug,
    },
    Scenario {
        name: "hang",
        proves: "a model that hangs costs accuracy: fallback verdicts, no reset, and it comes back",
        needs: &[Ability::Watchdog],
        boots: Boots::RamDisk,
        run: supervision::hang,
    },
    Scenario {
        name: "withheld",
        proves: "a model that hangs at every try costs one reset, and is not run again unasked",
        needs: &[Ability::Watchdog],
        boots: Boots::RamDisk,
        run: supervision::withheld,
    },
    Scenario {
        name: "stall",
        proves: "a pipeline that hangs is reset by the watchdog and serves again",
        needs: &[Ability::Watchdog],
        boots: Boots::RamDisk,
        run: supervision::stall,
    },
    Scenario {
        name: "power-cut",
        proves: "after a power cut it boots by itself, and has what it had logged",
        needs: &[],
        boots: Boots::RamDisk,
        run: supervision::power_cut,
    },
    Scenario {
        name: "flash",
        proves: "a disk flashed by flash.sh boots and raises an alert",
        needs: &[Ability::Slots],
        boots: Boots::Image,
        run: disk::flash,
    },
    Scenario {
        name: "update",
        proves: "an update goes to the other slot; a bad one is rolled back by itself",
        needs: &[Ability::Slots],
        boots: Boots::Image,
        run: disk::update,
    },
    Scenario {
        name: "update-cut",
        proves: "a power cut at any moment of an update leaves a system that boots",
        needs: &[Ability::Slots],
        boots: Boots::Image,
        run: disk::update_cut,
    },
];

/// The scenarios that `names` chooses, in the list's order; all for no names.
///
/// # Errors
/// When a name is not in the list.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    for name in names {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario `{name}`; there are: {}", known.join(", "));
        }
    }
    let is_chosen =
        |scenario: &&Scenario| names.is_empty() || names.iter().any(|n| n == scenario.name);
    Ok(SCENARIOS.iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_in_the_lists_order() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let chosen = choose(&names(&["hang", "boot"])).expect("both are there");
        let chosen: Vec<_> = chosen.iter().map(|scenario| scenario.name).collect();
        assert_eq!(chosen, ["boot", "hang"]);
        assert_eq!(choose(&[]).expect("all").len(), SCENARIOS.len());
        let error = choose(&names(&["fire"])).err().expect("there is none");
        assert!(
            error
                .to_string()
                .contains("no scenario `fire`; there are: boot, ")
        );
    }
}
