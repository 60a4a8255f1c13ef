//! Debian's arm64 packages, fetched and unpacked without installing anything.
//!
//! The mirrors are those of this machine's own apt sources, so a Debian host is
//! needed and no mirror is named here. apt resolves dependencies and checks
//! signatures in a state of its own under `target/debian/arm64`, which never
//! touches the host's; what is downloaded already is not downloaded again, and
//! a download that was cut is resumed. No maintainer script is ever run.
//!
//! `Archive::open`, then [`Archive::unpack`] or [`Archive::kernel`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{command, output, run, shown, target_dir};

/// Package lists older than this are fetched again: the security suite changes
/// about daily, and superseded packages vanish from mirrors.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The folders that Debian merged into `/usr`, as links that must be there
/// before packages of bookworm are unpacked.
const MERGED_FOLDERS: [&str; 3] = ["bin", "sbin", "lib"];

/// What to unpack beside the packages that were named.
#[derive(Clone, Copy)]
pub(crate) enum Dependencies {
    /// Everything that they depend on, without recommendations.
    Included,
    /// Nothing: the caller knows what it takes out of them.
    LeftOut,
}

/// A kernel as Debian ships it.
pub(crate) struct Kernel {
    /// The uncompressed image, which is an EFI program as well.
    pub(crate) image: PathBuf,
    /// The folder whose `lib/modules/<release>` holds the modules, with the
    /// indexes that `modprobe -d` reads.
    pub(crate) root: PathBuf,
    /// What `uname -r` says.
    pub(crate) release: String,
}

impl Kernel {
    /// The files of `modules` and of what they depend on, in the order of loading.
    pub(crate) fn module_files(&self, modules: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for module in modules {
            let mut show = command("modprobe");
            show.arg("-d")
                .arg(&self.root)
                .args(["-S", &self.release, "--show-depends", module]);
            // `insmod <path> [options]`; what is built in has no file.
            for line in output(show)?.lines() {
                let Some(path) = line.strip_prefix("insmod ") else {
                    continue;
                };
                let path = fs::canonicalize(path.trim())?;
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }
}

/// The private apt state.
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Opens the state, and fetches the package lists if they are missing or old.
    ///
    /// # Errors
    /// On a host whose apt has no Debian sources, and when the lists can neither
    /// be fetched nor are there from before.
    pub(crate) fn open() -> Result<Self> {
        let archive = Self {
            folder: target_dir().join("debian/arm64"),
        };
        for folder in ["lists/partial", "cache/archives/partial", "none.d"] {
            let folder = archive.folder.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(archive.folder.join("status"), "").context("writing an empty dpkg status")?;
        fs::write(archive.folder.join("sources.list"), host_sources()?)
            .context("writing the private sources.list")?;
        fs::write(
            archive.folder.join("apt.conf"),
            configuration(&archive.folder),
        )
        .context("writing the private apt.conf")?;
        archive.refresh()?;
        Ok(archive)
    }

    /// Unpacks the packages `names` into `root`, a folder with a merged `/usr`.
    ///
    /// # Errors
    /// When a package is unknown, cannot be fetched or does not unpack.
    pub(crate) fn unpack(
        &self,
        names: &[&str],
        dependencies: Dependencies,
        root: &Path,
    ) -> Result<()> {
        let packages = self.fetch(names, dependencies)?;
        merge_usr(root)?;
        println!(
            "unpacking {} packages into {}",
            packages.len(),
            root.display()
        );
        for package in packages {
            unpack_package(&package, root)
                .with_context(|| format!("unpacking {}", package.display()))?;
        }
        Ok(())
    }

    /// Debian's full kernel for arm64, unpacked once under `target/debian/arm64`.
    ///
    /// # Errors
    /// As [`Archive::unpack`]; also when `depmod` (package kmod) is missing.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        let metapackage = self.fetch(&["linux-image-arm64"], Dependencies::LeftOut)?;
        let name = depended_kernel(&metapackage[0])?;
        let release = name
            .strip_prefix("linux-image-")
            .context("the kernel's package is not called linux-image-<release>")?
            .to_owned();
        let root = self.folder.join(&name);
        let kernel = Kernel {
            image: root.join(format!("boot/vmlinuz-{release}")),
            root,
            release,
        };
        // Written last, so a run that was stopped half-way is done again.
        let done = kernel.root.join(".unpacked");
        if !done.exists() {
            self.unpack(&[&name], Dependencies::LeftOut, &kernel.root)?;
            let mut depmod = command("depmod");
            depmod.arg("-b").arg(&kernel.root).arg(&kernel.release);
            run(depmod)?;
            fs::write(done, "").context("noting that the kernel is unpacked")?;
        }
        Ok(kernel)
    }

    fn refresh(&self) -> Result<()> {
        let stamp = self.folder.join("lists.stamp");
        let age = fs::metadata(&stamp)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age < LISTS_AGE_MAX) {
            return Ok(());
        }
        let mut update = self.apt_get();
        update.arg("update");
        match run(update) {
            Ok(()) => fs::write(&stamp, "").context("noting the age of the lists"),
            Err(error) if age.is_some() => {
                println!("going on with the package lists at hand: {error:#}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The package files of `names`, downloaded.
    fn fetch(&self, names: &[&str], dependencies: Dependencies) -> Result<Vec<PathBuf>> {
        match dependencies {
            Dependencies::Included => self.fetch_closure(names),
            Dependencies::LeftOut => names.iter().map(|name| self.fetch_one(name)).collect(),
        }
    }

    fn fetch_closure(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut simulate = self.apt_get();
        simulate.args(["--simulate", "install"]).args(names);
        let plan = output(simulate)?;
        let mut download = self.apt_get();
        download
            .args(["--yes", "--download-only", "install"])
            .args(names);
        run(download)?;
        plan.lines()
            .filter(|line| line.starts_with("Inst "))
            .map(|line| self.downloaded(&file_name(line)?))
            .collect()
    }

    fn fetch_one(&self, name: &str) -> Result<PathBuf> {
        let mut show = self.apt("apt-cache");
        show.args(["show", "--no-all-versions", name]);
        let text = output(show)?;
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
                .with_context(|| format!("apt-cache says no {key} of {name}"))
        };
        let file = archive_name(name, field("Version")?, field("Architecture")?);
        let path = self.folder.join("cache/archives").join(&file);
        if !path.exists() {
            let mut download = self.apt_get();
            download
                .args(["download", name])
                .current_dir(self.folder.join("cache/archives"));
            run(download)?;
        }
        self.downloaded(&file)
    }

    fn downloaded(&self, file: &str) -> Result<PathBuf> {
        let path = self.folder.join("cache/archives").join(file);
        ensure!(path.exists(), "apt did not download {}", path.display());
        Ok(path)
    }

    fn apt_get(&self) -> Command {
        let mut apt_get = self.apt("apt-get");
        apt_get.args(["-qq", "--no-install-recommends"]);
        apt_get
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = command(program);
        apt.arg("-c").arg(self.folder.join("apt.conf"));
        apt
    }
}

/// Points apt at the private state. The host's own configuration stays in force
/// beneath, because that is where a proxy is named.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "{folder}/none.d";
Dir::Etc::Preferences "{folder}/none";
Dir::Etc::PreferencesParts "{folder}/none.d";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
"#
    )
}

/// The host's Debian sources as lines for arm64.
fn host_sources() -> Result<String> {
    let release =
        fs::read_to_string("/etc/os-release").context("reading which system this host runs")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no VERSION_CODENAME")?;
    let mut update = command("apt-get");
    update.args(["update", "--print-uris"]);
    let lines = source_lines(&output(update)?, codename);
    if lines.is_empty() {
        bail!(
            "this host's apt has no Debian {codename} sources; arm64 packages are taken \
             from a Debian host's own mirrors"
        );
    }
    Ok(lines)
}

/// Debian's suites of `codename` among what `apt-get update --print-uris` says,
/// lines of `'<uri>/dists/<suite>/InRelease' <file> <size>`. Other archives
/// call their suites differently.
fn source_lines(uris: &str, codename: &str) -> String {
    let mut lines: Vec<_> = uris
        .lines()
        .filter_map(|line| {
            let (uri, _) = line.strip_prefix('\'')?.split_once('\'')?;
            let (uri, suite) = uri.strip_suffix("/InRelease")?.split_once("/dists/")?;
            let rest = suite.strip_prefix(codename)?;
            let is_release = rest.is_empty() || rest.starts_with('-');
            is_release.then(|| format!("deb [arch=arm64] {uri} {suite} main\n"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

/// The file that apt makes of a plan's line
/// `Inst libc6 (2.36-9 Debian:12/stable [arm64])`.
fn file_name(line: &str) -> Result<String> {
    let parse = || {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let version = rest.split_whitespace().next()?;
        let (_, architecture) = rest.split_once('[')?;
        let (architecture, _) = architecture.split_once(']')?;
        Some(archive_name(name, version, architecture))
    };
    parse().with_context(|| format!("apt-get --simulate says `{line}`, which is no `Inst` line"))
}

fn archive_name(name: &str, version: &str, architecture: &str) -> String {
    format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

/// The kernel package that the metapackage's file depends on.
fn depended_kernel(metapackage: &Path) -> Result<String> {
    let mut field = command("dpkg-deb");
    field.arg("--field").arg(metapackage).arg("Depends");
    let depends = output(field)?;
    let name = depends.split([' ', ',']).next().unwrap_or_default();
    Ok(name.to_owned())
}

fn merge_usr(root: &Path) -> Result<()> {
    for folder in MERGED_FOLDERS {
        let real = root.join("usr").join(folder);
        fs::create_dir_all(&real).with_context(|| format!("creating {}", real.display()))?;
        let link = root.join(folder);
        if link.symlink_metadata().is_err() {
            symlink(format!("usr/{folder}"), &link)
                .with_context(|| format!("linking {}", link.display()))?;
        }
    }
    Ok(())
}

/// As `dpkg -x`, which would replace the links of a merged `/usr` by folders.
fn unpack_package(package: &Path, root: &Path) -> Result<()> {
    let mut read = command("dpkg-deb");
    read.arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped());
    let line = shown(&read);
    let mut reader = read.spawn().with_context(|| format!("starting `{line}`"))?;
    let archive = reader.stdout.take().expect("stdout is piped above");
    let mut write = command("tar");
    write
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner"])
        .arg("--preserve-permissions")
        .arg("--directory")
        .arg(root)
        .stdin(archive);
    let written = output(write);
    let read = reader
        .wait()
        .with_context(|| format!("waiting for `{line}`"))?;
    written?;
    ensure!(read.success(), "`{line}` failed: {read}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_suites_of_the_hosts_release_are_taken_and_once() {
        let uris = "'http://a/main/dists/bookworm/InRelease' a_InRelease 0 \n\
                    'http://a/main/dists/bookworm/InRelease' a_InRelease 0 \n\
                    'http://b/security/dists/bookworm-security/InRelease' b_InRelease 0 \n\
                    'https://c/apt/dists/sdk-bookworm/InRelease' c_InRelease 0 \n\
                    'https://d/dists/bookwormish/InRelease' d_InRelease 0 \n";
        assert_eq!(
            source_lines(uris, "bookworm"),
            "deb [arch=arm64] http://a/main bookworm main\n\
             deb [arch=arm64] http://b/security bookworm-security main\n"
        );
    }

    fn check_file_name(line: &str, expected: Option<&str>) {
        assert_eq!(file_name(line).ok().as_deref(), expected, "{line}");
    }

    #[test]
    fn a_planned_package_is_found_under_the_name_that_apt_gives_its_file() {
        check_file_name(
            "Inst libc6 (2.36-9+deb12u13 Debian:12.12/oldstable [arm64])",
            Some("libc6_2.36-9+deb12u13_arm64.deb"),
        );
        check_file_name(
            "Inst login (1:4.13+dfsg1-1 Debian:12/stable, Security:12/stable [all]) []",
            Some("login_1%3a4.13+dfsg1-1_all.deb"),
        );
        check_file_name("Inst libc6", None);
        check_file_name("Conf libc6 (2.36 Debian:12/stable [arm64])", None);
    }
}
