//! The `[[sources]]` entry that listens to what was heard on a line.

use super::line::Listening;
use super::recognise::Heard;
use hark_hal::{DataBits, Parity};
use toml::Value;

/// The entry of a configuration that listens to what was heard on `port`, if hark
/// can; `port` is the name to write down.
pub(super) fn source_entry(best: &Listening, port: &str) -> Option<String> {
    let (name, format) = match &best.heard {
        Heard::Frames { node, .. } => (node.as_ref().map(|node| node.name.as_str()), "wire"),
        Heard::Json { .. } => (None, "json"),
        Heard::Csv { .. } => (None, "csv"),
        _ => return None,
    };
    let settings = &best.settings;
    let text = |text: &str| Value::from(text).to_string();
    let mut entry = format!(
        "[[sources]]\nname = {}\nkind = \"serial\"\nport = {}\nformat = \"{format}\"\nbaud = {}\n",
        text(name.unwrap_or("line")),
        text(port),
        settings.baud
    );
    match settings.parity {
        Parity::None => {}
        Parity::Even => entry += "parity = \"even\"\n",
        Parity::Odd => entry += "parity = \"odd\"\n",
    }
    if settings.data_bits == DataBits::Seven {
        entry += "data_bits = 7\n";
    }
    if let Heard::Csv { delimiter, .. } = &best.heard
        && *delimiter != ','
    {
        entry += &format!("mapping.delimiter = {}\n", text(&delimiter.to_string()));
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config, Link};
    use hark_hal::SerialSettings;

    /// The entry for `heard` at 9600 baud, seven bits, even parity.
    fn entry(heard: Heard) -> Option<String> {
        let settings = SerialSettings {
            parity: Parity::Even,
            data_bits: DataBits::Seven,
            ..SerialSettings::new("/dev/ttyUSB0", 9600)
        };
        let listening = Listening {
            settings,
            bytes: 1,
            is_clean: true,
            errors: None,
            heard,
        };
        source_entry(&listening, "/dev/serial/by-id/usb-pump")
    }

    #[test]
    fn the_entry_to_paste_is_a_configuration_that_says_what_was_heard() {
        let csv = Heard::Csv {
            lines: 3,
            columns: 2,
            delimiter: ';',
            example: "1;2".to_owned(),
        };
        let config = Config::of_text(&entry(csv).unwrap()).unwrap();
        let source = &config.sources[0];
        assert_eq!(source.mapping.delimiter, hark_codec::Delimiter::Semicolon);
        let Link::Serial(link) = &source.link else {
            panic!("serial, found {:?}", source.link)
        };
        assert_eq!(
            (link.port.as_str(), link.baud),
            ("/dev/serial/by-id/usb-pump", 9600)
        );
        assert_eq!((link.parity, link.data_bits), (config::Parity::Even, 7));
    }

    #[test]
    fn what_hark_cannot_read_has_no_entry() {
        assert_eq!(entry(Heard::Silence), None);
        assert_eq!(entry(Heard::Noise { bytes: 9 }), None);
        let modbus = Heard::Modbus {
            frames: 2,
            units: vec![1],
        };
        assert_eq!(entry(modbus), None);
    }
}
