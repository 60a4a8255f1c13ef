//! Outputs that the board lacks. What a real line does is for the run on a board.

use anyhow::{Result, ensure};

use crate::hark::Site;
use crate::node;

#[test]
fn an_output_that_cannot_be_opened_is_refused_at_the_start() -> Result<()> {
    let (_folder, link) = node::link()?;
    for (key, chip) in [
        ("alarm_line", "/dev/gpiochip77"),
        ("heartbeat_line", "no-label"),
    ] {
        let keys = format!("gpio.chip = \"{chip}\"\ngpio.{key} = 3\nmqtt.enabled = false");
        let site = Site::with(&keys, &node::source(&link))?;
        let ended = site.finish(&["run", "--config", "hark.toml"])?;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        let told = format!("gpio.{key}: no GPIO chip {chip:?}; ");
        ensure!(ended.stderr.contains(&told), "{}", ended.stderr);
    }
    Ok(())
}
