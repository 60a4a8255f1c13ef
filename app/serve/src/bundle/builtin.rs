//! The bundles that are compiled into the binary.

use anyhow::bail;

/// The names of the bundles in this binary.
pub const BUILTIN: [&str; 1] = ["pump-rig"];

const PUMP_RIG: [(&str, &[u8]); 4] = [
    (
        "manifest.toml",
        include_bytes!("../../../../models/pump-rig/manifest.toml"),
    ),
    (
        "model.int8.onnx",
        include_bytes!("../../../../models/pump-rig/model.int8.onnx"),
    ),
    (
        "model.float32.onnx",
        include_bytes!("../../../../models/pump-rig/model.float32.onnx"),
    ),
    (
        "golden.json",
        include_bytes!("../../../../models/pump-rig/golden.json"),
    ),
];

/// The files of a bundle by its name, each with its content.
///
/// # Errors
/// If there is no such bundle; the error names those there are.
pub fn files(name: &str) -> anyhow::Result<&'static [(&'static str, &'static [u8])]> {
    match name {
        "pump-rig" => Ok(&PUMP_RIG),
        _ => bail!(
            "no bundle `{name}` is built in; there are: {}",
            BUILTIN.join(", ")
        ),
    }
}
