//! What a source leaves to the one that takes its place in a reload: what the next
//! reading of each sensor is judged by, and who its nodes are.
//!
//! It goes on where readings come to the same windows and features as before.
//! Deadline, model, verdict, alerts, link and outputs may be others.

use super::HotPath;
use crate::report::Event;
use hark_config::{Config, Link, SourceConfig};
use hark_engine::{AlertKind, AlertMemory, AlertState, PipelineSpec, SensorMemories};
use std::any::Any;
use std::sync::Arc;

/// What the source's nodes are known by, in its feed's own terms.
pub type NodeMemories = Box<dyn Any + Send>;

/// What a source leaves to the one that takes its place.
pub struct Handover {
    source: Arc<str>,
    made_by: MadeBy,
    sensors: SensorMemories,
    pub(crate) nodes: Option<NodeMemories>,
}

/// What the memories of a source depend on.
pub(super) struct MadeBy {
    source: SourceConfig,
    pipeline: PipelineSpec,
    /// Root and device, by which alerts are known outside.
    known_as: [String; 2],
}

impl MadeBy {
    pub(super) fn new(source: &SourceConfig, config: &Config, pipeline: &PipelineSpec) -> Self {
        Self {
            source: source.clone(),
            pipeline: pipeline.clone(),
            known_as: [config.mqtt.root.clone(), config.device.name.clone()],
        }
    }

    fn is_recorded(&self) -> bool {
        matches!(self.source.link, Link::File(_))
    }

    /// Why what `before` made is of no use here; none if it is of use.
    fn differs_from(&self, before: &Self) -> Option<&'static str> {
        let (new, old) = (&self.pipeline, &before.pipeline);
        let (this, that) = (&self.source, &before.source);
        let is_recorded = self.is_recorded() || before.is_recorded();
        let parts = [
            (new.schema != old.schema, "the schema changed"),
            (new.window != old.window, "the window changed"),
            (new.features != old.features, "the features changed"),
            (this.clock != that.clock, "the clock changed"),
            (this.format != that.format, "the format changed"),
            (this.mapping != that.mapping, "the mapping changed"),
            (this.sensor != that.sensor, "the sensors' names changed"),
            (is_recorded, "a recording begins anew"),
        ];
        let mut parts = parts.into_iter();
        parts.find_map(|(is_other, change)| is_other.then_some(change))
    }

    fn alerts_from(&self, before: &Self) -> AlertMemory {
        if self.known_as != before.known_as {
            AlertMemory::Nothing
        } else if self.pipeline.verdict != before.pipeline.verdict {
            AlertMemory::States
        } else {
            AlertMemory::Whole
        }
    }
}

impl Handover {
    pub(super) fn new(source: Arc<str>, made_by: MadeBy, sensors: SensorMemories) -> Self {
        Self {
            source,
            made_by,
            sensors,
            nodes: None,
        }
    }

    /// The name of the source, by which the next one of it is found.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }
}

impl HotPath {
    /// Goes on where the source that left `handover` was; before anything is handed
    /// in. Returns what is known of its nodes, if that holds.
    pub(crate) fn handle_handover(&mut self, handover: Handover) -> Option<NodeMemories> {
        let source = Arc::clone(self.source());
        let Handover {
            made_by,
            sensors,
            nodes,
            ..
        } = handover;
        if let Some(reason) = self.made_by.differs_from(&made_by) {
            tracing::warn!("{source}: windows and rules begin anew: {reason}");
            let event = Event::SensorsAnew { source, reason };
            self.voice.reporter.report(event);
            return None;
        }
        let alerts = self.made_by.alerts_from(&made_by);
        let (count, now_us) = (sensors.len(), self.now_us());
        let mut kept = Vec::with_capacity(count);
        self.driver
            .handle_memories(sensors, alerts, now_us, |id, name| {
                kept.push((id, Arc::clone(name)));
            });
        for (id, name) in &kept {
            self.voice.learn_name(*id, name);
            let engine = self.driver.engine();
            let states = AlertKind::ALL.map(|kind| engine.alert_state_of(*id, kind));
            let standing = states.into_iter().filter(|s| *s == AlertState::Raised);
            standing.for_each(|_| self.voice.reporter.alarms().restore());
        }
        self.figures.note_setup();
        let (sensors, dropped) = (kept.len(), count - kept.len());
        tracing::info!("{source}: {sensors} sensors go on with their windows and rules");
        if dropped > 0 {
            tracing::warn!("{source}: {dropped} sensors have no place any more");
        }
        self.voice.reporter.report(Event::SensorsKept {
            source,
            sensors,
            dropped,
        });
        nodes
    }
}
