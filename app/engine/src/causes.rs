//! Why a score is what it is: the channels that it comes from, each with its share.
//!
//! A score that is a sum has its terms: the squared residuals of a reconstruction,
//! the squared distances of the rule. The terms of all features of a channel are
//! added up, for a channel is what somebody can go and look at; of its features the
//! one with the greatest term is named, with its value and what that normally is.

use crate::CHANNELS_MAX;

/// Causes that are told of one score: beyond these a list explains nothing.
pub const CAUSES_MAX: usize = 5;

/// Shares are rounded down to multiples of it, which an f32 holds and adds exactly:
/// together they never exceed 1.
const SHARE_STEP: f64 = 1.0 / 4096.0;

/// One channel's part in a score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cause {
    /// Index in the schema's channels.
    pub channel: u8,
    /// Index of the channel's feature that has the greatest part, in the feature
    /// vector; none of the rule, which judges the channel itself.
    pub feature: Option<u16>,
    /// Of the score, above 0, at most 1.
    pub share: f32,
    /// Of the feature, before it was normalised; else of the channel.
    pub value: f32,
    /// What it is while nothing is wrong: where the bundle centres the feature, else
    /// where the channel has been of late.
    pub normal: f32,
}

/// The causes of one score, the greatest share first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Causes {
    list: [Cause; CAUSES_MAX],
    len: u8,
    are_awaited: bool,
}

impl Causes {
    /// Nobody knows, or nobody asked.
    pub const NONE: Self = Self {
        list: [Cause {
            channel: 0,
            feature: None,
            share: 0.0,
            value: 0.0,
            normal: 0.0,
        }; CAUSES_MAX],
        len: 0,
        are_awaited: false,
    };

    /// They are being looked for, and follow as [`Output::Explained`](crate::Output).
    pub(crate) const AWAITED: Self = Self {
        are_awaited: true,
        ..Self::NONE
    };

    /// They, the greatest share first.
    pub fn as_slice(&self) -> &[Cause] {
        &self.list[..usize::from(self.len)]
    }

    /// Whether they are not known yet, and follow.
    pub fn are_awaited(&self) -> bool {
        self.are_awaited
    }
}

/// The terms of a score, added up by channel.
pub(crate) struct Parts {
    by_channel: [Part; CHANNELS_MAX],
    total: f64,
}

#[derive(Clone, Copy, Default)]
struct Part {
    sum: f64,
    greatest: f32,
    feature: Option<u16>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self {
            by_channel: [Part::default(); CHANNELS_MAX],
            total: 0.0,
        }
    }

    /// A term of `channel`, by the feature of this index if it is of one.
    pub(crate) fn add(&mut self, channel: usize, feature: Option<usize>, term: f32) {
        // What is no number takes part in no score.
        if term.is_nan() || term <= 0.0 {
            return;
        }
        let term = term.min(f32::MAX);
        let part = &mut self.by_channel[channel];
        part.sum += f64::from(term);
        self.total += f64::from(term);
        if term > part.greatest {
            part.greatest = term;
            part.feature = feature.and_then(|index| index.try_into().ok());
        }
    }

    /// The greatest parts, as shares of all of them. `show` says value and normal of a
    /// channel, or of its feature of this index.
    pub(crate) fn causes(&self, show: impl FnMut(usize, Option<usize>) -> (f32, f32)) -> Causes {
        self.causes_of(self.total, show)
    }

    /// As [`Parts::causes`], as shares of `whole` where that is more.
    pub(crate) fn causes_of(
        &self,
        whole: f64,
        mut show: impl FnMut(usize, Option<usize>) -> (f32, f32),
    ) -> Causes {
        let whole = whole.max(self.total);
        let mut causes = Causes::NONE;
        let mut parts = self.by_channel;
        for cause in &mut causes.list {
            let by_sum = |a: &(usize, Part), b: &(usize, Part)| a.1.sum.total_cmp(&b.1.sum);
            // Of equals the last is the maximum: reversed, the schema's first.
            let greatest = parts.iter().copied().enumerate().rev().max_by(by_sum);
            let Some((channel, part)) = greatest else {
                break;
            };
            let share = (part.sum / whole / SHARE_STEP).floor() * SHARE_STEP;
            // None is left, or what is left is next to nothing; 0 / 0 is no number.
            if share.is_nan() || share <= 0.0 {
                break;
            }
            let (value, normal) = show(channel, part.feature.map(usize::from));
            *cause = Cause {
                channel: channel as u8,
                feature: part.feature,
                share: share as f32,
                value,
                normal,
            };
            causes.len += 1;
            parts[channel] = Part::default();
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn causes_of(terms: &[(usize, Option<usize>, f32)]) -> Causes {
        let mut parts = Parts::new();
        for &(channel, feature, term) in terms {
            parts.add(channel, feature, term);
        }
        parts.causes(|channel, feature| (channel as f32, feature.map_or(-1.0, |f| f as f32)))
    }

    fn check(terms: &[(usize, Option<usize>, f32)], expected: &[(u8, Option<u16>, f32)]) {
        let causes = causes_of(terms);
        let found: Vec<_> = causes
            .as_slice()
            .iter()
            .map(|c| (c.channel, c.feature, c.share))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn terms_of_a_channel_are_one_cause_by_its_greatest_feature() {
        check(&[], &[]);
        check(&[(3, None, 0.0), (4, None, f32::NAN)], &[]);
        check(&[(3, None, 2.0)], &[(3, None, 1.0)]);
        check(
            &[
                (0, Some(0), 1.0),
                (1, Some(1), 2.0),
                (0, Some(2), 3.0),
                (1, Some(65_535), 2.0),
            ],
            &[(0, Some(2), 0.5), (1, Some(1), 0.5)],
        );
    }

    #[test]
    fn no_more_than_five_are_told() {
        let terms: Vec<_> = (0..8).map(|channel| (channel, None, 1.0)).collect();
        let expected: Vec<_> = (0..5).map(|channel| (channel, None, 0.125)).collect();
        check(&terms, &expected);
    }

    #[test]
    fn a_term_without_bound_leaves_shares_that_are_numbers() {
        check(
            &[(0, None, f32::INFINITY), (1, None, 1.0)],
            &[(0, None, 1.0)],
        );
    }

    #[test]
    fn shares_are_sorted_lie_within_0_and_1_and_add_up_to_no_more_than_1() {
        for seed in 0..2_000 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let terms: Vec<_> = (0..rng.random_range(0..200))
                .map(|index| {
                    let term = 10_f32.powf(rng.random_range(-30.0..38.0));
                    (rng.random_range(0..CHANNELS_MAX), Some(index), term)
                })
                .collect();
            let causes = causes_of(&terms);
            let shares: Vec<f32> = causes.as_slice().iter().map(|c| c.share).collect();
            assert_eq!(shares.is_empty(), terms.is_empty(), "seed {seed}");
            assert!(shares.iter().all(|s| *s > 0.0 && *s <= 1.0), "seed {seed}");
            assert!(shares.is_sorted_by(|a, b| a >= b), "seed {seed}");
            assert!(shares.iter().sum::<f32>() <= 1.0, "seed {seed}");
        }
    }
}
