//! What a scenario did, expected and saw.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

/// One thing done or looked for.
struct Observation {
    did: String,
    expected: String,
    seen: Result<String, String>,
    took: Duration,
}

/// The observations of one scenario.
#[derive(Default)]
pub(crate) struct Report {
    observations: Vec<Observation>,
}

impl Report {
    /// Records what `look` saw; its error is the scenario's.
    pub(crate) fn record(
        &mut self,
        did: &str,
        expected: &str,
        started: Instant,
        seen: &Result<String>,
    ) {
        self.observations.push(Observation {
            did: did.to_owned(),
            expected: expected.to_owned(),
            seen: match seen {
                Ok(seen) => Ok(seen.clone()),
                Err(error) => Err(format!("{error:#}")),
            },
            took: started.elapsed(),
        });
    }

    /// A paragraph for each observation.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for observation in &self.observations {
            let (word, seen) = match &observation.seen {
                Ok(seen) => ("seen", seen),
                Err(error) => ("NOT SEEN", error),
            };
            let seconds = observation.took.as_secs_f64();
            writeln!(
                text,
                "  - {} ({seconds:.1} s)\n      expected: {}\n      {word}: {seen}",
                observation.did, observation.expected
            )
            .expect("a String takes everything");
        }
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let observation = |observation: &Observation| {
            let (seen, error) = match &observation.seen {
                Ok(seen) => (Some(seen), None),
                Err(error) => (None, Some(error)),
            };
            json!({
                "did": observation.did, "expected": observation.expected, "seen": seen, "error": error,
                "seconds": observation.took.as_secs_f64(),
            })
        };
        self.observations.iter().map(observation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_failed_says_so_in_text_and_in_json() {
        let mut report = Report::default();
        let now = Instant::now();
        report.record("power on", "a verdict", now, &Ok("sequence 7".to_owned()));
        report.record(
            "the fault",
            "an alert",
            now,
            &Err(anyhow::anyhow!("nothing came")),
        );
        let text = report.to_text();
        assert!(
            text.contains("expected: a verdict\n      seen: sequence 7"),
            "{text}"
        );
        assert!(
            text.contains("expected: an alert\n      NOT SEEN: nothing came"),
            "{text}"
        );
        let json = report.to_json();
        assert_eq!(json[1]["seen"], Value::Null);
        assert_eq!(json[1]["error"], "nothing came");
    }
}
