//! What a broken or hostile source may send: no panic, and nothing accepted
//! that is not a whole, finite reading.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::decoder;
use crate::{Decoder, Format, LineSplitter, PAYLOAD_MAX};

/// Valid payloads of each format, with everything that the format can carry.
fn valid() -> Vec<(Format, &'static str, Vec<u8>)> {
    let json: [&str; 3] = [
        r#"{"seq":12,"ts":"2020-03-09T10:14:33Z","node":"a\n","values":{"pressure":1.5,"flow":-2e-3},"units":{"flow":"bar"},"x":[{}]}"#,
        r#"{"seq":12,"ts":123,"values":[1.5,-2e-3]}"#,
        r#"{"seq":12,"pressure":1.5,"flow":-0.25}"#,
    ];
    let cbor: [&[u8]; 2] = [
        b"\xa4\x63seq\x0c\x62ts\xc1\x1a\x5e\x66\x15\xc9\x66values\x9f\xf9\x3e\x00\xfb\xc0\x00\x00\x00\x00\x00\x00\x00\xff\x61x\x81\xf6",
        b"\xbf\x68pressure\xfa\x3f\xc0\x00\x00\x64flow\x20\x64node\x61a\x65units\xa1\x64flow\x63bar\xff",
    ];
    let csv = [
        r#"12,2020-03-09 10:14:33,1.5,"-2e-3","a, ""b""""#,
        "12,123,1.5,-0.25,pump\r\n",
    ];
    let columns = r#"{"sensor":"node","columns":["seq","ts","pressure","flow","node"]}"#;
    let sensor = r#"{"sensor":"node"}"#;
    let json = json.map(|text| (Format::Json, sensor, text.as_bytes().to_vec()));
    let cbor = cbor.map(|bytes| (Format::Cbor, sensor, bytes.to_vec()));
    let csv = csv.map(|text| (Format::Csv, columns, text.as_bytes().to_vec()));
    json.into_iter().chain(cbor).chain(csv).collect()
}

/// Whether all that the payload holds was accepted, and something was; what is
/// accepted must be whole.
fn is_accepted(decoder: &mut Decoder, payload: &[u8]) -> bool {
    let mut is_accepted = true;
    let count = decoder.decode(payload, 0, &mut |outcome| match outcome {
        Ok(decoded) => {
            assert_eq!(decoded.reading.values().len(), 2);
            let is_finite = decoded.reading.values().iter().all(|v| v.is_finite());
            assert!(is_finite, "{}", payload.escape_ascii());
        }
        Err(rejected) => {
            assert!(!rejected.detail.as_str().is_empty());
            is_accepted = false;
        }
    });
    if count == 0 {
        let is_blank = payload
            .iter()
            .all(|b| b.is_ascii_whitespace() || *b == 0 || *b == 0x1E);
        assert!(is_blank, "{}", payload.escape_ascii());
    }
    is_accepted && count > 0
}

#[test]
fn every_truncation_is_refused() {
    for (format, mapping, payload) in valid() {
        let mut decoder = decoder(format, mapping);
        assert!(
            is_accepted(&mut decoder, &payload),
            "{}",
            payload.escape_ascii()
        );
        // A line has no end of its own: cut past the comma before its last
        // cell, it is a valid line with a shorter name.
        let end = match format {
            Format::Csv => {
                payload
                    .iter()
                    .enumerate()
                    .filter(|(_, b)| **b == b',')
                    .nth(3)
                    .unwrap()
                    .0
                    + 1
            }
            _ => payload.len(),
        };
        for len in 0..end {
            let cut = &payload[..len];
            assert!(!is_accepted(&mut decoder, cut), "{}", cut.escape_ascii());
        }
        assert!(is_accepted(&mut decoder, &payload));
    }
}

#[test]
fn every_bit_flip_is_refused_or_whole() {
    for (format, mapping, payload) in valid() {
        let mut decoder = decoder(format, mapping);
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            is_accepted(&mut decoder, &flipped);
        }
        assert!(is_accepted(&mut decoder, &payload));
    }
}

/// Prints its seed on failure, because a panic shows the test's output.
#[test]
fn random_edits_and_random_bytes_are_refused_or_whole() {
    let seed = std::env::var("HARK_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("HARK_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (format, mapping, payload) in valid() {
        let mut decoder = decoder(format, mapping);
        for _ in 0..5_000 {
            let mut edited = payload.clone();
            for _ in 0..random.random_range(1..4) {
                edit(&mut edited, &mut random);
            }
            is_accepted(&mut decoder, &edited);
            let mut noise = vec![0; random.random_range(1..64)];
            random.fill_bytes(&mut noise);
            noise[0] |= 0x80;
            is_accepted(&mut decoder, &noise);
        }
        assert!(is_accepted(&mut decoder, &payload));
    }
}

fn edit(payload: &mut Vec<u8>, random: &mut impl Rng) {
    let place = random.random_range(0..=payload.len());
    match random.random_range(0..3) {
        0 => payload.insert(place, random.random()),
        1 if place < payload.len() => drop(payload.remove(place)),
        _ => {
            let from = random.random_range(0..=place);
            let piece = payload[from..place].to_vec();
            payload.extend(piece);
        }
    }
}

#[test]
fn the_largest_nonsense_is_refused() {
    for (format, mapping, _) in valid() {
        let mut decoder = decoder(format, mapping);
        for byte in [
            b'[', b'{', b'"', b'9', b'-', b',', b'\\', 0x00, 0x81, 0x9f, 0xbf, 0xc1, 0xff,
        ] {
            for len in [PAYLOAD_MAX, PAYLOAD_MAX + 1] {
                assert!(!is_accepted(&mut decoder, &vec![byte; len]), "{byte:#x}");
            }
        }
    }
}

#[test]
fn lines_of_noise_are_decoded_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut decoder = decoder(Format::Csv, r#"{"header":false}"#);
    let (mut splitter, mut lines, mut accepted) = (LineSplitter::new(), 0, 0);
    for round in 0..200 {
        let mut noise = vec![0; random.random_range(0..6000)];
        random.fill_bytes(&mut noise);
        noise.retain(|b| *b != b'\n' || round % 2 == 0);
        noise.extend(b"\n1,2\n");
        splitter.push(&noise, |line| {
            lines += 1;
            let is_reading = line.is_ok_and(|line| is_accepted(&mut decoder, line));
            accepted += usize::from(is_reading);
        });
    }
    assert!(lines > 400);
    assert_eq!(accepted, 200, "one good line follows each piece of noise");
}
