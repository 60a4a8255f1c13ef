//! With the real kernel, each on a thread of its own.

use super::*;
use std::thread;

/// Runs `f` on a fresh thread: what it is granted ends with it.
fn on_a_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(f).join().unwrap()
}

/// A numbered field of `/proc/thread-self/stat` (proc(5) counts from 1); the
/// name in parentheses before it may hold spaces.
fn stat_field(number: usize) -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let field = after_name.split(' ').nth(number - 3).unwrap();
    field.parse().unwrap()
}

fn minor_faults() -> u64 {
    stat_field(10)
}

fn fifo_priority() -> Option<u64> {
    let (priority, policy) = (stat_field(40), stat_field(41));
    (policy & !libc::SCHED_RESET_ON_FORK as u64 == libc::SCHED_FIFO as u64).then_some(priority)
}

#[test]
fn a_thread_stays_on_each_core_that_it_is_allowed() {
    let allowed = allowed_cores();
    assert!(!allowed.is_empty());
    for core in allowed {
        let found = on_a_thread(move || pin_to(core).map(|()| allowed_cores()));
        assert_eq!(found, Ok(vec![core]));
    }
}

#[test]
fn an_absent_core_is_refused_and_the_thread_stays_where_it_was() {
    let allowed = allowed_cores();
    for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
        let (refusal, after) = on_a_thread(move || (pin_to(core), allowed_cores()));
        let expected = RealtimeError::NoSuchCore {
            core,
            allowed: allowed.clone(),
        };
        assert_eq!(refusal, Err(expected));
        assert_eq!(after, allowed);
    }
}

#[test]
fn fifo_is_granted_or_names_what_would_allow_it() {
    let (outcome, priority) = on_a_thread(|| (be_fifo(1), fifo_priority()));
    match outcome {
        Ok(()) => assert_eq!(priority, Some(1)),
        Err(RealtimeError::PermissionDenied { call, needs }) => {
            assert_eq!(call, "sched_setscheduler");
            assert!(needs.contains("CAP_SYS_NICE"));
            assert!(needs.contains("RLIMIT_RTPRIO"));
            assert_eq!(priority, None);
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_a_fifo_thread_starts_is_ordinary() {
    let inherited = on_a_thread(|| {
        let _may_be_refused = be_fifo(1);
        on_a_thread(fifo_priority)
    });
    assert_eq!(inherited, None);
}

#[test]
fn a_priority_out_of_range_is_refused_before_the_kernel_is_asked() {
    for priority in [0, 100, u8::MAX] {
        let refusal = on_a_thread(move || be_fifo(priority));
        assert_eq!(refusal, Err(RealtimeError::Priority { priority }));
    }
}

#[test]
fn memory_is_locked_or_the_refusal_names_what_would_allow_it() {
    let outcome = lock_memory();
    let locked_kib = crate::usage::status_kib("VmLck:");
    rustix::mm::munlockall().unwrap();
    match outcome {
        Ok(()) => assert_ne!(locked_kib, Some(0)),
        Err(RealtimeError::PermissionDenied { call, needs }) => {
            assert_eq!(call, "mlockall");
            assert!(needs.contains("CAP_IPC_LOCK"));
            assert!(needs.contains("RLIMIT_MEMLOCK"));
            assert_eq!(locked_kib, Some(0));
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_prefaulted_stack_faults_no_more() {
    // Counting faults has a few of its own; a stack not touched before has one
    // for each of 256 pages.
    const COUNTING_FAULTS_MAX: u64 = 16;
    let faults = on_a_thread(|| {
        prefault_stack(PREFAULT_BYTES_MAX);
        let before = minor_faults();
        prefault_stack(PREFAULT_BYTES_MAX);
        minor_faults() - before
    });
    assert!(faults <= COUNTING_FAULTS_MAX, "{faults} faults");
}

#[test]
fn a_wish_for_any_amount_of_stack_fits_a_default_thread() {
    for bytes in [0, 1, PAGE_BYTES + 1, usize::MAX] {
        on_a_thread(move || prefault_stack(bytes));
    }
}

#[test]
fn sharpened_timers_have_a_slack_of_one_nanosecond() {
    let slack = on_a_thread(|| {
        sharpen_timers().unwrap();
        rustix::thread::current_timer_slack().unwrap()
    });
    assert_eq!(slack, 1);
}

#[test]
fn hot_threads_take_the_cores_in_turn() {
    let cores = allowed_cores();
    let wishes = Realtime {
        cores: cores.clone(),
        ..Realtime::default()
    };
    for index in 0..2 * cores.len() {
        let wishes = wishes.clone();
        let found = on_a_thread(move || (wishes.prepare_thread(index), allowed_cores()));
        assert_eq!(found, (vec![], vec![cores[index % cores.len()]]));
    }
}

#[test]
fn one_refusal_leaves_the_other_wishes_granted() {
    let wishes = Realtime {
        cores: vec![usize::MAX],
        fifo_priority: Some(0),
        ..Realtime::default()
    };
    let (refusals, slack) = on_a_thread(move || {
        let refusals = wishes.prepare_thread(0);
        (refusals, rustix::thread::current_timer_slack().unwrap())
    });
    assert!(matches!(refusals[0], RealtimeError::NoSuchCore { .. }));
    assert_eq!(refusals[1], RealtimeError::Priority { priority: 0 });
    assert_eq!(refusals.len(), 2);
    assert_eq!(slack, 1);
}

#[test]
fn without_wishes_the_process_is_left_alone() {
    assert_eq!(Realtime::default().prepare_process(), Ok(()));
}
