//! Admission: what has waited too long is shed before work is spent on it.
//!
//! Each priority group has a rank, 0 the lowest. A group of rank `r` of `n` is
//! shed once it waited longer than `bound·(r + 1)/n`. Under overload waits
//! grow until enough is shed, so the lowest priority goes first; with one rank
//! it is simply the oldest. No wait is ever longer than the bound.

/// Decides by age and rank. It counts nothing: the caller tells the engine.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    bound_us: u64,
    ranks: usize,
}

impl Admission {
    /// Sheds whatever waited longer than `bound_us`, lower ranks sooner.
    ///
    /// # Panics
    /// If `ranks` is 0.
    pub fn new(bound_us: u64, ranks: usize) -> Self {
        assert!(ranks > 0, "everything has a rank");
        Self { bound_us, ranks }
    }

    /// Whether what has waited so long is still worth its work. A rank beyond
    /// the highest counts as the highest.
    pub fn is_admitted(&self, rank: usize, waited_us: u64) -> bool {
        let share = (rank + 1).min(self.ranks) as u128;
        u128::from(waited_us) * self.ranks as u128 <= u128::from(self.bound_us) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranks: usize, rank: usize, longest_us: u64) {
        let admission = Admission::new(900, ranks);
        assert!(admission.is_admitted(rank, longest_us), "{rank} of {ranks}");
        assert!(
            !admission.is_admitted(rank, longest_us + 1),
            "{rank} of {ranks}"
        );
    }

    #[test]
    fn the_lowest_rank_is_shed_first() {
        check(1, 0, 900);
        check(3, 0, 300);
        check(3, 1, 600);
        check(3, 2, 900);
        check(3, 7, 900);
    }

    #[test]
    fn the_longest_wait_does_not_overflow() {
        assert!(!Admission::new(1, usize::MAX).is_admitted(0, u64::MAX));
        assert!(Admission::new(u64::MAX, 1).is_admitted(0, u64::MAX));
    }
}
