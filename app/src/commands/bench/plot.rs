//! The latency histogram as an SVG: one line for each path.
//!
//! Across: latency on a logarithmic scale. Up: the share of readings in each
//! twelfth of a doubling. A sharp peak far left is what one wants.

use super::column::Column;
use anyhow::Context;
use std::fmt::Write;
use std::path::Path;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 60.0;
/// Steps of the histogram in a doubling of the latency.
const STEPS: f64 = 12.0;
/// Told apart by people with any colour vision (Okabe and Ito 2008).
const COLOURS: [&str; 4] = ["#000000", "#0072b2", "#d55e00", "#009e73"];

/// Writes the plot of all rounds of all paths.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(file: &Path, columns: &[Column]) -> anyhow::Result<()> {
    let svg = draw(columns);
    std::fs::write(file, svg).with_context(|| format!("writing {}", file.display()))
}

/// A step of the histogram: microseconds and the share of readings.
type Curve = Vec<(f64, f64)>;

fn curve(column: &Column) -> Curve {
    let mut shares = std::collections::BTreeMap::<i64, u64>::new();
    let mut total = 0;
    for round in &column.rounds {
        for value in round.latency_ns.iter_recorded() {
            let us = value.value_iterated_to() as f64 / 1e3;
            let step = (us.max(1e-3).log2() * STEPS).floor() as i64;
            *shares.entry(step).or_default() += value.count_since_last_iteration();
            total += value.count_since_last_iteration();
        }
    }
    let point = |(step, count): (i64, u64)| {
        let us = ((step as f64 + 0.5) / STEPS).exp2();
        (us, count as f64 / total as f64)
    };
    shares.into_iter().map(point).collect()
}

fn draw(columns: &[Column]) -> String {
    let curves: Vec<Curve> = columns.iter().map(curve).collect();
    let all = || curves.iter().flatten();
    let least = all()
        .map(|p| p.0)
        .fold(f64::INFINITY, f64::min)
        .log10()
        .floor();
    let most = all().map(|p| p.0).fold(0.0, f64::max).log10().ceil();
    let top = all().map(|p| p.1).fold(0.0, f64::max);
    if !(least.is_finite() && most.is_finite() && top > 0.0) {
        return "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n".to_owned();
    }
    let x =
        |us: f64| MARGIN + (us.log10() - least) / (most - least).max(1.0) * (WIDTH - 2.0 * MARGIN);
    let y = |share: f64| HEIGHT - MARGIN - share / top * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut decade = least;
    while decade <= most {
        let (us, at) = (10_f64.powf(decade), x(10_f64.powf(decade)));
        let (low, high) = (HEIGHT - MARGIN, MARGIN);
        writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{low}\" y2=\"{high}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{us} µs</text>",
            low + 18.0
        )
        .expect("a string takes everything");
        decade += 1.0;
    }
    for (index, (column, curve)) in columns.iter().zip(&curves).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: String = curve
            .iter()
            .map(|&(us, share)| format!("{:.1},{:.1} ", x(us), y(share)))
            .collect();
        writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            WIDTH - MARGIN - 60.0,
            MARGIN + 16.0 * index as f64,
            column.name
        )
        .expect("a string takes everything");
    }
    svg.push_str(
        "<text x=\"60\" y=\"30\">Latency from when a reading was due to its verdict</text>\n</svg>\n",
    );
    svg
}
