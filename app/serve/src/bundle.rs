//! From a model's entry in the config to what a source needs of it.
//!
//! A bundle is opened once for each model and loaded once for each source that
//! uses it, because a loaded model belongs to one thread. Golden vectors are
//! checked in full here: readings to features and outputs to score by the
//! engine, features to outputs by the backend that will run the model.

use crate::report::ModelIdentity;
use anyhow::{Context, bail, ensure};
use hark_config::BundlePath;
use hark_engine::{
    AlertPolicy, Answers, Counter, Driver, Engine, Fault, Instance, Limits, NodeClock, Now, Output,
    PipelineSpec, Reading, Rung, Step,
};
use hark_models::golden::Golden;
use hark_models::{Bundle, BundleError, Choice, Infer, Precision, Runtimes};
use hark_threads::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod builtin;
mod rungs;
mod trial;

pub use builtin::{BUILTIN, files as builtin_files};
pub(crate) use rungs::MODEL_RUNGS;
pub use rungs::{Refused, Rungs, called};
pub use trial::{try_bundle, try_bundles_by};

/// An opened bundle, with a pipeline that can be served.
pub struct ModelBundle {
    bundle: Bundle<PipelineSpec>,
    /// Where it is; none for one that is compiled in.
    folder: Option<PathBuf>,
}

/// One instance of a model, ready to answer.
pub struct LoadedModel {
    /// What runs it.
    pub infer: Box<dyn Infer>,
    /// How it is called outside.
    pub identity: Arc<ModelIdentity>,
}

impl ModelBundle {
    /// Opens the bundle that the config names, and checks its pipeline.
    ///
    /// # Errors
    /// Which bundle, which file, and what is wrong with it.
    pub fn open(path: &BundlePath) -> anyhow::Result<Self> {
        match path {
            BundlePath::Folder(folder) => Self::open_folder(folder),
            BundlePath::Builtin(name) => {
                let bundle = Bundle::embedded(builtin::files(name)?)?;
                Self::checked(bundle, None).with_context(|| format!("builtin:{name}"))
            }
        }
    }

    /// Opens the bundle in a folder.
    ///
    /// # Errors
    /// As [`ModelBundle::open`].
    pub fn open_folder(folder: &Path) -> anyhow::Result<Self> {
        let opening = || format!("model bundle {}", folder.display());
        let bundle = Bundle::open(folder).with_context(opening)?;
        Self::checked(bundle, Some(folder.to_owned())).with_context(opening)
    }

    fn checked(bundle: Bundle<PipelineSpec>, folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let manifest = bundle.manifest();
        let (pipeline, model) = (&manifest.pipeline, &manifest.model);
        let problems = pipeline.problems();
        let mut faults: Vec<_> = problems
            .iter()
            .map(|problem| bundle.fault(&problem.key(), &problem.problem))
            .collect();
        if faults.is_empty() {
            let features = pipeline.features_len();
            let outputs_min = pipeline.score.outputs_min(features);
            let (inputs, outputs) = (model.inputs, model.outputs);
            faults.extend((inputs != features).then(|| {
                let problem = format!("{inputs}, but [pipeline] has {features} features");
                bundle.fault("model.inputs", &problem)
            }));
            faults.extend((outputs < outputs_min).then(|| {
                let problem = format!("{outputs}, but [pipeline.score] needs {outputs_min}");
                bundle.fault("model.outputs", &problem)
            }));
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(bundle.wrong(faults).into());
        }
        check_readings(bundle.golden(), pipeline.schema.channels.len())?;
        Ok(Self { bundle, folder })
    }

    /// The pipeline that the bundle declares.
    pub fn pipeline(&self) -> &PipelineSpec {
        &self.bundle.manifest().pipeline
    }

    /// When the model expires by its manifest, microseconds since 1970.
    pub fn expires_utc_us(&self) -> Option<i64> {
        self.bundle.manifest().model.expires_utc_us()
    }

    /// The first variant that works here, golden vectors and all, once another
    /// process has loaded it without harm. Waits, at most until `stop`.
    ///
    /// # Errors
    /// Why each variant does not work, or what a load did to the other process.
    pub fn load(&self, stop: Option<&Shutdown>) -> anyhow::Result<LoadedModel> {
        let loaded = self.try_elsewhere(stop);
        let loaded = loaded.and_then(|_| self.load_untried());
        let (loaded, skipped) = self.in_context(loaded)?;
        skipped.iter().for_each(warn_of);
        Ok(loaded)
    }

    /// Whether it loads and passes its golden vectors; here only where no other
    /// process tries it.
    ///
    /// # Errors
    /// As [`ModelBundle::load`].
    pub fn check(&self) -> anyhow::Result<()> {
        let tried = self.try_elsewhere(None);
        let skipped = tried.and_then(|tried| match tried {
            Some(skipped) => Ok(skipped),
            None => Ok(self.load_untried()?.1),
        });
        let skipped = self.in_context(skipped)?;
        skipped.iter().for_each(warn_of);
        Ok(())
    }

    /// The variants that were passed over in another process; none if it is not tried
    /// in one.
    fn try_elsewhere(&self, stop: Option<&Shutdown>) -> anyhow::Result<Option<Vec<String>>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        trial::pass(folder, self.bundle.digest(), stop)
    }

    fn in_context<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        match &self.folder {
            Some(folder) => result.with_context(|| format!("model bundle {}", folder.display())),
            None => result,
        }
    }

    /// The first variant that works, and those that were passed over.
    fn load_untried(&self) -> anyhow::Result<(LoadedModel, Vec<String>)> {
        let loaded = self.bundle.load(&Runtimes::default(), Choice::Any)?;
        let skipped = loaded.skipped.iter().map(ToString::to_string).collect();
        let (precision, mut infer) = (loaded.variant.precision, loaded.model);
        self.check_golden(precision, infer.as_mut())?;
        let model = LoadedModel {
            identity: Arc::new(self.identity(infer.backend())),
            infer,
        };
        Ok((model, skipped))
    }

    /// How the bundle is called outside; `backend` is empty if nothing runs it.
    pub fn identity(&self, backend: &str) -> ModelIdentity {
        let model = &self.bundle.manifest().model;
        ModelIdentity {
            name: model.name.clone(),
            version: model.version.clone(),
            sha256: self.bundle.digest().to_owned(),
            backend: backend.to_owned(),
        }
    }

    /// Runs the golden readings through the engine and the model, as in service.
    fn check_golden(&self, precision: Precision, infer: &mut dyn Infer) -> anyhow::Result<()> {
        let golden = self.bundle.golden();
        // An int8 output may be a quantum off; so may the score, in proportion.
        let tolerance = *golden
            .tolerance
            .outputs
            .get(&precision)
            .with_context(|| format!("golden vectors have no tolerance for {precision}"))?;
        for (index, vector) in golden.vectors.iter().enumerate() {
            let (features, score) = self
                .serve(&vector.readings, infer)
                .with_context(|| format!("golden vector {index}"))?;
            for (element, (found, expected)) in features.iter().zip(&vector.features).enumerate() {
                ensure!(
                    (found - expected).abs() <= golden.tolerance.features,
                    "golden vector {index}, feature {element}: expected {expected}, found {found}"
                );
            }
            let Some(&expected) = vector.score.get(&precision) else {
                bail!("golden vector {index} has no score for {precision}");
            };
            ensure!(
                (score - expected).abs() <= tolerance * expected.abs().max(1.0),
                "golden vector {index}: expected score {expected}, found {score}"
            );
        }
        Ok(())
    }

    /// The features and the score of the last of `readings`.
    fn serve(
        &self,
        readings: &[Vec<f32>],
        infer: &mut dyn Infer,
    ) -> anyhow::Result<(Vec<f32>, f32)> {
        let mut driver = Driver::new(Engine::with_model(self.pipeline(), RECORDED)?);
        let mut said = Vec::new();
        let inputs = infer.inputs();
        let outputs = vec![0.0; infer.outputs()];
        let golden = Instance::new(Rung::Model, Held { infer, outputs }, 1, inputs);
        driver.handle_instance(golden, 0, &mut said);
        let sensor = driver.sensor("golden").expect("there is room for one");
        let mut last = None;
        let period_us = self.pipeline().schema.period_ms * 1e3;
        for (index, values) in readings.iter().enumerate() {
            let mut reading = Reading::empty(values.len());
            reading.values_mut().copy_from_slice(values);
            reading.sequence = Some(index as u64);
            let now = Now {
                mono_us: (index as f64 * period_us) as u64,
                utc_us: 0,
            };
            let step = driver.handle_reading(sensor, &reading, now.into(), &mut said);
            if let Step::Settled(outcome) = step
                && index + 1 == readings.len()
            {
                bail!("its last reading is not due: {outcome:?}");
            }
            let Some(mut instance) = driver.start_inference(now, false, &mut said) else {
                continue;
            };
            let (golden, features) = instance.to_run();
            golden.infer.infer(features, &mut golden.outputs)?;
            let features = features.to_vec();
            driver.finish_inference(instance, Duration::ZERO, now.mono_us, &mut said);
            let score = said.drain(..).find_map(|output| match output {
                Output::Verdict(verdict) => Some(verdict.score),
                _ => None,
            });
            last = score.map(|score| (features, score));
        }
        last.context("it holds too few readings for a window")
    }
}

fn warn_of(skipped: &String) {
    tracing::warn!("model variant passed over: {skipped}");
}

/// Whether a file that a bundle needs is not there, here or where it was tried.
fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let bundle = cause.downcast_ref::<BundleError>();
        let tried = cause.downcast_ref::<trial::Failed>();
        bundle.is_some_and(BundleError::is_missing) || tried.is_some_and(|t| t.is_missing)
    })
}

/// The golden readings are readings of the schema.
fn check_readings(golden: &Golden, channels: usize) -> anyhow::Result<()> {
    for (index, vector) in golden.vectors.iter().enumerate() {
        for (row, values) in vector.readings.iter().enumerate() {
            let found = values.len();
            ensure!(
                found == channels,
                "golden vectors: vectors[{index}].readings[{row}] has {found} values, the schema \
                 has {channels} channels"
            );
        }
    }
    Ok(())
}

/// The model that golden vectors are held against.
struct Held<'a> {
    infer: &'a mut dyn Infer,
    /// Of one window.
    outputs: Vec<f32>,
}

impl Answers for Held<'_> {
    fn answer(&self, _row: usize) -> Result<&[f32], Fault> {
        Ok(&self.outputs)
    }
}

/// The limits under which recorded readings are served one by one: none.
pub const RECORDED: Limits = Limits {
    sensors_max: 1,
    deadline_us: u64::MAX,
    keeper_margin_us: 0,
    readings_per_second_max: 0,
    clock: NodeClock::None,
    counter: Counter::Endless,
    is_caching: false,
    explains_verdicts: false,
    alerts: AlertPolicy {
        watches_range: false,
        silent_after_us: 0,
        link_down_us: 0,
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin(name: &str) -> anyhow::Result<ModelBundle> {
        ModelBundle::open(&BundlePath::Builtin(name.to_owned()))
    }

    #[test]
    fn the_built_in_bundle_passes_its_golden_vectors() {
        for name in BUILTIN {
            let bundle = builtin(name).unwrap();
            for precision in [Precision::Int8, Precision::Float32] {
                let loaded = bundle
                    .bundle
                    .load(&Runtimes::default(), Choice::Only(precision))
                    .unwrap();
                let mut infer = loaded.model;
                bundle.check_golden(precision, infer.as_mut()).unwrap();
            }
        }
    }

    #[test]
    fn golden_readings_of_another_width_are_refused_with_their_place() {
        for width in [0, 1, 33, 300] {
            let vector = hark_models::golden::Vector {
                readings: vec![vec![0.0; 2], vec![0.0; width]],
                features: Vec::new(),
                outputs: Default::default(),
                score: Default::default(),
            };
            let golden = Golden {
                vectors: vec![vector],
                tolerance: hark_models::golden::Tolerance {
                    features: 0.0,
                    outputs: Default::default(),
                },
            };
            let refused = check_readings(&golden, 2).unwrap_err().to_string();
            let place = format!("vectors[0].readings[1] has {width} values");
            assert!(refused.contains(&place), "{refused}");
        }
    }

    #[test]
    fn an_unknown_builtin_lists_those_there_are() {
        let error = builtin("pump").err().unwrap();
        assert!(format!("{error:#}").contains("there are: pump-rig"));
    }

    #[test]
    fn the_built_in_schema_is_the_rigs() {
        let bundle = builtin("pump-rig").unwrap();
        let declared = bundle.pipeline().schema.channels.iter();
        let declared: Vec<_> = declared
            .map(|c| (c.name.as_str(), c.unit.as_str()))
            .collect();
        let rig: Vec<_> = hark_rig::CHANNELS
            .iter()
            .map(|c| (c.name, c.unit))
            .collect();
        assert_eq!(declared, rig);
    }
}
