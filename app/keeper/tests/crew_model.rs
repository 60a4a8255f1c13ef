//! Every interleaving of the threads of one source, found by loom.
//!
//! The crew's source is compiled a second time here, with loom's atomics; loom
//! then runs each test once for every order in which the threads' accesses can
//! become visible, on a machine as weakly ordered as the orderings allow.

#[expect(unreachable_pub, reason = "a library's source within a test")]
#[path = "../src/crew.rs"]
mod crew;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use crew::{Crew, Relief, Return};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// A crew with one stuck thread, and the thread that was called in its place.
fn taken_over(stuck_max: usize) -> Arc<Crew> {
    let crew = Arc::new(Crew::new(stuck_max));
    assert_eq!(crew.relieve(), Relief::Start);
    crew.taken_over();
    crew
}

/// One comes back while the serving thread asks whether one stands by.
fn check_relief(stuck_max: usize) {
    loom::model(move || {
        let crew = taken_over(stuck_max);
        let stuck = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.come_back())
        };
        let asked = crew.relieve();
        let returned = stuck.join().expect("it does not panic");
        // Exactly one stands by: the one that came back, or the one that the
        // serving thread started. If it was told that there is none, the next
        // time that it asks there is.
        match asked {
            Relief::Start => assert_eq!(returned, Return::End),
            Relief::Stands | Relief::None => assert_eq!(returned, Return::StandBy),
        }
        assert_eq!(crew.relieve(), Relief::Stands);
    });
}

#[test]
fn a_relief_is_never_lost() {
    for stuck_max in [1, 2] {
        check_relief(stuck_max);
    }
}

#[test]
fn a_thread_that_cannot_be_started_loses_no_relief() {
    loom::model(|| {
        let crew = taken_over(2);
        let stuck = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.come_back())
        };
        if crew.relieve() == Relief::Start {
            crew.not_started();
        }
        let returned = stuck.join().unwrap();
        // Nobody stands by and nobody can come back any more, or one does.
        let expected = match returned {
            Return::End => Relief::Start,
            Return::StandBy => Relief::Stands,
        };
        assert_eq!(crew.relieve(), expected);
    });
}

#[test]
fn of_two_that_come_back_one_stands_by() {
    loom::model(|| {
        let crew = taken_over(3);
        assert_eq!(crew.relieve(), Relief::Start);
        crew.taken_over();
        let standing = Arc::new(AtomicUsize::new(0));
        let threads = [(), ()].map(|()| {
            let (crew, standing) = (Arc::clone(&crew), Arc::clone(&standing));
            thread::spawn(move || {
                if crew.come_back() == Return::StandBy {
                    standing.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(standing.load(Ordering::Relaxed), 1);
        assert_eq!((crew.stuck(), crew.relieve()), (0, Relief::Stands));
    });
}

#[test]
fn the_keeper_takes_over_while_another_comes_back() {
    loom::model(|| {
        let crew = taken_over(2);
        assert_eq!(crew.relieve(), Relief::Start);
        let keeper = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.taken_over())
        };
        let returned = crew.come_back();
        keeper.join().unwrap();
        assert_eq!(crew.stuck(), 1);
        let expected = match returned {
            // It found the one that has been called since.
            Return::End => Relief::Start,
            Return::StandBy => Relief::Stands,
        };
        assert_eq!(crew.relieve(), expected);
    });
}

#[test]
fn who_finds_a_thread_back_finds_what_it_left() {
    loom::model(|| {
        let crew = taken_over(1);
        let has_left = Arc::new(AtomicBool::new(false));
        let stuck = {
            let (crew, has_left) = (Arc::clone(&crew), Arc::clone(&has_left));
            thread::spawn(move || {
                has_left.store(true, Ordering::Relaxed);
                crew.come_back();
            })
        };
        if crew.relieve() != Relief::None {
            assert!(has_left.load(Ordering::Relaxed));
        }
        stuck.join().unwrap();
    });
}
