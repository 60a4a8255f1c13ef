//! A Modbus master without input and output.
//!
//! [`Plan`] makes requests of the registers that are wanted, [`Request`] their
//! bytes on a serial line (RTU) or a TCP connection, and [`Master`] says which
//! unit of a line is asked when, and what became of it. Time is an argument;
//! bytes are handed in. Nothing here allocates once it is made, but explanations.
//!
//! Terms: a *unit* is a device by its address on the line; a *block* is a run of
//! registers that one request asks for; a *poll* is all the blocks of one unit,
//! once; a *round* is one poll of every unit that answers.
//!
//! It reads and never writes: what a gateway that listens to machines sends them
//! must not be able to move them.

mod event;
mod fault;
mod frame;
mod master;
mod plan;
mod register;
mod settings;
mod unit;

#[cfg(test)]
mod tests;

pub use event::{Event, Next};
pub use fault::Fault;
pub use frame::{ANSWER_MAX, Answer, Request, TcpAnswer, find_rtu, parse_tcp};
pub use master::Master;
pub use plan::{BITS_MAX, Block, Plan, PlanLimits, REGISTERS_MAX};
pub use register::{Order, Register, Table, ValueType};
pub use settings::{Line, Settings};
