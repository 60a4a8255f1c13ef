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
        if values(decoder, payload).is_none() {
            return;
        }
        let longer = [payload, b"\x00"].concat();
        assert!(values(decoder, &longer).is_none());
        let shorter = &payload[..payload.len() - 1];
        assert!(values(decoder, shorter).is_none());
    });
});
