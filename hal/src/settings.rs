//! Which serial port, and how its line is set: as config and messages say it.

use std::fmt;

/// Which port, and how its line is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialSettings {
    /// The device's path; symbolic links are followed at each open.
    pub port: String,
    /// Bits a second, not 0.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// Stop bits after each character.
    pub stop_bits: StopBits,
    /// Data bits of each character. Frames of the node protocol need eight.
    pub data_bits: DataBits,
    /// How the driver switches a half-duplex transceiver; none: the driver is
    /// left as it is, as for an adapter that switches by itself.
    pub rs485: Option<Rs485>,
}

/// How a port's driver switches an RS-485 transceiver by RTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rs485 {
    /// Whether RTS is active while sending, and inactive while receiving; or
    /// the other way round.
    pub is_rts_on_send: bool,
    /// From the switch to the first bit, milliseconds.
    pub delay_before_ms: u32,
    /// From the last bit to the switch back, milliseconds.
    pub delay_after_ms: u32,
}

impl SerialSettings {
    /// `port` at `baud` bits a second with eight data bits, no parity and one
    /// stop bit.
    pub fn new(port: impl Into<String>, baud: u32) -> Self {
        Self {
            port: port.into(),
            baud,
            parity: Parity::None,
            stop_bits: StopBits::One,
            data_bits: DataBits::Eight,
            rs485: None,
        }
    }
}

/// As in `/dev/ttyUSB0 115200 8N1`.
impl fmt::Display for SerialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_bits = u8::from(serialport::DataBits::from(self.data_bits));
        let stop_bits = u8::from(serialport::StopBits::from(self.stop_bits));
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(
            f,
            "{} {} {data_bits}{parity}{stop_bits}",
            self.port, self.baud
        )
    }
}

/// The parity bit of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Ones are even in number with the parity bit.
    Even,
    /// Ones are odd in number with the parity bit.
    Odd,
}

/// Stop bits after each character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopBits {
    /// One stop bit.
    #[default]
    One,
    /// Two stop bits.
    Two,
}

/// Data bits of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataBits {
    /// Seven, as on old instruments.
    Seven,
    /// Eight.
    #[default]
    Eight,
}

impl From<Parity> for serialport::Parity {
    fn from(parity: Parity) -> Self {
        match parity {
            Parity::None => Self::None,
            Parity::Even => Self::Even,
            Parity::Odd => Self::Odd,
        }
    }
}

impl From<StopBits> for serialport::StopBits {
    fn from(stop_bits: StopBits) -> Self {
        match stop_bits {
            StopBits::One => Self::One,
            StopBits::Two => Self::Two,
        }
    }
}

impl From<DataBits> for serialport::DataBits {
    fn from(data_bits: DataBits) -> Self {
        match data_bits {
            DataBits::Seven => Self::Seven,
            DataBits::Eight => Self::Eight,
        }
    }
}
