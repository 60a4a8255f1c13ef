//! Faults for demonstrations and tests: a model that misbehaves for a while.
//!
//! Nothing of it is in the way of a model without a fault: only a bundle that
//! was given an [`Injection`] is wrapped.

use clap::ValueEnum;
use hark_models::{Infer, InferError};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a model does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelFault {
    /// It never answers.
    Hang,
    /// It answers after the deadline.
    Slow,
    /// It panics.
    Panic,
    /// It answers with numbers that are none.
    Nan,
    /// Its files are gone.
    Missing,
}

/// What `hark run --inject` puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Into the active models.
    Model(ModelFault),
    /// `stall`: into a serving thread.
    Stall,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "stall" {
            return Ok(Self::Stall);
        }
        <ModelFault as ValueEnum>::from_str(text, false)
            .map(Self::Model)
            .map_err(|_| "must be hang, slow, panic, nan, missing or stall".to_owned())
    }
}

/// A fault that can be switched on and off while the model runs.
#[derive(Clone, Debug)]
pub struct Injection {
    fault: ModelFault,
    is_on: Arc<AtomicBool>,
    /// How long a slow model takes.
    slow: Duration,
}

impl Injection {
    /// A fault that is off; a slow model takes `slow`.
    pub fn new(fault: ModelFault, slow: Duration) -> Self {
        Self {
            fault,
            is_on: Arc::default(),
            slow,
        }
    }

    /// Whether there is no model to be loaded.
    pub(crate) fn is_missing(&self) -> bool {
        self.fault == ModelFault::Missing && self.is_on.load(Ordering::Relaxed)
    }

    /// Switches the fault.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }
}

/// A stall of one serving thread, outside of its model, for the test of what
/// watches it. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Stall {
    is_on: Arc<AtomicBool>,
}

impl Stall {
    /// The next thread that comes along blocks for good.
    pub fn start(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn block_once(&self) {
        if self.is_on.load(Ordering::Relaxed) && self.is_on.swap(false, Ordering::Relaxed) {
            loop {
                std::thread::park();
            }
        }
    }
}

/// A model with an [`Injection`].
pub(crate) struct FaultyModel {
    model: Box<dyn Infer>,
    injection: Injection,
}

impl FaultyModel {
    pub(crate) fn new(model: Box<dyn Infer>, injection: Injection) -> Self {
        Self { model, injection }
    }
}

impl Infer for FaultyModel {
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        if self.injection.is_on.load(Ordering::Relaxed) {
            match self.injection.fault {
                // As an endless loop in a vendor's driver, but a cool one.
                ModelFault::Hang => loop {
                    std::thread::park();
                },
                ModelFault::Slow => std::thread::sleep(self.injection.slow),
                ModelFault::Panic => panic!("injected"),
                ModelFault::Nan => {
                    outputs.fill(f32::NAN);
                    return Ok(());
                }
                ModelFault::Missing => {}
            }
        }
        self.model.infer(features, outputs)
    }

    fn inputs(&self) -> usize {
        self.model.inputs()
    }

    fn outputs(&self) -> usize {
        self.model.outputs()
    }

    fn batch_max(&self) -> usize {
        self.model.batch_max()
    }

    fn backend(&self) -> &str {
        self.model.backend()
    }
}
