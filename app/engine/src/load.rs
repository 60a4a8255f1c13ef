//! The load factor λ/μ over the last seconds: what arrives against what could
//! be served, from counts and busy time that the driver reports.

/// Seconds looked back on: long enough for a steady figure, short enough to
/// show an overload while it lasts.
const SECONDS: usize = 8;

/// What one second of the monotonic clock saw.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    index: u64,
    arrivals: u64,
    served: u64,
    busy_us: u64,
}

/// Arrivals and service of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Load {
    seconds: [Second; SECONDS],
    started_us: Option<u64>,
}

/// The load over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadFigures {
    /// λ: readings that arrived, a second.
    pub arrivals_per_s: f64,
    /// μ: readings that a server always busy would serve, a second; 0 if
    /// nothing was served.
    pub capacity_per_s: f64,
    /// λ/μ; above 1 is an overload. 0 if nothing was served.
    pub factor: f64,
}

impl Load {
    /// So many readings arrived.
    pub fn handle_arrivals(&mut self, n: u64, now_us: u64) {
        self.second(now_us).arrivals += n;
    }

    /// So many readings were served, which kept the server busy for so long.
    pub fn handle_service(&mut self, n: u64, busy_us: u64, now_us: u64) {
        let second = self.second(now_us);
        second.served += n;
        second.busy_us += busy_us;
    }

    /// The figures as of now.
    pub fn figures(&self, now_us: u64) -> LoadFigures {
        let index = now_us / 1_000_000;
        let is_recent = |s: &&Second| index.saturating_sub(s.index) < SECONDS as u64;
        let recent = || self.seconds.iter().filter(is_recent);
        let oldest_us = index.saturating_sub(SECONDS as u64 - 1) * 1_000_000;
        let from_us = self.started_us.unwrap_or(now_us).max(oldest_us);
        let rate = |count: u64, us: u64| {
            if us > 0 {
                count as f64 * 1e6 / us as f64
            } else {
                0.0
            }
        };
        let arrivals = recent().map(|s| s.arrivals).sum();
        let served = recent().map(|s| s.served).sum();
        let busy_us = recent().map(|s| s.busy_us).sum();
        let arrivals_per_s = rate(arrivals, now_us.saturating_sub(from_us));
        let capacity_per_s = rate(served, busy_us);
        LoadFigures {
            arrivals_per_s,
            capacity_per_s,
            factor: if capacity_per_s > 0.0 {
                arrivals_per_s / capacity_per_s
            } else {
                0.0
            },
        }
    }

    fn second(&mut self, now_us: u64) -> &mut Second {
        self.started_us.get_or_insert(now_us);
        let index = now_us / 1_000_000;
        let second = &mut self.seconds[(index % SECONDS as u64) as usize];
        if second.index != index {
            *second = Second {
                index,
                ..Second::default()
            };
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures after so many seconds of so many readings, each served in
    /// `busy_us` as far as one second goes.
    fn figures(seconds: u64, readings: u64, busy_us: u64) -> LoadFigures {
        let mut load = Load::default();
        for second in 1..=seconds {
            let served = readings.min(1_000_000 / busy_us);
            load.handle_arrivals(readings, second * 1_000_000);
            load.handle_service(served, served * busy_us, second * 1_000_000 + 500_000);
        }
        load.figures((seconds + 1) * 1_000_000 - 1)
    }

    fn check(seconds: u64, readings: u64, busy_us: u64, capacity: f64, factor: f64) {
        let found = figures(seconds, readings, busy_us);
        let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-3;
        assert!(is_near(found.arrivals_per_s, readings as f64), "{found:?}");
        assert!(is_near(found.capacity_per_s, capacity), "{found:?}");
        assert!(is_near(found.factor, factor), "{found:?}");
    }

    #[test]
    fn the_factor_is_arrivals_over_capacity() {
        check(1, 1_000, 100, 10_000.0, 0.1);
        check(5, 1_000, 500, 2_000.0, 0.5);
        check(100, 20_000, 100, 10_000.0, 2.0);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut load = Load::default();
        assert_eq!(load.figures(0), LoadFigures::default());
        load.handle_arrivals(1_000, 0);
        load.handle_service(1_000, 1_000, 0);
        assert!(load.figures(1_000_000).factor > 0.0);
        assert_eq!(
            load.figures(SECONDS as u64 * 1_000_000),
            LoadFigures::default()
        );
    }
}
