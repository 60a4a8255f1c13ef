use super::elf::{Elf, glibc_version};
use super::report::Report;
use super::size::{Share, by_kind, crate_of};
use super::*;

/// A report that nothing is wrong with.
fn fine() -> Report {
    Report {
        target: "aarch64-unknown-linux-gnu".to_owned(),
        profile: "shipped".to_owned(),
        path: "target/hark".to_owned(),
        bytes: AARCH64_BYTES_MAX,
        bytes_max: Some(AARCH64_BYTES_MAX),
        glibc: Some(GLIBC_MAX),
        needed: vec!["libc.so.6".to_owned(), "ld-linux-aarch64.so.1".to_owned()],
        build_id: Some("abcd".to_owned()),
        debug: "target/hark.debug".to_owned(),
        debug_bytes: 1,
        sections: Vec::new(),
        crates: Vec::new(),
    }
}

fn check_refused(spoil: impl FnOnce(&mut Report), expected: &str) {
    let mut report = fine();
    spoil(&mut report);
    let error = report.check().expect_err(expected).to_string();
    assert_eq!(error, format!("target/hark: {expected}"));
}

#[test]
fn what_a_board_could_not_load_or_hold_is_refused() {
    assert!(fine().check().is_ok());
    check_refused(
        |report| report.glibc = Some(Version(2, 34)),
        "it needs glibc 2.34; at most 2.28",
    );
    check_refused(
        |report| report.needed.push("libudev.so.1".to_owned()),
        "it needs libudev.so.1, which is no part of glibc",
    );
    check_refused(
        |report| report.bytes += 1,
        "it has 16000001 bytes; at most 16000000",
    );
    check_refused(|report| report.build_id = None, "it has no build id");
    check_refused(
        |report| report.target = "aarch64-unknown-linux-musl".to_owned(),
        "it is not static",
    );
}

#[test]
fn versions_of_glibc_are_ordered_as_numbers() {
    let check = |name, expected| assert_eq!(glibc_version(name), expected, "{name}");
    check("GLIBC_2.17", Some(Version(2, 17)));
    check("GLIBC_2.2.5", Some(Version(2, 2)));
    check("GLIBC_PRIVATE", None);
    check("GCC_3.0", None);
    assert!(Version(2, 4) < Version(2, 28));
}

#[test]
fn this_very_program_is_read_as_the_loader_reads_it() {
    let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = Elf::parse(&data).unwrap();
    assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{elf:?}");
    assert!(elf.glibc.is_some(), "{elf:?}");
    assert!(elf.sections.iter().any(|(name, _)| name == ".text"));
    let crates = size::by_crate(&data).unwrap();
    assert!(
        crates.iter().any(|share| share.name == "core"),
        "{crates:?}"
    );
}

#[test]
fn what_is_no_elf_file_is_an_error() {
    assert!(Elf::parse(b"").is_err());
    assert!(Elf::parse(b"#!/bin/sh\nexit 0\n").is_err());
    let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(Elf::parse(&data[..4096]).is_err());
}

#[test]
fn a_symbol_counts_for_the_crate_of_its_first_path() {
    let check = |mangled, expected| assert_eq!(crate_of(mangled), expected, "{mangled}");
    check("_ZN4core9panicking5panic17h0123456789abcdefE", "core");
    check(
        "_ZN65_$LT$tract_data..tensor..Tensor$u20$as$u20$core..clone..Clone$GT$5clone17h0123456789abcdefE",
        "tract_data",
    );
    check(
        "_ZN41_$LT$T$u20$as$u20$dyn_clone..DynClone$GT$11__clone_box17h0123456789abcdefE",
        "dyn_clone",
    );
    check("memcpy", "C and assembler");
}

#[test]
fn sections_are_gathered_by_what_they_are_for() {
    let sections = [
        (".text".to_owned(), 10),
        (".eh_frame".to_owned(), 2),
        (".gcc_except_table".to_owned(), 3),
        (".data.rel.ro".to_owned(), 1),
    ];
    let share = |name: &str, bytes| Share {
        name: name.to_owned(),
        bytes,
    };
    let expected = [share("code", 10), share("unwinding", 5), share("data", 1)];
    assert_eq!(by_kind(&sections), expected);
}

#[test]
fn an_unknown_target_is_answered_with_the_known_ones() {
    let error = check_target("mips").expect_err("no board has one");
    assert!(error.to_string().contains("aarch64-unknown-linux-gnu"));
}

/// What Cross.toml says of `target`.
fn image(target: &str) -> toml::Table {
    let text = std::fs::read_to_string(process::workspace_root().join("Cross.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let image = &config["target"][target]["dockerfile"];
    image.as_table().unwrap().clone()
}

#[test]
fn cross_has_an_image_for_each_target() {
    for target in TARGETS {
        let image = image(target);
        for key in ["file", "context"] {
            let path = process::workspace_root().join(image[key].as_str().unwrap());
            assert!(path.exists(), "{target}: {}", path.display());
        }
    }
}

#[test]
fn images_link_for_the_same_glibc() {
    for target in TARGETS {
        let flags = image(target)["build-args"]["ZIG_FLAGS"].to_string();
        let floor = format!(".{GLIBC_MAX}");
        let has_glibc = target.contains("-gnu");
        assert_eq!(flags.contains(&floor), has_glibc, "{target}: {flags}");
    }
}

#[test]
fn what_an_image_copies_is_in_its_context() {
    let context = process::workspace_root().join("cross");
    let dockerfile = std::fs::read_to_string(context.join("docker/Dockerfile")).unwrap();
    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "));
    let mut files = 0;
    for copy in copies {
        let words: Vec<_> = copy
            .split(' ')
            .filter(|word| !word.starts_with("--"))
            .collect();
        let (_, sources) = words.split_last().unwrap();
        for source in sources {
            assert!(context.join(source).is_file(), "{source}");
            files += 1;
        }
    }
    assert_eq!(files, 3);
}
