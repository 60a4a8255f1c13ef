//! The line between a node and the gateway: bytes in order, some of them
//! damaged, late or lost.
//!
//! It also knows what must come out. A frame that went in whole, after a
//! delimiter, and that no unplugging cut off, is *certain*: it must be decoded,
//! in its place. Any other may be. Nothing else may come out at all.

use hark_wire::{FRAME_MAX, Message, encode};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

/// What one read of the gateway returns at most, as in the app.
const READ_MAX: usize = 1024;
/// Bytes that a line may send a second time: a few frames.
const REPEATED_MAX: usize = 160;
/// As many whole frames fit into them; the shortest has 9 bytes.
const REPEATED_FRAMES_MAX: usize = REPEATED_MAX / 9;
/// Noise may be longer than any frame.
const NOISE_MAX: usize = FRAME_MAX + 100;
/// Time on the line, without and with a hiccup.
const DELAY_US: (u64, u64) = (500, 5_000);

/// Which faults a line has, each a probability for one frame.
#[derive(Default)]
pub(crate) struct LinePlan {
    drop: f64,
    flip: f64,
    truncate: f64,
    repeat: f64,
    noise: f64,
    /// Mean times between two stalls and two unpluggings; 0: none.
    pub(crate) stall_mean_us: u64,
    pub(crate) unplug_mean_us: u64,
}

impl LinePlan {
    pub(crate) fn draw(rng: &mut ChaCha8Rng, is_stormy: bool) -> Self {
        if !is_stormy {
            return Self::default();
        }
        // One in a thousand to one in four, each magnitude as likely.
        let mut chance = || match rng.random_ratio(2, 3) {
            true => 0.25 * 0.004_f64.powf(rng.random()),
            false => 0.0,
        };
        let (drop, flip, truncate) = (chance(), chance(), chance());
        let (repeat, noise) = (chance(), chance());
        let mut mean = || u64::from(rng.random::<bool>()) * rng.random_range(500_000..8_000_000);
        Self {
            drop,
            flip,
            truncate,
            repeat,
            noise,
            stall_mean_us: mean(),
            unplug_mean_us: mean(),
        }
    }
}

/// What tells one message of a line from another; nodes number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u8, u64, u64);

impl Key {
    fn of(message: &Message) -> Self {
        let fold = |sum: u64, value: &i32| sum.wrapping_mul(31).wrapping_add(*value as u64);
        match message {
            Message::Hello(hello) => {
                let count = hello.firmware.parse().unwrap_or(u64::MAX);
                Self(0, hello.boot_id.into(), count)
            }
            Message::Reading(reading) => {
                let values = reading.values.iter().fold(reading.timestamp_us, fold);
                Self(1, reading.sequence.into(), values)
            }
            Message::Health(health) => Self(2, health.boot_id.into(), health.frames_dropped.into()),
            Message::Log(_) | Message::Config(_) => unreachable!("no node sends it here"),
        }
    }
}

/// A line with the bytes that are under way.
pub(crate) struct Line {
    under_way: VecDeque<(u64, Vec<u8>)>,
    last_arrival_us: u64,
    is_stalled: bool,
    is_plugged: bool,
    /// What was written ended with a delimiter, or nothing was written yet.
    is_clean: bool,
    /// The last bytes and frames written, for repeating.
    written: Vec<u8>,
    written_keys: VecDeque<Key>,
    /// What the gateway has not decoded yet; true: it must.
    expected: VecDeque<(Key, bool)>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            under_way: VecDeque::new(),
            last_arrival_us: 0,
            is_stalled: false,
            is_plugged: true,
            is_clean: true,
            written: Vec::new(),
            written_keys: VecDeque::new(),
            expected: VecDeque::new(),
        }
    }

    /// The node writes `message`. With a `plan`, the line may damage it.
    /// Returns when its bytes arrive, in order.
    pub(crate) fn write(
        &mut self,
        message: &Message,
        now_us: u64,
        plan: Option<&LinePlan>,
        rng: &mut ChaCha8Rng,
    ) -> [u64; 2] {
        let mut buffer = [0; FRAME_MAX];
        let intact = encode(message, &mut buffer);
        let mut bytes = Vec::with_capacity(intact.len());
        if let Some(plan) = plan {
            self.disturb(plan, &mut bytes, rng);
        }
        let start = bytes.len();
        bytes.extend_from_slice(intact);
        if let Some(plan) = plan {
            damage(plan, start, &mut bytes, rng);
        }
        if self.is_plugged {
            let is_whole = bytes[start..] == *intact;
            self.expect(Key::of(message), is_whole && self.is_clean);
            self.is_clean = bytes.last().map_or(self.is_clean, |&byte| byte == 0);
            self.written.extend_from_slice(&bytes[start..]);
            let surplus = self.written.len().saturating_sub(REPEATED_MAX);
            self.written.drain(..surplus);
        } else {
            bytes.clear();
        }
        self.send(bytes, now_us, rng)
    }

    fn expect(&mut self, key: Key, is_certain: bool) {
        self.expected.push_back((key, is_certain));
        self.written_keys.push_back(key);
        if self.written_keys.len() > REPEATED_FRAMES_MAX {
            self.written_keys.pop_front();
        }
    }

    /// Before a frame: noise, or bytes that were sent already.
    fn disturb(&mut self, plan: &LinePlan, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        if rng.random_bool(plan.noise) {
            // Half of it without a delimiter, so that runs get too long.
            let always = u8::from(rng.random::<bool>());
            let length = rng.random_range(1..NOISE_MAX);
            let noise = (0..length).map(|_| rng.random::<u8>() | always);
            bytes.extend(noise);
            self.is_clean = false;
        }
        if rng.random_bool(plan.repeat) && self.is_plugged && !self.written.is_empty() {
            let from = rng.random_range(0..self.written.len());
            bytes.extend_from_slice(&self.written[from..]);
            let keys = self.written_keys.iter();
            self.expected.extend(keys.map(|&key| (key, false)));
            self.is_clean = false;
        }
    }

    /// Two reads return a frame as often as one does.
    fn send(&mut self, mut bytes: Vec<u8>, now_us: u64, rng: &mut ChaCha8Rng) -> [u64; 2] {
        let mut arrival = || {
            let delay = if rng.random_ratio(1, 20) {
                DELAY_US.1
            } else {
                DELAY_US.0
            };
            let at = now_us + rng.random_range(100..=delay);
            self.last_arrival_us = self.last_arrival_us.max(at);
            self.last_arrival_us
        };
        let times = [arrival(), arrival()];
        let rest = bytes.split_off(rng.random_range(0..=bytes.len()));
        self.under_way.push_back((times[0], bytes));
        self.under_way.push_back((times[1], rest));
        times
    }

    /// What a read returns now: whatever has arrived, up to its bound.
    pub(crate) fn read(&mut self, now_us: u64, bytes: &mut Vec<u8>) {
        bytes.clear();
        while !self.is_stalled
            && let Some((at, chunk)) = self.under_way.front_mut()
            && *at <= now_us
        {
            let room = READ_MAX - bytes.len();
            if chunk.len() > room {
                bytes.extend(chunk.drain(..room));
                return;
            }
            bytes.append(chunk);
            self.under_way.pop_front();
        }
    }

    /// Whether another read would return something at once.
    pub(crate) fn is_readable(&self, now_us: u64) -> bool {
        let first = self.under_way.front();
        !self.is_stalled && first.is_some_and(|(at, _)| *at <= now_us)
    }

    /// Holds everything back, or lets it go in one burst.
    pub(crate) fn set_stalled(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
    }

    pub(crate) fn is_plugged(&self) -> bool {
        self.is_plugged
    }

    /// What is under way is lost, and what is written until it is plugged.
    pub(crate) fn unplug(&mut self) {
        self.is_plugged = false;
        self.under_way.clear();
        self.expected
            .iter_mut()
            .for_each(|(_, certain)| *certain = false);
    }

    /// The gateway forgets the frame that it was in, so the next is whole.
    pub(crate) fn plug(&mut self) {
        self.is_plugged = true;
        self.is_clean = true;
    }

    /// The gateway decoded `message`.
    ///
    /// # Panics
    /// If nobody sent it, or if a certain one before it never came.
    pub(crate) fn handle_decoded(&mut self, message: &Message) {
        let key = Key::of(message);
        while let Some((expected, is_certain)) = self.expected.pop_front() {
            if expected == key {
                return;
            }
            assert!(
                !is_certain,
                "an intact frame, {expected:?}, was not decoded before {key:?}"
            );
        }
        panic!("{key:?} was decoded and never sent");
    }

    /// # Panics
    /// If a certain message is still missing though nothing is under way.
    pub(crate) fn check_all_arrived(&self) {
        let missing = self.expected.iter().find(|(_, is_certain)| *is_certain);
        assert_eq!(missing, None, "an intact frame was not decoded");
    }
}

/// Damages the frame in `bytes[start..]`.
fn damage(plan: &LinePlan, start: usize, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    if rng.random_bool(plan.flip) {
        for _ in 0..rng.random_range(1..=3) {
            let at = rng.random_range(start..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
    }
    if rng.random_bool(plan.drop) {
        for _ in 0..rng.random_range(1..=3) {
            bytes.remove(rng.random_range(start..bytes.len()));
        }
    }
    if rng.random_bool(plan.truncate) {
        bytes.truncate(rng.random_range(start..bytes.len()));
    }
}
