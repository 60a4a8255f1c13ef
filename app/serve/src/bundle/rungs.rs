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
use crate::withheld::{Subject, Withheld};
use anyhow::{Context, bail, ensure};
use hark_config::ModelConfig;
use hark_engine::{ModelRung, PipelineSpec, Rung, StepReason};
use hark_models::{BATCH_MAX, Infer};
use hark_threads::Shutdown;
use std::sync::Arc;

/// The rungs that run a model: those before the rule.
pub(crate) const MODEL_RUNGS: usize = Rung::Rule as usize;

/// What a source needs to know of its models.
pub struct Rungs {
    active: Opened,
    previous: Option<Opened>,
    models: Vec<ModelRung>,
    is_cached: bool,
    /// What a demonstration does to the active model.
    fault: Option<Injection>,
    /// Its name in `[[models]]`.
    name: String,
    /// Where the bundles are, by [`Rung`].
    places: [String; MODEL_RUNGS],
    withheld: Withheld,
}

/// A bundle whose manifest and golden vectors are sound, or why they are not.
type Opened = Result<ModelBundle, Refused>;

/// Why there is no instance of a rung.
#[derive(Clone, Debug)]
pub struct Refused {
    /// For the ladder.
    pub reason: StepReason,
    /// For people.
    pub text: String,
}

impl Rungs {
    /// Opens the bundles of a model. One of the two may be no good: its rung is
    /// refused when it is to be loaded, and the other one serves.
    ///
    /// # Errors
    /// If no bundle can be opened: which, and why. Without one nobody knows which
    /// readings are valid.
    pub fn open(config: &ModelConfig) -> anyhow::Result<Self> {
        let name = &config.name;
        let opened = ModelBundle::open(&config.bundle);
        let active = opened.with_context(|| format!("model {name}"));
        let opened = config.previous.as_ref().map(ModelBundle::open);
        let previous =
            opened.map(|opened| opened.with_context(|| format!("model {name}, previous")));
        let (active, previous) = match (active, previous) {
            (Ok(active), Some(Ok(previous))) => {
                let previous = check_alike(&active, previous)
                    .with_context(|| format!("model {name}, previous"));
                (Ok(active), Some(previous))
            }
            (Err(error), None) => return Err(error),
            (Err(active), Some(Err(previous))) => bail!("{active:#}; {previous:#}"),
            opened => opened,
        };
        let refuse = |opened: anyhow::Result<ModelBundle>| opened.map_err(|error| refused(&error));
        let rungs = Self {
            active: refuse(active),
            previous: previous.map(refuse),
            models: Vec::new(),
            is_cached: config.is_cached,
            fault: None,
            name: name.clone(),
            places: places(config),
            withheld: Withheld::default(),
        };
        Ok(Self {
            models: rungs.list(),
            ..rungs
        })
    }

    fn list(&self) -> Vec<ModelRung> {
        let rung = |rung, opened: &Opened| {
            // For one that is refused: nobody will see its scores.
            let bundle = opened.as_ref().unwrap_or(self.sound());
            ModelRung {
                rung,
                score: bundle.pipeline().score.clone(),
                threshold: bundle.pipeline().verdict.threshold,
                expires_utc_us: bundle.expires_utc_us(),
                batch_max: BATCH_MAX,
            }
        };
        let previous = self
            .previous
            .iter()
            .map(|opened| rung(Rung::Previous, opened));
        [rung(Rung::Model, &self.active)]
            .into_iter()
            .chain(previous)
            .collect()
    }

    /// The active bundle, or the previous one where that is no good.
    fn sound(&self) -> &ModelBundle {
        let previous = || self.previous.as_ref()?.as_ref().ok();
        let active = self.active.as_ref().ok();
        active
            .or_else(previous)
            .expect("a model without a sound bundle is not opened")
    }

    /// The same, with a fault of the active model.
    pub fn with_fault(self, fault: Option<Injection>) -> Self {
        Self { fault, ..self }
    }

    /// The same, but for models that are `withheld`.
    pub fn but_withheld(self, withheld: Withheld) -> Self {
        Self { withheld, ..self }
    }

    /// Where models are kept from being run.
    pub(crate) fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// The model of `rung`, if its bundle is sound, as it would be withheld.
    pub(crate) fn subject(&self, rung: Rung) -> Option<Subject> {
        let bundle = self.opened(rung).as_ref().ok()?;
        Some(Subject {
            model: self.name.clone(),
            rung: rung.name().to_owned(),
            bundle: self.places[rung as usize].clone(),
            sha256: bundle.bundle.digest().to_owned(),
        })
    }

    fn opened(&self, rung: Rung) -> &Opened {
        match (rung, &self.previous) {
            (Rung::Previous, Some(previous)) => previous,
            _ => &self.active,
        }
    }

    /// Whether every bundle is sound, loads and passes its golden vectors.
    ///
    /// # Errors
    /// Why one does not: each of its variants.
    pub fn check(&self) -> anyhow::Result<()> {
        let check = |opened: &Opened| match opened {
            Ok(bundle) => bundle.check(),
            Err(refused) => bail!(refused.text.clone()),
        };
        check(&self.active)?;
        self.previous
            .as_ref()
            .map_or(Ok(()), |opened| check(opened).context("previous"))
    }

    /// The pipeline of the active bundle, or of the previous one where that is no good.
    pub fn pipeline(&self) -> &PipelineSpec {
        self.sound().pipeline()
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
        let bundle = self.opened(rung).as_ref().map_err(Refused::clone)?;
        let subject = self.subject(rung).expect("its bundle is sound");
        self.withheld
            .begin_load(&subject)
            .map_err(|record| Refused {
                reason: StepReason::Withheld,
                text: record.to_string(),
            })?;
        let loaded = bundle.load(Some(stop));
        self.withheld.end_load(&subject.sha256);
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
        Ok(self.sound().load(None)?.infer)
    }

    /// The readings of the active bundle's first golden window.
    pub fn golden_readings(&self) -> Vec<Vec<f32>> {
        let vectors = &self.sound().bundle.golden().vectors;
        vectors
            .first()
            .map(|vector| vector.readings.clone())
            .unwrap_or_default()
    }

    /// The features of the active bundle's golden vectors, shape `[n, inputs]`.
    pub fn golden_features(&self) -> Vec<Vec<f32>> {
        let vectors = self.sound().bundle.golden().vectors.iter();
        vectors.map(|vector| vector.features.clone()).collect()
    }

    /// Verdicts of the rule and repeated ones count as the active model's.
    fn bundle(&self, rung: Rung) -> &ModelBundle {
        match (rung, &self.previous) {
            (Rung::Previous, Some(Ok(previous))) => previous,
            _ => self.sound(),
        }
    }
}

fn places(config: &ModelConfig) -> [String; MODEL_RUNGS] {
    let mut places = [const { String::new() }; MODEL_RUNGS];
    places[Rung::Model as usize] = config.bundle.to_string();
    places[Rung::Previous as usize] = config.previous.iter().map(ToString::to_string).collect();
    places
}

/// What people call the model of a rung.
pub fn called(rung: Rung) -> &'static str {
    match rung {
        Rung::Model => "active",
        rung => rung.name(),
    }
}

/// Hands `previous` back if it sees readings as `active` does.
fn check_alike(active: &ModelBundle, previous: ModelBundle) -> anyhow::Result<ModelBundle> {
    let (new, old) = (active.pipeline(), previous.pipeline());
    ensure!(
        new.schema == old.schema && new.window == old.window && new.features == old.features,
        "it has another schema, window or features than the active bundle: it cannot stand in"
    );
    Ok(previous)
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
