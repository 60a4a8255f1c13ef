//! The boards that something is flashed for: what `[board]` of
//! `board-configs/<name>.toml` says about how hark gets there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::process::workspace_root;

/// What the boards' files inherit from; it is no board.
const BASE: &str = "base";

/// How a board is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole disk is ours: two root slots, updated by RAUC.
    Disk,
    /// The vendor's system stays, with its kernel and drivers: a package.
    Package,
}

/// The instruction set, with its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Aarch64,
    Armv7,
}

impl Architecture {
    const ALL: [Self; 2] = [Self::Aarch64, Self::Armv7];

    /// Rust's name of the target.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// Debian's name.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Board {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) architecture: Architecture,
}

/// The board called `name`.
///
/// # Errors
/// Names the boards that there are, or what is wrong with its file.
pub(super) fn find(name: &str) -> Result<Board> {
    let names = names()?;
    if !names.iter().any(|known| known == name) {
        bail!("there are: {}", names.join(", "));
    }
    let path = folder().join(name).with_extension("toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse(name, &text).with_context(|| path.display().to_string())
}

/// Every board's name.
pub(super) fn names() -> Result<Vec<String>> {
    let folder = folder();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        let is_board = path.extension().is_some_and(|end| end == "toml");
        names.extend(stem.filter(|stem| is_board && stem != BASE).map(Into::into));
    }
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    workspace_root().join(Path::new("board-configs"))
}

/// Of a board's file what is needed here; hark checks the rest.
#[derive(Deserialize)]
struct File {
    board: Section,
}

#[derive(Deserialize)]
struct Section {
    name: String,
    target: String,
    install: String,
}

fn parse(name: &str, text: &str) -> Result<Board> {
    let File { board } = toml::from_str(text)?;
    ensure!(
        board.name == name,
        "board.name is {:?}, not as the file",
        board.name
    );
    let is_named = |one: &Architecture| one.target() == board.target;
    let architecture = Architecture::ALL.into_iter().find(is_named);
    let kind = match board.install.as_str() {
        "image" => Kind::Disk,
        "deb" | "tar.gz" => Kind::Package,
        other => bail!("board.install is \"image\", \"deb\" or \"tar.gz\", not {other:?}"),
    };
    Ok(Board {
        name: board.name,
        kind,
        architecture: architecture
            .with_context(|| format!("nothing is built for board.target {:?}", board.target))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_board_configs_is_a_board_that_can_be_flashed() {
        let names = names().expect("the folder is there");
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let board = find(&name).expect("a sound file");
            assert_eq!(board.name, name);
        }
    }

    #[test]
    fn an_unknown_board_is_told_which_boards_there_are() {
        for unknown in ["rock-5", BASE, "../board-configs/rock-5b"] {
            let error = find(unknown).expect_err("no such board").to_string();
            assert!(
                error.contains("rock-5b") && error.contains("qemu-virt"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_says_not_how_it_is_flashed_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = parse("a", text).expect_err("it is unsound");
            let told = format!("{error:#}");
            assert!(told.contains(expected), "{told}");
        };
        let rest = "target = \"aarch64-unknown-linux-gnu\"\n";
        check(&format!("[board]\nname = \"a\"\n{rest}"), "install");
        let install = "install = \"rpm\"\n";
        check(&format!("[board]\nname = \"a\"\n{rest}{install}"), "rpm");
        let install = "install = \"deb\"\n";
        check(
            &format!("[board]\nname = \"b\"\n{rest}{install}"),
            "as the file",
        );
        check(
            &format!("[board]\nname = \"a\"\ntarget = \"riscv\"\n{install}"),
            "riscv",
        );
    }
}
