//! What `hark doctor` found, in words or as JSON.

use super::findings::{Finding, State};
use super::line::{LineReport, setting_text};
use crate::commands::to_stdout;
use hark_links::recognise::{Heard, TEXT_LINES_MIN};
use serde::Serialize;
use std::io::{self, Write};

/// What is printed.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<LineReport>,
    /// The `[[sources]]` entry that listens to the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
}

/// The line as a whole, by its most convincing setting.
pub(super) fn judge(report: &LineReport) -> Finding {
    let Some(best) = report.heard.first() else {
        return Finding::ok("line", "nothing was listened to").problem("try again");
    };
    let finding = Finding::ok(
        "line",
        format!(
            "{}: {}",
            setting_text(&best.settings),
            describe(&best.heard)
        ),
    );
    match &best.heard {
        Heard::Silence => finding.problem(
            "is the node powered, its TX on this RX, its ground on this ground? A transceiver that \
             RTS switches (RS-485) may need `rs485 = true` in the source, named by --config. An \
             instrument that is asked (Modbus) says nothing by itself",
        ),
        Heard::Noise { .. } => finding.problem(
            "no setting makes sense of it: swapped RS-485 wires, an inverted or floating line, or \
             a protocol that hark does not know",
        ),
        Heard::Text { lines, .. } if *lines < TEXT_LINES_MIN => {
            finding.note("too few lines to tell; try --for 60s")
        }
        Heard::Text { .. } => finding.note("text, but no readings: a console perhaps"),
        Heard::Nmea { .. } => finding.note("hark has no NMEA source"),
        Heard::Modbus { .. } => finding.note(
            "somebody asks these units already, and a line has one master; where that is to be hark, \
             a source of kind = \"modbus\" asks them",
        ),
        Heard::Frames { node: None, .. } => {
            finding.note("the node says who it is at its start, and when hark asks")
        }
        Heard::Csv { .. } | Heard::Json { .. } | Heard::Frames { .. } => finding,
    }
}

/// For a person.
fn describe(heard: &Heard) -> String {
    match heard {
        Heard::Silence => "silence".to_owned(),
        Heard::Noise { bytes } => format!("noise, {bytes} bytes"),
        Heard::Text { lines, example } => format!("text, {lines} lines, as {example:?}"),
        Heard::Csv {
            lines,
            columns,
            delimiter,
            example,
            ..
        } => format!(
            "CSV, {lines} rows of {columns} columns with {delimiter:?} between, as {example:?}"
        ),
        Heard::Json { lines, example, .. } => format!("JSON, {lines} lines, as {example}"),
        Heard::Nmea { sentences, example } => {
            format!("NMEA 0183, {sentences} sentences, as {example}")
        }
        Heard::Modbus { frames, units } => {
            format!("Modbus RTU, {frames} frames of units {units:?}")
        }
        Heard::Frames {
            accepted,
            rejected,
            node,
        } => {
            let mut text = format!("hark's frames, {accepted} accepted, {rejected} rejected");
            if let Some(node) = node {
                text += &format!(
                    "; node {:?}, firmware {:?}, channels {}",
                    node.name,
                    node.firmware,
                    node.channels.join(", ")
                );
            }
            text
        }
    }
}

pub(super) fn print(report: &Report, as_json: bool) -> anyhow::Result<()> {
    to_stdout(|out| {
        if as_json {
            serde_json::to_writer(&mut *out, report)?;
            writeln!(out)
        } else {
            write_text(report, out)
        }
    })
}

fn write_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for finding in &report.findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Problem => "PROBLEM",
        };
        writeln!(out, "{:<9} {state:<8} {}", finding.topic, finding.says)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "{:18} → {advice}", "")?;
        }
    }
    if let Some(line) = &report.line {
        for other in line.heard.iter().skip(1) {
            let errors = other.errors.filter(|errors| *errors > 0);
            let errors = errors.map_or(String::new(), |e| format!(", {e} framing errors"));
            writeln!(
                out,
                "{:18} {}: {}{errors}",
                "",
                setting_text(&other.settings),
                describe(&other.heard)
            )?;
        }
        if line.is_cut_short {
            writeln!(out, "stopped before every setting was tried")?;
        }
    }
    if let Some(source) = &report.source {
        writeln!(out, "\nput into hark's configuration:\n\n{source}")?;
    }
    Ok(())
}
