//! What an ELF file says of itself: its needs, its build id, its sections.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use object::elf::{DT_NEEDED, FileHeader32, FileHeader64, SHF_ALLOC, SHT_NOBITS};
use object::read::elf::{Dyn, FileHeader, SectionHeader};
use object::{Endianness, FileKind, Object};

use super::Version;

/// What the loader and a debugger read.
#[derive(Debug)]
pub(super) struct Elf {
    /// The libraries that the loader must find.
    pub(super) needed: Vec<String>,
    /// The newest version of glibc that a symbol asks for; none: glibc is not
    /// asked for.
    pub(super) glibc: Option<Version>,
    /// In hexadecimal.
    pub(super) build_id: Option<String>,
    /// Name and bytes of each section that takes room in the file and is loaded.
    pub(super) sections: Vec<(String, u64)>,
}

impl Elf {
    /// Reads `data`, of either word size.
    ///
    /// # Errors
    /// If it is no ELF file, or a broken one.
    pub(super) fn parse(data: &[u8]) -> Result<Self> {
        let mut elf = match FileKind::parse(data).context("reading the binary")? {
            FileKind::Elf32 => parse::<FileHeader32<Endianness>>(data),
            FileKind::Elf64 => parse::<FileHeader64<Endianness>>(data),
            other => anyhow::bail!("the binary is no ELF file but {other:?}"),
        }?;
        let build_id = object::File::parse(data)?.build_id()?.map(hexadecimal);
        elf.build_id = build_id;
        Ok(elf)
    }
}

fn parse<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Result<Elf> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let table = header.sections(endian, data)?;

    let mut needed = Vec::new();
    if let Some((entries, link)) = table.dynamic(endian, data)? {
        let strings = table.strings(endian, data, link)?;
        for entry in entries {
            if entry.tag32(endian).map(i64::from) == Some(DT_NEEDED) {
                needed.push(text(entry.string(endian, strings)?));
            }
        }
    }

    let mut versions = BTreeSet::new();
    if let Some((mut files, link)) = table.gnu_verneed(endian, data)? {
        let strings = table.strings(endian, data, link)?;
        while let Some((_, mut names)) = files.next()? {
            while let Some(name) = names.next()? {
                versions.extend(glibc_version(&text(name.name(endian, strings)?)));
            }
        }
    }

    let mut sections = Vec::new();
    for section in table.iter() {
        let flags: u64 = section.sh_flags(endian).into();
        let is_loaded = flags & u64::from(SHF_ALLOC) != 0;
        if is_loaded && section.sh_type(endian) != SHT_NOBITS {
            let name = text(table.section_name(endian, section)?);
            sections.push((name, section.sh_size(endian).into()));
        }
    }
    Ok(Elf {
        needed,
        glibc: versions.last().copied(),
        build_id: None,
        sections,
    })
}

/// `GLIBC_2.28` as a version; other names, as `GLIBC_PRIVATE`, are none.
pub(super) fn glibc_version(name: &str) -> Option<Version> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    let mut number = || parts.next()?.parse().ok();
    Some(Version(number()?, number()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
