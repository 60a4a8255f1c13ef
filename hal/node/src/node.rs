//! The node: what it says and when, and what it makes of a request.
//!
//! It says `Hello` at its start and when asked, a reading each period and its
//! health every few seconds. A request for another period starts the simulated
//! machine anew, its faults with it; a node that does not run keeps its machine
//! where it is.

use hark_rig::{CHANNELS, Fault, PERIOD_MS_MAX, PERIOD_MS_MIN, Rig, RigConfig};
use hark_wire::{Channel, Config, DecodeError, FrameDecoder, Health, Hello, Message, Reading};
use heapless::Deque;

use crate::Settings;

/// Time between two reports of health.
const HEALTH_EVERY_US: u64 = 5_000_000;
/// A node that was held up sends what it missed, up to this much. Readings
/// further back are given up, which their sequence shows.
const BACKLOG_MAX_US: u64 = 1_000_000;
/// Notes that wait to be logged; more come only with a gateway that babbles.
const NOTES_MAX: usize = 8;
/// A regulated 24 V supply, mV.
const SUPPLY_MV: u16 = 24_000;
const FIRMWARE: &str = concat!("hark-node ", env!("CARGO_PKG_VERSION"));

/// Something worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A request was met.
    Configured {
        /// Time between two readings.
        period_ms: u32,
        /// Whether readings are sent.
        running: bool,
    },
    /// A request for this period was refused as a whole: it is not one of
    /// [`PERIOD_MS_MIN`] to [`PERIOD_MS_MAX`].
    Refused(u32),
    /// A frame was none; the first of them.
    Rejected(DecodeError),
    /// Bytes came faster than they were read; told once.
    LostBytes,
    /// The machine has a fault.
    FaultBegan(Fault),
    /// The machine is sound again.
    FaultEnded(Fault),
    /// So many readings were given up, because the node was held up.
    Missed(u32),
}

/// A sensor node at one end of a line.
pub struct Node {
    hello: Hello,
    wants_hello: bool,
    decoder: FrameDecoder,
    has_lost_bytes: bool,
    config: RigConfig,
    rig: Rig,
    is_running: bool,
    sequence: u32,
    sample_at_us: u64,
    health_at_us: u64,
    fault: Option<Fault>,
    notes: Deque<Note, NOTES_MAX>,
}

impl Node {
    /// A node that has just started. `boot_id` has to differ at every start.
    pub fn new(settings: Settings, boot_id: u32) -> Self {
        let config = RigConfig {
            seed: settings.seed,
            period_ms: settings.period_ms,
            faults: settings.faults,
        };
        Self {
            hello: Hello {
                node: settings.name,
                firmware: FIRMWARE.try_into().expect("it is short"),
                boot_id,
                channels: CHANNELS.iter().map(declare).collect(),
            },
            wants_hello: true,
            decoder: FrameDecoder::new(),
            has_lost_bytes: false,
            rig: Rig::new(config.clone()).expect("settings are in the rig's ranges"),
            config,
            is_running: true,
            sequence: 0,
            sample_at_us: 0,
            health_at_us: HEALTH_EVERY_US,
            fault: None,
            notes: Deque::new(),
        }
    }

    /// Takes in what the line brought, in pieces of any size.
    pub fn handle_bytes(&mut self, mut bytes: &[u8], now_us: u64) {
        while let Some(outcome) = self.decoder.next_message(&mut bytes) {
            match outcome {
                Ok(Message::Config(config)) => {
                    let note = self.handle_config(config, now_us);
                    self.note(note);
                }
                // On a two-wire line a node hears itself: a word about that
                // would be heard, and would bring forth the next.
                Ok(_) => {}
                Err(error) if self.decoder.counts().rejected() == 1 => {
                    self.note(Note::Rejected(error));
                }
                // Noise must not fill the line with words about it: the report
                // of health counts it.
                Err(_) => {}
            }
        }
    }

    /// The board has lost bytes of the line. Their frame fails its checksum, and
    /// is counted by that.
    pub fn handle_loss(&mut self) {
        if !core::mem::replace(&mut self.has_lost_bytes, true) {
            self.note(Note::LostBytes);
        }
    }

    /// What to send next, if anything is due. `frames_dropped` is for the
    /// report of health.
    pub fn poll_message(&mut self, now_us: u64, frames_dropped: u32) -> Option<Message> {
        if core::mem::take(&mut self.wants_hello) {
            return Some(Message::Hello(self.hello.clone()));
        }
        if now_us >= self.health_at_us {
            self.health_at_us = now_us + HEALTH_EVERY_US;
            return Some(self.health(now_us, frames_dropped));
        }
        while self.is_running && now_us >= self.sample_at_us {
            self.give_up_backlog(now_us);
            if let Some(reading) = self.sample() {
                return Some(Message::Reading(reading));
            }
        }
        None
    }

    /// The next thing for the log.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    fn handle_config(&mut self, config: Config, now_us: u64) -> Note {
        // Who the node is depends on nothing else that is asked.
        self.wants_hello |= config.say_hello;
        let period_ms = match config.period_ms {
            0 => self.config.period_ms,
            period_ms if (PERIOD_MS_MIN..=PERIOD_MS_MAX).contains(&period_ms) => period_ms,
            period_ms => return Note::Refused(period_ms),
        };
        if period_ms != self.config.period_ms {
            self.config.period_ms = period_ms;
            self.rig = Rig::new(self.config.clone()).expect("the period was checked");
            self.sample_at_us = now_us;
        }
        if config.running && !self.is_running {
            self.sample_at_us = now_us;
        }
        self.is_running = config.running;
        Note::Configured {
            period_ms,
            running: config.running,
        }
    }

    fn health(&self, now_us: u64, frames_dropped: u32) -> Message {
        let rejected = self.decoder.counts().rejected();
        Message::Health(Health {
            boot_id: self.hello.boot_id,
            uptime_s: u32::try_from(now_us / 1_000_000).unwrap_or(u32::MAX),
            frames_dropped,
            frames_rejected: u32::try_from(rejected).unwrap_or(u32::MAX),
            supply_mv: SUPPLY_MV,
        })
    }

    fn period_us(&self) -> u64 {
        u64::from(self.config.period_ms) * 1_000
    }

    fn give_up_backlog(&mut self, now_us: u64) {
        let late_us = now_us - self.sample_at_us;
        if late_us <= BACKLOG_MAX_US.max(self.period_us()) {
            return;
        }
        let missed = late_us / self.period_us();
        self.sample_at_us += missed * self.period_us();
        self.sequence = self.sequence.wrapping_add(missed as u32);
        self.note(Note::Missed(u32::try_from(missed).unwrap_or(u32::MAX)));
    }

    /// The reading that is due; `None` if the fault of the link has swallowed
    /// it, which its sequence shows.
    fn sample(&mut self) -> Option<Reading> {
        let sampled = self.rig.next().expect("the rig never ends");
        let values = sampled.values.iter().zip(&CHANNELS);
        let reading = Reading {
            sequence: self.sequence,
            timestamp_us: self.sample_at_us,
            // One raw count is the last digit of the channel's instrument.
            values: values
                .map(|(value, channel)| raw(*value, channel))
                .collect(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.sample_at_us += self.period_us();
        self.note_fault(sampled.label);
        sampled.sent.then_some(reading)
    }

    fn note_fault(&mut self, fault: Option<Fault>) {
        let before = core::mem::replace(&mut self.fault, fault);
        if before == fault {
            return;
        }
        if let Some(before) = before {
            self.note(Note::FaultEnded(before));
        }
        if let Some(fault) = fault {
            self.note(Note::FaultBegan(fault));
        }
    }

    /// The oldest note makes room: what happens now matters more.
    fn note(&mut self, note: Note) {
        if self.notes.is_full() {
            self.notes.pop_front();
        }
        self.notes.push_back(note).expect("there is room");
    }
}

fn declare(channel: &hark_rig::Channel) -> Channel {
    Channel {
        name: channel.name.try_into().expect("it is short"),
        unit: channel.unit.try_into().expect("it is short"),
        scale: channel.resolution as f32,
    }
}

/// `value` in counts of the instrument's last digit, rounded half up; all of
/// the pump's quantities are positive.
fn raw(value: f32, channel: &hark_rig::Channel) -> i32 {
    (f64::from(value) / channel.resolution + 0.5) as i32
}

#[cfg(test)]
mod tests;
