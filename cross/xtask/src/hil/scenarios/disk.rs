//! The disk image: flashed, updated, and cut off in between.
//!
//! The image and its bundle are what `cargo xtask image --board qemu-virt` made.
//! A bad update is made here, by the same command around a hark that ends at
//! once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::hil::gateway::Disk;
use crate::hil::stand::Stand;
use crate::hil::wait;
use crate::process::{command, output, target_dir, workspace_root};

const BOARD: &str = "qemu-virt";
/// Where a bundle waits on the gateway: the data partition has room for one.
const BUNDLE: &str = "/var/lib/update.raucb";
/// An update does not always take the same time: so many tries there are for
/// each cut that is to hit it.
const CUT_TRIES: u32 = 2;

pub(super) fn flash(stand: &mut Stand) -> Result<()> {
    boot_flashed(stand)?;
    let mark = stand.broker.mark()?;
    stand.cause("let the bearing of the node's machine fail", |stand| {
        stand.node.start_faulty()
    })?;
    stand.step("wait", "an alert on MQTT that is raised", |stand| {
        Ok(stand.alert_after(mark, "raised")?.payload)
    })?;
    stand.alarm_becomes(true)
}

pub(super) fn update(stand: &mut Stand) -> Result<()> {
    boot_flashed(stand)?;
    wait_for_health(stand)?;
    let first = slot(stand)?;
    empty_other_slot(stand)?;
    stand.cause("flash.sh over SSH, with an update", |stand| {
        let bundle = images().join(format!("hark-{BOARD}.raucb"));
        flash_over_ssh(stand, &bundle).map(drop)
    })?;
    stand.step("look which slot runs", "the other one", |stand| {
        let now = slot(stand)?;
        ensure!(now != first, "still slot {now}");
        Ok(format!("slot {now} after slot {first}"))
    })?;
    serves(stand)?;
    stand.step(
        "flash.sh over SSH, with an update whose hark ends at once",
        "it is booted, is not healthy, goes back by itself, and flash.sh says so",
        |stand| {
            let good = slot(stand)?;
            let bundle = bad_bundle(&stand.folder)?;
            let told = match flash_over_ssh(stand, &bundle) {
                Ok(said) => bail!("it was taken: {said}"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(told.contains("went back to slot"), "{told}");
            let now = slot(stand)?;
            ensure!(now == good, "slot {now} runs, not {good}: {told}");
            // Only the bad slot's own system marks it so: it was booted.
            let block = stand.gateway.shell("grub-editenv /run/hark-env list")?;
            ensure!(block.contains(&format!("{first}_OK=0")), "{block}");
            let last = told.lines().last().unwrap_or_default();
            Ok(format!("slot {now} runs, the other is marked bad; {last}"))
        },
    )?;
    serves(stand)
}

pub(super) fn update_cut(stand: &mut Stand) -> Result<()> {
    boot_flashed(stand)?;
    wait_for_health(stand)?;
    let before = slot(stand)?;
    empty_other_slot(stand)?;
    let mut took = Duration::ZERO;
    stand.step(
        "bring a bundle, keep this moment, install it and cut the power then",
        "the new slot boots, and the time to spread the other cuts over",
        |stand| {
            let bundle = images().join(format!("hark-{BOARD}.raucb"));
            disk(stand)?.upload(&bundle, BUNDLE)?;
            disk(stand)?.keep_moment()?;
            disk(stand)?.go_back()?;
            let started = Instant::now();
            if !stand.plan.is_broken {
                stand.gateway.shell(&format!("rauc install {BUNDLE}"))?;
            }
            took = started.elapsed();
            let (slot, status) = cut_and_boot(stand)?;
            ensure!(slot != before, "still slot {slot}");
            Ok(format!(
                "slot {slot}, hark is {status}; {:.1} s",
                took.as_secs_f64()
            ))
        },
    )?;
    let cuts = stand.plan.cuts;
    let (mut within, mut tries) = (0, 0);
    while within < cuts {
        tries += 1;
        ensure!(
            tries <= CUT_TRIES * cuts,
            "only {within} of {tries} cuts came before the end of the update"
        );
        let after = took * (within + 1) / (cuts + 1);
        let seconds = after.as_secs_f64();
        let did = format!(
            "cut the power {seconds:.1} s into the update ({} of {cuts})",
            within + 1
        );
        stand.step(&did, "it boots, and verdicts arrive", |stand| {
            let (slot, status) = cut_within_update(stand, after)?;
            if slot == before {
                within += 1;
            } else {
                // It was quicker this time, and done: that is no cut within it.
                took = took.min(after);
            }
            Ok(format!("slot {slot}, hark is {status}"))
        })?;
    }
    Ok(())
}

/// Overwrites the slot that does not run, which holds the same system as the
/// other one on a new disk: what boots from it later was written by an update.
fn empty_other_slot(stand: &mut Stand) -> Result<()> {
    let other = match slot(stand)?.as_str() {
        "A" => "b",
        _ => "a",
    };
    stand.step(
        "overwrite the slot that does not run",
        "it is empty",
        |stand| {
            let device = format!("/dev/disk/by-partlabel/hark-root-{other}");
            // It ends with the partition, by an error.
            let fill = format!("dd if=/dev/zero of={device} bs=1M conv=fsync 2>&1 || true");
            stand.gateway.shell(&fill)?;
            let first = format!("head -c 4 {device} | od -An -tx1");
            let magic = stand.gateway.shell(&first)?;
            ensure!(magic == "00 00 00 00", "it begins with {magic}");
            Ok(format!("{device} begins with {magic}"))
        },
    )
}

/// Goes back to the moment before the update, starts it, and cuts the power
/// `after` it began.
fn cut_within_update(stand: &mut Stand, after: Duration) -> Result<(String, String)> {
    disk(stand)?.go_back()?;
    let install = format!("nohup rauc install {BUNDLE} >/dev/null 2>&1 &");
    stand.gateway.shell(&install)?;
    // The moment of the cut is what is tested.
    std::thread::sleep(after);
    cut_and_boot(stand)
}

/// The slot that boots after a power cut, once verdicts arrive, and what systemd
/// says of hark. The power is off then.
fn cut_and_boot(stand: &mut Stand) -> Result<(String, String)> {
    stand.gateway.cut_power()?;
    stand.gateway.power_on()?;
    // Behind all that was still under way when the power went.
    let mark = stand.broker.mark()?;
    let slot = slot(stand)?;
    stand.verdict_after(mark)?;
    let status = stand.gateway.shell("systemctl is-active hark")?;
    stand.gateway.cut_power()?;
    Ok((slot, status))
}

fn boot_flashed(stand: &mut Stand) -> Result<()> {
    stand.step(
        "flash.sh to a file, with this site's settings",
        "it says what is next",
        |stand| {
            let disk = disk(stand)?;
            let mut flash = command(workspace_root().join("flash.sh"));
            flash.args(["--board", BOARD, "--yes"]);
            flash.arg("--target").arg(absolute(disk.flashed())?);
            flash
                .arg("--image")
                .arg(images().join(format!("hark-{BOARD}.img")));
            flash.arg("--ca").arg(authority());
            flash.arg("--site").arg(absolute(disk.write_site()?)?);
            flash.arg("--ssh-key").arg(absolute(disk.key())?);
            let said = output(flash)?;
            disk.insert()?;
            Ok(said.lines().last().unwrap_or_default().to_owned())
        },
    )?;
    stand.boot()
}

fn serves(stand: &mut Stand) -> Result<()> {
    stand.step("wait", "verdicts arrive", |stand| {
        let mark = stand.broker.mark()?;
        stand.verdict_after(mark)
    })
}

/// Waits until the slot is confirmed, as an updater does before it starts.
fn wait_for_health(stand: &mut Stand) -> Result<()> {
    stand.step("wait", "the slot is marked good", |stand| {
        wait::until("a healthy slot", || {
            let health = stand.gateway.shell("cat /run/hark-health || true")?;
            Ok(health.starts_with("healthy").then_some(health))
        })
    })
}

/// The slot that runs: `A` or `B`.
fn slot(stand: &mut Stand) -> Result<String> {
    let words = stand.gateway.shell("cat /proc/cmdline")?;
    let slot = words
        .split(' ')
        .find_map(|word| word.strip_prefix("rauc.slot="));
    Ok(slot
        .context("the kernel's command line names no slot")?
        .to_owned())
}

/// Updates the running gateway as an operator does.
fn flash_over_ssh(stand: &mut Stand, bundle: &Path) -> Result<String> {
    let disk = disk(stand)?;
    let mut flash = command(workspace_root().join("flash.sh"));
    flash.args(["--board", BOARD, "--yes", "--target", disk.host(), "--port"]);
    flash.arg(disk.ssh_port().to_string());
    flash
        .arg("--image")
        .arg(bundle)
        .arg("--ca")
        .arg(authority());
    flash.env("HARK_SSH_COMMAND", disk.ssh_command()?);
    let said = output(flash);
    disk.expect_reboots()?;
    said
}

fn disk(stand: &mut Stand) -> Result<&mut Disk> {
    stand
        .gateway
        .as_disk()
        .context("this gateway boots no image")
}

fn images() -> PathBuf {
    target_dir().join("images").join(BOARD)
}

/// The certificate of the key for development, which all images here are signed with.
fn authority() -> PathBuf {
    target_dir().join("images/keys/cert.pem")
}

/// A bundle that is signed and whole, and whose hark ends at once.
fn bad_bundle(folder: &Path) -> Result<PathBuf> {
    let folder = absolute(folder)?;
    let hark = folder.join("bad-hark");
    fs::write(&hark, "#!/bin/sh\nexit 1\n").context("writing a bad hark")?;
    fs::set_permissions(&hark, fs::Permissions::from_mode(0o755))?;
    let out = folder.join("bad-image");
    let mut image = command(std::env::current_exe().context("finding xtask")?);
    image.args(["image", "--board", BOARD, "--version", "bad", "--hark"]);
    image.arg(&hark).arg("--out").arg(&out);
    output(image)?;
    Ok(out.join(format!("hark-{BOARD}.raucb")))
}
