//! `hark run --inject`: a fault that comes, and goes, while the appliance runs.

use super::RunArgs;
use hark_config::Config;
use hark_serve::fault::{Fault, Injection, ModelFault, Stall};
use hark_serve::report::{Event, Reporter};
use std::time::Duration;

/// A slow model takes so many deadlines.
const SLOW: f64 = 2.0;

/// A fault, and when it comes and goes.
pub(super) struct Injector {
    kind: Kind,
    begin: Duration,
    end: Duration,
    has_begun: bool,
    has_ended: bool,
}

enum Kind {
    Model(ModelFault, Injection),
    Stall(Stall),
}

impl Injector {
    /// The fault that `args` asks for, if any.
    pub(super) fn new(args: &RunArgs, config: &Config) -> Option<Self> {
        let deadline = Duration::from_secs_f64(config.device.deadline_ms / 1e3);
        let kind = match args.inject? {
            Fault::Model(fault) => {
                Kind::Model(fault, Injection::new(fault, deadline.mul_f64(SLOW)))
            }
            Fault::Stall => Kind::Stall(Stall::default()),
        };
        let mut begin = args.inject_after;
        // A model that is loaded cannot be missing any more.
        if let Kind::Model(ModelFault::Missing, injection) = &kind {
            injection.set(true);
            begin = Duration::ZERO;
        }
        Some(Self {
            kind,
            begin,
            end: begin + args.inject_for,
            has_begun: false,
            has_ended: false,
        })
    }

    pub(super) fn injection(&self) -> Option<Injection> {
        match &self.kind {
            Kind::Model(_, injection) => Some(injection.clone()),
            Kind::Stall(_) => None,
        }
    }

    pub(super) fn stall(&self) -> Option<Stall> {
        match &self.kind {
            Kind::Model(..) => None,
            Kind::Stall(stall) => Some(stall.clone()),
        }
    }

    pub(super) fn handle_time(&mut self, elapsed: Duration, reporter: &Reporter) {
        if !self.has_begun && elapsed >= self.begin {
            self.has_begun = true;
            match &self.kind {
                Kind::Model(_, injection) => injection.set(true),
                Kind::Stall(stall) => stall.start(),
            }
            self.announce("begins", reporter);
        }
        if !self.has_ended && elapsed >= self.end {
            self.has_ended = true;
            if let Kind::Model(_, injection) = &self.kind {
                injection.set(false);
                self.announce("ends", reporter);
            }
        }
    }

    fn announce(&self, what: &str, reporter: &Reporter) {
        let (sensor, fault) = match &self.kind {
            Kind::Model(fault, _) => ("model", format!("{fault:?}").to_lowercase()),
            Kind::Stall(_) => ("source", "stall".to_owned()),
        };
        let fault = format!("{fault} {what}");
        tracing::warn!("injected: {fault}");
        let sensor = sensor.to_owned();
        reporter.report(Event::FaultInjected { sensor, fault });
    }
}
