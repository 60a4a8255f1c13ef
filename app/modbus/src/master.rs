//! Which unit is asked when, and what became of it.
//!
//! Units that answer are polled on a common beat, one after the other, so that
//! what is left of each period lies in one piece. In that piece those that do
//! not answer are tried, ever less often: a try that may cost the whole of the
//! response's timeout is begun only where it ends before the next that answers is
//! due. Two tries of three make do with less, as much as most answers take. On a
//! line that has no such time left, one of them is tried every few seconds all the
//! same, or nobody would ever be found again.
//!
//! The caller asks [`Master::poll`] what to do, sends what [`Master::ask`] gives
//! it, and hands in what comes by [`Master::space`] and [`Master::handle_bytes`],
//! and the time by [`Master::handle_time`].

use crate::event::{Event, Next};
use crate::fault::Fault;
use crate::frame::{ANSWER_MAX, Answer, Request, TcpAnswer, beside_echo, find_rtu, parse_tcp};
use crate::plan::Plan;
use crate::settings::{Line, Settings};
use crate::unit::Unit;
use std::time::{Duration, Instant};

/// Between two tries of units that are dead, where the line has no time for them.
const FORCED_EVERY: Duration = Duration::from_secs(30);
/// What a try that makes do with less gives an answer at least, and it is four times
/// what a poll takes here.
const SHORT_TRY: Duration = Duration::from_millis(100);
/// A pause in a frame that is longer has ended it. USB adapters hand over every
/// 16 ms, and bridges to networks stutter.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Characters that hold the shortest answer: fewer are noise.
const FRAME_MIN: usize = 5;
/// Characters of the longest frame, and of a request.
const FRAME_MAX: u32 = 256;
const REQUEST: u32 = 8;

/// The master of one line or connection.
#[derive(Debug)]
pub struct Master {
    settings: Settings,
    plan: Plan,
    units: Box<[Unit]>,
    started: Instant,
    /// Whose poll is being made or comes next, and of it the block.
    polled: Option<Polled>,
    asked: Option<Asked>,
    transaction: u16,
    /// The request that was made last; on a serial line its first eight bytes.
    sent: [u8; 12],
    buffer: Box<[u8; ANSWER_MAX]>,
    len: usize,
    values: Box<[f32]>,
    /// When another wants the line, if this poll must be done by then.
    room: Option<Instant>,
    /// When one that does not answer was last tried.
    tried_at: Option<Instant>,
    /// What a poll of a unit takes, as a moving average.
    poll_takes: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Polled {
    unit: usize,
    block: usize,
    /// When its first block was asked for.
    since: Option<Instant>,
    /// It is asked for once more.
    is_second: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    request: Request,
    /// When the first byte must be there.
    until: Instant,
    last_byte: Option<Instant>,
}

impl Master {
    /// A master of `units`, by their addresses, which polls each by `plan`.
    pub fn new(units: &[u8], plan: Plan, settings: Settings, now: Instant) -> Self {
        assert!(!settings.poll.is_zero(), "a period has a length");
        Self {
            settings,
            values: vec![f32::NAN; plan.len()].into(),
            plan,
            units: units.iter().map(|unit| Unit::new(*unit, now)).collect(),
            started: now,
            polled: None,
            asked: None,
            transaction: 0,
            sent: [0; 12],
            buffer: Box::new([0; ANSWER_MAX]),
            len: 0,
            room: None,
            tried_at: None,
            poll_takes: Duration::ZERO,
        }
    }

    /// What is to be done at `now`. `others` is when somebody else wants the line,
    /// if it is shared.
    pub fn poll(&mut self, now: Instant, others: Option<Instant>) -> Next {
        if let Some(asked) = &self.asked {
            return Next::Listen(self.deadline(asked));
        }
        // What has begun goes on; else whoever waits is looked at again.
        if self.polled.is_some_and(|polled| polled.since.is_some()) {
            return Next::Ask;
        }
        match self.pick(now, others) {
            Ok((unit, room)) => {
                self.room = room;
                self.polled = Some(Polled {
                    unit,
                    block: 0,
                    since: None,
                    is_second: false,
                });
                Next::Ask
            }
            Err(at) => {
                self.polled = None;
                Next::Wait(at)
            }
        }
    }

    /// Whether a unit is being polled: the line is not to be given to others.
    pub fn is_polling(&self) -> bool {
        self.polled.is_some_and(|polled| polled.since.is_some())
    }

    /// When a unit that answers is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let living = self.units.iter().filter(|unit| unit.is_living);
        living.map(|unit| unit.due).min()
    }

    /// Makes the request that [`Master::poll`] found, which leaves at `now`: its
    /// bytes.
    ///
    /// # Panics
    /// If there is none.
    pub fn ask(&mut self, now: Instant) -> &[u8] {
        let polled = self.polled.as_mut().expect("poll has found one");
        polled.since.get_or_insert(now);
        let unit = &self.units[polled.unit];
        let request = self.plan.request(polled.block, unit.address);
        if !unit.is_living {
            self.tried_at = Some(now);
        }
        let line = self.settings.line;
        let until = now + line.characters(REQUEST) + self.settings.response_timeout;
        let room = self.room.map(|at| at.max(now + self.short_patience()));
        self.asked = Some(Asked {
            request,
            until: room.map_or(until, |room| until.min(room)),
            last_byte: None,
        });
        if line.is_serial() {
            // Whatever was there before is no answer to this.
            self.len = 0;
            self.sent[..8].copy_from_slice(&request.rtu());
            &self.sent[..8]
        } else {
            self.transaction = self.transaction.wrapping_add(1);
            self.sent = request.tcp(self.transaction);
            &self.sent
        }
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        // A buffer that is full of what is no answer holds none.
        if self.len == ANSWER_MAX {
            self.len = 0;
        }
        &mut self.buffer[self.len..]
    }

    /// So many bytes have come into the space.
    pub fn handle_bytes(&mut self, count: usize, now: Instant) -> Option<Event> {
        self.len += count;
        match self.settings.line {
            Line::Serial { .. } => self.handle_serial(now),
            Line::Tcp => self.handle_tcp(now),
        }
    }

    /// It is `now`: an answer may have been awaited for long enough.
    pub fn handle_time(&mut self, now: Instant) -> Option<Event> {
        let asked = self.asked.as_ref()?;
        if now < self.deadline(asked) {
            return None;
        }
        let fault = if self.has_frame(asked) {
            Fault::Crc
        } else {
            Fault::Timeout
        };
        Some(self.fail(fault, now))
    }

    /// The line was lost: what was asked is not answered any more, by nobody's
    /// fault.
    pub fn handle_down(&mut self) {
        self.asked = None;
        self.polled = None;
        self.len = 0;
    }

    /// The line is there, since `now`: whatever could not be polled before is no
    /// overrun.
    pub fn handle_up(&mut self, now: Instant) {
        self.handle_down();
        for unit in &mut self.units {
            unit.due = unit.due.max(now);
        }
    }

    /// The values of the last reading, as the plan's registers were given.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What `fault` of `unit` means, and what to write about it.
    pub fn explain(&self, unit: usize, fault: Fault) -> String {
        let block = self.polled.map_or(0, |polled| polled.block);
        let request = self.plan.request(block, self.units[unit].address);
        let patience = self.settings.response_timeout;
        fault.explain(&request, patience, self.settings.line.is_serial())
    }

    /// What a round takes, as far as is known.
    pub fn round(&self) -> Duration {
        let living = self.units.iter().filter(|unit| unit.is_living).count();
        self.poll_takes * u32::try_from(living).unwrap_or(u32::MAX)
    }

    /// Who is asked next, and by when it must be done, or when to look again.
    fn pick(
        &self,
        now: Instant,
        others: Option<Instant>,
    ) -> Result<(usize, Option<Instant>), Instant> {
        let places = || self.units.iter().enumerate();
        let forced = places().filter(|(_, unit)| self.forced_due(unit).is_some_and(|at| at <= now));
        if let Some((unit, _)) = forced.min_by_key(|(_, unit)| unit.due) {
            return Ok((unit, None));
        }
        let due = places().filter(|(_, unit)| unit.is_living && unit.due <= now);
        if let Some((unit, _)) = due.min_by_key(|(_, unit)| unit.asked_at) {
            return Ok((unit, None));
        }
        let next = self.next_due().into_iter().chain(others).min();
        let has_room = |unit: &Unit| {
            let wanted = if unit.wants_patience() {
                self.patience()
            } else {
                self.short_patience()
            };
            next.is_none_or(|at| at >= now + wanted)
        };
        let missed = places().filter(|(_, unit)| !unit.is_living && unit.due <= now);
        let missed = missed.filter(|(_, unit)| has_room(unit));
        if let Some((unit, _)) = missed.min_by_key(|(_, unit)| unit.due) {
            return Ok((unit, next));
        }
        let when = |unit: &Unit| match self.forced_due(unit) {
            Some(at) if unit.due <= now => at,
            _ => unit.due,
        };
        let soonest = self.units.iter().map(when).min();
        Err(soonest.unwrap_or(now + self.settings.poll))
    }

    /// When a unit that does not answer is tried whatever it costs the others.
    fn forced_due(&self, unit: &Unit) -> Option<Instant> {
        if unit.is_living {
            return None;
        }
        let Settings {
            poll, retry_max, ..
        } = self.settings;
        // Who has only just missed an answer is most likely still there.
        let every = if unit.failures <= 1 {
            poll
        } else {
            FORCED_EVERY.max(poll)
        };
        let own = unit.due + unit.wait(poll, retry_max);
        let others = self.tried_at.map(|at| at + every);
        Some(others.map_or(own, |at| own.max(at)))
    }

    /// What a unit that does not answer costs.
    fn patience(&self) -> Duration {
        let line = self.settings.line;
        self.settings.response_timeout + line.characters(REQUEST) + 2 * line.silence()
    }

    /// What a try costs that makes do with less.
    fn short_patience(&self) -> Duration {
        self.patience().min(SHORT_TRY.max(self.poll_takes * 4))
    }

    /// Whether what has come may be a frame, and not noise alone.
    fn has_frame(&self, asked: &Asked) -> bool {
        self.settings.line.is_serial()
            && beside_echo(&asked.request, &self.buffer[..self.len]) >= FRAME_MIN
    }

    /// Until when the answer must be there, as things are: what has begun may go on
    /// while its bytes come.
    fn deadline(&self, asked: &Asked) -> Instant {
        let line = self.settings.line;
        match asked.last_byte.filter(|_| self.has_frame(asked)) {
            Some(at) => (at + line.silence() + PAUSE_MAX)
                .min(asked.until + line.characters(FRAME_MAX) + PAUSE_MAX),
            None => asked.until,
        }
    }

    fn handle_serial(&mut self, now: Instant) -> Option<Event> {
        let Some(asked) = &mut self.asked else {
            self.len = 0;
            return None;
        };
        asked.last_byte = Some(now);
        let answer = find_rtu(&asked.request, &self.buffer[..self.len])?;
        let taken = take(&self.plan, self.polled?, answer, &mut self.values);
        self.conclude(taken, now)
    }

    fn handle_tcp(&mut self, now: Instant) -> Option<Event> {
        loop {
            let bytes = &self.buffer[..self.len];
            let request = self.asked.map(|asked| asked.request);
            // Of a request that has been given up, whatever answers it is another's.
            let asked = request.unwrap_or(self.plan.request(0, 0));
            let (taken, len) = match parse_tcp(&asked, self.transaction, bytes) {
                TcpAnswer::Incomplete => return None,
                TcpAnswer::Broken => {
                    self.len = 0;
                    return Some(Event::Broken);
                }
                TcpAnswer::Answer(answer, len) if request.is_some() => {
                    let taken = take(&self.plan, self.polled?, answer, &mut self.values);
                    (Some(taken), len)
                }
                TcpAnswer::Malformed(len) if request.is_some() => {
                    (Some(Err(Fault::Malformed)), len)
                }
                TcpAnswer::Answer(_, len) | TcpAnswer::Malformed(len) | TcpAnswer::Other(len) => {
                    (None, len)
                }
            };
            self.buffer.copy_within(len..self.len, 0);
            self.len -= len;
            if let Some(taken) = taken {
                return self.conclude(taken, now);
            }
        }
    }

    /// A block was answered: on to the next, or the unit is done.
    fn conclude(&mut self, taken: Result<(), Fault>, now: Instant) -> Option<Event> {
        if let Err(fault) = taken {
            return Some(self.fail(fault, now));
        }
        self.asked = None;
        let polled = self.polled.as_mut()?;
        polled.block += 1;
        polled.is_second = false;
        if polled.block < self.plan.blocks().len() {
            return None;
        }
        let Polled {
            unit: place, since, ..
        } = self.polled.take()?;
        let since = since?;
        self.poll_takes = (self.poll_takes * 7 + now.saturating_duration_since(since)) / 8;
        let sequence = self.period_of(since);
        let unit = &mut self.units[place];
        let was_living = unit.is_living;
        let missed = unit.handle_good();
        let late = since.saturating_duration_since(unit.due);
        let overrun = if was_living {
            (late.as_nanos() / self.settings.poll.as_nanos()) as u64
        } else {
            0
        };
        unit.asked_at = Some(since);
        self.units[place].due = self.beat_after(since);
        Some(Event::Reading {
            unit: place,
            sequence,
            missed,
            overrun,
        })
    }

    fn fail(&mut self, fault: Fault, now: Instant) -> Event {
        self.asked = None;
        let polled = self.polled.expect("something was asked");
        let place = polled.unit;
        let beat = self.beat_after(now);
        let Settings {
            poll, retry_max, ..
        } = self.settings;
        let unit = &mut self.units[place];
        let is_news = unit.is_news(fault);
        if fault == Fault::Crc && unit.is_living && !polled.is_second {
            // The line was disturbed, the unit is there: it is asked again at once.
            self.polled = Some(Polled {
                is_second: true,
                ..polled
            });
        } else {
            unit.handle_failure(fault);
            unit.asked_at = polled.since;
            unit.due = if unit.is_living {
                beat
            } else {
                now + unit.wait(poll, retry_max)
            };
            self.polled = Some(Polled {
                since: None,
                ..polled
            });
        }
        Event::Failed {
            unit: place,
            fault,
            is_news,
        }
    }

    /// The number of the period in which `at` lies.
    fn period_of(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        (since.as_nanos() / self.settings.poll.as_nanos()) as u64
    }

    /// When the next period after `at` begins.
    fn beat_after(&self, at: Instant) -> Instant {
        let periods = self.period_of(at) + 1;
        let nanos = u128::from(periods) * self.settings.poll.as_nanos();
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Takes what a unit said: its values, or that it refuses.
fn take(plan: &Plan, polled: Polled, answer: Answer<'_>, values: &mut [f32]) -> Result<(), Fault> {
    match answer {
        Answer::Data(data) => {
            plan.fill(polled.block, data, values);
            Ok(())
        }
        Answer::Exception(code) => Err(Fault::Exception(code)),
    }
}
