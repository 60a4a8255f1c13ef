//! The pump as a client of a broker: one message a reading.
//!
//! At QoS 1 readings wait for their acknowledgement and are sent again after a
//! lost connection, as a sensor with a little memory does; when that is full,
//! the oldest gives way, counted. At QoS 0 they are lost while the broker is
//! away. A schedule without a pace waits for the broker instead.
//!
//! Nobody can ask over MQTT, so the greeting, a `Hello` or the header of CSV,
//! is sent on every connection and every ten seconds of simulated time.

use super::encoding::Beat;
use super::{Counts, Due, Encoding, SHUTDOWN_POLL, Schedule};
use hark_mqtt::{Client, ClientEvent, ClientSettings, Endpoint, Letter};
use hark_outlet::mqtt::{Broker, Delivery};
use hark_rig::RigReading;
use hark_threads::shutdown::Shutdown;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
/// If a setting is too long for MQTT.
pub fn play_mqtt(
    publication: &Publication,
    encoding: &Encoding,
    schedule: Schedule,
    shutdown: &Shutdown,
    on_reading: &mut dyn FnMut(&RigReading),
) -> anyhow::Result<Counts> {
    let client = client(publication, encoding)?;
    let mut link = Link {
        endpoint: publication.broker.endpoint(client),
        broker: &publication.broker,
        last_reason: String::new(),
    };
    let mut player = Player::new(publication, encoding, schedule.pace().is_unlimited());
    link.play(&mut player, schedule, shutdown, on_reading);
    Ok(player.counts)
}

fn client(publication: &Publication, encoding: &Encoding) -> anyhow::Result<Client> {
    let is_kept = publication.delivery == Delivery::AtLeastOnce;
    let greeting = encoding.greeting().filter(|_| is_kept);
    let client = Client::new(ClientSettings {
        greeting: greeting.map(|payload| letter(publication, payload, false)),
        letters_max: LETTERS_MAX,
        ..publication.broker.client_settings()
    })?;
    Ok(client)
}

/// What letters are called at the client.
const READING: u64 = 1;

fn letter(publication: &Publication, payload: Vec<u8>, is_reading: bool) -> Letter {
    Letter {
        topic: publication.topic.clone(),
        payload,
        is_retained: false,
        handle: if is_reading { READING } else { 0 },
    }
}

/// The player on the network.
struct Link<'a> {
    endpoint: Endpoint,
    broker: &'a Broker,
    last_reason: String,
}

impl Link<'_> {
    fn play(
        &mut self,
        player: &mut Player<'_>,
        mut schedule: Schedule,
        shutdown: &Shutdown,
        on_reading: &mut dyn FnMut(&RigReading),
    ) {
        let start = Instant::now();
        while !shutdown.is_requested() {
            let client = self.endpoint.client();
            let wait = player.take_due(client, &mut schedule, start.elapsed(), on_reading);
            let Some(wait) = wait else { break };
            self.turn(player, wait.min(SHUTDOWN_POLL));
        }
        self.finish(player, shutdown);
    }

    fn turn(&mut self, player: &mut Player<'_>, timeout: Duration) {
        player.hand_over(self.endpoint.client());
        self.endpoint.wait(None, timeout);
        self.endpoint.fill();
        while let Some(event) = self.endpoint.poll_event() {
            player.handle_event(&event);
            self.last_reason = told(self.broker, event, std::mem::take(&mut self.last_reason));
        }
    }

    /// Waits a moment for what is under way, counts the rest and takes leave.
    fn finish(&mut self, player: &mut Player<'_>, shutdown: &Shutdown) {
        let is_stopped = shutdown.is_requested();
        let wait = if is_stopped { SHUTDOWN_WAIT } else { END_WAIT };
        let until = Instant::now() + wait;
        while !player.is_done(self.endpoint.client())
            && Instant::now() < until
            && (is_stopped || !shutdown.is_requested())
        {
            self.turn(player, SHUTDOWN_POLL);
        }
        self.endpoint.leave(None, SHUTDOWN_WAIT);
        while !self.endpoint.client().is_gone() {
            self.turn(player, SHUTDOWN_POLL);
        }
        player.count_unsent();
    }
}

/// Logs what is new; a broker that stays away is reported once, not at every
/// try. Returns the reason that was told last.
fn told(broker: &Broker, event: ClientEvent<'_>, last_reason: String) -> String {
    let name = broker.name();
    let reason = match event {
        ClientEvent::Up => {
            tracing::info!("connected to broker {name}");
            return String::new();
        }
        ClientEvent::Down { why, .. } => format!("{why}; trying again"),
        ClientEvent::Refused { topic, reason, .. } => format!("it refuses {topic}: {reason}"),
        _ => return last_reason,
    };
    if reason != last_reason {
        tracing::warn!("broker {name}: {reason}");
    }
    reason
}

struct Player<'a> {
    publication: &'a Publication,
    encoding: &'a Encoding,
    /// At QoS 0, oldest first: a letter leaves when it is handed over. At QoS 1
    /// the client has them.
    letters: VecDeque<Letter>,
    /// Readings that the client has.
    posted: u64,
    beat: Beat,
    is_patient: bool,
    is_up: bool,
    counts: Counts,
}

impl<'a> Player<'a> {
    fn new(publication: &'a Publication, encoding: &'a Encoding, is_patient: bool) -> Self {
        Self {
            publication,
            encoding,
            letters: VecDeque::new(),
            posted: 0,
            beat: Beat::new(),
            is_patient,
            is_up: false,
            counts: Counts::default(),
        }
    }

    /// Takes in all readings that are due and that there is room for. Returns
    /// how long to wait for the next, `None` at the end.
    fn take_due(
        &mut self,
        client: &mut Client,
        schedule: &mut Schedule,
        elapsed: Duration,
        on_reading: &mut dyn FnMut(&RigReading),
    ) -> Option<Duration> {
        while !self.is_patient || self.letters.len() + client.waiting() < LETTERS_MAX {
            match schedule.poll(elapsed) {
                Due::Play(reading) => {
                    on_reading(&reading);
                    self.take(client, &reading);
                }
                Due::Wait(wait) => return Some(wait),
                Due::End => return None,
            }
        }
        Some(IDLE)
    }

    fn take(&mut self, client: &mut Client, reading: &RigReading) {
        self.counts.readings += 1;
        if self.beat.is_due(reading.time_us)
            && self.is_up
            && let Some(greeting) = self.encoding.greeting()
        {
            self.post(client, greeting, false);
        }
        let is_away =
            self.publication.delivery == Delivery::AtMostOnce && !self.is_patient && !self.is_up;
        if !reading.sent {
            self.counts.dropped += 1;
        } else if is_away {
            self.counts.lost += 1;
        } else {
            self.post(client, self.encoding.reading(reading), true);
        }
    }

    /// Adds a letter; the oldest that is not with the connection gives way.
    fn post(&mut self, client: &mut Client, payload: Vec<u8>, is_reading: bool) {
        let letter = letter(self.publication, payload, is_reading);
        let gone = match self.publication.delivery {
            Delivery::AtLeastOnce => {
                self.posted += u64::from(is_reading);
                let gone = client.post(letter);
                self.posted -= u64::from(is_reading_of(gone.as_ref()));
                gone
            }
            Delivery::AtMostOnce => {
                self.letters.push_back(letter);
                let is_full = self.letters.len() > LETTERS_MAX && !self.is_patient;
                is_full.then(|| self.letters.pop_front()).flatten()
            }
        };
        self.counts.lost += u64::from(is_reading_of(gone.as_ref()));
    }

    fn handle_event(&mut self, event: &ClientEvent<'_>) {
        match event {
            ClientEvent::Up => {
                self.is_up = true;
                if self.publication.delivery == Delivery::AtMostOnce {
                    let greeting = self.encoding.greeting();
                    let first = greeting.map(|payload| letter(self.publication, payload, false));
                    first
                        .into_iter()
                        .for_each(|letter| self.letters.push_front(letter));
                }
            }
            ClientEvent::Down { .. } => self.is_up = false,
            ClientEvent::Published { handle: READING } => {
                self.posted -= 1;
                self.counts.sent += 1;
            }
            ClientEvent::Refused {
                handle: READING, ..
            } => {
                self.posted -= 1;
                self.counts.lost += 1;
            }
            _ => {}
        }
    }

    /// Hands over what waits at QoS 0, as far as the connection takes it.
    fn hand_over(&mut self, client: &mut Client) {
        while let Some(letter) = self.letters.front() {
            if client.publish(&[&letter.topic], &letter.payload).is_err() {
                return;
            }
            self.counts.sent += u64::from(is_reading_of(Some(letter)));
            self.letters.pop_front();
        }
    }

    fn is_done(&self, client: &Client) -> bool {
        self.letters.is_empty() && client.waiting() == 0
    }

    /// What was not sent until now is lost.
    fn count_unsent(&mut self) {
        let unsent = self.letters.iter();
        let unsent = unsent.filter(|letter| is_reading_of(Some(letter))).count();
        self.counts.lost += unsent as u64 + self.posted;
    }
}

fn is_reading_of(letter: Option<&Letter>) -> bool {
    letter.is_some_and(|letter| letter.handle == READING)
}

#[cfg(test)]
mod tests;
