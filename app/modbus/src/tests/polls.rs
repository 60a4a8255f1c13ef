//! Who is asked when: a line is played, byte by byte, on a clock of its own.

use super::{ALL_TOGETHER, register, rtu};
use crate::{Event, Fault, Line, Master, Next, Plan, PlanLimits, Settings, Table, ValueType};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// 11 bits at 19 200 baud.
const CHARACTER: Duration = Duration::from_micros(573);
const SERIAL: Line = Line::Serial {
    character: CHARACTER,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(line: Line) -> Settings {
    Settings {
        poll: ms(1000),
        response_timeout: ms(500),
        retry_max: ms(60_000),
        line,
    }
}

/// What a unit does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// It answers after so long.
    Answer(Duration),
    /// Nothing.
    Nothing,
    /// It answers with a flipped bit.
    Garble,
    Refuse(u8),
}

/// A serial line on which units answer as `does` says.
struct Played {
    master: Master,
    start: Instant,
    now: Instant,
    /// When each unit was asked, and gave a reading; since the start.
    asked: Vec<(u8, Duration)>,
    readings: BTreeMap<u8, Vec<(u64, Duration)>>,
    faults: Vec<(usize, Fault, bool)>,
    overruns: u64,
}

impl Played {
    fn new(units: &[u8], plan: Plan, settings: Settings) -> Self {
        let start = Instant::now();
        Self {
            master: Master::new(units, plan, settings, start),
            start,
            now: start,
            asked: Vec::new(),
            readings: BTreeMap::new(),
            faults: Vec::new(),
            overruns: 0,
        }
    }

    /// Units of one register each.
    fn with_units(units: &[u8]) -> Self {
        let one = [register(Table::Holding, 0, ValueType::U16)];
        Self::new(units, Plan::new(&one, ALL_TOGETHER), settings(SERIAL))
    }

    fn run_until(&mut self, until: Duration, does: impl Fn(u8) -> Does) {
        while self.now < self.start + until {
            match self.master.poll(self.now, None) {
                Next::Wait(at) => self.now = at.max(self.now + Duration::from_micros(1)),
                Next::Listen(at) => {
                    self.now = at;
                    let event = self.master.handle_time(at);
                    self.note(event);
                }
                Next::Ask => {
                    let request = self.master.ask(self.now).to_vec();
                    self.asked.push((request[0], self.now - self.start));
                    self.answer(&request, does(request[0]));
                }
            }
        }
    }

    fn answer(&mut self, request: &[u8], does: Does) {
        let unit = request[0];
        let quantity = request[5];
        let mut data = vec![unit, request[1], 2 * quantity];
        data.extend(std::iter::repeat_n([0, unit], quantity.into()).flatten());
        let mut bytes = match does {
            Does::Refuse(code) => rtu(&[unit, request[1] | 0x80, code]),
            _ => rtu(&data),
        };
        let wait = match does {
            Does::Nothing => return,
            Does::Answer(wait) => wait,
            Does::Garble | Does::Refuse(_) => ms(5),
        };
        if does == Does::Garble {
            bytes[3] ^= 1;
        }
        self.now += CHARACTER * 8 + wait;
        for byte in bytes {
            self.now += CHARACTER;
            self.master.space()[0] = byte;
            let event = self.master.handle_bytes(1, self.now);
            self.note(event);
        }
    }

    fn note(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Reading {
                unit,
                sequence,
                overrun,
                ..
            }) => {
                let unit = self.address(unit);
                let at = self.now - self.start;
                self.readings.entry(unit).or_default().push((sequence, at));
                self.overruns += overrun;
            }
            Some(Event::Failed {
                unit,
                fault,
                is_news,
            }) => self.faults.push((unit, fault, is_news)),
            Some(Event::Broken) => panic!("a serial line breaks by its errors"),
            None => {}
        }
    }

    fn address(&self, unit: usize) -> u8 {
        self.asked
            .last()
            .map_or(unit as u8, |(address, _)| *address)
    }

    fn count(&self, unit: u8) -> usize {
        self.asked
            .iter()
            .filter(|(asked, _)| *asked == unit)
            .count()
    }

    /// The longest and the shortest time between two readings of `unit` after `from`.
    fn periods(&self, unit: u8, from: Duration) -> (Duration, Duration) {
        let times: Vec<Duration> = self.readings[&unit]
            .iter()
            .map(|(_, at)| *at)
            .filter(|at| *at >= from)
            .collect();
        let periods = || times.windows(2).map(|pair| pair[1] - pair[0]);
        (periods().min().unwrap(), periods().max().unwrap())
    }
}

#[test]
fn each_unit_is_polled_in_each_period() {
    let mut played = Played::with_units(&[1, 2, 3]);
    played.run_until(ms(10_000), |_| Does::Answer(ms(5)));
    for unit in [1, 2, 3] {
        let sequences: Vec<u64> = played.readings[&unit].iter().map(|(s, _)| *s).collect();
        assert_eq!(sequences, (0..10).collect::<Vec<u64>>(), "unit {unit}");
    }
    assert!(played.faults.is_empty(), "{:?}", played.faults);
}

#[test]
fn units_that_are_dead_cost_the_others_nothing() {
    let units: Vec<u8> = (1..=32).collect();
    let is_dead = |unit: u8| unit.is_multiple_of(4);
    let mut played = Played::with_units(&units);
    played.run_until(ms(300_000), |unit| match unit {
        dead if is_dead(dead) => Does::Nothing,
        _ => Does::Answer(ms(5)),
    });
    let settled = ms(30_000);
    for unit in units.into_iter().filter(|unit| !is_dead(*unit)) {
        let (shortest, longest) = played.periods(unit, settled);
        assert!(shortest >= ms(980), "unit {unit}: {shortest:?}");
        assert!(longest <= ms(1020), "unit {unit}: {longest:?}");
    }
    assert_eq!(played.overruns, 0);
}

#[test]
fn most_tries_make_do_with_the_time_that_is_left() {
    // Of 700 ms, 24 units leave some 250: less than a whole time-out.
    let units: Vec<u8> = (1..=32).collect();
    let is_dead = |unit: u8| unit.is_multiple_of(4);
    let one = [register(Table::Holding, 0, ValueType::U16)];
    let tight = Settings {
        poll: ms(700),
        ..settings(SERIAL)
    };
    let mut played = Played::new(&units, Plan::new(&one, ALL_TOGETHER), tight);
    let does = |unit| match unit {
        dead if is_dead(dead) => Does::Nothing,
        _ => Does::Answer(ms(5)),
    };
    played.run_until(ms(120_000), does);
    let (mut kept, mut all) = (0, 0);
    for unit in units.iter().filter(|unit| !is_dead(**unit)) {
        let times: Vec<Duration> = played.readings[unit].iter().map(|(_, at)| *at).collect();
        let periods = times.windows(2).map(|pair| pair[1] - pair[0]);
        let periods: Vec<Duration> = periods.skip(50).collect();
        all += periods.len();
        let is_kept = |period: &&Duration| (ms(630)..=ms(770)).contains(*period);
        kept += periods.iter().filter(is_kept).count();
    }
    assert!(kept * 100 >= all * 97, "{kept} of {all}");
    // One that answers slowly is found all the same.
    played.run_until(ms(600_000), |unit| match unit {
        8 => Does::Answer(ms(400)),
        _ => does(unit),
    });
    assert!(played.readings.contains_key(&8), "{}", played.count(8));
}

#[test]
fn one_that_is_dead_is_asked_ever_less_often_and_found_again() {
    let mut played = Played::with_units(&[1, 2]);
    let does = |unit| match unit {
        1 => Does::Answer(ms(5)),
        _ => Does::Nothing,
    };
    played.run_until(ms(600_000), does);
    let asked = played.count(2);
    assert!((10..=20).contains(&asked), "{asked} times in ten minutes");
    let told: Vec<bool> = played
        .faults
        .iter()
        .map(|(_, _, is_news)| *is_news)
        .collect();
    assert!(told[0] && !told[1..].contains(&true), "it is told once");
    played.run_until(ms(670_000), |_| Does::Answer(ms(5)));
    let (_, last) = *played.readings[&2].last().unwrap();
    assert!(last >= ms(669_000), "it is polled as the others: {last:?}");
}

#[test]
fn a_line_without_time_left_still_finds_who_comes_back() {
    // 40 units take 18 ms each, so that of 800 ms nothing is left for a try.
    let units: Vec<u8> = (1..=40).collect();
    let one = [register(Table::Holding, 0, ValueType::U16)];
    let busy = Settings {
        poll: ms(800),
        ..settings(SERIAL)
    };
    let mut played = Played::new(&units, Plan::new(&one, ALL_TOGETHER), busy);
    played.run_until(ms(120_000), |unit| match unit {
        40 => Does::Nothing,
        _ => Does::Answer(ms(5)),
    });
    let before = played.count(40);
    assert!(before >= 4, "{before}");
    let polls = played.readings[&1].len();
    assert!(polls >= 135, "the others lose little: {polls} of 150");
    played.run_until(ms(260_000), |_| Does::Answer(ms(5)));
    assert!(played.readings[&40].len() > 10);
}

#[test]
fn a_garbled_answer_is_asked_for_once_more_at_once() {
    let mut played = Played::with_units(&[7]);
    played.run_until(ms(1_000), |_| Does::Answer(ms(5)));
    played.run_until(ms(1_001), |_| Does::Garble);
    played.run_until(ms(2_000), |_| Does::Answer(ms(5)));
    assert_eq!(played.faults, [(0, Fault::Crc, true)]);
    let sequences: Vec<u64> = played.readings[&7].iter().map(|(s, _)| *s).collect();
    assert_eq!(sequences, [0, 1], "no period is lost");
}

#[test]
fn what_is_garbled_again_and_again_waits_for_its_period() {
    let mut played = Played::with_units(&[7]);
    played.run_until(ms(1_000), |_| Does::Answer(ms(5)));
    played.run_until(ms(4_000), |_| Does::Garble);
    assert!(played.count(7) <= 1 + 3 * 2, "{:?}", played.asked);
    assert!(
        played
            .faults
            .iter()
            .all(|(_, fault, _)| *fault == Fault::Crc)
    );
}

#[test]
fn a_refusal_is_told_once_with_what_to_write() {
    let mut played = Played::with_units(&[7]);
    played.run_until(ms(10_000), |_| Does::Refuse(2));
    assert!(played.faults.len() >= 3);
    assert_eq!(played.faults[0], (0, Fault::Exception(2), true));
    assert!(played.faults[1..].iter().all(|(_, _, is_news)| !is_news));
    let told = played.master.explain(0, Fault::Exception(2));
    assert!(told.contains("illegal data address"), "{told}");
}

#[test]
fn the_manuals_number_of_a_register_is_explained() {
    let wrong = [register(Table::Holding, 40_001, ValueType::U16)];
    let mut played = Played::new(&[3], Plan::new(&wrong, ALL_TOGETHER), settings(SERIAL));
    played.run_until(ms(100), |_| Does::Refuse(2));
    let told = played.master.explain(0, Fault::Exception(2));
    assert!(told.contains("address = 0"), "{told}");
    assert!(told.contains("unit 3"), "{told}");
}

#[test]
fn a_reading_needs_all_blocks_of_its_unit() {
    let apart = [
        register(Table::Holding, 0, ValueType::U16),
        register(Table::Holding, 100, ValueType::U16),
    ];
    let mut played = Played::new(&[4, 5], Plan::new(&apart, ALL_TOGETHER), settings(SERIAL));
    played.run_until(ms(900), |_| Does::Answer(ms(5)));
    assert_eq!(played.master.values(), [5.0, 5.0]);
    let units: Vec<u8> = played.asked.iter().map(|(unit, _)| *unit).collect();
    assert_eq!(units, [4, 4, 5, 5], "one unit after the other");
    assert_eq!(played.readings[&4].len(), 1);
    // The second block is not asked for where the first has failed.
    let mut played = Played::new(&[4], Plan::new(&apart, ALL_TOGETHER), settings(SERIAL));
    played.run_until(ms(900), |_| Does::Nothing);
    assert_eq!(played.count(4), 1);
}

#[test]
fn a_line_that_is_too_slow_shares_what_it_has() {
    let units: Vec<u8> = (1..=32).collect();
    let one = [register(Table::Holding, 0, ValueType::U16)];
    let fast = Settings {
        poll: ms(400),
        ..settings(SERIAL)
    };
    let mut played = Played::new(&units, Plan::new(&one, ALL_TOGETHER), fast);
    played.run_until(ms(60_000), |_| Does::Answer(ms(5)));
    // By then all have been found.
    played.asked.clear();
    played.run_until(ms(120_000), |_| Does::Answer(ms(5)));
    let counts: Vec<usize> = units.iter().map(|unit| played.count(*unit)).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2, "{counts:?}");
    assert!(played.overruns > 0);
    assert!(
        played.master.round() > ms(400),
        "{:?}",
        played.master.round()
    );
}

#[test]
fn noise_is_no_answer_and_a_late_one_is_nobody_elses() {
    let mut played = Played::with_units(&[1, 2]);
    assert_eq!(played.master.poll(played.now, None), Next::Ask);
    played.master.ask(played.now);
    played.master.space()[..2].copy_from_slice(&[0, 0xFF]);
    assert_eq!(played.master.handle_bytes(2, played.now), None);
    let Next::Listen(until) = played.master.poll(played.now, None) else {
        panic!("it is asked")
    };
    assert_eq!(until, played.now + CHARACTER * 8 + ms(500));
    let event = played.master.handle_time(until);
    let missed = Event::Failed {
        unit: 0,
        fault: Fault::Timeout,
        is_news: true,
    };
    assert_eq!(event, Some(missed));
    assert_eq!(played.master.poll(until, None), Next::Ask);
    assert_eq!(played.master.ask(until)[0], 2);
    let late = rtu(&[1, 3, 2, 0, 1]);
    played.master.space()[..7].copy_from_slice(&late);
    assert_eq!(played.master.handle_bytes(7, until), None);
}

#[test]
fn others_on_the_line_are_not_held_up_by_who_is_dead() {
    let mut played = Played::with_units(&[1]);
    let soon = played.now + ms(100);
    let next = played.master.poll(played.now, Some(soon));
    assert!(matches!(next, Next::Wait(_)), "{next:?}");
    let later = played.now + ms(600);
    assert_eq!(played.master.poll(played.now, Some(later)), Next::Ask);
}

#[test]
fn a_connection_that_was_away_is_no_overrun() {
    let mut played = Played::with_units(&[1]);
    played.run_until(ms(1_500), |_| Does::Answer(ms(5)));
    played.master.handle_down();
    played.now += ms(60_000);
    played.master.handle_up(played.now);
    played.run_until(ms(63_000), |_| Does::Answer(ms(5)));
    assert_eq!(played.overruns, 0);
}

/// A frame of TCP with the transaction of `request`.
fn tcp_answer(request: &[u8], pdu: &[u8]) -> Vec<u8> {
    let len = pdu.len() as u8 + 1;
    [&request[..2], &[0, 0, 0, len, request[6]], pdu].concat()
}

#[test]
fn over_tcp_a_late_answer_is_skipped_and_the_right_one_taken() {
    let start = Instant::now();
    let one = [register(Table::Input, 0, ValueType::U16)];
    let limits = PlanLimits { ..ALL_TOGETHER };
    let mut master = Master::new(&[1, 2], Plan::new(&one, limits), settings(Line::Tcp), start);
    assert_eq!(master.poll(start, None), Next::Ask);
    let first = master.ask(start).to_vec();
    let late = tcp_answer(&first, &[4, 2, 0, 11]);
    let until = start + ms(500);
    assert!(matches!(
        master.handle_time(until),
        Some(Event::Failed { unit: 0, .. })
    ));
    assert_eq!(master.poll(until, None), Next::Ask);
    let second = master.ask(until).to_vec();
    let both = [late, tcp_answer(&second, &[4, 2, 0, 22])].concat();
    master.space()[..both.len()].copy_from_slice(&both);
    let event = master.handle_bytes(both.len(), until);
    assert!(
        matches!(event, Some(Event::Reading { unit: 1, .. })),
        "{event:?}"
    );
    assert_eq!(master.values(), [22.0]);
}

#[test]
fn over_tcp_what_is_no_modbus_breaks_the_connection() {
    let start = Instant::now();
    let one = [register(Table::Input, 0, ValueType::U16)];
    let mut master = Master::new(
        &[1],
        Plan::new(&one, ALL_TOGETHER),
        settings(Line::Tcp),
        start,
    );
    assert_eq!(master.poll(start, None), Next::Ask);
    master.ask(start);
    let text = b"SSH-2.0-OpenSSH_9";
    master.space()[..text.len()].copy_from_slice(text);
    assert_eq!(master.handle_bytes(text.len(), start), Some(Event::Broken));
}
