//! What the fuzz targets of the codec share: a schema of two channels, and
//! what must hold for whatever is accepted.

use hark_codec::{Decoded, MappingConfig, Rejected};
use hark_engine::{Channel, Schema};

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

/// The two values, if the payload was accepted.
///
/// # Panics
/// If a reading is not whole and finite, or a rejection explains nothing.
pub fn values(outcome: &Result<Option<Decoded<'_>>, Rejected>) -> Option<[f32; 2]> {
    match outcome {
        Ok(Some(decoded)) => {
            let values = decoded.reading.values();
            assert!(values.iter().all(|value| value.is_finite()));
            Some(
                values
                    .try_into()
                    .expect("a reading has the schema's length"),
            )
        }
        Ok(None) => None,
        Err(rejected) => {
            assert!(!rejected.detail.as_str().is_empty());
            None
        }
    }
}
