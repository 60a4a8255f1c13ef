//! The figures of one path over all rounds, and their table.

use hark_serve::hot_path::histogram;
use hdrhistogram::Histogram;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// What one round of one path came to.
pub(super) struct Round {
    /// From when each reading was due to its verdict, nanoseconds.
    pub(super) latency_ns: Histogram<u64>,
    /// Readings that were due.
    pub(super) arrived: u64,
    /// Those that were shed.
    pub(super) shed: u64,
    /// Verdicts after their deadline.
    pub(super) misses: u64,
    /// Allocations a reading on the serving thread, a bare model's own included.
    pub(super) allocations: Option<f64>,
    /// Processor time a reading of the serving thread, microseconds.
    pub(super) cpu_us: f64,
    pub(super) took: Duration,
}

/// One path.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) rounds: Vec<Round>,
}

/// The median over the rounds, with the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self {
                median: f64::NAN,
                min: f64::NAN,
                max: f64::NAN,
            };
        };
        let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self {
            median: (lower + upper) / 2.0,
            min: *min,
            max: *max,
        }
    }

    fn text(&self) -> String {
        let Self { median, min, max } = self;
        if min == max || median.is_nan() {
            return number(*median);
        }
        format!("{} ({}–{})", number(*median), number(*min), number(*max))
    }
}

/// Three digits, or all of a larger whole; a dash for what there is none of.
pub(super) fn number(x: f64) -> String {
    match x.abs() {
        x_abs if x_abs.is_nan() => "–".to_owned(),
        x_abs if x_abs >= 100.0 || x == 0.0 => format!("{x:.0}"),
        x_abs if x_abs >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// A figure's name in the table, its key, and how a round gives it.
type Figure = (&'static str, &'static str, fn(&Round) -> f64);

const FIGURES: [Figure; 10] = [
    ("readings a second", "readings_per_second", |round| {
        (round.arrived - round.shed) as f64 / round.seconds()
    }),
    ("p50 µs", "p50_us", |round| quantile_us(round, 0.5)),
    ("p99 µs", "p99_us", |round| quantile_us(round, 0.99)),
    ("p99.9 µs", "p999_us", |round| quantile_us(round, 0.999)),
    ("max µs", "max_us", |round| quantile_us(round, 1.0)),
    ("deadline misses", "deadline_misses", |round| {
        round.misses as f64
    }),
    ("arrived", "arrived", |round| round.arrived as f64),
    ("shed", "shed", |round| round.shed as f64),
    (
        "allocations a reading",
        "allocations_per_reading",
        |round| round.allocations.unwrap_or(f64::NAN),
    ),
    ("CPU µs a reading", "cpu_us_per_reading", |round| {
        round.cpu_us
    }),
];

/// Not a number where there was no verdict: none is not a quick one.
fn quantile_us(round: &Round, quantile: f64) -> f64 {
    if round.latency_ns.is_empty() {
        return f64::NAN;
    }
    round.latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

impl Column {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            rounds: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Whether a round had no verdict.
    pub(super) fn lacks_verdicts(&self) -> bool {
        self.rounds.iter().any(|round| round.latency_ns.is_empty())
    }

    /// The latencies of all rounds.
    pub(super) fn latency_ns(&self) -> Histogram<u64> {
        let mut all = histogram();
        for round in &self.rounds {
            all += &round.latency_ns;
        }
        all
    }

    fn spread(&self, figure: fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(figure).collect())
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let figures = FIGURES.map(|(_, key, figure)| {
            let Spread { median, min, max } = self.spread(figure);
            (
                key.to_owned(),
                json!({ "median": median, "min": min, "max": max }),
            )
        });
        figures
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Writes a row for each figure, a column for each path.
pub(super) fn write_table(columns: &[Column], out: &mut dyn Write) -> io::Result<()> {
    let cells = |figure| {
        columns
            .iter()
            .map(move |column| column.spread(figure).text())
    };
    let rows: Vec<(&str, Vec<String>)> = FIGURES
        .iter()
        .map(|(name, _, figure)| (*name, cells(*figure).collect()))
        .collect();
    let names: Vec<String> = columns
        .iter()
        .map(|column| column.name.to_owned())
        .collect();
    let width = |at: usize| {
        let cells = rows.iter().map(|(_, cells)| cells[at].chars().count());
        cells.max().unwrap_or(0).max(names[at].len()) + 2
    };
    for (name, cells) in [("", names.clone())].iter().chain(&rows) {
        write!(out, "{name:<22}")?;
        for (at, cell) in cells.iter().enumerate() {
            write!(out, "{cell:>width$}", width = width(at))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_within_its_bounds() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of(vec![1.0, 2.0]).median, 1.5);
        assert!(Spread::of(vec![]).median.is_nan());
    }

    #[test]
    fn a_path_without_verdicts_has_no_latency_and_not_a_quick_one() {
        let mut column = Column::new("process");
        column.add(Round {
            latency_ns: histogram(),
            arrived: 20,
            shed: 0,
            misses: 0,
            allocations: Some(0.0),
            cpu_us: 1.0,
            took: Duration::from_secs(1),
        });
        assert!(column.lacks_verdicts());
        assert!(column.to_json()["p50_us"]["median"].is_null());
        let mut table = Vec::new();
        write_table(&[column], &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        for figure in ["p50 µs", "p99 µs", "p99.9 µs", "max µs"] {
            let row = table.lines().find(|line| line.starts_with(figure));
            assert!(row.is_some_and(|row| row.ends_with(" –")), "{table}");
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.0, 1.234, 12.34, 1234.5, f64::NAN].map(number),
            ["0", "1.23", "12.3", "1234", "–"]
        );
    }
}
