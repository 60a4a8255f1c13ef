//! Lines of CSV, with and without a header, against a naive split.
//!
//! The first byte chooses the configuration; the rest is a file.
#![no_main]

use hark_codec::{Decoder, Delimiter, Encoding, Format, LineSplitter, MappingConfig};
use hark_fuzz::{config, schema, values};
use libfuzzer_sys::fuzz_target;

const CHOICES: u8 = 32;

thread_local! {
    // Cloned for each input: a csv_core reader is slow to build.
    static DECODERS: Vec<Decoder> = (0..CHOICES)
        .map(|choice| Decoder::new(Format::Csv, &schema(), &choose(choice)).expect("it fits"))
        .collect();
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, file)) = input.split_first() else {
        return;
    };
    let choice = choice % CHOICES;
    let config = choose(choice);
    let is_plain = config.header == Some(false) && !config.decimal_comma;
    let mut decoder = DECODERS.with(|decoders| decoders[usize::from(choice)].clone());
    let mut splitter = LineSplitter::new();
    splitter.push(file, |line| {
        let Ok(line) = line else { return };
        let Some(all) = values(&mut decoder, line) else {
            return;
        };
        let expected = naive(line, config.delimiter);
        if is_plain && expected.is_some() {
            assert_eq!(Some(all[0]), expected);
        }
    });
});

fn choose(choice: u8) -> MappingConfig {
    let delimiter = match choice >> 2 & 3 {
        0 => Delimiter::Auto,
        1 => Delimiter::Comma,
        2 => Delimiter::Semicolon,
        _ => Delimiter::Tab,
    };
    let columns = ["seq", "ts", "flow", "-", "pressure", "node"];
    MappingConfig {
        columns: (choice & 3 == 2).then(|| columns.map(str::to_owned).to_vec()),
        header: (choice & 3 == 1).then_some(false),
        decimal_comma: choice & 16 != 0,
        encoding: match choice & 3 {
            3 => Encoding::Windows1252,
            _ => Encoding::Utf8,
        },
        delimiter,
        ..config()
    }
}

/// The two cells of a plain line of numbers, if it is one.
fn naive(line: &[u8], delimiter: Delimiter) -> Option<[f32; 2]> {
    let delimiter = match delimiter {
        Delimiter::Auto => return None,
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
        Delimiter::Pipe => b'|',
    };
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let cells: Vec<f32> = line
        .split(|byte| *byte == delimiter)
        .map(|cell| std::str::from_utf8(cell.trim_ascii()).ok()?.parse::<f64>().ok())
        .map(|cell| cell.map(|cell| cell as f32))
        .collect::<Option<_>>()?;
    cells.try_into().ok()
}
