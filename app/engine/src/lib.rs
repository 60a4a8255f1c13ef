//! The pure core of hark: sample to window to features to verdict to alert.
//!
//! Events and `now` go in through `handle_*`; actions come out through
//! `poll_*`. There is no clock, file, socket or thread in here, so a
//! simulation can run a year of faults in seconds from one seed.

mod admission;
mod alert;
mod causes;
mod driver;
mod engine;
mod features;
mod load;
mod outcome;
mod reading;
mod rejection;
mod rule;
mod schema;
mod spec;
mod stage;
mod sums;
mod validate;
mod verdict;
mod window;

pub use admission::Admission;
pub use alert::{ALERT_KINDS, Alert, AlertKind, AlertPolicy, Excess, RangeAlert};
pub use causes::{CAUSES_MAX, Cause, Causes};
pub use driver::{Answers, Driver, Instance, Sink};
pub use engine::{
    AlertMemory, Engine, Explained, Fault, Limits, OCCLUSIONS_MAX, Output, PENDING_MAX, SensorId,
    SensorMemories, Step, Windowless,
};
pub use features::{FeatureKind, FeatureName, FeatureNames, FeatureSpec};
pub use hark_ladder::{LadderPolicy, LadderStep, Rung, StepReason};
pub use load::{Load, LoadFigures};
pub use outcome::{Counters, Outcome};
pub use reading::{CHANNELS_MAX, Reading};
pub use rejection::{REASONS, Rejection};
pub use schema::{Channel, Schema};
pub use spec::{
    FEATURES_MAX, HISTORY_MAX, ModelRung, PipelineSpec, ScoreSpec, SpecError, VerdictSpec,
    WINDOW_MAX, WindowSpec,
};
pub use stage::{STAGES, Stage};
pub use validate::{Counter, NodeClock, Now, Receipt};
pub use verdict::{AlertState, Verdict};
