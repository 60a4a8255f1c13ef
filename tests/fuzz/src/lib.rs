//! What the fuzz targets of the codec share: a schema of two channels, and
//! what must hold for whatever is accepted.

use hark_codec::{Decoder, MappingConfig};
use hark_engine::{Channel, Schema};

/// 2026-06-01, by which times are told apart.
pub const NOW_US: i64 = 1_780_272_000_000_000;

/// Channels `pressure` and `flow`, in bar.
pub fn schema() -> Schema {
    let channel = |name: &str| Channel {
        name: name.to_owned(),
        unit: "bar".to_owned(),
        min: 0.0,
        max: 10.0,
        rate_max: None,
    };
    Schema {
        period_ms: 10.0,
        age_max_ms: None,
        channels: vec![channel("pressure"), channel("flow")],
    }
}

/// The default mapping, with the sensor's name in `node`.
pub fn config() -> MappingConfig {
    MappingConfig {
        sensor: Some("node".to_owned()),
        ..MappingConfig::default()
    }
}

/// The values of each reading that `payload` holds; none if part of it was refused.
///
/// # Panics
/// If a reading is not whole and finite, or a rejection explains nothing.
pub fn values(decoder: &mut Decoder, payload: &[u8]) -> Option<Vec<[f32; 2]>> {
    let mut all = Some(Vec::new());
    let count = decoder.decode(payload, NOW_US, &mut |outcome| match outcome {
        Ok(decoded) => {
            let values = decoded.reading.values();
            assert!(values.iter().all(|value| value.is_finite()));
            let values = values.try_into().expect("a reading has the schema's length");
            if let Some(all) = &mut all {
                all.push(values);
            }
        }
        Err(rejected) => {
            assert!(!rejected.detail.as_str().is_empty());
            all = None;
        }
    });
    assert!(all.as_ref().is_none_or(|all| all.len() == count));
    while decoder.take_note().is_some() {}
    all.filter(|all| !all.is_empty())
}
