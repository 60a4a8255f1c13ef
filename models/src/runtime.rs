//! Runtimes: what turns a model's file into something that infers, one for
//! each backend that a manifest may name.
//!
//! A [`Runtime`] is told at each load what the board has ([`BoardFacts`]). A load
//! may take for ever, for a vendor's compiler may hang: nothing here watches it,
//! so whoever loads does so on a thread that may be lost.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::bundle::Reason;
use crate::classical::{self, ClassicalModel};
use crate::dense::{self, DenseModel};
use crate::infer::Infer;
use crate::load::LoadError;
use crate::manifest::{Model, Precision, Variant};
use crate::tract::{self, TractModel};

/// What a board has for runtimes that are not compiled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardFacts {
    /// The shared library of a runtime that is opened at run time.
    pub library: Option<PathBuf>,
    /// The shared library of the delegate that drives the board's accelerator.
    pub delegate: Option<PathBuf>,
}

/// A model's file, verified, and what the manifest promises of it.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile<'a> {
    /// The content.
    pub bytes: &'a [u8],
    /// f32 in a row of features.
    pub inputs: usize,
    /// f32 in a row of outputs.
    pub outputs: usize,
    /// For the backend's name.
    pub precision: Precision,
}

/// One kind of backend.
pub trait Runtime: Send + Sync {
    /// What manifests call it.
    fn name(&self) -> &'static str;

    /// Loads a model. Takes milliseconds to seconds, and allocates.
    ///
    /// # Errors
    /// [`LoadError`], for every content of the file: this never panics.
    fn load(&self, file: &ModelFile<'_>, board: &BoardFacts) -> Result<Box<dyn Infer>, LoadError>;
}

/// The runtimes of this binary on this board.
pub struct Runtimes {
    runtimes: Vec<Box<dyn Runtime>>,
    board: BoardFacts,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self::new(BoardFacts::default())
    }
}

impl Runtimes {
    /// The runtimes that a board with these facts can use.
    pub fn new(board: BoardFacts) -> Self {
        let runtimes: Vec<Box<dyn Runtime>> =
            vec![Box::new(Dense), Box::new(Classical), Box::new(Tract)];
        Self { runtimes, board }
    }

    /// Loads `variant` of `model` by the runtime that it names, from what `read`
    /// returns.
    ///
    /// # Errors
    /// That there is no such runtime, what `read` says, or why it does not load.
    pub(crate) fn load<'a>(
        &self,
        variant: &Variant,
        model: &Model,
        read: impl FnOnce() -> Result<Cow<'a, [u8]>, Reason>,
    ) -> Result<Box<dyn Infer>, Reason> {
        let mut runtimes = self.runtimes.iter();
        let runtime = runtimes.find(|runtime| runtime.name() == variant.backend);
        // Before the file is read: a file for a runtime of other boards may be
        // left out of the bundle.
        let runtime = runtime.ok_or(Reason::Backend)?;
        let file = ModelFile {
            bytes: &read()?,
            inputs: model.inputs,
            outputs: model.outputs,
            precision: variant.precision,
        };
        Ok(runtime.load(&file, &self.board)?)
    }
}

/// The ONNX operators that run here, by the backend that runs them, quickest first.
pub fn operators() -> Vec<(&'static str, Vec<String>)> {
    let names = |names: &mut dyn Iterator<Item = &'static str>| names.map(String::from).collect();
    vec![
        ("dense", names(&mut dense::OPERATORS.into_iter())),
        ("classical", names(&mut classical::operator_names())),
        ("tract", tract::operator_names()),
    ]
}

/// [`DenseModel`]; compiled in.
struct Dense;

impl Runtime for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn load(&self, file: &ModelFile<'_>, _: &BoardFacts) -> Result<Box<dyn Infer>, LoadError> {
        let model = DenseModel::load(file.bytes, file.inputs, file.outputs)?;
        Ok(Box::new(model))
    }
}

/// [`ClassicalModel`]; compiled in.
struct Classical;

impl Runtime for Classical {
    fn name(&self) -> &'static str {
        "classical"
    }

    fn load(&self, file: &ModelFile<'_>, _: &BoardFacts) -> Result<Box<dyn Infer>, LoadError> {
        let model = ClassicalModel::load(file.bytes, file.inputs, file.outputs)?;
        Ok(Box::new(model))
    }
}

/// [`TractModel`]; compiled in. What has scikit-learn's operators goes to [`Classical`]:
/// both read ONNX, and whoever writes a manifest need not know which of them has what.
struct Tract;

impl Runtime for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(&self, file: &ModelFile<'_>, board: &BoardFacts) -> Result<Box<dyn Infer>, LoadError> {
        if classical::has_learners(file.bytes) {
            return Classical.load(file, board);
        }
        let model = TractModel::load(file.bytes, file.inputs, file.outputs, file.precision)?;
        Ok(Box::new(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Dim, INPUTS, OUTPUTS, tiny};

    /// Stands on a library of the board's, as a vendor's runtime does.
    struct Vendor;

    impl Runtime for Vendor {
        fn name(&self) -> &'static str {
            "vendor"
        }

        fn load(
            &self,
            file: &ModelFile<'_>,
            board: &BoardFacts,
        ) -> Result<Box<dyn Infer>, LoadError> {
            match &board.library {
                Some(_) => Tract.load(file, board),
                None => Err(LoadError::Invalid("no library".to_owned())),
            }
        }
    }

    fn load(backend: &str, board: BoardFacts) -> Result<Box<dyn Infer>, String> {
        let mut runtimes = Runtimes::new(board);
        runtimes.runtimes.push(Box::new(Vendor));
        let variant = Variant {
            precision: Precision::Int8,
            backend: backend.to_owned(),
            file: "model.onnx".to_owned(),
            sha256: String::new(),
        };
        let model = Model {
            name: "tiny".to_owned(),
            version: "1.0.0".to_owned(),
            description: String::new(),
            licence: String::new(),
            data: String::new(),
            inputs: INPUTS,
            outputs: OUTPUTS,
            created_utc_us: None,
            valid_until_utc_us: None,
            max_age_days: None,
        };
        let bytes = tiny(Precision::Int8, &[Dim::Fixed(1), Dim::Fixed(INPUTS as i64)]);
        let loaded = runtimes.load(&variant, &model, || Ok(bytes.into()));
        loaded.map_err(|reason| reason.to_string())
    }

    #[test]
    fn a_variant_is_loaded_by_the_runtime_that_it_names() {
        for (backend, loaded) in [("dense", "dense int8"), ("tract", "tract int8")] {
            let model = load(backend, BoardFacts::default()).unwrap();
            assert_eq!(model.backend(), loaded);
        }
        let refused = load("npu", BoardFacts::default()).err().unwrap();
        assert_eq!(refused, "this binary has no such backend");
    }

    #[test]
    fn a_runtime_is_told_what_the_board_has() {
        let board = BoardFacts {
            library: Some("libvendor.so".into()),
            ..BoardFacts::default()
        };
        assert!(load("vendor", board).is_ok());
        let refused = load("vendor", BoardFacts::default()).err().unwrap();
        assert!(refused.contains("no library"), "{refused}");
    }
}
