//! Panics of a model, caught within the deadline.
//!
//! A panic costs more than its unwinding: by default its message comes with a
//! backtrace where RUST_BACKTRACE asks for one, and finding its names in the
//! binary takes longer than most deadlines. So a model's panic is told in one
//! line, and each thread that runs models unwinds once beforehand: the first
//! time reads the unwind tables from storage. Any other panic is a bug of ours
//! and told in full.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};

thread_local! {
    static RUNS_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Has panics of models told in one line, and any other by `tell`, which must not
/// wait: it runs on the thread that panics. Called once, by the binary.
pub fn install_hook(tell: fn(&PanicHookInfo<'_>)) {
    std::panic::set_hook(Box::new(move |panic| {
        if RUNS_MODEL.get() {
            tracing::error!("the model panicked at {}", in_one_line(panic));
        } else {
            tell(panic);
        }
    }));
}

fn in_one_line(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map(ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("(no message)");
    format!("{}: {message}", place.unwrap_or_default())
}

/// Unwinds once, silently, so that a panic of a model finds this thread ready.
pub fn prepare_thread() {
    // What it returns is what was thrown: nothing.
    catch_unwind(|| resume_unwind(Box::new(()))).ok();
}

/// What `run_model` returns; `None` if it panicked. The caller vouches that
/// what a panic leaves half-written is not read.
pub fn catch<R>(run_model: impl FnOnce() -> R) -> Option<R> {
    RUNS_MODEL.set(true);
    let result = catch_unwind(AssertUnwindSafe(run_model));
    RUNS_MODEL.set(false);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_model_is_caught_and_the_thread_is_as_before() {
        prepare_thread();
        assert_eq!(catch(|| 1), Some(1));
        assert_eq!(catch(|| -> u8 { resume_unwind(Box::new(())) }), None);
        assert!(!RUNS_MODEL.get());
        assert_eq!(catch(|| RUNS_MODEL.get()), Some(true));
    }
}
