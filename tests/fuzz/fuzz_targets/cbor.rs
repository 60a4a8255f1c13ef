//! CBOR payloads: whole readings only, and an item has one end.
#![no_main]

use std::cell::RefCell;

use hark_codec::{Decoder, Format};
use hark_fuzz::{config, schema, values};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DECODER: RefCell<Decoder> =
        RefCell::new(Decoder::new(Format::Cbor, &schema(), &config()).expect("it fits"));
}

fuzz_target!(|payload: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        if values(&decoder.decode(payload)).is_none() {
            return;
        }
        let longer = [payload, b"\x00"].concat();
        assert!(decoder.decode(&longer).is_err());
        let shorter = &payload[..payload.len() - 1];
        assert!(!matches!(decoder.decode(shorter), Ok(Some(_))));
    });
});
