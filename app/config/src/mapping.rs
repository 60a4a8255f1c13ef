//! The `mapping` table of a source: which field of a payload is what.
//!
//! Whether the channels exist is for [`hark_codec::Mapping`] to say, which
//! knows the model's schema; here are types, words and what excludes what.

use hark_codec::{Delimiter, MappingConfig, TimestampUnit};

use super::section::Section;

const TIMESTAMP_UNITS: [(&str, TimestampUnit); 4] = [
    ("us", TimestampUnit::Micros),
    ("ms", TimestampUnit::Millis),
    ("s", TimestampUnit::Seconds),
    ("ns", TimestampUnit::Nanos),
];

const DELIMITERS: [(&str, Delimiter); 3] = [
    (",", Delimiter::Comma),
    (";", Delimiter::Semicolon),
    ("\t", Delimiter::Tab),
];

pub(super) fn read(section: &mut Section<'_, '_>) -> MappingConfig {
    let mapping = MappingConfig {
        channels: section.text_by_name("channels"),
        sequence: section.text("sequence"),
        timestamp: section.text("timestamp"),
        timestamp_unit: section.word("timestamp_unit", &TIMESTAMP_UNITS),
        sensor: section.text_or_none("sensor"),
        values: section.text("values"),
        delimiter: section.word("delimiter", &DELIMITERS),
        decimal_comma: section.boolean("decimal_comma"),
        columns: Some(section.texts("columns")).filter(|columns| !columns.is_empty()),
        header: section.boolean_or_none("header"),
    };
    if section.is_sound(&["delimiter", "decimal_comma"])
        && mapping.decimal_comma
        && mapping.delimiter == Delimiter::Comma
    {
        let message = "numbers like 1,5 need another `delimiter` than a comma: \";\" or \"\\t\"";
        section.wrong("decimal_comma", message);
    }
    mapping
}
