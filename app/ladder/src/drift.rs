//! Drift: how far the features have gone from those of training.
//!
//! The bundle normalises them, so that their mean square was about 1 then. An
//! exponentially weighted mean of it, over windows, is compared with the bound.

/// Forgetting factor: a memory of about a thousand windows.
const ALPHA: f32 = 1.0 / 1024.0;
/// Of one window no more counts than this many times the bound's square: some
/// odd windows are no drift, and one that has ended is soon forgotten.
const WINDOW_MAX: f32 = 16.0;
/// Drift has ended below this part of the bound, so that it does not flap.
const CLEAR_RATIO: f32 = 0.9;

pub(super) struct Drift {
    /// 0: off.
    max: f32,
    mean_square: f32,
    is_drifted: bool,
}

impl Drift {
    pub(super) fn new(max: f32) -> Self {
        Self {
            max,
            mean_square: 1.0,
            is_drifted: false,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.max > 0.0
    }

    pub(super) fn is_drifted(&self) -> bool {
        self.is_drifted
    }

    pub(super) fn rms(&self) -> f32 {
        self.mean_square.sqrt()
    }

    /// Takes in the mean square of the features of one window.
    pub(super) fn handle_window(&mut self, mean_square: f32) {
        // `min` takes the bound for a NaN, too.
        let bounded = mean_square.min(WINDOW_MAX * self.max * self.max);
        self.mean_square += ALPHA * (bounded - self.mean_square);
        let rms = self.rms();
        self.is_drifted = rms > self.max || (self.is_drifted && rms > CLEAR_RATIO * self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of `mean_square` until the drift begins or ends.
    fn windows_until(drift: &mut Drift, is_drifted: bool, mean_square: f32) -> Option<u32> {
        (1..20_000).find(|_| {
            drift.handle_window(mean_square);
            drift.is_drifted() == is_drifted
        })
    }

    #[test]
    fn drift_begins_and_ends_slowly() {
        let mut drift = Drift::new(2.0);
        assert_eq!(windows_until(&mut drift, true, 3.9), None);
        let begins = windows_until(&mut drift, true, 9.0).unwrap();
        assert!((10..1_000).contains(&begins), "{begins}");
        // Back within the bound, but not by enough.
        assert_eq!(windows_until(&mut drift, false, 3.9), None);
        let ends = windows_until(&mut drift, false, 1.0).unwrap();
        assert!((100..2_000).contains(&ends), "{ends}");
    }

    #[test]
    fn an_absurd_window_is_no_drift_and_is_forgotten() {
        for absurd in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut drift = Drift::new(2.0);
            drift.handle_window(absurd);
            assert!(!drift.is_drifted());
            assert!(windows_until(&mut drift, true, absurd).is_some());
            let ends = windows_until(&mut drift, false, 1.0).unwrap();
            assert!(ends < 4_000, "{ends}");
        }
    }
}
