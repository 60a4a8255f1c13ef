//! Every tick of these tests is a look, half a second after the one before.

use super::*;

const TICK: Duration = Duration::from_millis(500);
const STALL: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_secs(1);

/// Looks at as many loops as `ticks` has words, one letter a tick: `p` passes,
/// `-` does not, `l` is lent to a model, `e` has ended, `r` passes and lacks relief.
/// Expects, for each tick: `F` fed, `!` at fault, `.` neither.
fn check(ticks: &str, expected: &str) -> Vec<(usize, Change)> {
    let loops: Vec<Vec<char>> = ticks
        .split(' ')
        .map(|word| word.chars().collect())
        .collect();
    let start = Instant::now();
    let mut supervision = Supervision::new(loops.len(), STALL, PERIOD, start);
    let mut passes = vec![0; loops.len()];
    let (mut said, mut changes) = (String::new(), Vec::new());
    for tick in 0..loops[0].len() {
        let look = |(index, letters): (usize, &Vec<char>)| {
            let letter = letters[tick];
            passes[index] += u64::from("pr".contains(letter));
            Sight {
                passes: passes[index],
                is_lent: letter == 'l',
                has_ended: letter == 'e',
                lacks_relief: letter == 'r',
            }
        };
        let sights: Vec<Sight> = loops.iter().enumerate().map(look).collect();
        let now = start + TICK * (tick as u32 + 1);
        let actions = supervision.handle_look(now, &sights);
        assert!(!(actions.feeds && actions.is_at_fault), "fed in a fault");
        said.push(match (actions.feeds, actions.is_at_fault) {
            (true, _) => 'F',
            (_, true) => '!',
            _ => '.',
        });
        changes.extend(actions.changes.into_iter().map(|change| (tick, change)));
    }
    assert_eq!(said, expected, "{ticks}");
    changes
}

/// As [`check`], where no loop stalls or comes back.
fn check_quiet(ticks: &str, expected: &str) {
    assert_eq!(check(ticks, expected), []);
}

#[test]
fn it_is_fed_once_a_period_while_every_loop_passes() {
    check_quiet("pppppp", "F.F.F.");
    check_quiet("pppppp pppppp pppppp", "F.F.F.");
}

#[test]
fn time_alone_feeds_nothing() {
    // Nobody has passed since the feeding: a timer would have fed.
    check_quiet("p---", "F...");
    assert_eq!(check("----", "...!").len(), 1);
}

#[test]
fn one_loop_that_does_not_pass_is_enough_to_starve_it() {
    check_quiet("pppp p---", "F...");
    // A loop that is slow, and no slower than the stall, is fed for as it passes.
    check_quiet("pppppppp p--p--p-", "F..F..F.");
}

#[test]
fn a_loop_that_stalls_is_told_once_and_its_return_feeds_again() {
    let changes = check("pppppppppp p------ppp", "F...!!!F.F");
    let silent = |ticks| TICK * ticks;
    let expected = [
        (
            4,
            Change::Stalled {
                index: 1,
                silent: silent(4),
            },
        ),
        (
            7,
            Change::Recovered {
                index: 1,
                silent: silent(6),
            },
        ),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_source_in_a_model_is_the_keepers_business() {
    check_quiet("llllllllll pppppppppp", "F.F.F.F.F.");
    let changes = check("llllll p-----", "F...!!");
    assert_eq!(
        changes.len(),
        1,
        "the keeper stalls, not the source: {changes:?}"
    );
    assert!(matches!(changes[0].1, Change::Stalled { index: 1, .. }));
}

#[test]
fn a_source_that_has_ended_is_not_waited_for() {
    check_quiet("ppeeeeeeee pppppppppp", "F.F.F.F.F.");
}

#[test]
fn a_source_without_relief_starves_it_until_it_has_some() {
    check_quiet("pprrpppp pppppppp", "F.!!F.F.");
}

#[test]
fn a_machine_that_slept_has_no_stalled_loops() {
    let start = Instant::now();
    let mut supervision = Supervision::new(1, STALL, PERIOD, start);
    let sight = |passes| Sight {
        passes,
        is_lent: false,
        has_ended: false,
        lacks_relief: false,
    };
    assert!(supervision.handle_look(start + TICK, &[sight(1)]).feeds);
    let hours_later = start + Duration::from_secs(7200);
    let actions = supervision.handle_look(hours_later, &[sight(1)]);
    assert_eq!(actions, Actions::default());
    assert!(
        supervision
            .handle_look(hours_later + TICK, &[sight(2)])
            .feeds
    );
}

#[test]
fn counts_that_wrap_are_passes() {
    let start = Instant::now();
    let mut supervision = Supervision::new(1, STALL, PERIOD, start);
    for (tick, passes) in (1..).zip([u64::MAX - 1, u64::MAX, 0, 1]) {
        let sight = Sight {
            passes,
            is_lent: false,
            has_ended: false,
            lacks_relief: false,
        };
        let actions = supervision.handle_look(start + PERIOD * tick, &[sight]);
        assert!(actions.feeds, "{passes}");
    }
}
