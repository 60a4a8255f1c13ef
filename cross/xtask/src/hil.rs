//! `cargo xtask hil`: hardware in the loop.
//!
//! Boots a real arm64 kernel with the cross-built hark, wires its serial port
//! to the node's firmware on a second emulated machine and its network to a
//! real broker, and runs the scenarios of `scenarios.rs`. With `--serial` and
//! `--host` the gateway is a real board instead. Each scenario has a folder
//! under `target/hil` with every log; the report says what was done, expected
//! and seen. It refuses to guess: a scenario that a gateway cannot run is
//! skipped with the reason.

mod broker;
pub(crate) mod child;
mod console;
mod gateway;
mod initramfs;
mod node;
mod outcome;
mod report;
mod scenarios;
mod site;
mod stand;
pub(crate) mod wait;
mod wire;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::packages::{self, Package};
use crate::process::target_dir;
use crate::qemu;
use outcome::{Ending, Outcome};
use scenarios::Scenario;
use stand::{Plan, Stand, Target};

/// Two emulated gateways with their nodes are what two cores carry.
const JOBS_MAX: usize = 2;
/// Cuts of the power within one update that are the whole of `update-cut`: some
/// 20 minutes on two cores.
const CUTS: u32 = 20;

const PACKAGES: [Package; 11] = [
    Package {
        name: "qemu-system-arm",
        program: qemu::AARCH64,
        why: "it emulates the gateway and the node",
    },
    Package {
        name: "ipxe-qemu",
        program: "/usr/lib/ipxe/qemu/efi-virtio.rom",
        why: "it is the ROM of the gateway's network interface, without which QEMU does not start",
    },
    Package {
        name: "mosquitto",
        program: "mosquitto",
        why: "alerts go to a real broker",
    },
    Package {
        name: "mosquitto-clients",
        program: "mosquitto_sub",
        why: "alerts are watched with a client that is not ours",
    },
    Package {
        name: "cpio",
        program: "cpio",
        why: "it packs the RAM disk",
    },
    Package {
        name: "kmod",
        program: "modprobe",
        why: "it knows which kernel modules need which",
    },
    Package {
        name: "e2fsprogs",
        program: "mke2fs",
        why: "it makes the data disk",
    },
    Package {
        name: "qemu-utils",
        program: "qemu-img",
        why: "a flashed disk is given a cache that a power cut empties",
    },
    Package {
        name: "openssh-client",
        program: "ssh",
        why: "a gateway that boots a disk is reached by SSH",
    },
    Package {
        name: "openssl",
        program: "openssl",
        why: "flash.sh checks the image's signature",
    },
    Package {
        name: "mtools",
        program: "mcopy",
        why: "flash.sh writes first settings",
    },
];

/// Boot a gateway with a node and a broker, and let it live through trouble
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only these scenarios
    scenario: Vec<String>,
    /// List the scenarios and leave
    #[arg(long)]
    list: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The hark to test, for aarch64-unknown-linux-gnu; by default what `cargo
    /// xtask cross-build` made
    #[arg(long, value_name = "PATH")]
    hark: Option<PathBuf>,
    /// The node's firmware; by default what `cargo xtask firmware` made
    #[arg(long, value_name = "ELF")]
    node: Option<PathBuf>,
    /// Scenarios at a time; they wait more than they compute
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=JOBS_MAX as i64))]
    jobs: u8,
    /// Moments at which the power is cut within an update; fewer are a subset,
    /// and the report says so
    #[arg(long, value_name = "N", default_value_t = CUTS, value_parser = clap::value_parser!(u32).range(2..=1000))]
    cuts: u32,
    /// Test a real board: the serial device of this host that is wired to it
    #[arg(long, value_name = "DEVICE", requires = "host")]
    serial: Option<PathBuf>,
    /// Test a real board: where to reach it by SSH, as root
    #[arg(long, value_name = "USER@HOST", requires = "serial")]
    host: Option<String>,
    /// The board's own name of its serial port
    #[arg(long, value_name = "DEVICE", default_value = "/dev/ttyUSB0")]
    port: String,
    /// Withhold the cause of this scenario, to see that it then fails
    #[arg(long = "break", value_name = "SCENARIO", hide = true)]
    broken: Option<String>,
}

/// Runs the scenarios that `args` chooses.
pub(crate) fn handle(args: &Args) -> Result<()> {
    let chosen = scenarios::choose(&args.scenario)?;
    if args.list {
        for scenario in chosen {
            println!("{:<10} {}", scenario.name, scenario.proves);
        }
        return Ok(());
    }
    if let Some(broken) = &args.broken {
        scenarios::choose(std::slice::from_ref(broken))?;
    }
    packages::install_missing(&PACKAGES.each_ref())?;
    // The working folder changes below, and a path is meant from here.
    let json = args.json.as_ref().map(std::path::absolute);
    let json = json.transpose().context("naming the report")?;
    let run = Run::prepare(args)?;
    let started = Instant::now();
    // A real board is one.
    let jobs = match run.target {
        Target::Real { .. } => 1,
        _ => args.jobs.into(),
    };
    let outcomes = run.all(&chosen, jobs);
    let left_out = left_out(&chosen, args.cuts);
    outcome::summarise(
        &outcomes,
        started.elapsed(),
        left_out.as_deref(),
        json.as_deref(),
    )
}

/// What of the whole the number of cuts leaves out.
fn left_out(chosen: &[&Scenario], cuts: u32) -> Option<String> {
    let is_cut = chosen.iter().any(|scenario| scenario.name == "update-cut");
    (is_cut && cuts < CUTS)
        .then(|| format!("update-cut with {cuts} cuts, the whole is `--cuts {CUTS}`"))
}

/// What all scenarios have in common.
struct Run {
    folder: PathBuf,
    target: Target,
    node: PathBuf,
    broken: Option<String>,
    cuts: u32,
}

impl Run {
    fn prepare(args: &Args) -> Result<Self> {
        let folder = target_dir().join("hil");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        // Sockets are named relative to this folder: see `qemu.rs`.
        let node = given_or_built(
            args.node.as_deref(),
            "firmware/hark-node",
            "cargo xtask firmware",
        )?;
        println!("gateway: {}", qemu::version(qemu::AARCH64)?);
        println!("node: {}", qemu::version(qemu::ARM)?);
        let target = match (&args.serial, &args.host) {
            (Some(line), Some(host)) => Target::Real {
                line: std::path::absolute(line).context("naming the serial device")?,
                host: host.clone(),
                port: args.port.clone(),
            },
            _ => {
                let hark = given_or_built(
                    args.hark.as_deref(),
                    "aarch64-unknown-linux-gnu/shipped/hark",
                    "cargo xtask cross-build --target aarch64-unknown-linux-gnu",
                )?;
                Target::Emulated(initramfs::build(&folder, &hark, &node)?)
            }
        };
        env::set_current_dir(&folder).with_context(|| format!("entering {}", folder.display()))?;
        Ok(Self {
            folder,
            target,
            node,
            broken: args.broken.clone(),
            cuts: args.cuts,
        })
    }

    /// Runs `chosen`, `jobs` at a time; the outcomes are in the order of ends.
    fn all(&self, chosen: &[&'static Scenario], jobs: usize) -> Vec<Outcome> {
        let waiting = Mutex::new(chosen.to_vec());
        let ended = Mutex::new(Vec::new());
        let work = || {
            while let Some(scenario) = next(&waiting) {
                println!("-- {}: {}", scenario.name, scenario.proves);
                let outcome = self.one(scenario);
                ended.lock().expect("no holder panics").push(outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
        ended.into_inner().expect("no holder panics")
    }

    fn one(&self, scenario: &Scenario) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome {
            name: scenario.name,
            proves: scenario.proves,
            end: Ending::Passed,
            took: Duration::ZERO,
            steps: Value::Null,
            machines: Vec::new(),
        };
        let mut text = String::new();
        match self.stand(scenario) {
            Err(error) => outcome.end = Ending::Failed(format!("{error:#}")),
            Ok(mut stand) => {
                let lacking = scenario
                    .needs
                    .iter()
                    .find_map(|need| stand.gateway.lacks(*need));
                outcome.end = match lacking {
                    Some(why) => Ending::Skipped(why.to_owned()),
                    None => match (scenario.run)(&mut stand) {
                        Ok(()) => Ending::Passed,
                        Err(error) => Ending::Failed(format!("{error:#}")),
                    },
                };
                outcome.machines = stand.machines().to_vec();
                outcome.steps = stand.report.to_json();
                text = stand.report.to_text();
            }
        }
        outcome.took = started.elapsed();
        if matches!(outcome.end, Ending::Passed) {
            remove_disks(Path::new(scenario.name));
        }
        outcome.tell(&text, &self.folder);
        outcome
    }

    /// A new stand in the scenario's own folder, relative to the working one.
    fn stand(&self, scenario: &Scenario) -> Result<Stand> {
        let folder = Path::new(scenario.name);
        fs::remove_dir_all(folder).ok();
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let plan = Plan {
            name: scenario.name,
            is_broken: self.broken.as_deref() == Some(scenario.name),
            cuts: self.cuts,
        };
        Stand::new(folder, &self.target, scenario.boots, &self.node, plan)
    }
}

/// The last first: those of the disk take the longest, and another job gets the
/// quick ones done meanwhile.
fn next(waiting: &Mutex<Vec<&'static Scenario>>) -> Option<&'static Scenario> {
    waiting.lock().expect("no holder panics").pop()
}

/// What is large and of no interest once a scenario has passed.
fn remove_disks(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_disk = path
            .extension()
            .is_some_and(|end| end == "img" || end == "qcow2");
        if is_disk || path.is_dir() {
            // What stays is replaced by the next run.
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir_all(&path))
                .ok();
        }
    }
}

fn given_or_built(given: Option<&Path>, built: &str, by: &str) -> Result<PathBuf> {
    let path = given.map_or_else(|| target_dir().join(built), Path::to_owned);
    let absolute = std::path::absolute(&path).context("naming a file")?;
    ensure!(
        absolute.is_file(),
        "{} is not there; `{by}` makes it",
        path.display()
    );
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_fewer_cuts_is_called_a_subset() {
        let all = scenarios::choose(&[]).expect("all");
        assert_eq!(left_out(&all, CUTS), None);
        let told = left_out(&all, 3).expect("17 cuts are missing");
        assert!(told.contains("3 cuts"), "{told}");
        let boot = scenarios::choose(&["boot".to_owned()]).expect("it is there");
        assert_eq!(left_out(&boot, 3), None);
    }
}
