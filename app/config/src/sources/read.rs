//! Reads `[[sources]]` and `[defaults]` into the types of [`super`].

use hark_codec::{MappingConfig, TimeUse};

use super::{
    AlertTimes, Backoff, Clock, FileLink, Format, Link, MqttLink, NodesConfig, Parity, Rs485Config,
    SensorTemplate, SerialLink, SourceConfig, TopicPattern, modbus,
};
use crate::{
    connection::TlsConfig,
    error::suggestion,
    mapping,
    section::Section,
    settings::{Protocol, not_empty},
};

const CSV: Format = Format::Payload(hark_codec::Format::Csv);
const JSON: Format = Format::Payload(hark_codec::Format::Json);

const FORMATS_SERIAL: &[(&str, Format)] = &[("wire", Format::Wire), ("csv", CSV), ("json", JSON)];
const FORMATS_MQTT: &[(&str, Format)] = &[
    ("json", JSON),
    ("cbor", Format::Payload(hark_codec::Format::Cbor)),
    ("csv", CSV),
    ("wire", Format::Wire),
];
const FORMATS_FILE: &[(&str, Format)] = &[("csv", CSV), ("json", JSON)];

/// Reads `[defaults]` only for what is wrong in it.
pub(crate) fn read_defaults(section: &mut Section<'_, '_>) {
    section.partial_table("all", |all| {
        Common::read(all);
    });
    section.partial_table("serial", |serial| {
        Common::read(serial);
        read_serial(serial);
    });
    section.partial_table("mqtt", |mqtt| {
        Common::read(mqtt);
        read_mqtt(mqtt);
    });
    section.partial_table("file", |file| {
        Common::read(file);
        read_file(file);
    });
    section.partial_table("modbus", |modbus| {
        Common::read(modbus);
        modbus::read_defaults(modbus);
    });
}

/// The keys that every kind has.
struct Common {
    model: String,
    clock: Clock,
    priority: u8,
    readings_per_second_max: u32,
    payload_bytes_max: usize,
    alerts: AlertTimes,
    mapping: MappingConfig,
    sequence_modulo: Option<u64>,
    hold_ms: u64,
}

/// A day: what is longer away than that is not watched.
const ALERT_MS_MAX: i64 = 86_400_000;

impl Common {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let clocks = [
            ("none", Clock::None),
            ("node", Clock::Node),
            ("utc", Clock::Utc),
        ];
        let model = section.text("model");
        let clock = section.word("clock", &clocks);
        let mut common = Self {
            model,
            clock,
            priority: section.integer("priority", 0..=9),
            readings_per_second_max: section.integer("readings_per_second_max", 0..=1_000_000),
            payload_bytes_max: section.integer("payload_bytes_max", 16..=hark_codec::PAYLOAD_MAX),
            alerts: read_alerts(section),
            mapping: MappingConfig::default(),
            sequence_modulo: None,
            hold_ms: 0,
        };
        let read = section.table("mapping", mapping::read);
        common.sequence_modulo = read.sequence_modulo;
        common.hold_ms = section.integer("hold_ms", 0..=ALERT_MS_MAX as u64);
        common.mapping = MappingConfig {
            clock: match clock {
                Clock::None => TimeUse::None,
                Clock::Node => TimeUse::Node,
                Clock::Utc => TimeUse::Utc,
            },
            is_partial: common.hold_ms > 0,
            ..read.mapping
        };
        common
    }
}

/// The keys that depend on the kind.
pub(super) type Stream = (Option<SensorTemplate>, Format, NodesConfig, Link);

#[derive(Clone, Copy)]
enum Kind {
    Serial,
    Mqtt,
    File,
    Modbus,
}

const KINDS: &[(&str, Kind)] = &[
    ("serial", Kind::Serial),
    ("mqtt", Kind::Mqtt),
    ("file", Kind::File),
    ("modbus", Kind::Modbus),
];

impl SourceConfig {
    /// `None` if the kind is not known; nothing else can be said of such a source.
    pub(crate) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let name = section.parsed("name", not_empty).unwrap_or_default();
        let kind = section.word_or_none("kind", KINDS);
        let Some(kind) = kind else {
            section.skip_rest();
            return None;
        };
        let common = Common::read(section);
        let (sensor, format, nodes, link) = match kind {
            Kind::Serial => read_serial(section),
            Kind::Mqtt => read_mqtt(section),
            Kind::File => read_file(section),
            Kind::Modbus => modbus::read(section),
        };
        let mut mapping = common.mapping;
        if let Link::Mqtt(link) = &link {
            mapping.is_partial |= link.topics.iter().any(TopicPattern::captures_channel);
        }
        let mut alerts = common.alerts;
        // A recording has gaps of its own.
        if let Kind::File = kind {
            alerts.silent_after_ms.get_or_insert(0);
        }
        if let Link::Modbus(link) = &link {
            alerts.silent_after_ms = alerts.silent_after_ms.or(link.silent_after_ms());
        }
        Some(Self {
            name,
            model: common.model,
            clock: common.clock,
            priority: common.priority,
            readings_per_second_max: common.readings_per_second_max,
            payload_bytes_max: common.payload_bytes_max,
            alerts,
            mapping,
            sequence_modulo: common.sequence_modulo,
            hold_ms: common.hold_ms,
            sensor,
            format,
            nodes,
            link,
        })
    }
}

fn read_alerts(section: &mut Section<'_, '_>) -> AlertTimes {
    let silent_after_ms = section.integer("silent_after_ms", -1..=ALERT_MS_MAX);
    let link_down_ms = section.integer("link_down_ms", 0..=ALERT_MS_MAX);
    AlertTimes {
        watches_range: section.boolean("range_alerts"),
        // -1: what the schema makes of it.
        silent_after_ms: u64::try_from(silent_after_ms).ok(),
        link_down_ms: link_down_ms.unsigned_abs(),
    }
}

fn read_serial(section: &mut Section<'_, '_>) -> Stream {
    let parities = [
        ("none", Parity::None),
        ("even", Parity::Even),
        ("odd", Parity::Odd),
    ];
    let link = SerialLink {
        port: section.parsed("port", not_empty).unwrap_or_default(),
        baud: section.integer("baud", 50..=4_000_000),
        parity: section.word("parity", &parities),
        data_bits: section.integer("data_bits", 7..=8),
        stop_bits: section.integer("stop_bits", 1..=2),
        rs485: read_rs485(section),
        reconnect: Backoff::read(section),
    };
    (
        read_fixed_sensor(section),
        section.word("format", FORMATS_SERIAL),
        NodesConfig {
            elf: section.path_or_none("elf"),
            period_ms: section.integer("period_ms", 0..=3_600_000),
            running: section.boolean("running"),
        },
        Link::Serial(link),
    )
}

/// The keys are read even where the first says no: what is wrong is wrong.
pub(super) fn read_rs485(section: &mut Section<'_, '_>) -> Option<Rs485Config> {
    let is_on = section.boolean("rs485");
    let rs485 = Rs485Config {
        is_rts_on_send: section.boolean("rs485_rts_on_send"),
        delay_before_ms: section.integer("rs485_delay_before_ms", 0..=100),
        delay_after_ms: section.integer("rs485_delay_after_ms", 0..=100),
    };
    is_on.then_some(rs485)
}

fn read_mqtt(section: &mut Section<'_, '_>) -> Stream {
    let protocols = [
        ("", None),
        ("5", Some(Protocol::V5)),
        ("3.1.1", Some(Protocol::V311)),
    ];
    let link = MqttLink {
        topics: read_topics(section),
        qos: section.integer("qos", 0..=2),
        accepts_retained: section.word("retained", &[("ignore", false), ("accept", true)]),
        host: section.text_or_none("host"),
        port: Some(section.integer("port", 0..=u16::MAX)).filter(|port| *port > 0),
        protocol: section.word("protocol", &protocols),
        tls: section.boolean_or_none("tls"),
        tls_files: TlsConfig::read(section),
        reconnect: Backoff::read(section),
    };
    let sensor = read_captured_sensor(section, &link.topics);
    (
        sensor,
        section.word("format", FORMATS_MQTT),
        NodesConfig {
            elf: section.path_or_none("elf"),
            ..NodesConfig::UNASKED
        },
        Link::Mqtt(link),
    )
}

fn read_file(section: &mut Section<'_, '_>) -> Stream {
    let link = FileLink {
        path: section.path("path"),
        speed: section.float("speed", 0.0..=1e6),
        period_ms: Some(section.float("period_ms", 0.0..=86_400_000.0)).filter(|ms| *ms > 0.0),
        repeat: section.boolean("repeat"),
    };
    (
        read_fixed_sensor(section),
        section.word("format", FORMATS_FILE),
        NodesConfig::UNASKED,
        Link::File(link),
    )
}

impl NodesConfig {
    /// Nodes that nobody talks to: there is no way back.
    pub(super) const UNASKED: Self = Self {
        elf: None,
        period_ms: 0,
        running: true,
    };
}

impl Backoff {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let backoff = Self {
            ms_min: section.integer("reconnect_ms_min", 10..=600_000),
            ms_max: section.integer("reconnect_ms_max", 10..=600_000),
        };
        if section.is_sound(&["reconnect_ms_min", "reconnect_ms_max"])
            && backoff.ms_min > backoff.ms_max
        {
            let message = format!("must be at least `reconnect_ms_min`, {}", backoff.ms_min);
            section.wrong("reconnect_ms_max", message);
        }
        backoff
    }
}

fn read_topics(section: &mut Section<'_, '_>) -> Vec<TopicPattern> {
    let texts = section.texts("topics");
    if texts.is_empty() && section.is_sound(&["topics"]) {
        section.wrong(
            "topics",
            "must name at least one topic, such as \"sensors/{sensor}\"",
        );
    }
    let mut patterns = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match TopicPattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(message) => section.wrong_item("topics", index, message),
        }
    }
    patterns
}

/// A template; only MQTT sources have topics that could fill in its captures.
pub(super) fn read_sensor(section: &mut Section<'_, '_>) -> Option<SensorTemplate> {
    let text = section.text_or_none("sensor")?;
    SensorTemplate::parse(&text)
        .map_err(|message| section.wrong("sensor", message))
        .ok()
}

fn read_fixed_sensor(section: &mut Section<'_, '_>) -> Option<SensorTemplate> {
    let template = read_sensor(section)?;
    if let Some(name) = template.names().next() {
        let message = format!("`{{{name}}}` is captured by nothing: this source has no topics");
        section.wrong("sensor", message);
    }
    Some(template)
}

/// A template whose captures each of `patterns` must have.
fn read_captured_sensor(
    section: &mut Section<'_, '_>,
    patterns: &[TopicPattern],
) -> Option<SensorTemplate> {
    let template = read_sensor(section)?;
    if section.is_sound(&["topics"])
        && let Some((index, message)) = uncaptured(&template, patterns)
    {
        // Nobody can mend the template that is compiled in.
        if section.is_compiled_in("sensor") {
            section.wrong_item("topics", index, message);
        } else {
            section.wrong("sensor", message);
        }
    }
    Some(template)
}

/// The first pattern that lacks a capture of `template`, and how to say so.
fn uncaptured(template: &SensorTemplate, patterns: &[TopicPattern]) -> Option<(usize, String)> {
    let lacks = |pattern: &TopicPattern, name: &str| pattern.names().all(|own| own != name);
    patterns.iter().enumerate().find_map(|(index, pattern)| {
        let name = template.names().find(|name| lacks(pattern, name))?;
        let known: Vec<&str> = pattern.names().collect();
        let near = suggestion(name, &known);
        let what = format!("`{{{name}}}` of the key `sensor`");
        Some((
            index,
            format!("{what} is captured by no level of \"{pattern}\"{near}"),
        ))
    })
}
