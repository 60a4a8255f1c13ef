//! Each format against the outcome that its payloads must have, in one
//! notation: `seq=7 ts=9 sensor=a [1, 2]`, `none`, or `reason#channel: detail`, and
//! ` | ` between several.

mod cbor;
mod csv;
mod field;
mod hostile;
mod json;

use crate::{
    Decoded, Decoder, Format, Rejected,
    mapping::tests::{config, schema},
};

/// A decoder of the channels `pressure` and `flow`, in bar.
fn decoder(format: Format, mapping: &str) -> Decoder {
    Decoder::new(format, &schema(&["pressure", "flow"]), &config(mapping)).expect(mapping)
}

/// The outcomes of one payload, one after the other.
fn render(decoder: &mut Decoder, payload: &[u8]) -> String {
    let mut outcomes = Vec::new();
    let count = decoder.decode(payload, 0, &mut |outcome| {
        outcomes.push(render_one(&outcome));
    });
    assert_eq!(count, outcomes.len());
    if outcomes.is_empty() {
        return "none".to_owned();
    }
    outcomes.join(" | ")
}

fn render_one(outcome: &Result<Decoded<'_>, Rejected>) -> String {
    match outcome {
        Ok(Decoded {
            reading, sensor, ..
        }) => {
            let mut text = String::new();
            if let Some(sequence) = reading.sequence {
                text += &format!("seq={sequence} ");
            }
            if let Some(timestamp_us) = reading.timestamp_us {
                text += &format!("ts={timestamp_us} ");
            }
            if let Some(sensor) = sensor {
                text += &format!("sensor={sensor} ");
            }
            text + &format!("{:?}", reading.values())
        }
        Err(Rejected { reason, detail }) => match reason.channel() {
            Some(channel) => format!("{}#{channel}: {detail}", reason.name()),
            None => format!("{}: {detail}", reason.name()),
        },
    }
}

/// Decodes one payload after the other with one decoder.
fn check(format: Format, mapping: &str, cases: &[(&[u8], &str)]) {
    let mut decoder = decoder(format, mapping);
    for (payload, expected) in cases {
        let outcome = render(&mut decoder, payload);
        assert_eq!(outcome, *expected, "{}", payload.escape_ascii());
    }
}
