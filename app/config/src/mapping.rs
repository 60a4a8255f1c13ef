//! The `mapping` table of a source: which field of a payload is what.
//!
//! Whether the channels exist is for [`hark_codec::Mapping`] to say, which
//! knows the model's schema; here are types, words and what excludes what.

use std::collections::BTreeMap;

use hark_codec::{ChannelConfig, Delimiter, Encoding, MappingConfig, TimeUse, TimestampUnit};

use super::section::Section;

const TIMESTAMP_UNITS: [(&str, TimestampUnit); 5] = [
    ("auto", TimestampUnit::Auto),
    ("us", TimestampUnit::Micros),
    ("ms", TimestampUnit::Millis),
    ("s", TimestampUnit::Seconds),
    ("ns", TimestampUnit::Nanos),
];

const DELIMITERS: [(&str, Delimiter); 5] = [
    ("auto", Delimiter::Auto),
    (",", Delimiter::Comma),
    (";", Delimiter::Semicolon),
    ("\t", Delimiter::Tab),
    ("|", Delimiter::Pipe),
];

const ENCODINGS: [(&str, Encoding); 3] = [
    ("utf-8", Encoding::Utf8),
    ("latin-1", Encoding::Latin1),
    ("windows-1252", Encoding::Windows1252),
];

/// What a mapping says beside what a payload is read by.
pub(super) struct Read {
    pub(super) mapping: MappingConfig,
    /// At which count a sequence begins anew; None: it is found out.
    pub(super) sequence_modulo: Option<u64>,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> Read {
    let (timestamp, time_of_day) = read_timestamp(section);
    let mapping = MappingConfig {
        channels: read_channels(section),
        readings: section.text_or_none("readings"),
        sequence: section.text("sequence"),
        timestamp,
        time_of_day,
        timestamp_unit: section.word("timestamp_unit", &TIMESTAMP_UNITS),
        timestamp_format: section.text_or_none("timestamp_format"),
        timezone: section.text_or_none("timezone"),
        sensor: section.text_or_none("sensor"),
        values: section.text("values"),
        delimiter: section.word("delimiter", &DELIMITERS),
        decimal_comma: section.boolean("decimal_comma"),
        columns: Some(section.texts("columns")).filter(|columns| !columns.is_empty()),
        header: section.boolean_or_none("header"),
        comment: section.text_or_none("comment"),
        skip_lines: section.integer("skip_lines", 0..=1000),
        encoding: section.word("encoding", &ENCODINGS),
        // What follows from the source's other keys.
        clock: TimeUse::None,
        is_partial: false,
    };
    let modulo: i64 = section.integer("sequence_modulo", 0..=i64::MAX);
    if modulo == 1 {
        section.wrong(
            "sequence_modulo",
            "must be 0, to be found out, or at least 2",
        );
    }
    Read {
        mapping,
        sequence_modulo: u64::try_from(modulo).ok().filter(|modulo| *modulo > 1),
    }
}

/// A field's name, or those of the date and the time of day.
fn read_timestamp(section: &mut Section<'_, '_>) -> (String, Option<String>) {
    if !section.is_array("timestamp") {
        return (section.text("timestamp"), None);
    }
    let mut fields = section.texts("timestamp").into_iter();
    match (fields.next(), fields.next(), fields.next()) {
        (Some(date), Some(time), None) => (date, Some(time)),
        _ => {
            let message = "must be one field, or two: of the date and of the time of day";
            section.wrong("timestamp", message);
            (String::new(), None)
        }
    }
}

fn read_channels(section: &mut Section<'_, '_>) -> BTreeMap<String, ChannelConfig> {
    section.by_name("channels", "a string or a table", |section| ChannelConfig {
        field: section.text_or_absent("field"),
        scale: section.float_or("scale", 1.0),
        offset: section.float_or("offset", 0.0),
        unit: section.text_or_absent("unit"),
    })
}
