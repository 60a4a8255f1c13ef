//! The last readings of one sensor, in a ring of fixed capacity.
//!
//! Rows are kept time-major (`[time, channel]`), so that a push touches one
//! row and raw lags are two block copies. Running sums give mean, standard
//! deviation, RMS and slope without another pass over the rows. They are kept
//! around a shift near the mean, in f64, and are computed afresh each time the
//! ring wraps, which bounds the rounding error to one window's worth of
//! additions (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample
//! variance", on shifted sums).

use crate::spec::WindowSpec;

/// What all windows of one pipeline have in common.
#[derive(Clone, Debug)]
pub(crate) struct WindowShape {
    pub(crate) length: usize,
    pub(crate) stride: usize,
    pub(crate) gap_max: u64,
    pub(crate) channels: usize,
    /// Whether a feature reads the running sums.
    pub(crate) keeps_sums: bool,
    /// The smoothing factor of each EWMA that a feature reads.
    pub(crate) ewma_alphas: Vec<f32>,
}

impl WindowShape {
    pub(crate) fn new(spec: &WindowSpec, channels: usize) -> Self {
        Self {
            length: spec.length,
            stride: spec.stride,
            gap_max: spec.gap_max,
            channels,
            keeps_sums: false,
            ewma_alphas: Vec::new(),
        }
    }
}

/// Running sums of one channel over the window, with `d = x − shift` and `i`
/// counting readings from the oldest, 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) shift: f64,
    /// Σ d
    pub(crate) first: f64,
    /// Σ d²
    pub(crate) second: f64,
    /// Σ i·d
    pub(crate) indexed: f64,
}

impl Sums {
    /// Appends the reading `x` at index `at`.
    fn append(&mut self, x: f64, at: f64) {
        let d = x - self.shift;
        self.first += d;
        self.second += d * d;
        self.indexed += at * d;
    }

    /// Drops the oldest reading, index 0; every other index falls by one.
    fn evict_oldest(&mut self, x: f64) {
        let d = x - self.shift;
        self.first -= d;
        self.second -= d * d;
        self.indexed -= self.first;
    }
}

/// The last readings of one sensor.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    rows: Box<[f32]>,
    sums: Box<[Sums]>,
    ewma: Box<[f32]>,
    /// The row that the next push writes.
    at: usize,
    filled: usize,
    since_due: usize,
}

impl Window {
    pub(crate) fn new(shape: &WindowShape) -> Self {
        let sums = if shape.keeps_sums { shape.channels } else { 0 };
        Self {
            rows: vec![0.0; shape.length * shape.channels].into(),
            sums: vec![Sums::default(); sums].into(),
            ewma: vec![0.0; shape.ewma_alphas.len() * shape.channels].into(),
            at: 0,
            filled: 0,
            since_due: 0,
        }
    }

    /// Empties the window, as after a gap that it may not bridge.
    pub(crate) fn reset(&mut self) {
        self.sums.fill(Sums::default());
        self.at = 0;
        self.filled = 0;
        self.since_due = 0;
    }

    /// Takes in one reading; true if the window is now due.
    pub(crate) fn push(&mut self, shape: &WindowShape, values: &[f32]) -> bool {
        debug_assert_eq!(values.len(), shape.channels);
        self.update_ewma(shape, values);
        if shape.keeps_sums {
            self.update_sums(shape, values);
        }
        let row = self.at * shape.channels;
        self.rows[row..row + shape.channels].copy_from_slice(values);
        self.at += 1;
        self.filled = shape.length.min(self.filled + 1);
        if self.at == shape.length {
            self.at = 0;
            self.refresh_sums(shape);
        }
        self.step_stride(shape)
    }

    fn step_stride(&mut self, shape: &WindowShape) -> bool {
        if self.filled < shape.length {
            return false;
        }
        // The first full window is due at once, then one every `stride`.
        let is_due = self.since_due == 0;
        self.since_due = (self.since_due + 1) % shape.stride;
        is_due
    }

    fn update_ewma(&mut self, shape: &WindowShape, values: &[f32]) {
        let is_first = self.filled == 0;
        let states = self.ewma.chunks_exact_mut(shape.channels);
        for (state, &alpha) in states.zip(&shape.ewma_alphas) {
            for (y, &x) in state.iter_mut().zip(values) {
                *y = if is_first { x } else { *y + alpha * (x - *y) };
            }
        }
    }

    fn update_sums(&mut self, shape: &WindowShape, values: &[f32]) {
        let is_full = self.filled == shape.length;
        let row = self.at * shape.channels;
        let oldest = &self.rows[row..row + shape.channels];
        let index = (if is_full {
            shape.length - 1
        } else {
            self.filled
        }) as f64;
        for ((sums, &x), &old) in self.sums.iter_mut().zip(values).zip(oldest) {
            if is_full {
                sums.evict_oldest(old.into());
            } else if self.filled == 0 {
                sums.shift = x.into();
            }
            sums.append(x.into(), index);
        }
    }

    /// Computes the sums afresh around the mean; called when the ring wraps,
    /// when row 0 is the oldest.
    fn refresh_sums(&mut self, shape: &WindowShape) {
        for (channel, sums) in self.sums.iter_mut().enumerate() {
            let mean = sums.shift + sums.first / shape.length as f64;
            *sums = Sums {
                shift: mean,
                ..Sums::default()
            };
            let column = self.rows[channel..].iter().step_by(shape.channels);
            for (index, &x) in column.enumerate() {
                sums.append(x.into(), index as f64);
            }
        }
    }

    /// Whether the window has taken in all the readings that it can hold.
    pub(crate) fn is_full(&self, shape: &WindowShape) -> bool {
        self.filled == shape.length
    }

    /// The rows, oldest first, in two blocks of `[time, channel]`.
    pub(crate) fn blocks(&self, shape: &WindowShape) -> (&[f32], &[f32]) {
        debug_assert!(self.is_full(shape));
        let (newer, older) = self.rows.split_at(self.at * shape.channels);
        (older, newer)
    }

    /// The newest row, once there is one.
    pub(crate) fn newest(&self, shape: &WindowShape) -> &[f32] {
        let row = (self.at + shape.length - 1) % shape.length;
        &self.rows[row * shape.channels..][..shape.channels]
    }

    pub(crate) fn sums(&self, channel: usize) -> &Sums {
        &self.sums[channel]
    }

    /// The state of EWMA `index` of the shape, one value a channel.
    pub(crate) fn ewma(&self, shape: &WindowShape, index: usize) -> &[f32] {
        &self.ewma[index * shape.channels..][..shape.channels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(length: usize, stride: usize) -> WindowShape {
        let spec = WindowSpec {
            length,
            stride,
            gap_max: 0,
        };
        WindowShape {
            keeps_sums: true,
            ..WindowShape::new(&spec, 1)
        }
    }

    fn due_after(length: usize, stride: usize, pushes: usize) -> Vec<usize> {
        let shape = shape(length, stride);
        let mut window = Window::new(&shape);
        (1..=pushes)
            .filter(|&n| window.push(&shape, &[n as f32]))
            .collect()
    }

    #[test]
    fn a_window_is_due_when_full_and_then_every_stride() {
        assert_eq!(due_after(4, 1, 7), [4, 5, 6, 7]);
        assert_eq!(due_after(4, 3, 12), [4, 7, 10]);
        assert_eq!(due_after(4, 4, 12), [4, 8, 12]);
        assert_eq!(due_after(1, 1, 3), [1, 2, 3]);
    }

    #[test]
    fn blocks_are_oldest_first() {
        let shape = shape(3, 1);
        let mut window = Window::new(&shape);
        for n in 1..=5 {
            window.push(&shape, &[n as f32]);
        }
        let (older, newer) = window.blocks(&shape);
        assert_eq!([older, newer].concat(), [3.0, 4.0, 5.0]);
    }

    #[test]
    fn running_sums_equal_a_fresh_pass_at_every_push() {
        let shape = shape(5, 1);
        let mut window = Window::new(&shape);
        let mut history: Vec<f64> = Vec::new();
        for n in 0..1000_u32 {
            // A large offset is where naive sums of squares lose their digits.
            let x = 1e6 + f64::from(n * 7919 % 101);
            history.push(x);
            window.push(&shape, &[x as f32]);
            let recent = &history[history.len().saturating_sub(5)..];
            check_sums(window.sums(0), recent);
        }
    }

    fn check_sums(sums: &Sums, recent: &[f64]) {
        let d = || recent.iter().map(|x| x - sums.shift);
        let expected = [
            d().sum::<f64>(),
            d().map(|d| d * d).sum(),
            d().enumerate().map(|(i, d)| i as f64 * d).sum(),
        ];
        for (found, expected) in [sums.first, sums.second, sums.indexed]
            .into_iter()
            .zip(expected)
        {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_reset_window_fills_again() {
        let shape = shape(2, 1);
        let mut window = Window::new(&shape);
        window.push(&shape, &[1.0]);
        assert!(window.push(&shape, &[2.0]));
        window.reset();
        assert!(!window.push(&shape, &[3.0]));
        assert!(window.push(&shape, &[4.0]));
        assert_eq!(window.sums(0).first + 2.0 * window.sums(0).shift, 7.0);
    }
}
