//! JSON payloads, against what serde_json's own tree says of them.
#![no_main]

use std::cell::RefCell;

use hark_codec::{Decoder, Format};
use hark_fuzz::{config, schema, values};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

thread_local! {
    static DECODER: RefCell<Decoder> =
        RefCell::new(Decoder::new(Format::Json, &schema(), &config()).expect("it fits"));
}

fuzz_target!(|payload: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        let Some(values) = values(&decoder.decode(payload)) else {
            return;
        };
        let text = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
        let tree: Value = serde_json::from_slice(text).expect("what is accepted is JSON");
        for (channel, name) in ["pressure", "flow"].into_iter().enumerate() {
            let holder = tree.get("values").filter(|v| !v.is_null()).unwrap_or(&tree);
            let value = [holder.get(channel), holder.get(name), tree.get(name)];
            let value = value.into_iter().flatten().next().expect("it was found");
            assert_eq!(values[channel], to_f32(value));
        }
        let longer = [payload, b"]"].concat();
        assert!(decoder.decode(&longer).is_err());
    });
});

fn to_f32(value: &Value) -> f32 {
    match (value.as_u64(), value.as_i64()) {
        (Some(value), _) => value as f32,
        (_, Some(value)) => value as f32,
        _ => value.as_f64().expect("a number") as f32,
    }
}
