//! A model bundle: opened and checked whole, then loaded on a backend.
//!
//! Opening reads what says how to serve: the manifest and the golden vectors.
//! Loading tries the variants in the manifest's order and hands out the first
//! whose file is unaltered, loads, and passes the golden vectors; why the others
//! did not is reported beside it. A bundle whose model files are gone still
//! opens: its pipeline can be served without them. Nothing here panics on any content of any file.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::files::{Files, MODEL_BYTES_MAX, sha256_hex};
use crate::golden::{GOLDEN_BYTES_MAX, Golden, GoldenError};
use crate::infer::Infer;
use crate::load::LoadError;
use crate::manifest::{FORMAT, Fault, Lines, MANIFEST_BYTES_MAX, Manifest, Precision, Variant};
use crate::runtime::Runtimes;

/// The manifest's name in every bundle.
pub const MANIFEST: &str = "manifest.toml";

/// A bundle whose manifest and golden vectors are there and unaltered.
#[derive(Debug)]
pub struct Bundle<P> {
    files: Files,
    manifest: Manifest<P>,
    lines: Lines,
    golden: Golden,
    digest: String,
}

/// Which variants [`Bundle::load`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Any, the manifest's first that works.
    Any,
    /// Only those of this precision.
    Only(Precision),
}

/// A model that reproduced its golden outputs on this machine.
pub struct Loaded<'a> {
    /// The model.
    pub model: Box<dyn Infer>,
    /// Which variant it is.
    pub variant: &'a Variant,
    /// The variants before it in the manifest, and why they were passed over;
    /// those that were not asked for are left out.
    pub skipped: Vec<Skipped>,
}

/// A variant that was tried and not taken.
#[derive(Debug, Error)]
#[error("{backend} {precision} ({file}): {reason}")]
pub struct Skipped {
    /// Its precision.
    pub precision: Precision,
    /// Its backend.
    pub backend: String,
    /// Its file.
    pub file: String,
    /// Why it was not taken.
    pub reason: Reason,
}

/// Why a variant was not taken.
#[derive(Debug, Error)]
pub enum Reason {
    /// The binary has no such backend.
    #[error("this binary has no such backend")]
    Backend,
    /// The file went bad after the bundle was opened.
    #[error("{0}")]
    File(Box<BundleError>),
    /// The backend refused the file.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// The backend's answers differ from the golden vectors.
    #[error("{0}")]
    Golden(#[from] GoldenError),
}

/// Why a bundle cannot be used.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("{file}: {cause}")]
    Read {
        /// The file.
        file: String,
        /// The system's reason. Not a `source`: it is told in one line with the file.
        cause: io::Error,
    },
    /// A file is too large.
    #[error("{file}: larger than {bytes_max} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// What it may have.
        bytes_max: usize,
    },
    /// A file name is not a plain name inside the bundle.
    #[error(
        "file name {name:?}: expected one of a-z A-Z 0-9 . _ - without a leading dot or a path"
    )]
    FileName {
        /// The name, cut to the allowed length.
        name: String,
    },
    /// The manifest is wrong.
    #[error("{file}, {}", each(.faults))]
    Manifest {
        /// The manifest.
        file: String,
        /// At least one, in the order of their lines.
        faults: Vec<Fault>,
    },
    /// The manifest is of another format.
    #[error("{file}: format {found}, this binary reads format {FORMAT}")]
    Format {
        /// The manifest.
        file: String,
        /// Its format.
        found: u32,
    },
    /// A file's content is not what the manifest says.
    #[error("{file}: sha256 is {found}, the manifest says {expected}")]
    Digest {
        /// The file.
        file: String,
        /// The manifest's digest.
        expected: String,
        /// The file's digest.
        found: String,
    },
    /// The golden vectors are malformed.
    #[error("{file}: {problem}")]
    Golden {
        /// The golden file.
        file: String,
        /// What is wrong and where.
        problem: String,
    },
    /// No variant could be loaded.
    #[error("no variant of {model} works here: {}", list(.skipped))]
    NoVariant {
        /// Name and version.
        model: String,
        /// Each variant that was asked for, and why it does not work.
        skipped: Vec<Skipped>,
    },
}

impl BundleError {
    /// Whether a file that the bundle needs is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Read { cause, .. } => cause.kind() == io::ErrorKind::NotFound,
            Self::NoVariant { skipped, .. } => skipped.iter().any(
                |skipped| matches!(&skipped.reason, Reason::File(error) if error.is_missing()),
            ),
            _ => false,
        }
    }
}

fn each(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

fn list(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return "none has that precision".to_owned();
    }
    let lines: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl<P: DeserializeOwned> Bundle<P> {
    /// Opens the bundle in a folder.
    ///
    /// # Errors
    /// [`BundleError`]; never [`BundleError::NoVariant`], nothing is loaded yet.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, BundleError> {
        Self::check(Files::Folder(folder.as_ref().to_owned()))
    }

    /// Opens a bundle that is compiled into the binary: file names and contents.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Result<Self, BundleError> {
        Self::check(Files::Embedded(files))
    }

    fn check(files: Files) -> Result<Self, BundleError> {
        let bytes = files.read(MANIFEST, MANIFEST_BYTES_MAX)?;
        let (manifest, lines) = Manifest::parse(&files.describe(MANIFEST), &bytes)?;
        let name = &manifest.golden.file;
        let json = files.read_verified(name, &manifest.golden.sha256, GOLDEN_BYTES_MAX)?;
        let golden =
            Golden::parse(&json, &manifest.model).map_err(|problem| BundleError::Golden {
                file: files.describe(name),
                problem,
            })?;
        Ok(Bundle {
            digest: sha256_hex(&bytes),
            files,
            manifest,
            lines,
            golden,
        })
    }
}

impl<P> Bundle<P> {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest<P> {
        &self.manifest
    }

    /// A fault of the manifest's that the caller found in its part, at `key`.
    pub fn fault(&self, key: &str, problem: &str) -> Fault {
        Fault {
            line: self.lines.line(key),
            message: format!("{key}: {problem}"),
        }
    }

    /// That the manifest has these faults.
    pub fn wrong(&self, faults: Vec<Fault>) -> BundleError {
        BundleError::Manifest {
            file: self.files.describe(MANIFEST),
            faults,
        }
    }

    /// The golden vectors, for the caller's part of the check.
    pub fn golden(&self) -> &Golden {
        &self.golden
    }

    /// SHA-256 of the manifest in 64 lower-case hex digits. The manifest holds the
    /// digests of all other files, so this one names the bundle's whole content.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Loads the first variant that works here: of a runtime in `runtimes`, loadable,
    /// and true to the golden vectors. Takes milliseconds to seconds and allocates;
    /// call it outside the hot path, once for each thread that infers.
    ///
    /// # Errors
    /// [`BundleError::NoVariant`] with the reason of each.
    pub fn load(&self, runtimes: &Runtimes, choice: Choice) -> Result<Loaded<'_>, BundleError> {
        let mut skipped = Vec::new();
        for variant in &self.manifest.variants {
            if !choice.allows(variant) {
                continue;
            }
            match self.try_variant(runtimes, variant) {
                Ok(model) => {
                    return Ok(Loaded {
                        model,
                        variant,
                        skipped,
                    });
                }
                Err(reason) => skipped.push(Skipped {
                    precision: variant.precision,
                    backend: variant.backend.clone(),
                    file: variant.file.clone(),
                    reason,
                }),
            }
        }
        let model = &self.manifest.model;
        Err(BundleError::NoVariant {
            model: format!("{} {}", model.name, model.version),
            skipped,
        })
    }

    /// The file is verified again: storage may have changed since the bundle was
    /// opened, and what runs must be what was signed.
    fn try_variant(
        &self,
        runtimes: &Runtimes,
        variant: &Variant,
    ) -> Result<Box<dyn Infer>, Reason> {
        let read = || {
            let bytes = self
                .files
                .read_verified(&variant.file, &variant.sha256, MODEL_BYTES_MAX);
            bytes.map_err(|error| Reason::File(Box::new(error)))
        };
        let mut model = runtimes.load(variant, &self.manifest.model, read)?;
        self.golden
            .check_outputs(variant.precision, model.as_mut())?;
        Ok(model)
    }
}

impl Choice {
    fn allows(self, variant: &Variant) -> bool {
        match self {
            Choice::Any => true,
            Choice::Only(precision) => variant.precision == precision,
        }
    }
}

#[cfg(test)]
mod tests;
