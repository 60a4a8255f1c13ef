//! From the registers that are wanted to as few requests as possible.

use crate::frame::Request;
use crate::register::{Register, Table};

/// Registers that one request may ask for. Modbus Application Protocol V1.1b3,
/// section 6.3.
pub const REGISTERS_MAX: u16 = 125;
/// Bits that one request may ask for, section 6.1.
pub const BITS_MAX: u16 = 2000;

/// How far neighbours go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Places between two wanted ones that are read along: a unit may refuse a
    /// request that touches one that it does not have.
    pub gap_max: u16,
    /// Registers that one request asks for at most, 1 to [`REGISTERS_MAX`]; one
    /// value is never parted.
    pub registers_max: u16,
}

/// A run of places that one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where.
    pub table: Table,
    /// Of the first.
    pub address: u16,
    /// How many.
    pub quantity: u16,
    /// Its values in [`Plan::parts`].
    first: usize,
    end: usize,
}

/// The requests by which a unit is polled.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    blocks: Box<[Block]>,
    /// Each register with its index among those wanted, by table and address.
    parts: Box<[(usize, Register)]>,
}

impl Plan {
    /// The requests for `registers`, of which there is at least one. They may
    /// overlap.
    ///
    /// # Panics
    /// If there is none, or one goes beyond the last address.
    pub fn new(registers: &[Register], limits: PlanLimits) -> Self {
        assert!(!registers.is_empty(), "nothing is wanted");
        let mut parts: Vec<(usize, Register)> = registers.iter().copied().enumerate().collect();
        parts.sort_by_key(|(index, r)| (r.table, r.address, *index));
        let mut blocks: Vec<Block> = Vec::new();
        for (n, (_, register)) in parts.iter().enumerate() {
            let places = register.kind.places();
            assert!(u32::from(register.address) + u32::from(places) <= 1 << 16);
            match blocks.last_mut() {
                Some(block) if block.takes(register, limits) => {
                    let quantity = register.address - block.address + places;
                    block.quantity = block.quantity.max(quantity);
                    block.end = n + 1;
                }
                _ => blocks.push(Block {
                    table: register.table,
                    address: register.address,
                    quantity: places,
                    first: n,
                    end: n + 1,
                }),
            }
        }
        Self {
            blocks: blocks.into(),
            parts: parts.into(),
        }
    }

    /// The requests, in the order in which they are made; at least one.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Never: a plan has values.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The request for the block at `index` of `unit`.
    pub(crate) fn request(&self, index: usize, unit: u8) -> Request {
        let block = &self.blocks[index];
        Request {
            unit,
            table: block.table,
            address: block.address,
            quantity: block.quantity,
        }
    }

    /// Takes the values of the block at `index` from the answer to its request.
    pub(crate) fn fill(&self, index: usize, data: &[u8], values: &mut [f32]) {
        let block = &self.blocks[index];
        for (place, register) in &self.parts[block.first..block.end] {
            values[*place] = register.value(data, register.address - block.address);
        }
    }

    /// Characters that a poll takes on a serial line at least, with the silence
    /// before each request and answer.
    pub fn characters(&self, unit: u8) -> u32 {
        let blocks = 0..self.blocks.len();
        blocks.map(|n| self.request(n, unit).characters()).sum()
    }
}

impl Block {
    /// Whether `register`, which is not before its first place, goes along.
    fn takes(&self, register: &Register, limits: PlanLimits) -> bool {
        let end = u32::from(self.address) + u32::from(self.quantity);
        let places = u32::from(register.kind.places());
        let quantity = u32::from(register.address) - u32::from(self.address) + places;
        let most = if self.table.is_bits() {
            BITS_MAX
        } else {
            limits.registers_max
        };
        self.table == register.table
            && u32::from(register.address) <= end + u32::from(limits.gap_max)
            && (quantity <= most.into() || quantity <= self.quantity.into())
    }
}
