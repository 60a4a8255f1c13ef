//! The scheduled faults, and which of them are active now.

use crate::event::FaultEvent;
use crate::fault::Fault;

/// The faults active during one reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Active {
    severities: [Option<f64>; Fault::ALL.len()],
    /// The fault that began last, and its severity.
    pub(crate) latest: Option<(Fault, f64)>,
}

impl Active {
    /// What `events` amount to at `now_us`. Of several events of one kind the most severe counts.
    pub(crate) fn at(events: &[FaultEvent], now_us: u64) -> Self {
        let mut active = Self::default();
        let mut latest_start_ms = 0;
        for event in events {
            let Some(severity) = event.severity_at(now_us) else {
                continue;
            };
            let known = &mut active.severities[event.fault as usize];
            *known = Some(known.map_or(severity, |other: f64| other.max(severity)));
            if active.latest.is_none() || event.start_ms >= latest_start_ms {
                active.latest = Some((event.fault, severity));
                latest_start_ms = event.start_ms;
            }
        }
        active
    }

    /// `None` while `fault` is absent.
    pub(crate) fn severity(&self, fault: Fault) -> Option<f64> {
        self.severities[fault as usize]
    }

    /// 0 while `fault` is absent.
    pub(crate) fn extent(&self, fault: Fault) -> f64 {
        self.severity(fault).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_faults_all_act_and_the_latest_gives_the_label() {
        let events = ["imbalance@0s:0.9", "imbalance@10s:0.2", "dropout@20s+5s"]
            .map(|text| text.parse().expect(text));
        let check = |now_s: u64, imbalance, latest| {
            let active = Active::at(&events, now_s * 1_000_000);
            assert_eq!(active.extent(Fault::Imbalance), imbalance, "at {now_s} s");
            assert_eq!(active.latest, latest, "at {now_s} s");
        };
        check(5, 0.9, Some((Fault::Imbalance, 0.9)));
        check(15, 0.9, Some((Fault::Imbalance, 0.2)));
        check(20, 0.9, Some((Fault::Dropout, 1.0)));
        check(25, 0.9, Some((Fault::Imbalance, 0.2)));
    }
}
