//! One alert as a line for people, and the topic of its state.

use hark_engine::AlertKind;
use hark_serve::report::{AlertAbout, AlertReport};
use std::fmt::Write;

/// The topic below which the state of `kind` of `sensor` is kept, under `root`: one
/// for each, so that the newest of one kind says nothing of another.
pub fn topic(root: &str, sensor: &str, kind: &str) -> String {
    if kind == AlertKind::Anomaly.name() {
        format!("{root}/alert/{sensor}")
    } else {
        format!("{root}/alert/{sensor}/{kind}")
    }
}

/// The line of `alert`.
pub fn line(alert: &AlertReport) -> String {
    let mut line = format!("{} {}: ", alert.state.to_uppercase(), alert.sensor);
    // Writing to a text cannot fail.
    write_about(&mut line, alert).ok();
    if let Some(row) = alert.row {
        write!(line, ", row {row}").ok();
    }
    let time = alert.time;
    write!(line, ", at {}, alert {}", time.to_rfc3339(), alert.id).ok();
    line
}

fn write_about(line: &mut String, alert: &AlertReport) -> std::fmt::Result {
    let seq = alert.seq.map_or_else(|| "-".to_owned(), |n| n.to_string());
    match &alert.about {
        AlertAbout::Anomaly {
            score,
            threshold,
            rung,
            latency_us,
            causes,
            ..
        } => {
            write!(line, "score {score:.3}, threshold {threshold:.3}, ")?;
            if let Some(first) = causes.iter().next() {
                write!(
                    line,
                    "mainly {} ({:.0} %), ",
                    first.channel,
                    first.share * 100.0
                )?;
            }
            write!(line, "reading {seq}, by the {rung} within {latency_us} µs")
        }
        AlertAbout::Range {
            channel,
            reason,
            value,
            limit,
        } => {
            let channel = channel.as_deref().unwrap_or("a channel");
            let number = |x: &Option<f32>| x.map_or_else(|| "-".to_owned(), |x| x.to_string());
            let reason = reason.unwrap_or("range").replace('_', " ");
            let (value, limit) = (number(value), number(limit));
            write!(
                line,
                "{reason}: {channel} = {value}, limit {limit}, reading {seq}"
            )
        }
        AlertAbout::Silent {
            silent_ms,
            silent_after_ms,
        } => {
            let for_ms = silent_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            write!(line, "silent for {for_ms} ms, limit {silent_after_ms} ms")
        }
        AlertAbout::Link {
            down_ms,
            link_down_ms,
            reason,
        } => {
            let for_ms = down_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            write!(line, "link away for {for_ms} ms, limit {link_down_ms} ms")?;
            match reason {
                Some(reason) => write!(line, ": {reason}"),
                None => Ok(()),
            }
        }
        AlertAbout::Model {
            rung,
            model,
            reason,
        } => match (rung, reason) {
            (Some(rung), Some(reason)) => write!(line, "the {rung} is withheld: {reason}"),
            _ => write!(line, "model {} is run again", model.name),
        },
        AlertAbout::Gone { reason } => write!(line, "{}: {reason}", alert.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_serve::report::{AlertId, AlertTime};

    #[test]
    fn each_kind_of_a_sensor_has_a_topic_of_its_own() {
        let topics = AlertKind::ALL.map(|kind| topic("hark/v1/g", "p1", kind.name()));
        assert_eq!(
            topics,
            [
                "hark/v1/g/alert/p1",
                "hark/v1/g/alert/p1/range",
                "hark/v1/g/alert/p1/silent",
                "hark/v1/g/alert/p1/link",
                "hark/v1/g/alert/p1/model",
            ]
        );
    }

    #[test]
    fn a_line_names_row_time_channel_value_and_limit() {
        let alert = AlertReport {
            id: AlertId::default(),
            kind: "range",
            state: "raised",
            time: AlertTime::of_receipt(1_700_000_000_000_000),
            sensor: "p1".into(),
            source: "recording".into(),
            seq: None,
            ts: None,
            row: Some(401),
            about: AlertAbout::Range {
                channel: Some("temperature".into()),
                reason: Some("rate_of_change"),
                value: Some(150.0),
                limit: Some(120.0),
            },
        };
        assert_eq!(
            line(&alert),
            "RAISED p1: rate of change: temperature = 150, limit 120, reading -, row 401, \
             at 2023-11-14T22:13:20Z, alert 0000000000"
        );
    }
}
