//! An alert out of a log, and why it was raised, for people.
//!
//! What is read is hark's own JSON: a line of an alert log or event log, of
//! `replay --json`, or a payload of MQTT. Whatever else stands between is passed
//! over.

use crate::log::Printable;
use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, Read};

/// The longest line that is an alert; those of hark are a hundredth of it.
const LINE_MAX: u64 = 1 << 20;
/// Characters of the bar of a cause that has all of the score.
const BAR: usize = 20;
/// What an alert that no score brought says of its cause, by its keys.
const FACTS: [&str; 8] = [
    "reason",
    "channel",
    "value",
    "limit",
    "silent_ms",
    "silent_after_ms",
    "down_ms",
    "link_down_ms",
];

/// Which alert is asked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The last one raised by scores.
    Last,
    /// The one whose identifier begins so.
    Id(String),
}

/// An alert of a log.
#[derive(Clone, Debug, Deserialize)]
pub struct LoggedAlert {
    #[serde(default)]
    id: String,
    kind: String,
    state: String,
    sensor: String,
    #[serde(default)]
    time: String,
    seq: Option<u64>,
    row: Option<u64>,
    score: Option<f64>,
    threshold: Option<f64>,
    rung: Option<String>,
    causes: Option<Vec<LoggedCause>>,
    #[serde(skip)]
    facts: Value,
    /// As it was read.
    #[serde(skip)]
    pub json: String,
}

#[derive(Clone, Debug, Deserialize)]
struct LoggedCause {
    channel: String,
    feature: Option<String>,
    band_hz: Option<[f64; 2]>,
    share: f64,
    value: Option<f64>,
    normal: Option<f64>,
    unit: Option<String>,
}

/// A look through logs for one alert, the newest log first.
#[derive(Debug)]
pub struct Search {
    wanted: Wanted,
    found: Option<LoggedAlert>,
    alerts: u64,
    /// Another alert whose identifier begins so, too.
    other: Option<String>,
}

impl Search {
    /// For `wanted`.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            found: None,
            alerts: 0,
            other: None,
        }
    }

    /// Looks through one log.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn look_through(&mut self, mut log: impl BufRead) -> anyhow::Result<()> {
        // Of an older log nothing is later.
        let is_done = self.found.is_some() && matches!(self.wanted, Wanted::Last);
        let mut line = Vec::new();
        while !is_done && log.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
            self.take_in(&line);
            line.clear();
        }
        Ok(())
    }

    fn take_in(&mut self, line: &[u8]) {
        let Some(alert) = LoggedAlert::of(line) else {
            return;
        };
        self.alerts += 1;
        match &self.wanted {
            Wanted::Last if alert.kind == "anomaly" && alert.state == "raised" => {
                self.found = Some(alert);
            }
            Wanted::Id(id) if alert.id.starts_with(id.as_str()) => {
                let known = self.found.as_ref();
                if known.is_some_and(|known| known.id != alert.id) {
                    self.other = Some(alert.id);
                } else {
                    self.found = Some(alert);
                }
            }
            _ => {}
        }
    }

    /// The alert. `place` is where it was looked for.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn finish(self, place: &str) -> anyhow::Result<LoggedAlert> {
        let Self {
            wanted,
            found,
            alerts,
            other,
        } = self;
        match (wanted, found, other) {
            (Wanted::Id(id), Some(found), Some(other)) => bail!(
                "alerts {} and {other} both begin with {id:?}: give more of the identifier",
                found.id
            ),
            (_, Some(found), _) => Ok(found),
            (Wanted::Last, None, _) => bail!(
                "no anomaly was raised in {place}, which holds {}; \
                 --config, --data-dir or --file says where else to look",
                counted(alerts)
            ),
            (Wanted::Id(id), None, _) => bail!(
                "no alert {id:?} in {place}, which holds {}; each line of an alert ends with its \
                 identifier, and --config, --data-dir or --file says where else to look",
                counted(alerts)
            ),
        }
    }
}

impl LoggedAlert {
    /// The alert of a line; none if it holds something else.
    fn of(line: &[u8]) -> Option<Self> {
        let json = std::str::from_utf8(line).ok()?.trim().to_owned();
        let facts: Value = serde_json::from_str(&json).ok()?;
        let alert = Self::deserialize(&facts).ok()?;
        Some(Self {
            facts,
            json,
            ..alert
        })
    }
}

impl fmt::Display for LoggedAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.to_uppercase();
        let said = format!("{state} {}: {}, at {}", self.sensor, self.kind, self.time);
        write!(f, "{}, alert {}", Printable(said), Printable(&self.id))?;
        if let (Some(score), Some(threshold)) = (self.score, self.threshold) {
            let (score, threshold) = (number(score), number(threshold));
            write!(f, "\nscore {score}, threshold {threshold}")?;
        }
        if let Some(rung) = &self.rung {
            write!(f, ", by the {}", Printable(rung))?;
        }
        for (name, number) in [("reading", self.seq), ("row", self.row)] {
            if let Some(number) = number {
                write!(f, ", {name} {number}")?;
            }
        }
        writeln!(f)?;
        match &self.causes {
            Some(causes) if !causes.is_empty() => write_table(f, causes),
            Some(_) => write!(f, "\nits causes are not known"),
            None if self.kind == "anomaly" => {
                write!(f, "\nit was written by a hark that told no causes")
            }
            None => self.write_facts(f),
        }
    }
}

impl LoggedAlert {
    fn write_facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = FACTS.map(|key| (key, &self.facts[key]));
        let known = facts.iter().filter(|(_, value)| !value.is_null());
        known
            .clone()
            .try_for_each(|(key, value)| write!(f, "\n{key:<16} {}", Printable(value)))
    }
}

/// A line for each cause: share, channel, feature, value against normal.
fn write_table(f: &mut fmt::Formatter<'_>, causes: &[LoggedCause]) -> fmt::Result {
    let head = ["channel", "feature", "value", "normal", "unit"].map(str::to_owned);
    let rows: Vec<[String; 5]> = causes.iter().map(LoggedCause::cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).map(|row| row[column].as_str());
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths = [0, 1, 2, 3, 4].map(width);
    let write_row = |f: &mut fmt::Formatter<'_>, row: &[String; 5]| {
        let [a, b, c, d, unit] = row;
        let [wa, wb, wc, wd, _] = widths;
        let line = format!("  {a:<wa$}  {b:<wb$}  {c:>wc$}  {d:>wd$}  {unit}");
        f.write_str(line.trim_end())
    };
    write!(f, "\n  share  {:BAR$}", "")?;
    write_row(f, &head)?;
    for (cause, row) in causes.iter().zip(&rows) {
        let share = cause.share.clamp(0.0, 1.0);
        // Cast: a share is small and no less than 0.
        let bar = "#".repeat((share * BAR as f64).round() as usize);
        write!(f, "\n{:5.1} %  {bar:BAR$}", share * 100.0)?;
        write_row(f, row)?;
    }
    Ok(())
}

impl LoggedCause {
    fn cells(&self) -> [String; 5] {
        let feature = self.feature.as_deref().unwrap_or("-");
        let feature = match self.band_hz {
            Some([from, to]) => format!("{feature} {from}-{to} Hz"),
            None => feature.to_owned(),
        };
        let shown = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), number);
        [
            Printable(&self.channel).to_string(),
            Printable(feature).to_string(),
            shown(self.value),
            shown(self.normal),
            Printable(self.unit.as_deref().unwrap_or_default()).to_string(),
        ]
    }
}

fn counted(alerts: u64) -> String {
    let plural = if alerts == 1 { "" } else { "s" };
    format!("{alerts} alert{plural}")
}

/// Four digits that say something.
fn number(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    let magnitude = x.abs().log10().floor();
    if (-4.0..7.0).contains(&magnitude) {
        // Cast: between 0 and 7.
        let decimals = (3.0 - magnitude).max(0.0) as usize;
        format!("{x:.decimals$}")
    } else {
        format!("{x:.3e}")
    }
}

/// Reads one log, or standard input for `-`, into `search`.
///
/// # Errors
/// If it cannot be read.
pub fn look_through_file(search: &mut Search, path: &std::path::Path) -> anyhow::Result<()> {
    let reading = || format!("reading {}", path.display());
    if path.as_os_str() == "-" {
        return search
            .look_through(std::io::stdin().lock())
            .with_context(reading);
    }
    let file = std::fs::File::open(path).with_context(reading)?;
    let log = std::io::BufReader::new(file);
    search.look_through(log).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"time":"2024-02-29T12:00:00Z","event":"started","version":"1","device":"g"}
{"event":"alert","id":"aa00","kind":"anomaly","state":"raised","time":"T1","sensor":"p1","source":"s","seq":7,"ts":null,"score":41.5,"threshold":10.4,"rung":"model","causes":[{"channel":"temperature","feature":"ewma","share":0.75,"value":64.56593,"normal":54.5536,"unit":"degC"},{"channel":"flow","feature":"bands","band_hz":[0.5,2],"share":0.25,"value":0.00123,"normal":0}]}
{"event":"alert","id":"aa11","kind":"range","state":"raised","time":"T2","sensor":"p1","source":"s","seq":8,"ts":null,"channel":"level","reason":"range","value":150.0,"limit":100.0}
no JSON
{"event":"alert","id":"bb22","kind":"anomaly","state":"cleared","time":"T3","sensor":"p1","source":"s","seq":9,"ts":null,"score":1.5,"threshold":10.4,"rung":"rule","causes":[]}
"#;

    fn search(wanted: Wanted, logs: &[&str]) -> anyhow::Result<LoggedAlert> {
        let mut search = Search::new(wanted);
        for log in logs {
            search.look_through(log.as_bytes())?;
        }
        search.finish("alerts.jsonl")
    }

    fn check(wanted: Wanted, logs: &[&str], expected: Result<&str, &str>) {
        let found = search(wanted, logs);
        match (&found, expected) {
            (Ok(found), Ok(id)) => assert_eq!(found.id, id),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_alert_is_found_by_what_its_identifier_begins_with() {
        let id = |id: &str| Wanted::Id(id.to_owned());
        check(id("bb22"), &[LOG], Ok("bb22"));
        check(id("b"), &["", LOG], Ok("bb22"));
        check(
            id("aa"),
            &[LOG],
            Err("alerts aa00 and aa11 both begin with \"aa\""),
        );
        check(
            id("cc"),
            &[LOG],
            Err("no alert \"cc\" in alerts.jsonl, which holds 3 alerts"),
        );
    }

    #[test]
    fn the_last_is_the_last_that_scores_raised() {
        check(Wanted::Last, &[LOG], Ok("aa00"));
        let newer = LOG.replace("aa00", "ff00");
        check(Wanted::Last, &[&newer, LOG], Ok("ff00"));
        check(
            Wanted::Last,
            &[&LOG.replace("raised", "cleared"), LOG],
            Ok("aa00"),
        );
        check(
            Wanted::Last,
            &["{}"],
            Err("no anomaly was raised in alerts.jsonl"),
        );
    }

    #[test]
    fn a_table_shows_value_against_normal() {
        let shown = search(Wanted::Last, &[LOG]).unwrap().to_string();
        let expected = "\
RAISED p1: anomaly, at T1, alert aa00
score 41.50, threshold 10.40, by the model, reading 7

  share                        channel      feature            value  normal  unit
 75.0 %  ###############       temperature  ewma               64.57   54.55  degC
 25.0 %  #####                 flow         bands 0.5-2 Hz  0.001230       0";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_alert_that_no_score_brought_says_why_itself() {
        let shown = search(Wanted::Id("aa11".to_owned()), &[LOG]).unwrap();
        let shown = shown.to_string();
        assert!(shown.contains("limit            100.0"), "{shown}");
    }

    #[test]
    fn no_name_in_a_log_reaches_the_terminal_as_it_is() {
        let forged = LOG.replace("temperature", "\\u001b[31mred\\nline");
        let shown = search(Wanted::Last, &[&forged]).unwrap().to_string();
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(shown.lines().count(), 6, "{shown}");
    }

    #[test]
    fn numbers_have_four_digits() {
        let shown = [0.0, 1.0, -0.25, 123_456.0, 6.547e-6, 1e9].map(number);
        assert_eq!(
            shown,
            ["0", "1.000", "-0.2500", "123456", "6.547e-6", "1.000e9"]
        );
    }
}
