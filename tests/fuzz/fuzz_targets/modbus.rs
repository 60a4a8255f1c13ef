//! A Modbus master against whatever a line or a host sends: nothing panics, what is
//! asked is what was planned, and a reading is made of sound frames alone.
#![no_main]

use hark_modbus::{
    Answer, Event, Line, Master, Next, Order, Plan, PlanLimits, Register, Request, Settings, Table,
    TcpAnswer, ValueType, find_rtu, parse_tcp,
};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

const UNITS: [u8; 3] = [1, 2, 17];
const STEPS_MAX: usize = 200;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    check_frames(choice, bytes);
    let line = if choice & 1 == 0 {
        Line::Tcp
    } else {
        Line::Serial {
            character: Duration::from_micros(573),
        }
    };
    drive(line, bytes);
});

/// An answer that is found has the length that was asked for.
fn check_frames(choice: u8, bytes: &[u8]) {
    let table = match choice >> 1 & 3 {
        0 => Table::Holding,
        1 => Table::Input,
        2 => Table::Coil,
        _ => Table::Discrete,
    };
    let request = Request {
        unit: UNITS[0],
        table,
        address: 0x0300,
        quantity: u16::from(choice >> 3) + 1,
    };
    let len = if table.is_bits() {
        usize::from(request.quantity).div_ceil(8)
    } else {
        2 * usize::from(request.quantity)
    };
    if let Some(Answer::Data(data)) = find_rtu(&request, bytes) {
        assert_eq!(data.len(), len);
    }
    match parse_tcp(&request, 1, bytes) {
        TcpAnswer::Answer(answer, whole) => {
            assert!(whole <= bytes.len());
            if let Answer::Data(data) = answer {
                assert_eq!(data.len(), len);
            }
        }
        TcpAnswer::Other(whole) | TcpAnswer::Malformed(whole) => assert!(whole <= bytes.len()),
        TcpAnswer::Incomplete | TcpAnswer::Broken => {}
    }
}

fn drive(line: Line, mut bytes: &[u8]) {
    let register = |address, kind| Register {
        table: Table::Holding,
        address,
        kind,
        order: Order::Dcba,
        scale: 0.5,
        offset: 1.0,
    };
    let registers = [register(0, ValueType::F32), register(9, ValueType::U16)];
    let limits = PlanLimits {
        gap_max: 0,
        registers_max: 125,
    };
    let settings = Settings {
        poll: Duration::from_millis(100),
        response_timeout: Duration::from_millis(50),
        retry_max: Duration::from_secs(10),
        line,
    };
    let mut now = Instant::now();
    let mut master = Master::new(&UNITS, Plan::new(&registers, limits), settings, now);
    for _ in 0..STEPS_MAX {
        match master.poll(now, None) {
            Next::Wait(at) => now = at.max(now + Duration::from_micros(1)),
            Next::Ask => {
                let request = master.ask(now).to_vec();
                let unit = match line {
                    Line::Tcp => request[6],
                    Line::Serial { .. } => request[0],
                };
                assert!(UNITS.contains(&unit));
            }
            Next::Listen(until) => {
                let Some((&step, rest)) = bytes.split_first() else {
                    return;
                };
                bytes = rest;
                let event = if step == 0 {
                    now = until.max(now);
                    let event = master.handle_time(now);
                    assert!(event.is_some(), "its time is over");
                    event
                } else {
                    now += Duration::from_micros(u64::from(step) * 20);
                    let space = master.space();
                    assert!(!space.is_empty());
                    let len = usize::from(step).min(bytes.len()).min(space.len());
                    space[..len].copy_from_slice(&bytes[..len]);
                    bytes = &bytes[len..];
                    master.handle_bytes(len, now)
                };
                check_event(&mut master, event, now);
            }
        }
    }
}

fn check_event(master: &mut Master, event: Option<Event>, now: Instant) {
    match event {
        Some(Event::Reading { unit, .. }) => {
            assert!(unit < UNITS.len());
            assert_eq!(master.values().len(), 2);
        }
        Some(Event::Failed { unit, fault, .. }) => {
            assert!(!master.explain(unit, fault).is_empty());
        }
        Some(Event::Broken) => master.handle_up(now),
        None => {}
    }
}
