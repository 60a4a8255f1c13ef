//! What a benchmark plays: a golden window of the bundle, forth and back, so
//! that no channel jumps and every window is due.

use hark_links::SEQUENCE_FIRST;
use hark_serve::bundle::Rungs;
use std::fmt::Write;

/// The payloads of a golden window, as JSON, one for each round of all sensors.
/// Each starts with its sequence number, which the player overwrites.
pub(super) fn payloads(rungs: &Rungs) -> Vec<Box<[u8]>> {
    let mut rows = rungs.golden_readings();
    let back: Vec<_> = rows
        .iter()
        .rev()
        .skip(1)
        .take(rows.len().saturating_sub(2))
        .cloned()
        .collect();
    rows.extend(back);
    let payload = |values: &Vec<f32>| {
        let mut text = format!("{{\"seq\":{SEQUENCE_FIRST},\"values\":[");
        for (index, value) in values.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(text, "{comma}{value}").expect("a string takes everything");
        }
        text.push_str("]}");
        text.into_bytes().into_boxed_slice()
    };
    rows.iter().map(payload).collect()
}
