//! The model rungs of a ladder, as one entry of `[[models]]` makes them.
//!
//! The active bundle is the rung `model`; its `previous`, if there is one, the
//! rung of that name. A delegate's rung comes with the first backend that has
//! one. Instances are loaded here, at the start and again whenever the ladder
//! wants a fresh one.

use super::{LoadedModel, ModelBundle, is_missing};
use crate::fault::{FaultyModel, Injection};
use crate::hot_path::Runner;
use crate::report::ModelIdentity;
use anyhow::{Context, ensure};
use hark_config::ModelConfig;
use hark_engine::{ModelRung, PipelineSpec, Rung, StepReason};
use hark_models::{BATCH_MAX, Infer};
use hark_threads::Shutdown;
use std::sync::Arc;

/// The rungs that run a model: those before the rule.
pub(crate) const MODEL_RUNGS: usize = Rung::Rule as usize;

/// What a source needs to know of its models.
pub struct Rungs {
    active: ModelBundle,
    previous: Option<ModelBundle>,
    models: Vec<ModelRung>,
    is_cached: bool,
    /// What a demonstration does to the active model.
    fault: Option<Injection>,
}

/// Why there is no instance of a rung.
#[derive(Clone, Debug)]
pub struct Refused {
    /// For the ladder.
    pub reason: StepReason,
    /// For people.
    pub text: String,
}

impl Rungs {
    /// Opens the bundles of a model.
    ///
    /// # Errors
    /// Which bundle is wrong and why; or that the previous one sees readings in
    /// another way than the active one.
    pub fn open(config: &ModelConfig) -> anyhow::Result<Self> {
        let active =
            ModelBundle::open(&config.bundle).with_context(|| format!("model {}", config.name))?;
        let previous = config.previous.as_ref().map(ModelBundle::open).transpose();
        let previous = previous.with_context(|| format!("model {}, previous", config.name))?;
        if let Some(previous) = &previous {
            let (new, old) = (active.pipeline(), previous.pipeline());
            ensure!(
                new.schema == old.schema
                    && new.window == old.window
                    && new.features == old.features,
                "model {}: the previous bundle has another schema, window or features: it cannot \
                 stand in",
                config.name
            );
        }
        let rung = |rung, bundle: &ModelBundle| ModelRung {
            rung,
            score: bundle.pipeline().score.clone(),
            threshold: bundle.pipeline().verdict.threshold,
            expires_utc_us: bundle.expires_utc_us(),
            batch_max: BATCH_MAX,
        };
        let lower = previous.as_ref().map(|bundle| rung(Rung::Previous, bundle));
        Ok(Self {
            models: [rung(Rung::Model, &active)]
                .into_iter()
                .chain(lower)
                .collect(),
            is_cached: config.is_cached,
            active,
            previous,
            fault: None,
        })
    }

    /// The same, with a fault of the active model.
    pub fn with_fault(self, fault: Option<Injection>) -> Self {
        Self { fault, ..self }
    }

    /// Whether the active model loads and passes its golden vectors.
    ///
    /// # Errors
    /// Why each of its variants does not.
    pub fn check(&self) -> anyhow::Result<()> {
        self.active.check()?;
        if let Some(previous) = &self.previous {
            previous.check().context("previous")?;
        }
        Ok(())
    }

    /// The pipeline of the active bundle.
    pub fn pipeline(&self) -> &PipelineSpec {
        self.active.pipeline()
    }

    /// The rungs that run a model, best first.
    pub fn models(&self) -> &[ModelRung] {
        &self.models
    }

    /// Whether equal features reuse scores.
    pub fn is_cached(&self) -> bool {
        self.is_cached
    }

    /// The bundle behind a verdict of `rung`, run by nobody yet.
    pub fn identity(&self, rung: Rung) -> Arc<ModelIdentity> {
        Arc::new(self.bundle(rung).identity(""))
    }

    /// Loads an instance of `rung`, golden vectors and all. Takes milliseconds
    /// to seconds, and ends with `stop`.
    ///
    /// # Errors
    /// [`Refused`], with the reason of each variant.
    pub fn load(&self, rung: Rung, stop: &Shutdown) -> Result<Runner, Refused> {
        if rung == Rung::Model && self.fault.as_ref().is_some_and(Injection::is_missing) {
            return Err(Refused {
                reason: StepReason::Missing,
                text: "injected: the model is missing".to_owned(),
            });
        }
        let loaded = self.bundle(rung).load(Some(stop));
        let LoadedModel { infer, identity } = loaded.map_err(|error| refused(&error))?;
        let infer = match &self.fault {
            Some(fault) if rung == Rung::Model => Box::new(FaultyModel::new(infer, fault.clone())),
            _ => infer,
        };
        Ok(Runner::new(rung, infer, identity))
    }

    /// The active model by itself, for benchmarks.
    ///
    /// # Errors
    /// Why each of its variants does not load.
    pub fn load_bare(&self) -> anyhow::Result<Box<dyn Infer>> {
        Ok(self.active.load(None)?.infer)
    }

    /// The readings of the active bundle's first golden window.
    pub fn golden_readings(&self) -> Vec<Vec<f32>> {
        let vectors = &self.active.bundle.golden().vectors;
        vectors
            .first()
            .map(|vector| vector.readings.clone())
            .unwrap_or_default()
    }

    /// The features of the active bundle's golden vectors, shape `[n, inputs]`.
    pub fn golden_features(&self) -> Vec<Vec<f32>> {
        let vectors = self.active.bundle.golden().vectors.iter();
        vectors.map(|vector| vector.features.clone()).collect()
    }

    /// Verdicts of the rule and repeated ones count as the active model's.
    fn bundle(&self, rung: Rung) -> &ModelBundle {
        match (rung, &self.previous) {
            (Rung::Previous, Some(previous)) => previous,
            _ => &self.active,
        }
    }
}

/// What people call the model of a rung.
pub fn called(rung: Rung) -> &'static str {
    match rung {
        Rung::Model => "active",
        rung => rung.name(),
    }
}

fn refused(error: &anyhow::Error) -> Refused {
    Refused {
        reason: if is_missing(error) {
            StepReason::Missing
        } else {
            StepReason::Corrupt
        },
        text: format!("{error:#}"),
    }
}
