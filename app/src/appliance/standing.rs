//! What an earlier hark left, taken over: what its sources knew and the alerts that
//! stand go to the sources, what is no more is told and emptied, and every state has
//! its topic.

use super::start::Start;
use hark_config::{Config, SensorTemplate};
use hark_engine::AlertKind;
use hark_outlet::mqtt::Outbox;
use hark_outlet::outputs::{ladder_stands, ladder_topic, link_down, link_topic};
use hark_outlet::standing::{self, Carried, Journal, Over};
use hark_serve::hot_path::Handover;
use hark_serve::report::{Event, Reporter, Standing};
use hark_serve::shift::Shard;
use std::sync::{Mutex, PoisonError};

/// The way of alerts and states to a broker, and to the next start.
pub(super) struct WayOut {
    /// `<root>/<device>`, which every topic begins with.
    pub(super) root: String,
    pub(super) outbox: Option<Outbox>,
    pub(super) journal: Journal,
}

impl Start<'_> {
    /// Starts to keep what is to outlive hark; with what an earlier one left.
    pub(super) fn open_journal(&self) -> std::io::Result<(Journal, Carried)> {
        let Some(file) = &self.config.events.standing_file else {
            return Ok(Default::default());
        };
        let path = self.config.device.data_dir.join(file);
        standing::open(self.threads, path, self.config.mqtt.alerts_queued_max)
    }

    /// Hands to each source what the one before it left. What is left of it is of
    /// sources that are no more.
    pub(super) fn hand_over(&self, left: &Mutex<Vec<Handover>>, shards: &mut [Box<Shard>]) {
        let left = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
        for handover in left {
            let mut shards = shards.iter_mut();
            let next = shards.find(|shard| shard.source() == &**handover.source());
            if let Some(shard) = next {
                shard.handle_handover(handover);
            }
        }
    }

    /// Hands alerts that stand to their sources; returns what is no more.
    pub(super) fn reconcile(
        &self,
        carried: &Carried,
        root: &str,
        shards: &mut [Box<Shard>],
    ) -> Vec<Over> {
        let config = self.config;
        let names = config.sources.iter().map(|source| source.name.as_str());
        let states: Vec<String> = names
            .flat_map(|name| [link_topic(root, name), ladder_topic(root, name)])
            .collect();
        let keep = |alert: &Standing| {
            let index = config.sources.iter().position(|s| s.name == alert.source);
            index.is_some_and(|index| {
                may_hold(config, index, alert) && shards[index].handle_standing(alert)
            })
        };
        standing::reconcile(carried, root, &states, keep, hark_hal::wall_us() as i64)
    }
}

/// Whether source `index` can still find out that `alert` is over.
fn may_hold(config: &Config, index: usize, alert: &Standing) -> bool {
    let source = &config.sources[index];
    let fixed = source.sensor.as_ref().and_then(SensorTemplate::fixed);
    let is_its_sensor = fixed.is_none_or(|name| name == alert.sensor);
    match alert.kind {
        AlertKind::Anomaly => is_its_sensor,
        AlertKind::Range => is_its_sensor && source.alerts.watches_range,
        AlertKind::Silent => is_its_sensor && source.alerts.silent_after_ms != Some(0),
        AlertKind::Link => source.alerts.link_down_ms > 0,
        // Found out whenever a model is to be loaded.
        AlertKind::Model => true,
    }
}

impl WayOut {
    /// How each source begins; and for the next start, that there were these states.
    pub(super) fn tell_states(&self, shards: &[Box<Shard>]) {
        let Some(outbox) = &self.outbox else {
            return;
        };
        for shard in shards {
            let (name, rung) = (shard.source(), shard.rung().name());
            let link = link_topic(&self.root, name);
            let ladder = ladder_topic(&self.root, name);
            for topic in [&link, &ladder] {
                self.journal.post(topic, "", true, true);
            }
            outbox.set_state(link, link_down(name, "not connected yet"));
            outbox.set_state(ladder, ladder_stands(name, rung));
        }
    }

    /// Empties the topics of what is no more, and says so.
    pub(super) fn tell_over(&self, over: Vec<Over>, reporter: &Reporter) {
        for Over { topic, report } in over {
            match &self.outbox {
                Some(outbox) => outbox.post_alert(topic, String::new(), false),
                None => {
                    self.journal.post(&topic, "", false, true);
                }
            }
            if let Some(report) = report {
                reporter.report(Event::Alert(report));
            }
        }
    }
}
