//! `manifest.toml`: what a bundle holds, and what its model expects.
//!
//! Parsed once and checked whole; a [`Manifest`] that exists names a format this
//! crate reads, sound names, sizes within bounds and a digest for each file. The
//! section `[pipeline]` is the caller's type `P`, so that a bundle says how
//! readings become features without this crate knowing either.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use toml::de::{DeTable, Deserializer};

use crate::bundle::BundleError;
use crate::files::read_file;

mod faults;

use faults::FAULTS_MAX;
pub use faults::{Fault, Lines};

/// The only manifest format so far.
pub const FORMAT: u32 = 1;

/// The largest manifest; a schema of 32 channels takes 4 kB, scales of the widest
/// model 700.
pub const MANIFEST_BYTES_MAX: usize = 2 << 20;

/// The widest model: 65536 f32 are 256 KiB, copied for each inference.
pub const WIDTH_MAX: usize = 65_536;

/// One for each precision and backend that this product may ever have, with room.
pub const VARIANTS_MAX: usize = 8;

/// The longest age that a manifest may allow: a century. A larger number is a slip.
pub const AGE_DAYS_MAX: u32 = 36_525;

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Names and versions end up in MQTT topics, metric labels and folder names.
const NAME_LENGTHS: RangeInclusive<usize> = 1..=64;

/// A bundle's manifest; `P` is the caller's `[pipeline]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "P: DeserializeOwned"))]
pub struct Manifest<P> {
    /// Always [`FORMAT`].
    pub format: u32,
    /// What the model is.
    pub model: Model,
    /// The model files, the most wanted first; at least one.
    pub variants: Vec<Variant>,
    /// Where the golden vectors are.
    pub golden: GoldenFile,
    /// How readings become features, and outputs a verdict.
    pub pipeline: P,
}

/// What the model is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// 1 to 64 of `a-z 0-9 -`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// 1 to 64 of `a-z A-Z 0-9 . + -`.
    #[serde(deserialize_with = "version")]
    pub version: String,
    /// One or two sentences for people.
    pub description: String,
    /// The licence of the model files, as an SPDX expression.
    pub licence: String,
    /// Where the training data came from.
    pub data: String,
    /// Number of features, 1 to [`WIDTH_MAX`].
    #[serde(deserialize_with = "width")]
    pub inputs: usize,
    /// Number of outputs, 1 to [`WIDTH_MAX`].
    #[serde(deserialize_with = "width")]
    pub outputs: usize,
    /// `created`: when it was trained; RFC 3339 in the file, here microseconds since
    /// 1970 in UTC.
    #[serde(rename = "created", default, deserialize_with = "rfc3339")]
    pub created_utc_us: Option<i64>,
    /// `valid_until`: when it stops to be trusted, later than `created`; as that.
    #[serde(rename = "valid_until", default, deserialize_with = "rfc3339")]
    pub valid_until_utc_us: Option<i64>,
    /// How old it may become, 1 to [`AGE_DAYS_MAX`] days; needs `created`.
    #[serde(default, deserialize_with = "days")]
    pub max_age_days: Option<u32>,
}

impl Model {
    /// When the model expires, in microseconds since 1970 in UTC: at `valid_until` or
    /// `max_age_days` after `created`, whichever is earlier. `None`: never.
    pub fn expires_utc_us(&self) -> Option<i64> {
        let aged = self.created_utc_us.zip(self.max_age_days);
        let aged = aged.map(|(created, days)| created.saturating_add(DAY_US * i64::from(days)));
        aged.into_iter().chain(self.valid_until_utc_us).min()
    }

    fn check_age(&self) -> Option<(&'static str, &'static str)> {
        if self.max_age_days.is_some() && self.created_utc_us.is_none() {
            return Some((
                "model.max_age_days",
                "there is no model.created to count from",
            ));
        }
        let dates = self.created_utc_us.zip(self.valid_until_utc_us);
        let is_wrong = dates.is_some_and(|(created, until)| until <= created);
        is_wrong.then_some(("model.valid_until", "it is not after model.created"))
    }
}

/// A moment in RFC 3339, such as `2026-03-01T12:00:00Z`, as microseconds since 1970.
fn rfc3339<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Ok(Some(moment.as_microsecond())),
        Err(_) => Err(D::Error::custom(format!(
            "{text:?} is no moment in RFC 3339, such as \"2026-03-01T12:00:00Z\""
        ))),
    }
}

/// One file of the model, for one precision and one backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The arithmetic that the file was made for.
    pub precision: Precision,
    /// Who runs it. A name that this binary does not have is no error: gateways
    /// with and without an accelerator share bundles. The variant is skipped.
    pub backend: String,
    /// File name inside the bundle.
    pub file: String,
    /// SHA-256 of the file, 64 lower-case hex digits.
    #[serde(deserialize_with = "sha256")]
    pub sha256: String,
}

/// Where the golden vectors are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenFile {
    /// File name inside the bundle.
    pub file: String,
    /// SHA-256 of the file, 64 lower-case hex digits.
    #[serde(deserialize_with = "sha256")]
    pub sha256: String,
}

/// The arithmetic of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 8-bit integers, quantized.
    Int8,
    /// 32-bit floating point.
    Float32,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Int8 => "int8",
            Precision::Float32 => "float32",
        })
    }
}

/// Read before the rest, so that a newer manifest is named as such instead of as
/// a heap of unknown keys.
#[derive(Deserialize)]
struct Probe {
    format: u32,
}

impl<P: DeserializeOwned> Manifest<P> {
    /// Reads a manifest file without the rest of its bundle.
    ///
    /// # Errors
    /// As [`Manifest::parse`], and that it cannot be read or is too large.
    pub fn read(path: &Path) -> Result<(Self, Lines), BundleError> {
        let bytes = read_file(path, MANIFEST_BYTES_MAX)?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// Parses and checks a manifest; `file` is its name for errors. With it comes
    /// where its keys are, for whoever checks its pipeline.
    ///
    /// # Errors
    /// [`BundleError::Manifest`] with every fault, its line and key,
    /// [`BundleError::Format`] for a format other than [`FORMAT`].
    pub fn parse(file: &str, bytes: &[u8]) -> Result<(Self, Lines), BundleError> {
        let text = std::str::from_utf8(bytes).map_err(|error| BundleError::Manifest {
            file: file.to_owned(),
            faults: vec![Fault {
                line: faults::line_at(bytes, error.valid_up_to()),
                message: "not UTF-8".to_owned(),
            }],
        })?;
        let (document, errors) = DeTable::parse_recoverable(text);
        let wrong = |faults| BundleError::Manifest {
            file: file.to_owned(),
            faults,
        };
        if !errors.is_empty() {
            let faults = errors.iter().map(|error| faults::fault(text, error));
            return Err(wrong(faults.take(FAULTS_MAX).collect()));
        }
        let probe = Probe::deserialize(Deserializer::from(document.clone()));
        let probe = probe.map_err(|error| wrong(vec![faults::fault(text, &error)]))?;
        if probe.format != FORMAT {
            return Err(BundleError::Format {
                file: file.to_owned(),
                found: probe.format,
            });
        }
        let lines = Lines::of(text, document.get_ref());
        let (whole, mut faults) = faults::read::<Self>(text, &document);
        let problems = whole.as_ref().map(Self::check).unwrap_or_default();
        faults.extend(problems.into_iter().map(|(key, problem)| Fault {
            line: lines.line(key),
            message: format!("{key}: {problem}"),
        }));
        faults.sort();
        match whole {
            Some(whole) if faults.is_empty() => Ok((whole, lines)),
            _ => Err(wrong(faults)),
        }
    }

    /// What only shows when all values are there.
    fn check(&self) -> Vec<(&'static str, String)> {
        let count = self.variants.len();
        let variants = (!(1..=VARIANTS_MAX).contains(&count))
            .then(|| ("variants", format!("{count} is not in 1 to {VARIANTS_MAX}")));
        let age = self.model.check_age();
        let age = age.map(|(key, problem)| (key, problem.to_owned()));
        variants.into_iter().chain(age).collect()
    }
}

fn name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    word(deserializer, "a-z 0-9 -", is_allowed)
}

fn version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
    word(deserializer, "a-z A-Z 0-9 . + -", is_allowed)
}

fn word<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    alphabet: &str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<String, D::Error> {
    let value = String::deserialize(deserializer)?;
    if NAME_LENGTHS.contains(&value.len()) && value.chars().all(is_allowed) {
        return Ok(value);
    }
    let (min, max) = (NAME_LENGTHS.start(), NAME_LENGTHS.end());
    let problem = format!("{value:?} is not {min} to {max} characters of {alphabet}");
    Err(D::Error::custom(problem))
}

fn width<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let value = usize::deserialize(deserializer)?;
    if (1..=WIDTH_MAX).contains(&value) {
        return Ok(value);
    }
    let problem = format!("{value} is not in 1 to {WIDTH_MAX}");
    Err(D::Error::custom(problem))
}

fn days<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if (1..=AGE_DAYS_MAX).contains(&value) {
        return Ok(Some(value));
    }
    let problem = format!("{value} is not in 1 to {AGE_DAYS_MAX}");
    Err(D::Error::custom(problem))
}

fn sha256<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = String::deserialize(deserializer)?;
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if value.len() == 64 && value.chars().all(is_hex) {
        return Ok(value);
    }
    let problem = format!("{value:?} is not a SHA-256 in 64 lower-case hex digits");
    Err(D::Error::custom(problem))
}
