//! Whether two replays of one recording judged alike.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// How far two scores may lie apart, relative to the larger one. Spectra and
/// float layers are summed in another order by other vector units; int8 layers
/// are exact. Far below what moves a verdict.
pub(super) const SCORE_TOLERANCE: f64 = 1e-4;

/// Scores this small differ by rounding alone, and decide nothing.
const SCORE_FLOOR: f64 = 1e-3;

/// What must be equal in each verdict.
const EXACT: [&str; 6] = ["sensor", "seq", "ts", "anomaly", "state", "rung"];

/// The outcomes of readings; each reading has exactly one.
const OUTCOMES: [&str; 5] = ["scored", "fallback", "filling", "rejected", "shed"];

/// The last line of `text`, as hark prints its summary.
pub(super) fn summary(text: &str) -> Result<Value> {
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the last line is no summary: {last}"))
}

/// Readings are as many as their outcomes.
pub(super) fn check_sum(summary: &Map<String, Value>) -> Result<()> {
    let count = |key: &str| {
        let count = summary.get(key).and_then(Value::as_u64);
        count.with_context(|| format!("the summary has no number `{key}`"))
    };
    let readings = count("readings")?;
    let mut sum = 0;
    for outcome in OUTCOMES {
        sum += count(outcome)?;
    }
    ensure!(readings > 0, "nothing was read");
    ensure!(readings == sum, "{readings} readings, but {sum} outcomes");
    Ok(())
}

/// Compares the verdicts, alerts' number and outcomes of two replays.
///
/// Returns a sentence on how far they agree.
///
/// # Errors
/// Names the first verdict that differs, and in what.
pub(super) fn verdicts(expected: &[Value], actual: &[Value]) -> Result<String> {
    let (expected_summary, actual_summary) = (expected.last(), actual.last());
    for key in OUTCOMES.iter().chain(&["readings", "alerts"]) {
        let of = |summary: Option<&Value>| summary.and_then(|summary| summary[key].as_u64());
        let (here, there) = (of(expected_summary), of(actual_summary));
        ensure!(here.is_some(), "the summary has no number `{key}`");
        ensure!(here == there, "`{key}` is {here:?} here, {there:?} there");
    }
    let (expected, actual) = (only_verdicts(expected), only_verdicts(actual));
    let (here, there) = (expected.len(), actual.len());
    ensure!(here == there, "{here} verdicts here, {there} there");
    let mut worst: f64 = 0.0;
    let mut anomalies = 0;
    for (here, there) in expected.iter().zip(&actual) {
        for key in EXACT {
            ensure!(
                here[key] == there[key],
                "`{key}` differs: {here} and {there}"
            );
        }
        let difference = relative_difference(score(here)?, score(there)?);
        ensure!(
            difference <= SCORE_TOLERANCE,
            "the scores differ by {difference:.1e}: {here} and {there}"
        );
        worst = worst.max(difference);
        anomalies += usize::from(here["anomaly"] == true);
    }
    Ok(format!(
        "{there} verdicts alike, {anomalies} of them anomalies; scores within {worst:.1e}, \
         {SCORE_TOLERANCE:.0e} allowed"
    ))
}

fn only_verdicts(lines: &[Value]) -> Vec<&Value> {
    let verdicts = lines.iter().filter(|line| line["event"] == "verdict");
    verdicts.collect()
}

fn score(verdict: &Value) -> Result<f64> {
    let score = verdict["score"].as_f64();
    score.with_context(|| format!("no score: {verdict}"))
}

fn relative_difference(a: f64, b: f64) -> f64 {
    (a - b).abs() / a.abs().max(b.abs()).max(SCORE_FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replay(score: f64, state: &str) -> Vec<Value> {
        vec![
            json!({"event": "verdict", "sensor": "a", "seq": 1, "score": score, "state": state}),
            json!({"readings": 2, "scored": 1, "fallback": 0, "filling": 1, "rejected": 0,
                   "shed": 0, "alerts": 0}),
        ]
    }

    fn check_differs(other: &[Value], expected: &str) {
        let error = verdicts(&replay(1.0, "ok"), other).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn replays_that_judge_otherwise_are_told_apart() {
        let same = replay(1.0 + SCORE_TOLERANCE / 2.0, "ok");
        assert!(verdicts(&replay(1.0, "ok"), &same).is_ok());
        check_differs(&replay(1.0 + SCORE_TOLERANCE * 2.0, "ok"), "scores differ");
        check_differs(&replay(1.0, "raised"), "`state` differs");
        check_differs(&replay(1.0, "ok")[1..], "1 verdicts here, 0 there");
        let mut shed = replay(1.0, "ok");
        shed[1]["shed"] = json!(1);
        check_differs(&shed, "`shed` is Some(0) here, Some(1) there");
    }

    #[test]
    fn readings_without_an_outcome_are_noticed() {
        let mut summary = replay(1.0, "ok")[1].as_object().unwrap().clone();
        assert!(check_sum(&summary).is_ok());
        summary.insert("readings".to_owned(), json!(3));
        let error = check_sum(&summary).expect_err("one is missing");
        assert_eq!(error.to_string(), "3 readings, but 2 outcomes");
        summary.remove("shed");
        assert!(check_sum(&summary).is_err());
    }

    #[test]
    fn tiny_scores_are_compared_by_their_difference() {
        assert!(relative_difference(0.0, 1e-9) < SCORE_TOLERANCE);
        assert!(relative_difference(10.0, 10.1) > SCORE_TOLERANCE);
    }
}
