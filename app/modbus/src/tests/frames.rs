//! Requests and answers, byte by byte.

use super::rtu;
use crate::{Answer, Request, Table, TcpAnswer, find_rtu, parse_tcp};

const TWO: Request = Request {
    unit: 0x11,
    table: Table::Holding,
    address: 0x6B,
    quantity: 2,
};

#[test]
fn a_request_is_encoded_as_the_standard_shows() {
    // Modbus Application Protocol V1.1b3, section 6.3: registers 108 to 110.
    let three = Request { quantity: 3, ..TWO };
    let body = [0x11, 3, 0, 0x6B, 0, 3];
    assert_eq!(three.rtu()[..6], body);
    // The check sum that mbpoll sends with it.
    assert_eq!(three.rtu()[6..], [0x76, 0x87]);
    assert_eq!(
        three.tcp(0x0102),
        [1, 2, 0, 0, 0, 6, 0x11, 3, 0, 0x6B, 0, 3]
    );
}

#[test]
fn each_table_has_its_function() {
    let tables = [Table::Coil, Table::Discrete, Table::Holding, Table::Input];
    let functions = tables.map(|table| Request { table, ..TWO }.rtu()[1]);
    assert_eq!(functions, [1, 2, 3, 4]);
}

#[test]
fn an_answer_is_found_whatever_goes_before_it() {
    let answer = rtu(&[0x11, 3, 4, 1, 2, 3, 4]);
    let noise: &[u8] = &[0];
    let more_noise: &[u8] = &[0x11, 3, 0xFF, 0x11, 3];
    for before in [&[], noise, more_noise, &TWO.rtu()[..]] {
        let bytes = [before, &answer[..]].concat();
        let found = find_rtu(&TWO, &bytes);
        assert_eq!(found, Some(Answer::Data(&[1, 2, 3, 4])), "{before:?}");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_no_answer() {
    let answer = rtu(&[0x11, 3, 4, 1, 2, 3, 4]);
    for len in 0..answer.len() {
        assert_eq!(find_rtu(&TWO, &answer[..len]), None, "{len} bytes");
    }
    for bit in 0..8 * answer.len() {
        let mut bytes = answer.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(find_rtu(&TWO, &bytes), None, "bit {bit}");
    }
}

#[test]
fn what_answers_something_else_is_no_answer() {
    let others: [&[u8]; 5] = [
        &[0x12, 3, 4, 1, 2, 3, 4],       // another unit
        &[0x11, 4, 4, 1, 2, 3, 4],       // another table
        &[0x11, 3, 2, 1, 2],             // fewer registers
        &[0x11, 3, 6, 1, 2, 3, 4, 5, 6], // more
        &[0x11, 3, 0],                   // none
    ];
    for other in others {
        assert_eq!(find_rtu(&TWO, &rtu(other)), None, "{other:?}");
    }
}

#[test]
fn our_own_echo_is_not_taken_for_an_answer() {
    // Three bytes of coils, whose count and values a request can look like.
    let coils = Request {
        unit: 1,
        table: Table::Coil,
        address: 0x0300,
        quantity: 20,
    };
    assert_eq!(find_rtu(&coils, &coils.rtu()), None);
    let both = [&coils.rtu()[..], &rtu(&[1, 1, 3, 9, 9, 9])].concat();
    assert_eq!(find_rtu(&coils, &both), Some(Answer::Data(&[9, 9, 9])));
}

#[test]
fn an_exception_is_told_from_data() {
    let exception = rtu(&[0x11, 0x83, 2]);
    assert_eq!(find_rtu(&TWO, &exception), Some(Answer::Exception(2)));
    let other = rtu(&[0x11, 0x84, 2]);
    assert_eq!(find_rtu(&TWO, &other), None, "of another function");
}

#[test]
fn a_tcp_answer_is_told_by_its_transaction() {
    let frame = |transaction: u8, pdu: &[u8]| {
        let len = pdu.len() as u8 + 1;
        [&[0, transaction, 0, 0, 0, len, 0xFF], pdu].concat()
    };
    let pdu: &[u8] = &[3, 4, 1, 2, 3, 4];
    let check = |bytes: &[u8], expected: TcpAnswer<'_>| {
        assert_eq!(parse_tcp(&TWO, 7, bytes), expected, "{bytes:?}");
    };
    let whole = frame(7, pdu);
    for len in 0..whole.len() {
        check(&whole[..len], TcpAnswer::Incomplete);
    }
    let data = Answer::Data(&[1, 2, 3, 4]);
    check(&whole, TcpAnswer::Answer(data, 13));
    check(&[&whole[..], &[9, 9]].concat(), TcpAnswer::Answer(data, 13));
    check(&frame(6, pdu), TcpAnswer::Other(13));
    check(
        &frame(7, &[0x83, 4]),
        TcpAnswer::Answer(Answer::Exception(4), 9),
    );
    check(&frame(7, &[3, 2, 1, 2]), TcpAnswer::Malformed(11));
    check(&frame(7, &[3, 4, 1, 2]), TcpAnswer::Malformed(11));
    check(b"HTTP/1.1 400", TcpAnswer::Broken);
    check(&[0, 7, 0, 0, 0, 1, 1], TcpAnswer::Broken);
    check(&[0, 7, 0, 0, 1, 0, 1], TcpAnswer::Broken);
}
