//! The hark binary, run from outside as a user would.

use anyhow::{Context, Result};
use hark_tests::hark_command;

#[test]
fn the_binary_of_this_build_runs_and_explains_itself() -> Result<()> {
    let output = hark_command()?
        .arg("--help")
        .output()
        .context("starting hark")?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).context("reading the help")?;
    assert!(text.contains("demo"), "the help names no demo: {text}");
    Ok(())
}
