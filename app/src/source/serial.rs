//! Readings from a serial line.

use super::{SHUTDOWN_POLL, StreamDecoder, Waits, sleep};
use crate::config::{Parity, SerialLink};
use crate::hot_path::HotPath;
use crate::shutdown::Shutdown;
use hark_hal::{DataBits, Received, SerialError, SerialLine, SerialSettings, StopBits};

/// What one read takes at most: a few frames. The kernel keeps the rest.
const READ_BYTES: usize = 4096;

/// Listens to the line until the shutdown, opening it anew whenever it is lost.
pub(super) fn run(
    link: &SerialLink,
    hot_path: &mut HotPath,
    decoder: &mut StreamDecoder,
    shutdown: &Shutdown,
) {
    let settings = settings(link);
    let mut waits = Waits::new(link.reconnect);
    let mut last_reason = String::new();
    while !shutdown.is_requested() {
        let ended = SerialLine::open(&settings).and_then(|mut line| {
            waits.reset();
            last_reason.clear();
            hot_path.handle_link_up();
            decoder.handle_link_up();
            listen(&mut line, hot_path, decoder, shutdown)
        });
        if let Err(error) = ended {
            // A device that stays away is reported once, not at every try.
            let reason = describe(&error);
            if reason != last_reason {
                hot_path.handle_link_down(&reason);
                last_reason = reason;
            }
            sleep(waits.next(), shutdown);
        }
    }
}

fn listen(
    line: &mut SerialLine,
    hot_path: &mut HotPath,
    decoder: &mut StreamDecoder,
    shutdown: &Shutdown,
) -> Result<(), SerialError> {
    let mut buffer = [0; READ_BYTES];
    while !shutdown.is_requested() {
        if let Received::Bytes(len) = line.read(&mut buffer, SHUTDOWN_POLL)? {
            let receipt = hot_path.receive();
            decoder.handle_bytes(&buffer[..len], receipt, hot_path);
        }
        answer(line, decoder)?;
    }
    Ok(())
}

fn answer(line: &mut SerialLine, decoder: &mut StreamDecoder) -> Result<(), SerialError> {
    let Some(message) = decoder.poll_answer() else {
        return Ok(());
    };
    let mut frame = [0; hark_wire::FRAME_MAX];
    match line.write_all(hark_wire::encode(&message, &mut frame)) {
        // A node without a receiver is no reason to stop listening to it.
        Err(SerialError::Stalled { .. }) => Ok(()),
        result => result,
    }
}

fn describe(error: &SerialError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn settings(link: &SerialLink) -> SerialSettings {
    SerialSettings {
        parity: match link.parity {
            Parity::None => hark_hal::Parity::None,
            Parity::Even => hark_hal::Parity::Even,
            Parity::Odd => hark_hal::Parity::Odd,
        },
        data_bits: match link.data_bits {
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        },
        stop_bits: match link.stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        },
        ..SerialSettings::new(&link.port, link.baud)
    }
}
