//! Listens on a serial line at one setting after the other.
//!
//! It only listens: nothing is sent, and the port stays open from the first
//! setting to the last, because closing it would drop DTR and so reset many a
//! node. RTS is lowered, unless the driver switches it (RS-485): raised, it may hold
//! a transceiver to sending. A line that stays silent at the first setting is
//! silent at all of them, since a wrong baud rate turns what is said into other
//! bytes and not into none. A setting that gives clean text is kept until the text tells what it is.
//! The first setting whose bytes are conclusive, or a line of clean text, ends the
//! search.

use hark_hal::{DataBits, LineErrors, Parity, Received, SerialError, SerialLine, SerialSettings};
use hark_links::recognise::{Heard, is_clean_text, recognise};
use hark_threads::shutdown::Shutdown;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long the first byte is waited for, and then how long clean text may take to
/// tell what it is, unless `--for` says otherwise: a slow node sends once in some
/// seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a setting is listened to from its first byte on: at 9600 baud a
/// thousand bytes, and ten readings of a node that sends each 100 ms.
const WINDOW: Duration = Duration::from_secs(1);
/// Clean text of fewer bytes may be chance, so that other settings are worth a try.
const CLEAN_BYTES_MIN: usize = 8;
/// What one setting is judged by, at most; more tells no more.
const HEARD_BYTES_MAX: usize = 16 * 1024;
/// How often a wait looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Eight bits without parity first, by how common the baud rates are.
const BAUDS: &[u32] = &[
    115_200, 9600, 19_200, 57_600, 38_400, 4800, 230_400, 460_800, 921_600, 2400, 1200,
];
/// Then the other framings, with the baud rates of the instruments that have them:
/// Modbus RTU's own (8E1), meters and scales (7E1), and their odd twins.
const FRAMINGS: &[(DataBits, Parity, &[u32])] = &[
    (
        DataBits::Eight,
        Parity::Even,
        &[19_200, 9600, 38_400, 57_600, 115_200],
    ),
    (
        DataBits::Seven,
        Parity::Even,
        &[9600, 4800, 2400, 1200, 19_200],
    ),
    (DataBits::Eight, Parity::Odd, &[9600, 19_200]),
    (DataBits::Seven, Parity::Odd, &[9600]),
];

/// What was heard at one setting.
#[derive(Debug, Serialize)]
pub(super) struct Listening {
    #[serde(serialize_with = "as_text")]
    pub(super) settings: SerialSettings,
    pub(super) bytes: usize,
    /// Whether they are lines of nothing but printable ASCII.
    #[serde(skip)]
    pub(super) is_clean: bool,
    /// Framing, parity and break errors; none if the driver counts none.
    pub(super) errors: Option<u32>,
    #[serde(flatten)]
    pub(super) heard: Heard,
}

/// What was heard on a line.
#[derive(Debug, Serialize)]
pub(super) struct LineReport {
    pub(super) port: String,
    /// The most convincing first.
    pub(super) heard: Vec<Listening>,
    /// Whether the search ended before its time, by Ctrl-C or a hang-up.
    pub(super) is_cut_short: bool,
}

fn as_text<S: serde::Serializer>(settings: &SerialSettings, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&setting_text(settings))
}

/// As in `9600 8N1`, without the port.
pub(super) fn setting_text(settings: &SerialSettings) -> String {
    let text = settings.to_string();
    text.trim_start_matches(settings.port.as_str())
        .trim_start()
        .to_owned()
}

/// The settings to try, `first` before all others.
pub(super) fn settings_to_try(port: &str, first: Option<&SerialSettings>) -> Vec<SerialSettings> {
    let common = [(DataBits::Eight, Parity::None, BAUDS)];
    let framings = common.iter().chain(FRAMINGS);
    let others = framings.flat_map(|(data_bits, parity, bauds)| {
        bauds.iter().map(|baud| SerialSettings {
            data_bits: *data_bits,
            parity: *parity,
            ..SerialSettings::new(port, *baud)
        })
    });
    let mut settings: Vec<SerialSettings> = first.cloned().into_iter().collect();
    let is_first = |other: &SerialSettings| {
        first.is_some_and(|first| setting_text(first) == setting_text(other))
    };
    settings.extend(others.filter(|other| !is_first(other)));
    settings
}

/// Listens at `settings`, of which there is at least one, until one is
/// conclusive, the line hangs up or `shutdown` comes. `on_setting` is told the
/// number of each setting and the setting before it is tried.
///
/// # Errors
/// [`SerialError`] if the port cannot be opened or fails.
pub(super) fn listen(
    settings: &[SerialSettings],
    patience: Duration,
    shutdown: &Shutdown,
    on_setting: &mut dyn FnMut(usize, &SerialSettings),
) -> Result<LineReport, SerialError> {
    let first = settings.first().expect("there is a setting to try");
    let mut line = SerialLine::open(first)?;
    if first.rs485.is_none() {
        // A port without RTS has none that is raised.
        line.lower_rts().ok();
    }
    let mut report = LineReport {
        port: first.port.clone(),
        heard: Vec::new(),
        is_cut_short: false,
    };
    let (mut patience, mut longest_wait) = (patience, Duration::ZERO);
    for (index, settings) in settings.iter().enumerate() {
        on_setting(index, settings);
        if index > 0 && line.change(settings).is_err() {
            // Not every driver has every baud rate; the others are still worth a try.
            continue;
        }
        let (listening, waited) = listen_once(&mut line, settings, patience, shutdown)?;
        let is_silent = listening.bytes == 0 && listening.errors.unwrap_or(0) == 0;
        let is_clear = listening.is_clean && listening.bytes >= CLEAN_BYTES_MIN;
        let is_found = listening.heard.is_conclusive() || is_clear;
        report.heard.push(listening);
        report.is_cut_short = shutdown.is_requested();
        if report.is_cut_short || is_found || (is_silent && index == 0) {
            break;
        }
        // A line that has gone silent is not waited for as long at every setting.
        if is_silent {
            patience = patience.min(2 * longest_wait + WINDOW);
        } else {
            longest_wait = longest_wait.max(waited);
        }
    }
    report
        .heard
        .sort_by_key(|listening| std::cmp::Reverse(conviction(listening)));
    Ok(report)
}

/// What the settings are ordered by: the kind, then fewer errors.
fn conviction(listening: &Listening) -> (u8, i64) {
    (
        listening.heard.rank(),
        -i64::from(listening.errors.unwrap_or(0)),
    )
}

/// Listens at one setting; also says for how long the first byte was waited for.
fn listen_once(
    line: &mut SerialLine,
    settings: &SerialSettings,
    patience: Duration,
    shutdown: &Shutdown,
) -> Result<(Listening, Duration), SerialError> {
    let errors_before = LineErrors::of(line);
    let start = Instant::now();
    let (mut end, mut first_byte_at) = (start + patience, None);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < HEARD_BYTES_MAX && !shutdown.is_requested() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let is_spent = |at: Instant| at.elapsed() >= patience;
            if first_byte_at.is_none_or(is_spent) || !may_tell_more(&bytes) {
                break;
            }
            end = Instant::now() + LOOK_EVERY;
            continue;
        }
        match line.read(&mut buffer, left.min(LOOK_EVERY)) {
            Ok(Received::Bytes(len)) => {
                if first_byte_at.is_none() {
                    first_byte_at = Some(Instant::now());
                    end = Instant::now() + WINDOW;
                }
                bytes.extend_from_slice(&buffer[..len]);
            }
            Ok(Received::Idle) => {}
            // What was heard before the hang-up is still worth a report.
            Err(SerialError::Gone { .. }) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let errors = LineErrors::of(line).zip(errors_before);
    let listening = Listening {
        settings: settings.clone(),
        bytes: bytes.len(),
        is_clean: is_clean_text(&bytes),
        errors: errors.map(|(now, before)| now.since(before).of_setting()),
        heard: recognise(&bytes),
    };
    let waited = first_byte_at.map_or(patience, |at| at - start);
    Ok((listening, waited))
}

/// Whether the setting seems right, but what it gave does not tell what it is.
fn may_tell_more(bytes: &[u8]) -> bool {
    is_clean_text(bytes) && !recognise(bytes).is_conclusive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_hal::Pty;
    use hark_threads::shutdown;

    #[test]
    fn the_configured_setting_comes_first_and_no_setting_twice() {
        let own = SerialSettings {
            parity: Parity::Even,
            ..SerialSettings::new("/dev/x", 9600)
        };
        let settings = settings_to_try("/dev/x", Some(&own));
        assert_eq!(settings[0], own);
        assert_eq!(settings[1], SerialSettings::new("/dev/x", 115_200));
        for (index, setting) in settings.iter().enumerate() {
            assert!(!settings[..index].contains(setting), "{setting}");
        }
        assert_eq!(settings.len(), settings_to_try("/dev/x", None).len());
    }

    /// What `listen` makes of a pseudo terminal on which `said` is said again and
    /// again once a reader is there.
    fn listen_to(said: &'static [u8], patience: Duration) -> LineReport {
        listen_to_every(Duration::from_millis(20), said, patience)
    }

    fn listen_to_every(period: Duration, said: &'static [u8], patience: Duration) -> LineReport {
        let pty = Pty::open().unwrap();
        let port = pty.path().display().to_string();
        let (_sender, shutdown) = shutdown::channel();
        let speaker = std::thread::spawn(move || {
            assert!(pty.wait_for_reader(Duration::from_secs(30)).unwrap());
            // The first setting is made before the reader listens; what is
            // dropped with it is said again.
            while pty.has_reader().unwrap() {
                pty.write(said, Duration::from_millis(50)).unwrap();
                std::thread::sleep(period);
            }
        });
        let settings = settings_to_try(&port, None);
        let report = listen(&settings[..3], patience, &shutdown, &mut |_, _| {}).unwrap();
        speaker.join().unwrap();
        report
    }

    #[test]
    fn a_conclusive_line_ends_the_search_at_once() {
        let report = listen_to(b"{\"seq\":1,\"t\":20.5}\n", PATIENCE);
        assert_eq!(report.heard.len(), 1);
        assert!(matches!(report.heard[0].heard, Heard::Json { .. }));
        assert_eq!(report.heard[0].errors, None);
        assert!(!report.is_cut_short);
    }

    #[test]
    fn noise_is_listened_to_at_every_setting() {
        let report = listen_to(b"\xff\x13\x07\xaa\x81", PATIENCE);
        assert_eq!(report.heard.len(), 3);
        let is_noise = |l: &Listening| matches!(l.heard, Heard::Noise { .. });
        assert!(report.heard.iter().all(is_noise), "{report:?}");
    }

    /// Longer than the window, so that it holds one line.
    const SLOW: Duration = Duration::from_millis(1200);

    #[test]
    fn a_slow_line_is_listened_to_until_it_tells_what_it_is() {
        let report = listen_to_every(SLOW, b"13,1.5\n", Duration::from_secs(20));
        assert_eq!(report.heard.len(), 1, "{report:?}");
        let Heard::Csv { lines: 2, .. } = report.heard[0].heard else {
            panic!("two rows, found {report:?}")
        };
    }

    #[test]
    fn clean_text_that_tells_too_little_ends_the_search_after_the_patience() {
        let report = listen_to_every(SLOW, b"pump ready\n", 2 * SLOW);
        assert_eq!(report.heard.len(), 1, "{report:?}");
        let Heard::Text { lines: 2.., .. } = report.heard[0].heard else {
            panic!("lines, found {report:?}")
        };
    }

    #[test]
    fn a_silent_line_is_asked_once() {
        let report = listen_to(b"", Duration::from_millis(200));
        assert_eq!(report.heard.len(), 1);
        assert_eq!(report.heard[0].heard, Heard::Silence);
    }

    #[test]
    fn a_shutdown_ends_the_wait() {
        let pty = Pty::open().unwrap();
        let (sender, shutdown) = shutdown::channel();
        sender.request();
        let settings = settings_to_try(&pty.path().display().to_string(), None);
        let report = listen(&settings, PATIENCE, &shutdown, &mut |_, _| {}).unwrap();
        assert!(report.is_cut_short);
        assert_eq!(report.heard.len(), 1);
    }
}
