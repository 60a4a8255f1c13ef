//! Sums over feature vectors, in several accumulators at once: one alone waits
//! for each addition before it starts the next, and the compiler may not
//! reorder floats by itself.

/// Accumulators: two registers of eight, or four of four.
const LANES: usize = 16;

/// `Σ term(i)` over `i` in `0..len`.
#[inline(always)]
fn sum(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let rest: f32 = (whole..len).map(&term).sum();
    // Halves are added pairwise, so that this too is a few wide additions.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + rest
}

/// `Σ x²`
pub(crate) fn square(x: &[f32]) -> f32 {
    sum(x.len(), |i| x[i] * x[i])
}

/// `Σ (y − x)²`; both as long.
pub(crate) fn square_distance(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    sum(x.len(), |i| (y[i] - x[i]) * (y[i] - x[i]))
}

/// `Σ ((y − x)·g)²`; all as long.
pub(crate) fn scaled_square_distance(x: &[f32], y: &[f32], g: &[f32]) -> f32 {
    let (y, g) = (&y[..x.len()], &g[..x.len()]);
    sum(x.len(), |i| {
        let r = (y[i] - x[i]) * g[i];
        r * r
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_every_length_take_each_term_once() {
        for len in 0..100_usize {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let y: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
            let g = vec![2.0; len];
            // Whole numbers of this size add without rounding in any order.
            let expected = x.iter().map(|x| x * x).sum::<f32>();
            assert_eq!(square(&x), expected);
            assert_eq!(square_distance(&x, &y), expected);
            assert_eq!(scaled_square_distance(&x, &y, &g), 4.0 * expected);
        }
    }
}
