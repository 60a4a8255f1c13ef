//! The latencies as an SVG: one line for each path, up to its very last reading.
//!
//! Across: percentiles, by how many readings are slower, each decade of the tail as
//! wide as the one before. Up: latency, logarithmic too, so that a path of a
//! microsecond and a deadline of milliseconds find room on one page. Flat and low is
//! what one wants; a line that rises to the right is the reading that an operator
//! will ask about.

use super::column::{Column, number};
use anyhow::Context;
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::path::Path;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 570.0;
/// Of the part that is drawn on.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 400.0;
/// A line's point for each of so many parts of a decade of the tail.
const STEPS: u32 = 40;
/// Decades of the tail that are drawn at least: to the 99.9th percentile.
const DECADES_MIN: f64 = 3.0;
const LINE_HEIGHT: f64 = 17.0;
/// Told apart by people with any colour vision (Okabe and Ito 2008).
const COLOURS: [&str; 4] = ["#000000", "#0072b2", "#d55e00", "#009e73"];
/// Where a line is marked, and the table has a value.
const MARKS: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// What stands around the lines.
pub(super) struct Captions {
    /// What was played, on what.
    pub(super) load: String,
    /// Why a path has no line.
    pub(super) absent: String,
    pub(super) deadline_ms: f64,
}

/// Writes the plot of all rounds of all paths.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(file: &Path, columns: &[Column], captions: &Captions) -> anyhow::Result<()> {
    let svg = draw(columns, captions);
    std::fs::write(file, svg).with_context(|| format!("writing {}", file.display()))
}

/// A path's latencies over all rounds.
struct Line {
    name: &'static str,
    colour: &'static str,
    latency_ns: Histogram<u64>,
}

impl Line {
    fn us(&self, quantile: f64) -> f64 {
        // Below the nanosecond there is no logarithm to draw.
        self.latency_ns.value_at_quantile(quantile).max(1) as f64 / 1e3
    }

    /// Decades of the tail up to the slowest reading.
    fn decades(&self) -> f64 {
        (self.latency_ns.len().max(1) as f64).log10()
    }

    /// The decade of the tail in which a quantile lies.
    fn decade(&self, quantile: f64) -> f64 {
        (-(1.0 - quantile).log10()).min(self.decades())
    }
}

/// From decades and microseconds to the page.
struct Axes {
    decades: f64,
    /// Powers of ten of a microsecond.
    least: f64,
    most: f64,
}

impl Axes {
    fn of(lines: &[Line], deadline_us: f64) -> Self {
        let decades = lines.iter().map(Line::decades).fold(DECADES_MIN, f64::max);
        let least = lines.iter().map(|line| line.us(0.0));
        let most = lines.iter().map(|line| line.us(1.0));
        Self {
            decades: decades.ceil(),
            least: least.fold(deadline_us, f64::min).log10().floor(),
            most: most.fold(deadline_us, f64::max).log10().ceil(),
        }
    }

    fn x(&self, decade: f64) -> f64 {
        LEFT + decade / self.decades * (RIGHT - LEFT)
    }

    fn y(&self, us: f64) -> f64 {
        let part = (us.log10() - self.least) / (self.most - self.least).max(1.0);
        BOTTOM - part * (BOTTOM - TOP)
    }
}

/// A drawing that grows.
struct Svg(String);

impl Svg {
    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string takes everything");
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>"
        ));
    }

    fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], style: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
        ));
    }
}

fn draw(columns: &[Column], captions: &Captions) -> String {
    let lines: Vec<Line> = columns
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|(column, colour)| Line {
            name: column.name,
            colour,
            latency_ns: column.latency_ns(),
        })
        .collect();
    let mut svg = Svg(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    ));
    let title = "Latency from when a reading was due to its verdict";
    svg.text(LEFT, 30.0, "font-size=\"18\" font-weight=\"bold\"", title);
    svg.text(LEFT, 50.0, "fill=\"#555555\"", &captions.load);
    let (drawn, absent): (Vec<Line>, Vec<Line>) = lines
        .into_iter()
        .partition(|line| !line.latency_ns.is_empty());
    let axes = Axes::of(&drawn, captions.deadline_ms * 1e3);
    draw_axes(&mut svg, &axes);
    draw_deadline(&mut svg, &axes, captions.deadline_ms);
    drawn
        .iter()
        .for_each(|line| draw_line(&mut svg, &axes, line));
    draw_names(&mut svg, &axes, &drawn);
    draw_table(&mut svg, &drawn, &absent, &captions.absent);
    svg.0 + "</svg>\n"
}

fn draw_axes(svg: &mut Svg, axes: &Axes) {
    const GRID: &str = "stroke=\"#dddddd\"";
    const MIDDLE: &str = "text-anchor=\"middle\"";
    let percentiles = (0..=axes.decades as usize).map(|decade| (decade as f64, percent(decade)));
    let half = (2_f64.log10(), "50".to_owned());
    for (decade, label) in percentiles.chain([half]) {
        let x = axes.x(decade);
        svg.line([x, TOP, x, BOTTOM], GRID);
        svg.text(x, BOTTOM + 18.0, MIDDLE, &label);
    }
    for power in axes.least as i32..=axes.most as i32 {
        let us = 10_f64.powi(power);
        let y = axes.y(us);
        svg.line([LEFT, y, RIGHT, y], GRID);
        svg.text(LEFT - 8.0, y + 4.0, "text-anchor=\"end\"", &exact(us));
    }
    let across = "percentile of the verdicts, each decade of the tail as wide as the one before";
    svg.text((LEFT + RIGHT) / 2.0, BOTTOM + 40.0, MIDDLE, across);
    let (x, y) = (22.0, (TOP + BOTTOM) / 2.0);
    let turned = format!("{MIDDLE} transform=\"rotate(-90 {x} {y})\"");
    svg.text(x, y, &turned, "latency, logarithmic");
}

/// The percentile behind which one in ten to the power of `decade` lies.
fn percent(decade: usize) -> String {
    match decade {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        _ => format!("99.{}", "9".repeat(decade - 2)),
    }
}

/// A measured time, with its best unit.
fn time(us: f64) -> String {
    let (value, unit) = scaled(us);
    format!("{} {unit}", number(value))
}

fn scaled(us: f64) -> (f64, &'static str) {
    match us {
        us if us >= 1e6 => (us / 1e6, "s"),
        us if us >= 1e3 => (us / 1e3, "ms"),
        us => (us, "µs"),
    }
}

/// A time that is exact.
fn exact(us: f64) -> String {
    let (value, unit) = scaled(us);
    format!("{value} {unit}")
}

fn draw_deadline(svg: &mut Svg, axes: &Axes, deadline_ms: f64) {
    let y = axes.y(deadline_ms * 1e3);
    let style = "stroke=\"#cc0000\" stroke-dasharray=\"6 4\"";
    svg.line([LEFT, y, RIGHT, y], style);
    let label = format!("deadline {}", exact(deadline_ms * 1e3));
    svg.text(LEFT + 6.0, y - 5.0, "fill=\"#cc0000\"", &label);
}

fn draw_line(svg: &mut Svg, axes: &Axes, line: &Line) {
    let colour = line.colour;
    let steps = (line.decades() * f64::from(STEPS)) as u32;
    let quantiles = (0..=steps).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(STEPS)));
    let at = |quantile| (axes.x(line.decade(quantile)), axes.y(line.us(quantile)));
    let points: String = quantiles
        .chain([1.0])
        .map(at)
        .map(|(x, y)| format!("{x:.1},{y:.1} "))
        .collect();
    svg.push(format_args!(
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
    ));
    for (name, quantile) in MARKS {
        let ((x, y), value) = (at(quantile), time(line.us(quantile)));
        svg.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"><title>{} {name}: {value}</title></circle>",
            line.name
        ));
    }
}

/// Names each line where it ends, none over another.
fn draw_names(svg: &mut Svg, axes: &Axes, lines: &[Line]) {
    let end = |line: &Line| axes.y(line.us(1.0)) + 4.0;
    let mut lines: Vec<&Line> = lines.iter().collect();
    lines.sort_by(|a, b| end(a).total_cmp(&end(b)));
    let mut free = TOP;
    for line in lines {
        let y = end(line).max(free);
        free = y + LINE_HEIGHT;
        let style = format!("fill=\"{}\" font-weight=\"bold\"", line.colour);
        svg.text(RIGHT + 10.0, y, &style, line.name);
    }
}

/// A row for each path, a column for each mark.
fn draw_table(svg: &mut Svg, drawn: &[Line], absent: &[Line], why: &str) {
    const COLUMN: f64 = 110.0;
    const END: &str = "text-anchor=\"end\"";
    let cell = |index: usize| LEFT + 70.0 + COLUMN * (index as f64 + 1.0);
    let mut y = BOTTOM + 75.0;
    for (index, (name, _)) in MARKS.iter().enumerate() {
        svg.text(cell(index), y, &format!("{END} fill=\"#555555\""), name);
    }
    let verdicts = cell(MARKS.len());
    svg.text(verdicts, y, &format!("{END} fill=\"#555555\""), "verdicts");
    for line in drawn {
        y += LINE_HEIGHT;
        let style = format!("fill=\"{}\" font-weight=\"bold\"", line.colour);
        svg.text(LEFT, y, &style, line.name);
        for (index, (_, quantile)) in MARKS.iter().enumerate() {
            svg.text(cell(index), y, END, &time(line.us(*quantile)));
        }
        svg.text(verdicts, y, END, &line.latency_ns.len().to_string());
    }
    for line in absent {
        y += LINE_HEIGHT;
        let style = format!("fill=\"{}\" font-weight=\"bold\"", line.colour);
        svg.text(LEFT, y, &style, line.name);
        svg.text(cell(0) - COLUMN / 2.0, y, "", why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::column::Round;
    use std::time::Duration;

    fn column(name: &'static str, latencies_us: impl Iterator<Item = u64>) -> Column {
        let mut latency_ns = hark_serve::hot_path::histogram();
        latencies_us.for_each(|us| latency_ns.saturating_record(us * 1_000));
        let mut column = Column::new(name);
        column.add(Round {
            arrived: latency_ns.len(),
            latency_ns,
            shed: 0,
            misses: 0,
            allocations: None,
            cpu_us: 0.0,
            took: Duration::from_secs(1),
        });
        column
    }

    fn drawn(columns: &[Column]) -> String {
        let captions = Captions {
            load: "10 sensors & more".to_owned(),
            absent: "no window was filled".to_owned(),
            deadline_ms: 50.0,
        };
        draw(columns, &captions)
    }

    #[test]
    fn a_plot_names_its_axes_and_marks_the_percentiles_of_each_path() {
        let svg = drawn(&[column("process", 1..=10_000)]);
        for part in [
            "latency, logarithmic</text>",
            "percentile of the verdicts",
            "10 sensors &amp; more",
            "deadline 50 ms",
            ">99.99</text>",
            "process p50: 5.00 ms",
            "process p90: 9.00 ms",
            "process p99: 9.90 ms",
            "process p99.9: 9.99 ms",
            "process max: 10.0 ms",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
    }

    #[test]
    fn each_decade_of_the_tail_is_as_wide_as_the_one_before() {
        let line = Line {
            name: "pty",
            colour: COLOURS[0],
            latency_ns: column("pty", 1..=100_000).latency_ns(),
        };
        let axes = Axes::of(std::slice::from_ref(&line), 50_000.0);
        let [p90, p99, p999, max] = [0.9, 0.99, 0.999, 1.0].map(|q| axes.x(line.decade(q)));
        assert!((p99 - p90 - (p999 - p99)).abs() < 1e-6);
        assert!(
            (max - RIGHT).abs() < 1e-6,
            "the slowest of 10⁵ ends the tail"
        );
        assert!(axes.y(100.0) - axes.y(1_000.0) - (axes.y(10.0) - axes.y(100.0)) < 1e-6);
    }

    #[test]
    fn a_path_without_verdicts_says_why_and_has_no_line() {
        let svg = drawn(&[column("mqtt", 0..0)]);
        assert!(svg.contains("no window was filled"), "{svg}");
        assert!(!svg.contains("polyline") && !svg.contains("NaN"), "{svg}");
    }
}
