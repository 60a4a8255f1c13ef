//! Models: what runs them, and the bundles they come in.
//!
//! [`Infer`] is one loaded model: features in, outputs out. A backend (one file
//! each: [`dense`], [`classical`], [`tract`]) implements it, and its [`Runtime`] loads it. A
//! [`Bundle`] is a folder, or a list of files compiled into the binary, holding a
//! manifest, one model file for each precision, and golden vectors.
//! [`Bundle::load`] hands out the first variant that one of the [`Runtimes`] loads
//! *and* that reproduces its golden outputs on the backend that will run it.
//!
//! This crate knows nothing of readings, windows or verdicts. The manifest's
//! `[pipeline]` section is a type of the caller's, and so is the check that
//! readings give the golden features and scores.
//!
//! ```no_run
//! #[derive(serde::Deserialize)]
//! struct Pipeline { window: usize }
//!
//! let bundle = hark_models::Bundle::<Pipeline>::open("models/pump-rig")?;
//! let runtimes = hark_models::Runtimes::default();
//! let mut loaded = bundle.load(&runtimes, hark_models::Choice::Any)?;
//! let features = vec![0.0; loaded.model.inputs()];
//! let mut outputs = vec![0.0; loaded.model.outputs()];
//! loaded.model.infer(&features, &mut outputs)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bundle;
pub mod classical;
pub mod dense;
mod files;
pub mod golden;
mod infer;
mod load;
pub mod manifest;
mod onnx;
pub mod runtime;
pub mod tract;

#[cfg(test)]
mod fixture;

pub use bundle::{Bundle, BundleError, Choice, Loaded};
pub use infer::{BATCH_MAX, Infer, InferError};
pub use load::{LoadError, TENSOR_BYTES_MAX};
pub use manifest::{Manifest, Precision, Variant};
pub use onnx::{CONSTANTS_BYTES_MAX, NODES_MAX};
pub use runtime::{BoardFacts, ModelFile, Runtime, Runtimes};
