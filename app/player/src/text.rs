//! A reading as text, one line each, as [`hark_codec`] reads it without a
//! mapping.

use hark_rig::{CHANNELS, RigReading};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::io::Write;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// `seq,ts` and the channels, with a header.
    Csv,
    /// `{"seq":0,"ts":0,"values":{"accel_motor_rms":0.52,…}}`, `ts` in µs.
    Json,
}

impl TextFormat {
    /// The line that explains the others, without its end: CSV's header.
    pub fn header(self) -> Option<String> {
        match self {
            Self::Csv => Some(csv_header(&[])),
            Self::Json => None,
        }
    }

    /// Appends `reading` to `out`, without the end of the line.
    pub fn write(self, reading: &RigReading, out: &mut Vec<u8>) {
        match self {
            Self::Csv => write_cells(reading, out),
            Self::Json => serde_json::to_writer(out, &JsonReading::of(reading))
                .expect("finite numbers and names always are JSON"),
        }
    }
}

/// `seq,ts`, the channels, and `more`.
pub(super) fn csv_header(more: &[&str]) -> String {
    let channels = CHANNELS.iter().map(|channel| channel.name);
    let cells: Vec<&str> = ["seq", "ts"]
        .into_iter()
        .chain(channels)
        .chain(more.iter().copied())
        .collect();
    cells.join(",")
}

/// Appends the cells that [`csv_header`] names before `more`.
pub(super) fn write_cells(reading: &RigReading, out: &mut Vec<u8>) {
    append(
        out,
        format_args!("{},{}", reading.sequence, reading.time_us),
    );
    for value in reading.values {
        append(out, format_args!(",{value}"));
    }
}

pub(super) fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

#[derive(Serialize)]
struct JsonReading<'a> {
    seq: u64,
    ts: u64,
    #[serde(serialize_with = "by_channel")]
    values: &'a [f32; CHANNELS.len()],
}

impl<'a> JsonReading<'a> {
    fn of(reading: &'a RigReading) -> Self {
        Self {
            seq: reading.sequence,
            ts: reading.time_us,
            values: &reading.values,
        }
    }
}

fn by_channel<S: Serializer>(
    values: &&[f32; CHANNELS.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(values.len()))?;
    for (channel, value) in CHANNELS.iter().zip(*values) {
        map.serialize_entry(channel.name, value)?;
    }
    map.end()
}
