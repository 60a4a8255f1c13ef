//! `hark demo --inject`: a model that fails for a while, and comes back.

use super::DemoArgs;
use crate::logging::tell;
use anyhow::Context;
use hark_config::{BundlePath, Config};
use hark_serve::bundle;
use hark_serve::fault::{Injection, ModelFault};
use hark_serve::report::{Event, Reporter};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When the fault begins and ends, if the demo is long enough; the first
/// windows are full after 2.4 s.
const BEGIN: Duration = Duration::from_secs(6);
const END: Duration = Duration::from_secs(12);
/// Parts of a short demo.
const BEGIN_PART: f64 = 0.3;
const END_PART: f64 = 0.5;
/// A slow model takes so many deadlines.
const SLOW: f64 = 2.0;

/// A fault of the model, and when it comes and goes.
pub(super) struct Injector {
    fault: ModelFault,
    pub(super) injection: Injection,
    begin: Duration,
    end: Duration,
    /// The model's files, taken away until the fault ends.
    hidden: Option<HiddenFiles>,
}

struct HiddenFiles {
    folder: PathBuf,
    files: Vec<(&'static str, &'static [u8])>,
}

/// An injector whose demo has started.
pub(super) struct Running {
    injector: Injector,
    reporter: Reporter,
    has_begun: bool,
    has_ended: bool,
}

impl Injector {
    /// The fault that `args` asks for. Files that shall be missing are left out
    /// of a copy of the bundle in `folder`, which the demo then runs.
    pub(super) fn new(
        args: &DemoArgs,
        config: &mut Config,
        folder: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let Some(fault) = args.inject else {
            return Ok(None);
        };
        // A demonstration has no minute to wait for the ladder.
        let policy = &mut config.ladder.policy;
        policy.hang_us = policy.hang_us.min(500_000);
        policy.probe_us_min = policy.probe_us_min.min(500_000);
        policy.probe_us_max = policy.probe_us_max.min(2_000_000);
        let deadline = Duration::from_secs_f64(config.device.deadline_ms / 1e3);
        let part = |at: Duration, part| args.duration.map_or(at, |all| at.min(all.mul_f64(part)));
        let is_missing = fault == ModelFault::Missing;
        let hidden = is_missing.then(|| hide_files(config, folder)).transpose()?;
        Ok(Some(Self {
            fault,
            injection: Injection::new(fault, deadline.mul_f64(SLOW)),
            begin: if is_missing {
                Duration::ZERO
            } else {
                part(BEGIN, BEGIN_PART)
            },
            end: part(END, END_PART),
            hidden,
        }))
    }

    pub(super) fn started(self, reporter: &Reporter) -> Running {
        Running {
            injector: self,
            reporter: reporter.clone(),
            has_begun: false,
            has_ended: false,
        }
    }
}

impl Running {
    pub(super) fn handle_time(&mut self, elapsed: Duration) {
        if !self.has_begun && elapsed >= self.injector.begin {
            self.has_begun = true;
            self.injector.injection.set(true);
            self.announce("begins");
        }
        if !self.has_ended && elapsed >= self.injector.end {
            self.has_ended = true;
            self.injector.injection.set(false);
            if let Some(hidden) = &self.injector.hidden
                && let Err(error) = hidden.restore()
            {
                tracing::error!("{error:#}");
            }
            self.announce("ends");
        }
    }

    fn announce(&self, what: &str) {
        let fault = format!("{:?}", self.injector.fault).to_lowercase();
        tell(format_args!("the model's fault `{fault}` {what}"));
        self.reporter.report(Event::FaultInjected {
            sensor: "model".to_owned(),
            fault: format!("{fault} {what}"),
        });
    }
}

/// Puts the first model into `folder` without its model files.
fn hide_files(config: &mut Config, folder: &Path) -> anyhow::Result<HiddenFiles> {
    let folder = folder.join("bundle");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let (models, rest): (Vec<_>, Vec<_>) = bundle::builtin_files(bundle::BUILTIN[0])?
        .iter()
        .copied()
        .partition(|(name, _)| name.ends_with(".onnx"));
    let rest = HiddenFiles {
        folder: folder.clone(),
        files: rest,
    };
    rest.restore()?;
    config.models[0].bundle = BundlePath::Folder(folder.clone());
    Ok(HiddenFiles {
        folder,
        files: models,
    })
}

impl HiddenFiles {
    fn restore(&self) -> anyhow::Result<()> {
        for (name, bytes) in &self.files {
            let path = self.folder.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}
