//! Log lines: from what a thread says to the bytes of a line.
//!
//! All that hark says of the outside passes here, so here it is made harmless:
//! whatever a text holds is escaped, so that no peer forges a line or reaches a
//! terminal; and no peer can make more than so many lines
//! (`rate_limit`). What is asked for by `debug` and `trace` is not
//! limited. An event names whoever caused it by the field `peer`, which stands
//! in no line.
//!
//! A journal has the time and the level of each line itself ([`Style::Journal`]).

mod printable;
mod rate_limit;

pub use printable::Printable;

use crate::line_writer::Rank;
use printable::Escaping;
use rate_limit::{LeftOut, RateLimit};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Layer};

/// The longest text of a line, bytes: some paths and a reason.
const TEXT_BYTES_MAX: usize = 4096;

/// What stands before the text of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Time and level.
    #[default]
    Plain,
    /// Time and level, in colour.
    Coloured,
    /// The level as systemd's journal reads it (sd-daemon(3)), and no time.
    Journal,
}

/// Takes what threads say, and posts lines.
#[derive(Clone)]
pub struct Log {
    style: Style,
    post: fn(Vec<u8>, Rank),
    limit: Arc<Mutex<RateLimit<Message>>>,
}

/// What is said at one place of the program.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Message {
    place: Identifier,
    level: Level,
}

impl Log {
    /// A log whose lines are left with `post`.
    pub fn new(style: Style, post: fn(Vec<u8>, Rank)) -> Self {
        Self {
            style,
            post,
            limit: Arc::new(Mutex::new(RateLimit::new())),
        }
    }

    /// Tells what was left out, as far as its time has come; all of it if
    /// `is_last`.
    pub fn tell_left_out(&self, now: Instant, is_last: bool) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = limit.end_window(now, is_last);
        drop(limit);
        for (message, LeftOut { count, example }) in ended {
            let text = format!("{count} more lines like this were left out: {example}");
            self.write(message.level, &text);
        }
    }

    fn write(&self, level: Level, text: &str) {
        let rank = match level {
            Level::ERROR => Rank::Alert,
            _ => Rank::Other,
        };
        (self.post)(self.style.line(level, text).into_bytes(), rank);
    }
}

impl Style {
    /// The line of this level.
    pub fn line(self, level: Level, text: &str) -> String {
        let time = || format!("{:.6}", jiff::Timestamp::now());
        match self {
            Self::Journal => format!("<{}>{text}\n", priority(level)),
            Self::Plain => format!("{} {level:>5} {text}\n", time()),
            Self::Coloured => {
                let (time, colour) = (time(), colour(level));
                format!("\x1b[2m{time}\x1b[0m {colour}{level:>5}\x1b[0m {text}\n")
            }
        }
    }
}

/// As syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        _ => "\x1b[35m",
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let (level, text) = (*event.metadata().level(), said.text());
        if level <= Level::INFO {
            let now = Instant::now();
            self.tell_left_out(now, false);
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            let place = event.metadata().callsite();
            if !limit.admit(Message { place, level }, &said.peer, text, now) {
                return;
            }
        }
        self.write(level, text);
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    text: String,
    peer: String,
}

impl Said {
    fn text(&self) -> &str {
        &self.text[..self.text.floor_char_boundary(TEXT_BYTES_MAX)]
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A string takes everything.
        let _ = match field.name() {
            "peer" => write!(self.peer, "{value:?}"),
            "message" => write!(Escaping(&mut self.text), "{value:?}"),
            name => write!(Escaping(&mut self.text), " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_told_the_level_and_no_time() {
        let line = |level| Style::Journal.line(level, "line: connected");
        assert_eq!(line(Level::ERROR), "<3>line: connected\n");
        assert_eq!(line(Level::WARN), "<4>line: connected\n");
        assert_eq!(line(Level::INFO), "<6>line: connected\n");
        assert_eq!(line(Level::DEBUG), "<7>line: connected\n");
    }

    #[test]
    fn colour_is_where_it_is_asked_for_alone() {
        let plain = Style::Plain.line(Level::WARN, "text");
        assert!(plain.ends_with("Z  WARN text\n"), "{plain}");
        assert!(!plain.contains('\x1b'), "{plain}");
        assert!(
            Style::Coloured
                .line(Level::WARN, "text")
                .contains("\x1b[33m")
        );
    }
}
