//! JSON payloads, of one reading against what serde_json's own tree says of them, and
//! by paths, units and times of every kind.
#![no_main]

use std::cell::RefCell;

use hark_codec::{Decoder, Format, MappingConfig, TimeUse};
use hark_fuzz::{config, schema, values};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

thread_local! {
    static DECODERS: RefCell<[Decoder; 2]> = RefCell::new([config(), nested()].map(|config| {
        Decoder::new(Format::Json, &schema(), &config).expect("it fits")
    }));
}

/// A mapping that goes through every kind of step.
fn nested() -> MappingConfig {
    MappingConfig {
        channels: [("pressure", "a.b[1].p"), ("flow", "/a/q~1/0")]
            .map(|(channel, path)| (channel.to_owned(), path.into()))
            .into(),
        readings: Some("r.s".to_owned()),
        timestamp: "t.d".to_owned(),
        time_of_day: Some("t.t".to_owned()),
        timezone: Some("Europe/Berlin".to_owned()),
        clock: TimeUse::Utc,
        ..config()
    }
}

fuzz_target!(|payload: &[u8]| {
    DECODERS.with_borrow_mut(|[decoder, nested]| {
        values(nested, payload);
        nested
            .decode_value("a.b[1].p", payload, hark_fuzz::NOW_US, &mut |_| {})
            .ok();
        let Some(all) = values(decoder, payload) else {
            return;
        };
        let text = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
        // NaN, several values and what is around them are read here alone.
        let Ok(tree) = serde_json::from_slice::<Value>(text) else {
            return;
        };
        let [values] = all[..] else {
            return;
        };
        let tree = match &tree {
            Value::Array(list) if matches!(list[..], [Value::Array(_) | Value::Object(_)]) => {
                &list[0]
            }
            tree => tree,
        };
        for (channel, name) in ["pressure", "flow"].into_iter().enumerate() {
            let holder = tree.get("values").filter(|v| !v.is_null()).unwrap_or(tree);
            let value = [holder.get(channel), holder.get(name), tree.get(name)];
            let value = value.into_iter().flatten().next().expect("it was found");
            if let (Some(expected), None) = (to_f32(value), tree.get("units")) {
                assert_eq!(values[channel], expected);
            }
        }
        let longer = [payload, b"]"].concat();
        assert!(hark_fuzz::values(decoder, &longer).is_none());
    });
});

/// None: it is no number, and read all the same.
fn to_f32(value: &Value) -> Option<f32> {
    match (value.as_u64(), value.as_i64()) {
        (Some(value), _) => Some(value as f32),
        (_, Some(value)) => Some(value as f32),
        _ => value.as_f64().map(|value| value as f32),
    }
}
