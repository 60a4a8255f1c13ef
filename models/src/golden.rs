//! Golden vectors: what the trained model answered, frozen in its bundle.
//!
//! A backend is trusted with a model only after it has reproduced them, on the
//! very machine that will run it: runtimes have been seen to load a model and
//! answer nonsense. This crate checks features → outputs. Readings → features and
//! outputs → score belong to the caller, who finds both here.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::infer::{Infer, InferError};
use crate::manifest::{Model, Precision};

/// The largest golden file: two vectors of the widest model take 5 MB.
pub const GOLDEN_BYTES_MAX: usize = 8 << 20;

/// Lists in a golden file. Each costs memory of its own, even an empty one of two bytes.
const LISTS_MAX: usize = 1 << 18;

/// The golden vectors of a bundle, checked against the model's shape.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// At least two, of which two differ in features and outputs.
    pub vectors: Vec<Vector>,
    /// How far an answer may be off.
    pub tolerance: Tolerance,
}

/// One frozen path from readings to score.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The readings that fill one window, oldest first; each has one value for
    /// each channel, in the channels' units.
    pub readings: Vec<Vec<f32>>,
    /// The features of that window, shape `[inputs]`.
    pub features: Vec<f32>,
    /// The model's outputs for each precision, shape `[outputs]`.
    pub outputs: BTreeMap<Precision, Vec<f32>>,
    /// The score of those outputs for each precision.
    pub score: BTreeMap<Precision, f32>,
}

/// Absolute differences that are allowed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// For each feature; for the caller to apply.
    pub features: f32,
    /// For each output, for each precision.
    pub outputs: BTreeMap<Precision, f32>,
}

/// How a backend failed the golden vectors.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GoldenError {
    /// The bundle has no golden outputs for this precision.
    #[error("no golden outputs for {0}")]
    Precision(Precision),
    /// The model did not run.
    #[error("golden vector {vector}: {source}")]
    Infer {
        /// Its index in the file.
        vector: usize,
        /// What the backend said.
        source: InferError,
    },
    /// The model answered something else.
    #[error(
        "golden vector {vector}, output {element}: expected {expected}, found {found}, \
         tolerance {tolerance}"
    )]
    Mismatch {
        /// The vector's index in the file.
        vector: usize,
        /// The first output that is off.
        element: usize,
        /// The frozen value.
        expected: f32,
        /// The backend's value.
        found: f32,
        /// The difference that is allowed.
        tolerance: f32,
    },
}

impl Golden {
    /// Parses golden vectors and checks them against the model's shape.
    ///
    /// # Errors
    /// What is wrong, and where, in one line.
    pub fn parse(json: &[u8], model: &Model) -> Result<Self, String> {
        let lists = json.iter().filter(|byte| **byte == b'[').count();
        if lists > LISTS_MAX {
            return Err(format!("{lists} lists, at most {LISTS_MAX} are allowed"));
        }
        let golden: Golden = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        golden.tolerance.check()?;
        for (index, vector) in golden.vectors.iter().enumerate() {
            vector
                .check(model)
                .map_err(|problem| format!("vectors[{index}].{problem}"))?;
        }
        let rest = golden.vectors.iter().skip(1);
        if !rest
            .into_iter()
            .any(|vector| vector.differs(&golden.vectors[0]))
        {
            let found = golden.vectors.len();
            return Err(format!(
                "vectors: {found} found; at least two that differ in features and outputs are \
                 needed, or a model that answers always the same would pass"
            ));
        }
        Ok(golden)
    }

    /// Runs every vector on `model` and compares its outputs: there and back, each
    /// twice in a row. What a model remembers of the run before shows in one of
    /// them.
    ///
    /// # Errors
    /// [`GoldenError`] for the first vector and element that is off.
    pub fn check_outputs(
        &self,
        precision: Precision,
        model: &mut dyn Infer,
    ) -> Result<(), GoldenError> {
        let missing = GoldenError::Precision(precision);
        let tolerance = *self.tolerance.outputs.get(&precision).ok_or(missing)?;
        let mut found = vec![0.0; model.outputs()];
        let there = self.vectors.iter().enumerate();
        let there_and_back = there.clone().chain(there.rev());
        for (index, vector) in there_and_back.flat_map(|vector| [vector; 2]) {
            let missing = GoldenError::Precision(precision);
            let expected = vector.outputs.get(&precision).ok_or(missing)?;
            model
                .infer(&vector.features, &mut found)
                .map_err(|source| GoldenError::Infer {
                    vector: index,
                    source,
                })?;
            compare(index, expected, &found, tolerance)?;
        }
        Ok(())
    }
}

impl Tolerance {
    fn check(&self) -> Result<(), String> {
        let is_good = |tolerance: f32| tolerance.is_finite() && tolerance >= 0.0;
        if !is_good(self.features) {
            return Err(format!("tolerance.features: {} is not ≥ 0", self.features));
        }
        match self.outputs.iter().find(|(_, value)| !is_good(**value)) {
            Some((precision, value)) => {
                Err(format!("tolerance.outputs.{precision}: {value} is not ≥ 0"))
            }
            None => Ok(()),
        }
    }
}

impl Vector {
    /// Whether it asks something else than `other`, and expects another answer at
    /// each precision.
    fn differs(&self, other: &Self) -> bool {
        let mut outputs = self.outputs.iter();
        let is_other = |(precision, outputs)| other.outputs.get(precision) != Some(outputs);
        self.features != other.features && outputs.all(is_other)
    }

    fn check(&self, model: &Model) -> Result<(), String> {
        check_values("features", &self.features, model.inputs)?;
        for (precision, outputs) in &self.outputs {
            check_values(&format!("outputs.{precision}"), outputs, model.outputs)?;
        }
        let finite = self.score.values().chain(self.readings.iter().flatten());
        if finite.copied().all(f32::is_finite) {
            Ok(())
        } else {
            Err("readings or score: a value is not finite in f32".to_owned())
        }
    }
}

fn check_values(key: &str, values: &[f32], expected: usize) -> Result<(), String> {
    if values.len() != expected {
        let found = values.len();
        return Err(format!("{key}: {found} values, the model has {expected}"));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(format!("{key}[{index}]: not finite in f32")),
        None => Ok(()),
    }
}

fn compare(
    vector: usize,
    expected: &[f32],
    found: &[f32],
    tolerance: f32,
) -> Result<(), GoldenError> {
    assert_eq!(expected.len(), found.len());
    let pairs = expected.iter().zip(found).enumerate();
    for (element, (&expected, &found)) in pairs {
        if (expected - found).abs() > tolerance {
            return Err(GoldenError::Mismatch {
                vector,
                element,
                expected,
                found,
                tolerance,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with its feature, and a trace of the one before, or of the one before
    /// that differs.
    struct Remembering {
        last: f32,
        before: f32,
        forgets_equal: bool,
    }

    impl Infer for Remembering {
        fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
            if !self.forgets_equal || features[0] != self.last {
                self.before = self.last;
                self.last = features[0];
            }
            outputs[0] = features[0] + 0.5 * self.before;
            Ok(())
        }

        fn inputs(&self) -> usize {
            1
        }

        fn outputs(&self) -> usize {
            1
        }

        fn batch_max(&self) -> usize {
            1
        }

        fn backend(&self) -> &str {
            "test"
        }
    }

    /// One feature and one output for each vector.
    fn golden(pairs: &[(f32, f32)]) -> Golden {
        let vectors = pairs.iter().map(|&(feature, output)| Vector {
            readings: Vec::new(),
            features: vec![feature],
            outputs: BTreeMap::from([(Precision::Float32, vec![output])]),
            score: BTreeMap::new(),
        });
        Golden {
            vectors: vectors.collect(),
            tolerance: Tolerance {
                features: 0.0,
                outputs: BTreeMap::from([(Precision::Float32, 0.1)]),
            },
        }
    }

    /// Vectors recorded from such a model, asked one after the other; `vector` is the
    /// first that tells.
    fn check(forgets_equal: bool, pairs: &[(f32, f32)], vector: usize) {
        let mut model = Remembering {
            last: 0.0,
            before: 0.0,
            forgets_equal,
        };
        let golden = golden(pairs);
        match golden.check_outputs(Precision::Float32, &mut model) {
            Err(GoldenError::Mismatch { vector: found, .. }) => assert_eq!(found, vector),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_model_that_remembers_is_found_by_asking_twice_and_in_both_orders() {
        let pairs = [(1.0, 1.0), (2.0, 2.5)];
        check(false, &pairs, 0);
        // What is asked twice in a row tells nothing of this one; the way back does.
        check(true, &pairs, 0);
        check(false, &[(0.0, 0.0), (2.0, 2.0)], 1);
    }
}
