//! A port whose driver cannot do what is configured. Pseudo terminals cannot
//! switch a transceiver, as most USB adapters.

use anyhow::{Result, ensure};

use crate::hark::Site;
use crate::node::{self, Node};

#[test]
fn a_port_without_rs485_mode_is_told_and_the_others_go_on() -> Result<()> {
    let (folder, link) = node::link()?;
    let refused = folder.path().join("refused");
    let sources = format!(
        "{}\n[[sources]]\nname = \"bus\"\nkind = \"serial\"\nport = \"{}\"\nrs485 = true\n",
        node::source(&link),
        refused.display()
    );
    let site = Site::new(&sources)?;
    let _other = Node::plug_in(&refused, "press-2")?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    let down = hark.wait_for_event("the refused port", |event| {
        event["event"] == "link_down" && event["source"] == "bus"
    })?;
    let reason = down["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("RS-485"), "{reason}");
    ensure!(reason.contains("`rs485 = false`"), "{reason}");
    node.meet()?;
    node.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    hark.terminate()?.summary().map(drop)
}
