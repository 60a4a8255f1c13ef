//! Waiting for what must happen, with a deadline.
//!
//! The machines are emulated on a host that may be busy, so deadlines are
//! generous: they end a test that hangs, they measure nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest wait for one thing to happen; a boot under emulation takes six
/// seconds on a quiet machine and a minute on a loaded one.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(100);

/// Looks until `look` finds something, for [`LIMIT`] at most.
///
/// # Errors
/// An error of `look` at once; and at the limit one that names `what`.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(LIMIT, what, look)
}

/// As [`until`], for `limit` at most.
pub(crate) fn until_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not seen within {} s: {what}", limit.as_secs());
        }
        sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happens_is_named_at_the_limit() {
        let error = until_within(Duration::ZERO, "a verdict", || Ok(None::<()>));
        let error = error.expect_err("it never happens").to_string();
        assert_eq!(error, "not seen within 0 s: a verdict");
    }

    #[test]
    fn it_looks_until_it_finds() {
        let mut looks = 0;
        let found = until("the third look", || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.expect("it comes"), 3);
    }
}
