//! One value: where it stands in a unit, and how its bytes are read.

/// Which of the four tables of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Holding registers, 16 bits each; manuals call the first 40001.
    Holding,
    /// Input registers, 16 bits each; manuals call the first 30001.
    Input,
    /// Coils, one bit each; manuals call the first 00001.
    Coil,
    /// Discrete inputs, one bit each; manuals call the first 10001.
    Discrete,
}

impl Table {
    /// The function that reads it. Modbus Application Protocol V1.1b3, section 6.
    pub fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }

    /// Whether its places are single bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Input => "input",
            Self::Coil => "coil",
            Self::Discrete => "discrete",
        }
    }

    /// What manuals put in front of a place's number, by five digits: the number
    /// of the first is one more.
    pub fn prefix(self) -> u32 {
        match self {
            Self::Coil => 0,
            Self::Discrete => 10_000,
            Self::Input => 30_000,
            Self::Holding => 40_000,
        }
    }

    /// The table and the address of a number as manuals write it, with five or
    /// six digits: 40001 and 400001 are the first holding register.
    pub fn of_manual(number: u32) -> Option<(Self, u16)> {
        [Self::Holding, Self::Input, Self::Discrete]
            .into_iter()
            .find_map(|table| {
                let five = number.checked_sub(table.prefix() + 1);
                let six = number.checked_sub(table.prefix() * 10 + 1);
                let five = five.filter(|address| *address < 9_999);
                let six = six.filter(|address| *address <= u16::MAX.into());
                let address = u16::try_from(five.or(six)?).ok()?;
                Some((table, address))
            })
    }
}

/// How the bits of a value are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// One bit: 0 or 1. Coils and discrete inputs are this and nothing else.
    Bit,
    /// One register, signed.
    I16,
    /// One register.
    U16,
    /// Two registers, signed.
    I32,
    /// Two registers.
    U32,
    /// Four registers, signed.
    I64,
    /// Four registers.
    U64,
    /// Two registers, IEEE 754.
    F32,
    /// Four registers, IEEE 754.
    F64,
}

impl ValueType {
    /// Places that it takes in its table: registers, or one bit.
    pub fn places(self) -> u16 {
        match self {
            Self::Bit | Self::I16 | Self::U16 => 1,
            Self::I32 | Self::U32 | Self::F32 => 2,
            Self::I64 | Self::U64 | Self::F64 => 4,
        }
    }
}

/// The order of bytes in a value of several registers, from the lowest address:
/// `abcd` has the most significant first. Of 64 bits, too: the letters say whether
/// registers are swapped, and whether the bytes within each are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the standard has it.
    Abcd,
    /// The least significant register first.
    Cdab,
    /// The bytes of each register swapped.
    Badc,
    /// Both: the least significant byte first.
    Dcba,
}

impl Order {
    fn swaps_registers(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }
}

/// A value in a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Register {
    /// Where.
    pub table: Table,
    /// Counted from 0, as on the wire.
    pub address: u16,
    /// How its bits are read; [`ValueType::Bit`] exactly where the table has bits.
    pub kind: ValueType,
    /// The order of its bytes.
    pub order: Order,
    /// What the number is multiplied by,
    pub scale: f64,
    /// and what is added then.
    pub offset: f64,
}

impl Register {
    /// The value, from its place `at` on in the bytes of an answer.
    ///
    /// # Panics
    /// If `data` ends before the value.
    pub(crate) fn value(&self, data: &[u8], at: u16) -> f32 {
        let at = usize::from(at);
        let raw = match self.kind {
            ValueType::Bit => f64::from(data[at / 8] >> (at % 8) & 1),
            kind => self.number(&data[2 * at..][..2 * usize::from(kind.places())]),
        };
        // Cast: readings have this precision.
        (raw * self.scale + self.offset) as f32
    }

    fn number(&self, bytes: &[u8]) -> f64 {
        let mut value: u64 = 0;
        let registers = bytes.len() / 2;
        for n in 0..registers {
            let register = if self.order.swaps_registers() {
                registers - 1 - n
            } else {
                n
            };
            let pair = [bytes[2 * register], bytes[2 * register + 1]];
            let word = if self.order.swaps_bytes() {
                u16::from_le_bytes(pair)
            } else {
                u16::from_be_bytes(pair)
            };
            value = value << 16 | u64::from(word);
        }
        // Casts: to the bits of the type, which are the lowest, and to the nearest
        // number beyond 53 bits.
        match self.kind {
            ValueType::Bit | ValueType::U16 | ValueType::U32 | ValueType::U64 => value as f64,
            ValueType::I16 => f64::from(value as u16 as i16),
            ValueType::I32 => f64::from(value as u32 as i32),
            ValueType::I64 => value as i64 as f64,
            ValueType::F32 => f64::from(f32::from_bits(value as u32)),
            ValueType::F64 => f64::from_bits(value),
        }
    }
}
