//! What one run of libFuzzer says on stderr, in five numbers and a path.

use std::fmt;

/// The result of one run of one target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Inputs executed.
    executions: u64,
    /// Inputs executed in a second, on average.
    per_second: u64,
    /// Edges of the control flow that some input has reached, with earlier runs.
    edges: u64,
    /// Inputs kept by this run because they reach new code.
    new_inputs: u64,
    /// The file of the input that crashed, hung or ate the memory.
    pub(crate) crash: Option<String>,
}

impl Report {
    pub(crate) const HEADER: &str =
        "target     executions     exec/s  coverage  new inputs  crashes";

    /// Reads the final statistics; what is missing, after a crash, is zero.
    pub(crate) fn parse(log: &str) -> Self {
        let mut report = Self::default();
        for line in log.lines() {
            report.read_line(line);
        }
        report
    }

    fn read_line(&mut self, line: &str) {
        // `#8192 pulse  cov: 44 ft: 45 corp: 3/6b lim: 80 exec/s: 4096 rss: 70Mb`
        if line.starts_with('#') {
            self.edges = number_after(line, "cov: ").unwrap_or(self.edges);
        } else if let Some(executions) = number_after(line, "stat::number_of_executed_units: ") {
            self.executions = executions;
        } else if let Some(per_second) = number_after(line, "stat::average_exec_per_sec: ") {
            self.per_second = per_second;
        } else if let Some(new_inputs) = number_after(line, "stat::new_units_added: ") {
            self.new_inputs = new_inputs;
        } else if let Some((_, input)) = line.split_once("Test unit written to ") {
            self.crash = Some(input.trim().to_owned());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10} {:>10}  {:>8}  {:>10}  {:>7}",
            self.executions,
            self.per_second,
            self.edges,
            self.new_inputs,
            u8::from(self.crash.is_some()),
        )
    }
}

fn number_after(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATISTICS: &str = "\
INFO: Seed: 2763284135
#2\tINITED cov: 3 ft: 3 corp: 1/1b exec/s: 0 rss: 40Mb
#60\tNEW    cov: 4 ft: 4 corp: 2/3b lim: 4 exec/s: 0 rss: 40Mb L: 2/2 MS: 3 ChangeBit-
#141743\tDONE   cov: 9 ft: 10 corp: 5/12b lim: 1300 exec/s: 23623 rss: 74Mb
Done 141743 runs in 6 second(s)
stat::number_of_executed_units: 141743
stat::average_exec_per_sec:     23623
stat::new_units_added:          19
stat::slowest_unit_time_sec:    0
";

    #[test]
    fn final_statistics_and_last_coverage_are_read() {
        let expected = Report {
            executions: 141_743,
            per_second: 23_623,
            edges: 9,
            new_inputs: 19,
            crash: None,
        };
        assert_eq!(Report::parse(STATISTICS), expected);
    }

    #[test]
    fn the_crashing_input_is_named() {
        let log = format!(
            "{STATISTICS}artifact_prefix='/t/json/'; Test unit written to /t/json/crash-c53d\n"
        );
        let report = Report::parse(&log);
        assert_eq!(report.crash.as_deref(), Some("/t/json/crash-c53d"));
        assert_eq!(report.edges, 9);
    }

    #[test]
    fn a_log_that_ends_early_is_no_panic() {
        for end in 0..STATISTICS.len() {
            let report = Report::parse(&STATISTICS[..end]);
            assert!(report.executions <= 141_743);
        }
        assert_eq!(Report::parse(""), Report::default());
    }
}
