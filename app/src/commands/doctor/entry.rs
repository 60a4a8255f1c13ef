//! The `[[sources]]` entry that listens to what was heard on a line.

use super::line::Listening;
use hark_hal::{DataBits, Parity};
use hark_links::recognise::Heard;
use toml::Value;

/// The entry of a configuration that listens to what was heard on `port`, if hark
/// can; `port` is the name to write down. Where the line does not name the channels
/// that the model has, `wanted`, a comment shows how to.
pub(super) fn source_entry(best: &Listening, port: &str, wanted: &[String]) -> Option<String> {
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
    if let Heard::Csv {
        delimiter,
        decimal_comma,
        ..
    } = &best.heard
    {
        if *delimiter != ',' {
            entry += &format!("mapping.delimiter = {}\n", text(&delimiter.to_string()));
        }
        if *decimal_comma {
            entry += "mapping.decimal_comma = true\n";
        }
    }
    if misfit(&best.heard, wanted).is_some() {
        entry += &template(&best.heard, wanted);
    }
    Some(entry)
}

/// How what was heard differs from the channels that the model has, if it does:
/// readings would be rejected.
pub(super) fn misfit(heard: &Heard, wanted: &[String]) -> Option<String> {
    let heard = match heard {
        // An array of values goes by the order of the channels, without names.
        Heard::Json { fields, .. } if fields.iter().any(|name| name == "values") => None,
        Heard::Json { fields, .. }
        | Heard::Csv {
            header: Some(fields),
            ..
        } => {
            let is_complete = wanted.iter().all(|name| fields.contains(name));
            (!is_complete).then(|| format!("fields heard: {}", fields.join(", ")))
        }
        Heard::Csv { columns, .. } => {
            (!wanted.is_empty()).then(|| format!("no header heard, {columns} columns"))
        }
        _ => None,
    }?;
    Some(format!("{heard}; the model wants: {}", wanted.join(", ")))
}

/// The key that would make it fit, to be filled in.
fn template(heard: &Heard, wanted: &[String]) -> String {
    if let Heard::Csv {
        header: None,
        columns,
        ..
    } = heard
    {
        let columns = vec!["\"…\""; *columns].join(", ");
        return format!("# mapping.columns = [{columns}]   # the name of each column\n");
    }
    let channels = wanted
        .iter()
        .map(|name| format!("{} = \"…\"", Value::from(name.as_str())));
    let channels = channels.collect::<Vec<_>>().join(", ");
    format!("# mapping.channels = {{ {channels} }}   # the field of each channel\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_config::{self, Config, Link};
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
        source_entry(&listening, "/dev/serial/by-id/usb-pump", &wanted())
    }

    fn wanted() -> Vec<String> {
        names(&["pressure", "flow"])
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn json(fields: &[&str]) -> Heard {
        Heard::Json {
            lines: 3,
            fields: names(fields),
            example: "{}".to_owned(),
        }
    }

    #[test]
    fn fields_that_the_model_does_not_know_are_named_with_a_template() {
        let heard = json(&["t", "p"]);
        assert_eq!(
            misfit(&heard, &wanted()).as_deref(),
            Some("fields heard: t, p; the model wants: pressure, flow")
        );
        let entry = entry(heard).unwrap();
        let (good, template) = entry.split_once("# ").expect("a template");
        assert!(Config::of_text(good).is_ok());
        // What the operator makes of it is a configuration.
        let filled = template.replacen('…', "p", 1).replacen('…', "t", 1);
        let config = Config::of_text(&format!("{good}{filled}")).unwrap();
        assert_eq!(config.sources[0].mapping.channels["pressure"], "p".into());
    }

    #[test]
    fn fields_that_the_model_knows_need_no_template() {
        let heard = json(&["flow", "pressure", "seq"]);
        assert_eq!(misfit(&heard, &wanted()), None);
        assert!(!entry(heard).unwrap().contains('#'));
        assert_eq!(misfit(&json(&["seq", "values"]), &wanted()), None);
        assert_eq!(misfit(&Heard::Silence, &wanted()), None);
    }

    #[test]
    fn the_entry_to_paste_is_a_configuration_that_says_what_was_heard() {
        let csv = Heard::Csv {
            lines: 3,
            columns: 2,
            delimiter: ';',
            decimal_comma: true,
            header: None,
            example: "1;2,5".to_owned(),
        };
        let remark = misfit(&csv, &wanted());
        let remark = remark.expect("columns without names are a misfit");
        assert!(
            remark.starts_with("no header heard, 2 columns; "),
            "{remark}"
        );
        let config = Config::of_text(&entry(csv).unwrap()).unwrap();
        let source = &config.sources[0];
        assert_eq!(source.mapping.delimiter, hark_codec::Delimiter::Semicolon);
        assert!(source.mapping.decimal_comma);
        let Link::Serial(link) = &source.link else {
            panic!("serial, found {:?}", source.link)
        };
        assert_eq!(
            (link.port.as_str(), link.baud),
            ("/dev/serial/by-id/usb-pump", 9600)
        );
        assert_eq!(
            (link.parity, link.data_bits),
            (hark_config::Parity::Even, 7)
        );
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
