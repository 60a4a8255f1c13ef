//! Faults behind the instruments: a channel that sticks and a link that loses readings.
//!
//! Losses come in bursts, as on a radio link or a loose plug: a two-state Markov chain, good and
//! bad (E. N. Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960)
//! 1253–1265), in which every reading of a bad spell is lost.

use crate::instruments::CHANNELS;
use crate::noise::{Noise, Stream};

type Values = [f64; CHANNELS.len()];

/// Share of the readings lost at severity 1. A link that loses all would be a dead one, and shows
/// no gaps.
pub const LOSS_SHARE_MAX: f64 = 0.5;
/// Mean length of a burst of losses, readings.
const BURST_READINGS: f64 = 5.0;

/// A channel that holds on to its value.
#[derive(Clone, Debug)]
pub(crate) struct StuckSensor {
    noise: Noise,
    held: Option<(usize, f64)>,
}

impl StuckSensor {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            noise: Noise::new(seed, Stream::Stuck),
            held: None,
        }
    }

    /// `values` with the stuck channel held at what it was in `last`. Of any change since, a
    /// share of 1 − `severity` passes; `None` frees the channel, and the next time another is
    /// drawn.
    pub(crate) fn apply(
        &mut self,
        severity: Option<f64>,
        mut values: Values,
        last: &Values,
    ) -> Values {
        let Some(severity) = severity else {
            self.held = None;
            return values;
        };
        let (channel, held) = *self.held.get_or_insert_with(|| {
            let channel = (self.noise.unit() * CHANNELS.len() as f64) as usize;
            (channel, last[channel])
        });
        values[channel] = severity * held + (1.0 - severity) * values[channel];
        values
    }
}

/// The way to the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Uplink {
    noise: Noise,
    is_bad: bool,
}

impl Uplink {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            noise: Noise::new(seed, Stream::Link),
            is_bad: false,
        }
    }

    /// Whether the next reading gets through, when a share of `severity` × [`LOSS_SHARE_MAX`] is
    /// lost.
    pub(crate) fn passes(&mut self, severity: f64) -> bool {
        let loss_share = severity * LOSS_SHARE_MAX;
        // Gilbert's chain spends loss_share of its time in the bad state when it is left and
        // entered at these rates.
        let leave = 1.0 / BURST_READINGS;
        let enter = leave * loss_share / (1.0 - loss_share);
        let draw = self.noise.unit();
        self.is_bad = if self.is_bad {
            loss_share > 0.0 && draw >= leave
        } else {
            draw < enter
        };
        !self.is_bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_the_share_of_the_severity_and_come_in_bursts() {
        let check = |severity: f64, share: f64| {
            let mut uplink = Uplink::new(11);
            let passed: Vec<bool> = (0..100_000).map(|_| uplink.passes(severity)).collect();
            let lost = passed.iter().filter(|passes| !**passes).count() as f64;
            assert!(
                (lost / 1e5 - share).abs() < 0.02,
                "severity {severity}: {lost} lost"
            );
            let bursts = passed.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
            assert!(
                (lost / bursts - BURST_READINGS).abs() < 0.5,
                "severity {severity}: {bursts} bursts"
            );
        };
        check(1.0, LOSS_SHARE_MAX);
        check(0.2, 0.2 * LOSS_SHARE_MAX);
    }

    #[test]
    fn a_healed_link_passes_everything_at_once() {
        let mut uplink = Uplink::new(11);
        assert!((0..100).any(|_| !uplink.passes(1.0)));
        while uplink.passes(1.0) {}
        assert!((0..1_000).all(|_| uplink.passes(0.0)));
    }
}
