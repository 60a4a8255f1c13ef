//! Who may know whom: downward only, and the core and the protocol stay pure.
//!
//! Allow-lists on purpose: a new crate of the house, or a new dependency of a
//! pure crate, fails until somebody has thought about it and written it here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::{Package, packages, root};

/// Each crate of the house and the crates of the house that it may use.
///
/// `hark-codec` and `hark-rig` lie below the app so that payload decoding and
/// the simulated pump build, and are fuzzed, without the model runtime.
const PICTURE: [(&str, &[&str]); 22] = [
    (
        "hark",
        &[
            "hark-broker",
            "hark-codec",
            "hark-config",
            "hark-engine",
            "hark-hal",
            "hark-keeper",
            "hark-links",
            "hark-models",
            "hark-mqtt",
            "hark-outlet",
            "hark-player",
            "hark-rig",
            "hark-serve",
            "hark-threads",
            "hark-wire",
        ],
    ),
    ("hark-broker", &["hark-threads"]),
    ("hark-codec", &["hark-engine"]),
    (
        "hark-config",
        &["hark-codec", "hark-engine", "hark-hal", "hark-modbus"],
    ),
    ("hark-engine", &["hark-ladder", "hark-wire"]),
    ("hark-hal", &["hark-wire"]),
    ("hark-keeper", &[]),
    ("hark-ladder", &[]),
    (
        "hark-links",
        &[
            "hark-codec",
            "hark-config",
            "hark-engine",
            "hark-hal",
            "hark-modbus",
            "hark-mqtt",
            "hark-outlet",
            "hark-serve",
            "hark-threads",
            "hark-wire",
        ],
    ),
    ("hark-modbus", &[]),
    ("hark-models", &[]),
    ("hark-mqtt", &[]),
    (
        "hark-outlet",
        &[
            "hark-config",
            "hark-engine",
            "hark-hal",
            "hark-mqtt",
            "hark-serve",
            "hark-threads",
        ],
    ),
    (
        "hark-player",
        &[
            "hark-hal",
            "hark-mqtt",
            "hark-outlet",
            "hark-rig",
            "hark-threads",
            "hark-wire",
        ],
    ),
    ("hark-rig", &[]),
    (
        "hark-serve",
        &[
            "hark-config",
            "hark-engine",
            "hark-hal",
            "hark-keeper",
            "hark-models",
            "hark-rig",
            "hark-threads",
        ],
    ),
    ("hark-threads", &["hark-engine"]),
    ("hark-wire", &[]),
    // Beside the picture: tests only may know it.
    ("hark-mosquitto", &[]),
    // Above the picture: nobody may know these.
    (
        "hark-tests",
        &[
            "hark",
            "hark-codec",
            "hark-config",
            "hark-engine",
            "hark-hal",
            "hark-keeper",
            "hark-links",
            "hark-models",
            "hark-mosquitto",
            "hark-mqtt",
            "hark-outlet",
            "hark-rig",
            "hark-serve",
            "hark-threads",
            "hark-wire",
        ],
    ),
    (
        "hark-simulation",
        &["hark-engine", "hark-mqtt", "hark-wire"],
    ),
    ("xtask", &[]),
];

/// What a `no_std` crate without an allocator may stand on.
const WIRE_TREE: [&str; 12] = [
    "byteorder",
    "cobs",
    "crc",
    "crc-catalog",
    "hark-wire",
    "hash32",
    "heapless",
    "postcard",
    "serde",
    "serde_core",
    "stable_deref_trait",
    "thiserror",
];

/// What the core adds: arithmetic. No runtime, socket, file, clock or
/// source of randomness.
const ENGINE_TREE: [&str; 10] = [
    "hark-engine",
    "hark-ladder",
    "num-complex",
    "num-integer",
    "num-traits",
    "primal-check",
    "realfft",
    "rustfft",
    "strength_reduce",
    "transpose",
];

/// Features that bring in the standard library or an allocator.
const STD_FEATURES: [&str; 4] = ["std", "use-std", "alloc", "use_std"];

#[test]
fn dependencies_point_downward_only() {
    let members = packages();
    let known: BTreeMap<_, _> = PICTURE.into_iter().collect();
    for package in &members {
        let allowed = known
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} is missing from the picture", package.name));
        for dependency in house_dependencies(package, &members) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{} may not depend on {dependency}; it may on {allowed:?}",
                package.name
            );
        }
    }
    for name in known.keys() {
        let exists = members.iter().any(|package| package.name == *name);
        assert!(exists, "the picture names {name}, which is no member");
    }
}

#[test]
fn engine_stands_on_pure_crates_only() {
    let allowed: BTreeSet<_> = ENGINE_TREE.into_iter().chain(WIRE_TREE).collect();
    check_tree("hark-engine", &allowed);
}

#[test]
fn wire_stands_on_no_std_crates_only() {
    let allowed: BTreeSet<_> = WIRE_TREE.into_iter().collect();
    check_tree("hark-wire", &allowed);
}

#[test]
fn wire_asks_nobody_for_std_or_an_allocator() {
    for krate in tree("hark-wire") {
        let std = krate
            .features
            .iter()
            .find(|feature| STD_FEATURES.contains(&feature.as_str()));
        assert_eq!(std, None, "hark-wire turns it on in {}", krate.name);
    }
    let source = std::fs::read_to_string(root().join("hal/wire/src/lib.rs")).unwrap();
    assert!(
        source.contains("#![no_std]"),
        "hark-wire has lost its #![no_std]"
    );
}

fn check_tree(package: &str, allowed: &BTreeSet<&str>) {
    let tree = tree(package);
    assert!(tree.len() > 1, "cargo tree shows nothing below {package}");
    for krate in tree {
        assert!(
            allowed.contains(krate.name.as_str()),
            "{package} stands on {}, which is not in its list; if it is pure, add it",
            krate.name
        );
    }
}

/// The members that `package` is built from; its own tests may use more.
fn house_dependencies(package: &Package, members: &[Package]) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        .map(|dependency| dependency.name.clone())
        .filter(|name| members.iter().any(|member| member.name == *name))
        .collect()
}

struct Crate {
    name: String,
    features: Vec<String>,
}

/// Everything that `package` links, on any platform, with its features.
///
/// Asked of `cargo tree`, because metadata mixes the features that all members
/// ask for. Build scripts and derive macros run on the build machine only.
fn tree(package: &str) -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--package", package, "--target", "all"])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}|{f}"])
        .output()
        .expect("cargo can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed: {stderr}");
    let listing = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    listing
        .lines()
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect()
}

/// `name v1.2.3 (path)|feature,feature (*)`
fn parse(line: &str) -> Crate {
    let (package, features) = line.split_once('|').expect("the format has one bar");
    let name = package
        .split_whitespace()
        .next()
        .expect("a package has a name");
    let features = features.trim_end_matches("(*)").trim();
    Crate {
        name: name.to_owned(),
        features: features.split(',').map(ToOwned::to_owned).collect(),
    }
}
