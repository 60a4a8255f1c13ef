//! The pump as a client of a broker: one message a reading.
//!
//! At QoS 1 readings wait for their acknowledgement and are sent again after a
//! lost connection, as a sensor with a little memory does; when that is full,
//! the oldest gives way, counted. At QoS 0 they are lost while the broker is
//! away. A schedule without a pace waits for the broker instead.
//!
//! Nobody can ask over MQTT, so the greeting, a `Hello` or the header of CSV,
//! is sent on every connection and every ten seconds of simulated time.

mod link;

use super::encoding::Beat;
use super::{Counts, Encoding, Schedule, Step};
use hark_outlet::mqtt::{Broker, Delivery, Event};
use hark_rig::RigReading;
use hark_threads::shutdown::Shutdown;
use link::Link;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Messages that wait: a minute and a half of ten readings a second.
const LETTERS_MAX: usize = 1_000;
/// How long the end of the schedule waits for the last acknowledgements.
const END_WAIT: Duration = Duration::from_secs(5);
/// The same at a shutdown, and for the goodbye: together half of the two
/// seconds in which a stop must be over.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(500);
/// Stands for "until something happens" where a wait needs a number.
const IDLE: Duration = Duration::from_secs(3_600);

/// Where readings are published.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The broker.
    pub broker: Broker,
    /// The topic of every reading.
    pub topic: String,
    /// The guarantee.
    pub delivery: Delivery,
}

/// Publishes `schedule` until it ends or the shutdown, connecting anew whenever
/// the broker is lost, ever more slowly. The broker's troubles are logged.
///
/// # Errors
/// The system's, if it cannot wait for a socket.
pub fn play_mqtt(
    publication: &Publication,
    encoding: &Encoding,
    schedule: Schedule,
    mut shutdown: Shutdown,
    on_reading: &mut dyn FnMut(&RigReading),
) -> io::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut player = Player {
        publication,
        encoding,
        link: Link::new(&publication.broker),
        letters: VecDeque::new(),
        handed: 0,
        beat: Beat::new(),
        is_patient: schedule.pace().is_unlimited(),
        counts: Counts::default(),
    };
    runtime.block_on(player.play(schedule, &mut shutdown, on_reading));
    Ok(player.counts)
}

struct Letter {
    payload: Vec<u8>,
    is_reading: bool,
}

struct Player<'a> {
    publication: &'a Publication,
    encoding: &'a Encoding,
    link: Link<'a>,
    /// Oldest first; the first `handed` are with the connection, which they
    /// are only at QoS 1: at QoS 0 a letter leaves when it is handed over.
    letters: VecDeque<Letter>,
    handed: usize,
    beat: Beat,
    is_patient: bool,
    counts: Counts,
}

impl Player<'_> {
    async fn play(
        &mut self,
        mut schedule: Schedule,
        shutdown: &mut Shutdown,
        on_reading: &mut dyn FnMut(&RigReading),
    ) {
        let start = Instant::now();
        while let Some(wait) = self.take_due(&mut schedule, start.elapsed(), on_reading) {
            self.hand_over();
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                event = self.link.poll() => self.handle_event(event),
                () = sleep(wait) => {}
            }
        }
        self.finish(shutdown).await;
    }

    /// Takes in all readings that are due and that there is room for. Returns
    /// how long to wait for the next, `None` at the end.
    fn take_due(
        &mut self,
        schedule: &mut Schedule,
        elapsed: Duration,
        on_reading: &mut dyn FnMut(&RigReading),
    ) -> Option<Duration> {
        while !self.is_patient || self.letters.len() < LETTERS_MAX {
            match schedule.poll(elapsed) {
                Step::Play(reading) => {
                    on_reading(&reading);
                    self.take(&reading);
                }
                Step::Wait(wait) => return Some(wait),
                Step::End => return None,
            }
        }
        Some(IDLE)
    }

    fn take(&mut self, reading: &RigReading) {
        self.counts.readings += 1;
        if self.beat.is_due(reading.time_us) && self.link.is_connected() {
            self.post_greeting();
        }
        let is_away = self.publication.delivery == Delivery::AtMostOnce
            && !self.is_patient
            && !self.link.is_connected();
        if !reading.sent {
            self.counts.dropped += 1;
        } else if is_away {
            self.counts.lost += 1;
        } else {
            self.post(self.encoding.reading(reading), true);
        }
    }

    fn post_greeting(&mut self) {
        if let Some(greeting) = self.encoding.greeting() {
            self.post(greeting, false);
        }
    }

    /// Adds a letter; the oldest that is not with the connection gives way.
    fn post(&mut self, payload: Vec<u8>, is_reading: bool) {
        self.letters.push_back(Letter {
            payload,
            is_reading,
        });
        if self.letters.len() > LETTERS_MAX && !self.is_patient {
            let oldest = self.letters.remove(self.handed);
            self.counts.lost += u64::from(oldest.is_some_and(|letter| letter.is_reading));
        }
    }

    /// `None` is the loss of the connection: what was handed over and not
    /// acknowledged is handed over again.
    fn handle_event(&mut self, event: Option<Event>) {
        match event {
            None => self.handed = 0,
            Some(Event::Connected) => self.put_greeting_first(),
            // A broker acknowledges in the order of arrival.
            Some(Event::Acknowledged(_)) if self.handed > 0 => {
                self.handed -= 1;
                self.note_sent();
            }
            Some(_) => {}
        }
    }

    fn put_greeting_first(&mut self) {
        if let Some(payload) = self.encoding.greeting() {
            self.letters.push_front(Letter {
                payload,
                is_reading: false,
            });
        }
    }

    fn note_sent(&mut self) {
        let letter = self.letters.pop_front();
        self.counts.sent += u64::from(letter.is_some_and(|letter| letter.is_reading));
    }

    /// Hands over what waits, as far as the connection takes it.
    fn hand_over(&mut self) {
        let Publication {
            topic, delivery, ..
        } = self.publication;
        while let Some(letter) = self.letters.get(self.handed) {
            if !self.link.publish(topic, *delivery, &letter.payload) {
                return;
            }
            match delivery {
                Delivery::AtLeastOnce => self.handed += 1,
                Delivery::AtMostOnce => self.note_sent(),
            }
        }
    }

    /// Waits a moment for what is under way, counts the rest and takes leave.
    async fn finish(&mut self, shutdown: &mut Shutdown) {
        let is_stopped = shutdown.is_requested();
        let wait = if is_stopped { SHUTDOWN_WAIT } else { END_WAIT };
        let until = Instant::now() + wait;
        self.hand_over();
        while !self.letters.is_empty() {
            tokio::select! {
                biased;
                () = shutdown.requested(), if !is_stopped => break,
                event = timeout_at(until, self.link.poll()) => match event {
                    Ok(event) => self.handle_event(event),
                    Err(_) => break,
                },
            }
            self.hand_over();
        }
        let unsent = self.letters.iter().filter(|letter| letter.is_reading);
        self.counts.lost += unsent.count() as u64;
        timeout(SHUTDOWN_WAIT, self.link.take_leave()).await.ok();
    }
}

#[cfg(test)]
mod tests;
