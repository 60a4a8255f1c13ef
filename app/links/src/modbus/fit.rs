//! A source's registers held against what its model wants to know.

use hark_config::{Link, ModbusLink, SourceConfig, check_level};
use hark_engine::Schema;
use hark_modbus::{Plan, Register};
use std::time::Duration;

/// What of a source cannot work with readings of `schema`: the key below the
/// source, and why. Empty for a source of another kind.
pub fn misfits(source: &SourceConfig, schema: &Schema) -> Vec<(String, String)> {
    let Link::Modbus(link) = &source.link else {
        return Vec::new();
    };
    let mut misfits = Vec::new();
    for (index, register) in link.registers.iter().enumerate() {
        let channel = &register.channel;
        if schema.channel(channel).is_none() {
            let known: Vec<&str> = schema.channels.iter().map(|c| c.name.as_str()).collect();
            let known = known.join(", ");
            let why = format!("the model has no channel {channel:?}; it has {known}");
            misfits.push((format!("registers[{index}].channel"), why));
        }
    }
    for channel in &schema.channels {
        let name = &channel.name;
        if link.registers.iter().all(|r| r.channel != *name) {
            let why = format!("the model wants the channel {name:?}, which has no register");
            misfits.push(("registers".to_owned(), why));
        }
    }
    if misfits.is_empty() && link.poll_ms.is_none() {
        misfits.extend(too_slow(link, schema));
    }
    for name in sensor_names(source, link) {
        if let Err(why) = check_level(&name) {
            let why = format!("the sensor {name:?} {why}");
            misfits.push(("sensor".to_owned(), why));
        }
    }
    misfits
}

/// Without `poll_ms` the model's period is it, and may be shorter than the line can.
fn too_slow(link: &ModbusLink, schema: &Schema) -> Option<(String, String)> {
    let character = link.reach.character()?;
    let (plan, poll) = (link.plan(), poll_of(link, schema));
    let characters: u32 = link.units.iter().map(|unit| plan.characters(*unit)).sum();
    let least_ms = (character * characters).as_micros().div_ceil(1000);
    let poll_ms = poll.as_millis();
    (least_ms > poll_ms).then(|| {
        let units = link.units.len();
        let why = format!(
            "the model's period of {poll_ms} ms is too short for {units} units on this line, which \
             take {least_ms} ms at least: a higher `baud` helps, or fewer units"
        );
        ("poll_ms".to_owned(), why)
    })
}

/// Between two polls of a unit.
pub(super) fn poll_of(link: &ModbusLink, schema: &Schema) -> Duration {
    match link.poll_ms {
        Some(ms) => Duration::from_millis(ms),
        // A schema's period is above 0; below a microsecond nothing is polled.
        None => Duration::from_micros((schema.period_ms * 1e3).max(1.0) as u64),
    }
}

/// The requests whose values come in the order of the schema.
///
/// # Panics
/// If a channel has no register: see [`misfits`].
pub(super) fn plan_for(link: &ModbusLink, schema: &Schema) -> Plan {
    let register_of = |name: &str| {
        let found = link.registers.iter().find(|r| r.channel == name);
        found.expect("misfits were looked for").register
    };
    let channels = schema.channels.iter();
    let registers: Vec<Register> = channels.map(|c| register_of(&c.name)).collect();
    Plan::new(&registers, link.limits)
}

/// The sensor of each unit.
pub(super) fn sensor_names(source: &SourceConfig, link: &ModbusLink) -> Vec<String> {
    let name = |unit: &u8| match &source.sensor {
        Some(template) => template.fill(unit),
        None if link.units.len() == 1 => source.name.clone(),
        None => format!("{}-{unit}", source.name),
    };
    link.units.iter().map(name).collect()
}
