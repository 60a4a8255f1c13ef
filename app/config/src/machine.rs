//! Which machine a configuration is for: `[board]`.
//!
//! Nothing of it changes how hark runs. `hark check` and `hark doctor` hold
//! `compatible` against the machine they run on, and the doctor also `target`;
//! the rest is for whoever builds and flashes.

use super::section::Section;
use std::path::PathBuf;

/// The board that a configuration was written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardConfig {
    /// Its name, as that of its file; none: any machine.
    pub name: Option<String>,
    /// What the firmware may call it: strings of the device tree's
    /// `compatible`, or DMI's product name. The board is the right one if it
    /// has any of them; empty: every machine is.
    pub compatible: Vec<String>,
    /// A part of the device tree's `model`, which a board of this kind has.
    pub model: Option<String>,
    /// The compiler's name of the platform that its binary is built for.
    pub target: Option<String>,
    /// The version of the GNU C library in the vendor's system, `2.36`.
    pub glibc: Option<String>,
    /// The device that is flashed, such as `/dev/mmcblk0`.
    pub storage: Option<String>,
    /// What brings hark there: `image`, `deb` or `tar.gz`.
    pub install: Option<String>,
    /// The library that brings models to the NPU or GPU; the doctor looks for it,
    /// and no runtime of this build uses one.
    pub delegate: Option<PathBuf>,
}

impl BoardConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let glibc = section.text_or_none("glibc");
        if let Some(version) = &glibc
            && version.split('.').any(|part| part.parse::<u16>().is_err())
        {
            section.wrong(
                "glibc",
                format!("must be a version such as \"2.36\", found {version:?}"),
            );
        }
        Self {
            name: section.text_or_none("name"),
            compatible: section.texts("compatible"),
            model: section.text_or_none("model"),
            target: section.text_or_none("target"),
            glibc,
            storage: section.text_or_none("storage"),
            install: section.text_or_none("install"),
            delegate: section.path_or_none("delegate"),
        }
    }
}
