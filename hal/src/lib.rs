//! What hark needs of the machine it runs on: serial lines, pseudo terminals
//! that stand in for them, outputs, a watchdog, the service manager, clocks, and
//! real-time scheduling.
//!
//! Everything here waits, reads or writes, and holds no policy: what to do
//! about a port that is [`Gone`](SerialError::Gone), and when to try again,
//! is the caller's. Every call that waits takes a timeout or has a named
//! one, so that a thread in it sees a shutdown in time.
//!
//! Linux only; no C library is needed.

mod atomic_file;
mod board;
mod clock;
mod confine;
mod fd;
mod gpio;
mod host;
mod ioctl;
mod ports;
mod pty;
mod realtime;
mod serial;
mod service;
mod settings;
mod tcp;
mod usage;
mod watchdog;

pub use atomic_file::{replace_file, sync_folder_of};
pub use board::{
    Board, Core, GpioChip, Identity, Kernel, LineErrors, Memory, SerialPort, Storage,
    WatchdogState, is_clock_synchronised, storage_of,
};
pub use clock::{Clock, wall_us};
pub use confine::{Confinement, memory_left_bytes};
pub use gpio::{GpioError, Output, OutputSettings, gpio_chips, gpio_owner};
pub use host::{host_name, user_name};
pub use ports::serial_ports;
pub use pty::Pty;
pub use realtime::{
    PREFAULT_BYTES_MAX, Realtime, RealtimeError, allowed_cores, be_fifo, lock_memory, pin_to,
    prefault_stack, sharpen_timers,
};
pub use serial::{Received, SerialError, SerialLine, WRITE_TIMEOUT};
pub use service::ServiceManager;
pub use settings::{DataBits, Parity, Rs485, SerialSettings, StopBits};
pub use tcp::TcpLine;
pub use usage::{cpu_time, peak_rss_bytes, thread_cpu_time};
pub use watchdog::{Watchdog, WatchdogError, watchdogs};
