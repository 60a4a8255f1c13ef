//! `cargo xtask firmware`: the sensor node's firmware, from `hal/node`.
//!
//! It is built by the toolchain for its processor, checked for what a gateway
//! needs to read its log, and left at `target/firmware/hark-node`, an ELF file
//! that both a debug probe and QEMU take.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSegment};

use crate::process::{run, target_dir, workspace_root};
use crate::toolchain;

/// A Cortex-M4 or -M7 with FPU.
const TARGET: &str = "thumbv7em-none-eabihf";
const NAME: &str = "hark-node";
/// Where the board's RAM begins (hal/node/mps2-an386.x); flash lies below.
const RAM_ORIGIN: u64 = 0x2000_0000;

/// Build the sensor node's firmware for QEMU's mps2-an386
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Builds the firmware and says where it is and what it takes.
///
/// # Errors
/// If it cannot be built, or lacks the strings of its log.
pub(crate) fn handle(_args: &Args) -> Result<()> {
    let folder = target_dir().join("firmware");
    let mut cargo = toolchain::cargo(TARGET)?;
    cargo
        .current_dir(workspace_root().join("hal/node"))
        .args(["build", "--locked", "--release", "--bin", NAME])
        .args(["--target", TARGET, "--target-dir"])
        .arg(folder.join("build"));
    run(cargo)?;
    let built = folder.join("build").join(TARGET).join("release").join(NAME);
    let elf = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let sizes = Sizes::of(&elf).with_context(|| built.display().to_string())?;
    let firmware = folder.join(NAME);
    // Renamed into place: whoever starts it meanwhile gets a whole one.
    let fresh = folder.join(format!("{NAME}.new"));
    fs::write(&fresh, &elf).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &firmware).with_context(|| format!("writing {}", firmware.display()))?;
    print(&firmware, &sizes);
    Ok(())
}

fn print(firmware: &Path, sizes: &Sizes) {
    let Sizes { flash, ram } = sizes;
    println!(
        "{}: {flash} bytes of flash, {ram} of RAM",
        firmware.display()
    );
    println!(
        "run it: qemu-system-arm -M mps2-an386 -display none -monitor none -serial pty \
         -semihosting -append \"seed=7\" -kernel {}",
        firmware.display()
    );
}

/// What the firmware takes of the board, bytes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    flash: u64,
    /// Without stack.
    ram: u64,
}

impl Sizes {
    /// # Errors
    /// If `elf` is no firmware with a log that can be read.
    fn of(elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf).context("not an ELF file")?;
        let has_log = file
            .sections()
            .any(|section| section.name().is_ok_and(|name| name.starts_with(".defmt")));
        ensure!(has_log, "no section .defmt: its log could not be read");
        let sum = |is_counted: fn(u64) -> bool, size: fn((u64, u64)) -> u64| {
            let segments = file.segments();
            let counted = segments.filter(|segment| is_counted(segment.address()));
            counted
                .map(|segment| size((segment.file_range().1, segment.size())))
                .sum()
        };
        Ok(Self {
            // Initial values of what lies in RAM are kept in flash, too.
            flash: sum(|_| true, |(in_file, _)| in_file),
            ram: sum(|address| address >= RAM_ORIGIN, |(_, in_memory)| in_memory),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_log_strings_is_no_firmware() {
        let own = fs::read(std::env::current_exe().expect("a test has a path")).expect("readable");
        let error = Sizes::of(&own).expect_err("no .defmt").to_string();
        assert!(error.contains(".defmt"), "{error}");
        assert!(Sizes::of(b"no ELF").is_err());
    }
}
