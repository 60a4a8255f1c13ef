//! Makes the list of the boards' files, so that a new one is compiled in by being
//! there.

use std::path::Path;
use std::{env, fs, io};

const BOARDS: &str = "../../board-configs";
/// What all of them inherit from; it is no board.
const BASE: &str = "base.toml";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={BOARDS}");
    let mut files = Vec::new();
    for entry in fs::read_dir(BOARDS)? {
        let path = fs::canonicalize(entry?.path())?;
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_some_and(|end| end == "toml") && name != BASE {
            files.push((name.to_string_lossy().into_owned(), path));
        }
    }
    files.sort();
    let entries = files
        .iter()
        .map(|(name, path)| format!("({name:?}, include_str!({path:?})),\n"));
    let list: String = entries.collect();
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&out).join("boards.rs"), format!("&[\n{list}]"))
}
