//! Tells the linker where the board's memory is and what cortex-m-rt and
//! defmt want of it; only for a target without an operating system.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=mps2-an386.x");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    println!("cargo:rerun-if-env-changed=DEFMT_LOG");
    if env::var_os("DEFMT_LOG").is_none() {
        // defmt's own default, errors only, would hide that a request was met.
        println!("cargo:rustc-env=DEFMT_LOG=info");
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    // cortex-m-rt's link.x includes a file of this name.
    std::fs::copy("mps2-an386.x", Path::new(&out).join("memory.x"))
        .expect("the board's memory is described beside this file");
    println!("cargo:rustc-link-search={out}");
    for arg in ["--nmagic", "-Tlink.x", "-Tdefmt.x"] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
