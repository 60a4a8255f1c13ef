//! The boards that something is flashed for. What hark does on each is in
//! `board-configs/<name>.toml`; here is only how it gets there.

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

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Board {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) architecture: Architecture,
}

const BOARDS: [Board; 7] = [
    board("qemu-virt", Kind::Disk, Architecture::Aarch64),
    board("raspberry-pi-4", Kind::Package, Architecture::Aarch64),
    board("raspberry-pi-5", Kind::Package, Architecture::Aarch64),
    board("imx8mp-evk", Kind::Package, Architecture::Aarch64),
    board("rock-5b", Kind::Package, Architecture::Aarch64),
    board("jetson-orin-nano", Kind::Package, Architecture::Aarch64),
    board("beaglebone-black", Kind::Package, Architecture::Armv7),
];

const fn board(name: &'static str, kind: Kind, architecture: Architecture) -> Board {
    Board {
        name,
        kind,
        architecture,
    }
}

/// The board called `name`.
///
/// # Errors
/// Names the boards that there are.
pub(super) fn find(name: &str) -> Result<&'static Board, String> {
    BOARDS
        .iter()
        .find(|board| board.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = names().collect();
            format!("there are: {}", names.join(", "))
        })
}

/// Every board's name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BOARDS.iter().map(|board| board.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_board_is_told_which_boards_there_are() {
        assert_eq!(find("rock-5b").map(|board| board.name), Ok("rock-5b"));
        let error = find("rock-5").expect_err("there is no such board");
        assert!(
            error.contains("rock-5b") && error.contains("qemu-virt"),
            "{error}"
        );
    }
}
