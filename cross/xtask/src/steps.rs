//! A list of named steps, each run and timed, and the summary at the end.
//!
//! A failed step does not stop the ones after it: one run shows everything
//! that is wrong.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::packages::Package;

/// One thing to check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// What must be installed before it runs.
    pub(crate) needs: &'static [Package],
    pub(crate) run: fn() -> Result<()>,
}

/// The steps that `only` names, in the list's order; all when it names none.
///
/// # Errors
/// When `only` names a step that is not in the list.
pub(crate) fn choose<'a>(steps: &'a [Step], only: &[String]) -> Result<Vec<&'a Step>> {
    for name in only {
        if !steps.iter().any(|step| step.name == name) {
            let known: Vec<_> = steps.iter().map(|step| step.name).collect();
            bail!("no step `{name}`; there are: {}", known.join(", "));
        }
    }
    Ok(steps
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect())
}

/// Runs `steps` in order and prints the outcome and time of each.
///
/// # Errors
/// Names every step that failed.
pub(crate) fn run_all(steps: &[&Step]) -> Result<()> {
    let mut outcomes: Vec<(&Step, Duration, Result<()>)> = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.why);
        let started = Instant::now();
        let result = (step.run)();
        let elapsed = started.elapsed();
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("== {}: {word} in {:.1} s", step.name, elapsed.as_secs_f64());
        outcomes.push((step, elapsed, result));
    }
    summarise(&outcomes)
}

fn summarise(outcomes: &[(&Step, Duration, Result<()>)]) -> Result<()> {
    println!("\n== summary");
    let mut failed = Vec::new();
    for (step, elapsed, result) in outcomes {
        let seconds = elapsed.as_secs_f64();
        match result {
            Ok(()) => println!("{:<10} ok     {seconds:>7.1} s", step.name),
            Err(error) => {
                println!("{:<10} FAILED {seconds:>7.1} s  {error:#}", step.name);
                failed.push(step.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, run: fn() -> Result<()>) -> Step {
        Step {
            name,
            why: "a test wants it",
            needs: &[],
            run,
        }
    }

    fn steps() -> [Step; 3] {
        [
            step("one", || Ok(())),
            step("two", || bail!("broken")),
            step("three", || bail!("broken too")),
        ]
    }

    fn check_choice(only: &[&str], expected: Result<&[&str], &str>) {
        let steps = steps();
        let only: Vec<_> = only.iter().map(|&name| name.to_owned()).collect();
        let chosen = choose(&steps, &only)
            .map(|chosen| chosen.iter().map(|step| step.name).collect::<Vec<_>>())
            .map_err(|error| error.to_string());
        assert_eq!(
            chosen,
            expected.map(<[_]>::to_vec).map_err(ToOwned::to_owned)
        );
    }

    #[test]
    fn only_chooses_by_name_and_keeps_the_order() {
        check_choice(&[], Ok(&["one", "two", "three"]));
        check_choice(&["three", "one"], Ok(&["one", "three"]));
        check_choice(
            &["one", "four"],
            Err("no step `four`; there are: one, two, three"),
        );
    }

    #[test]
    fn every_failed_step_is_named_and_those_after_it_still_run() {
        let steps = steps();
        let all: Vec<_> = steps.iter().collect();
        let error = run_all(&all).expect_err("two steps fail").to_string();
        assert_eq!(error, "failed: two, three");
        assert!(run_all(&all[..1]).is_ok());
    }
}
