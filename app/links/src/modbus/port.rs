//! Where requests go and answers come from: a line or a connection.

use super::bus::Member;
use crate::serial::describe;
use hark_config::{ModbusReach, Parity};
use hark_hal::{Received, Rs485, SerialSettings, StopBits, TcpLine};
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// How long a host may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The step in which a connection that is being made is looked for.
const CONNECT_POLL: Duration = Duration::from_millis(10);

pub(super) enum Port {
    Serial(Member),
    Tcp(Host),
}

/// What an attempt to open came to.
pub(super) enum Opened {
    Yes,
    /// It is being made.
    NotYet,
}

impl Port {
    pub(super) fn new(reach: &ModbusReach) -> Self {
        match reach {
            ModbusReach::Tcp { host, port } => Self::Tcp(Host {
                host: host.clone(),
                port: *port,
                line: None,
                connector: None,
                has_answered: false,
            }),
            ModbusReach::Serial { .. } => Self::Serial(Member::join(settings(reach))),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Serial(member) => member.is_open(),
            Self::Tcp(host) => host.line.is_some(),
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Serial(member) => member.is_shared(),
            Self::Tcp(_) => false,
        }
    }

    /// Whether it may be closed and made again without a word: a connection that
    /// was of use.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self, Self::Tcp(host) if host.has_answered)
    }

    pub(super) fn open(&mut self) -> Result<Opened, String> {
        match self {
            Self::Serial(member) => {
                let opened = member.open();
                opened.map(|()| Opened::Yes).map_err(|e| describe(&e))
            }
            Self::Tcp(host) => host.connect(),
        }
    }

    pub(super) fn close(&mut self) {
        match self {
            Self::Serial(member) => member.close(),
            Self::Tcp(host) => {
                host.line = None;
                host.has_answered = false;
            }
        }
    }

    pub(super) fn take(&self, patience: Duration) -> bool {
        match self {
            Self::Serial(member) => member.take(patience),
            Self::Tcp(_) => true,
        }
    }

    pub(super) fn release(&self, due: Option<Instant>) {
        if let Self::Serial(member) = self {
            member.release(due);
        }
    }

    pub(super) fn others_due(&self) -> Option<Instant> {
        match self {
            Self::Serial(member) => member.others_due(),
            Self::Tcp(_) => None,
        }
    }

    pub(super) fn settle(&mut self, silence: Duration) -> Result<(), String> {
        match self {
            Self::Serial(member) => member.settle(silence).map_err(|e| describe(&e)),
            // A late answer says by its number that it is one.
            Self::Tcp(_) => Ok(()),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Serial(member) => member.write_all(bytes).map_err(|e| describe(&e)),
            Self::Tcp(host) => host.write_all(bytes),
        }
    }

    /// Reads what is there, waiting for at most `patience`; 0 if nothing came.
    pub(super) fn read(&mut self, space: &mut [u8], patience: Duration) -> Result<usize, String> {
        match self {
            Self::Serial(member) => member.read(space, patience).map_err(|e| describe(&e)),
            Self::Tcp(host) => host.read(space, patience),
        }
    }

    /// What to say of bytes that are no Modbus.
    pub(super) fn explain_strange(&self) -> String {
        match self {
            Self::Serial(_) => "what comes is not Modbus".to_owned(),
            Self::Tcp(host) => format!(
                "{host} does not answer in Modbus TCP: is the port right, and the gateway not set to \
                 raw RTU?"
            ),
        }
    }
}

/// A host and the connection to it, if there is one.
pub(super) struct Host {
    host: String,
    port: u16,
    line: Option<TcpLine>,
    connector: Option<Receiver<io::Result<TcpLine>>>,
    /// Since the connection was made.
    has_answered: bool,
}

impl Host {
    /// Looks after the connecting thread, of which there is one at most: looking a
    /// name up and connecting may take long, and a serving thread in them would look
    /// stalled.
    fn connect(&mut self) -> Result<Opened, String> {
        let connector = match self.connector.take() {
            Some(connector) => connector,
            None => self.start_connector().map_err(|e| self.unreachable(&e))?,
        };
        match connector.try_recv() {
            Ok(Ok(line)) => {
                self.line = Some(line);
                self.has_answered = false;
                Ok(Opened::Yes)
            }
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(TryRecvError::Empty) => {
                self.connector = Some(connector);
                std::thread::sleep(CONNECT_POLL);
                Ok(Opened::NotYet)
            }
            Err(TryRecvError::Disconnected) => {
                Err(format!("{self}: the connecting thread has ended"))
            }
        }
    }

    fn start_connector(&self) -> io::Result<Receiver<io::Result<TcpLine>>> {
        let (sender, made) = sync_channel(1);
        let (host, port) = (self.host.clone(), self.port);
        let connect = move || {
            // Nobody waits for it any more if this fails.
            let line = TcpLine::connect(&host, port, CONNECT_TIMEOUT);
            sender.send(line).ok();
        };
        let name = "connector".to_owned();
        std::thread::Builder::new().name(name).spawn(connect)?;
        Ok(made)
    }

    fn unreachable(&self, error: &io::Error) -> String {
        format!("{self} cannot be reached: {error}")
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match &mut self.line {
            Some(line) => line.write_all(bytes),
            None => Ok(()),
        };
        written.map_err(|error| self.lost(&error))
    }

    fn read(&mut self, space: &mut [u8], patience: Duration) -> Result<usize, String> {
        let read = match &mut self.line {
            Some(line) => line.read(space, patience),
            None => Ok(Received::Idle),
        };
        match read {
            Ok(Received::Bytes(len)) => {
                self.has_answered = true;
                Ok(len)
            }
            Ok(Received::Idle) => Ok(0),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&self, error: &io::Error) -> String {
        let is_closed = error.kind() == io::ErrorKind::UnexpectedEof;
        match (is_closed, self.has_answered) {
            (true, true) => format!("{self} has closed the connection"),
            (true, false) => format!(
                "{self} closes the connection instead of an answer: it may have as many clients as \
                 it takes, or not take this one"
            ),
            (false, _) => format!("{self}: {error}"),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn settings(reach: &ModbusReach) -> SerialSettings {
    let ModbusReach::Serial {
        port,
        baud,
        parity,
        stop_bits,
        rs485,
    } = reach
    else {
        unreachable!("only a line has settings")
    };
    SerialSettings {
        parity: match parity {
            Parity::None => hark_hal::Parity::None,
            Parity::Even => hark_hal::Parity::Even,
            Parity::Odd => hark_hal::Parity::Odd,
        },
        stop_bits: match stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        },
        rs485: rs485.map(|rs485| Rs485 {
            is_rts_on_send: rs485.is_rts_on_send,
            delay_before_ms: rs485.delay_before_ms,
            delay_after_ms: rs485.delay_after_ms,
        }),
        ..SerialSettings::new(port, *baud)
    }
}
