//! What a source says, and to whom: verdicts, alerts, steps of the ladder and the
//! first rejection of each reason, by the names that the outside knows.

use super::Figures;
use crate::report::{
    AlertAbout, AlertId, AlertReport, AlertTime, CausesReport, Event, ModelIdentity, Reporter,
    Reporting, SensorVerdict,
};
use hark_engine::{
    Alert, AlertKind, AlertState, Explained, LadderStep, OCCLUSIONS_MAX, Output, REASONS,
    Rejection, Rung, SensorId, Sink, Stage, Verdict,
};
use hark_hal::wall_us;
use std::collections::VecDeque;
use std::sync::Arc;

/// Verdicts that wait for the feed: more than it handles between two writes.
const VERDICTS_HELD_MAX: usize = 1024;

/// How one source speaks.
pub(super) struct Voice {
    pub(super) reporting: Reporting,
    /// Whether verdicts say what their scores come from.
    explains_verdicts: bool,
    /// By [`SensorId::index`].
    names: Vec<Arc<str>>,
    /// Of the active model, and of the previous one.
    identities: [Arc<ModelIdentity>; 2],
    examples: [Option<String>; REASONS],
    /// That every place is taken, once.
    has_said_full: bool,
    pub(super) held: Option<HeldVerdicts>,
    /// Alerts whose causes follow soon: said twice, they would be counted twice.
    unexplained: Vec<(SensorId, AlertReport)>,
    pub(super) reporter: Reporter,
}

/// Verdicts for the feed to publish, and the root of their topics.
pub(super) struct HeldVerdicts {
    pub(super) root: String,
    pub(super) verdicts: VecDeque<SensorVerdict>,
}

impl HeldVerdicts {
    pub(super) fn new(root: String) -> Self {
        Self {
            root,
            verdicts: VecDeque::with_capacity(VERDICTS_HELD_MAX),
        }
    }
}

impl Voice {
    pub(super) fn new(
        reporting: Reporting,
        identities: [Arc<ModelIdentity>; 2],
        explains_verdicts: bool,
        reporter: Reporter,
    ) -> Self {
        Self {
            reporting,
            explains_verdicts,
            names: Vec::new(),
            identities,
            examples: [const { None }; REASONS],
            has_said_full: false,
            held: None,
            unexplained: Vec::with_capacity(OCCLUSIONS_MAX),
            reporter,
        }
    }

    /// The source's name.
    pub(super) fn source(&self) -> &Arc<str> {
        &self.reporting.source
    }

    /// Learns the name of a sensor; true if it is new.
    pub(super) fn learn_name(&mut self, sensor: SensorId, name: &str) -> bool {
        match self.names.get_mut(sensor.index()) {
            Some(known) if **known == *name => return false,
            Some(gone) => *gone = name.into(),
            None => self.names.push(name.into()),
        }
        true
    }

    pub(super) fn name(&self, sensor: SensorId) -> &Arc<str> {
        &self.names[sensor.index()]
    }

    /// The model behind a verdict of `rung`.
    pub(super) fn identity(&self, rung: Rung) -> &Arc<ModelIdentity> {
        &self.identities[identity_index(rung)]
    }

    pub(super) fn set_identity(&mut self, rung: Rung, identity: Arc<ModelIdentity>) {
        self.identities[identity_index(rung)] = identity;
    }

    fn say_verdict(&mut self, verdict: &Verdict) {
        let mut report = SensorVerdict {
            sensor: Arc::clone(self.name(verdict.sensor)),
            verdict: *verdict,
            is_published: false,
            names: self
                .explains_verdicts
                .then(|| Arc::clone(&self.reporting.names)),
        };
        if let Some(HeldVerdicts { verdicts, .. }) = &mut self.held {
            report.is_published = true;
            // The oldest goes: who watches wants to know what is, not what was.
            if verdicts.len() >= VERDICTS_HELD_MAX {
                verdicts.pop_front();
                self.reporter.count_verdicts_dropped(1);
            }
            verdicts.push_back(report.clone());
        }
        self.reporter.report_verdict(report);
    }

    /// The feed cannot publish: what is held is dropped, counted.
    pub(super) fn drop_held(&mut self) {
        if let Some(HeldVerdicts { verdicts, .. }) = &mut self.held {
            self.reporter.count_verdicts_dropped(verdicts.len() as u64);
            verdicts.clear();
        }
    }

    fn say_alert(&mut self, alert: &Alert) {
        let is_raised = alert.state() == AlertState::Raised;
        // The alarm output hangs on this count and on no queue: it is active even
        // if nobody takes the report.
        self.reporter.alarms().note(is_raised);
        let sensor = alert.sensor().map_or(self.source(), |id| self.name(id));
        let model = |rung| Arc::clone(self.identity(rung));
        let report = self
            .reporting
            .report(alert, sensor, model, wall_us() as i64);
        let (state, kind) = (report.state, report.kind);
        tracing::debug!("{}: {sensor} {state}, {kind}", self.source());
        match alert {
            Alert::Anomaly(verdict) if verdict.causes.are_awaited() => {
                self.unexplained.push((verdict.sensor, report));
            }
            _ => self.reporter.report(Event::Alert(report)),
        }
    }

    /// The causes of a verdict are known, or will not be.
    fn say_explained(&mut self, explained: &Explained) {
        let verdict = &explained.verdict;
        if explained.is_alert {
            let mut unexplained = self.unexplained.iter();
            let index = unexplained.position(|(sensor, _)| *sensor == verdict.sensor);
            let index = index.expect("an alert that awaits its causes was told");
            let (_, mut report) = self.unexplained.remove(index);
            report.explain(CausesReport::new(&self.reporting.names, &verdict.causes));
            self.reporter.report(Event::Alert(report));
        }
        if self.explains_verdicts {
            self.say_verdict(verdict);
        }
    }

    /// A model of the source is withheld, or none is any more.
    pub(super) fn say_model(&self, state: AlertState, withheld: Option<(Rung, &str)>) {
        self.reporter.alarms().note(state == AlertState::Raised);
        let source = self.source();
        let (rung, reason) = withheld.unzip();
        let about = AlertAbout::Model {
            rung: rung.map(Rung::name),
            model: Arc::clone(self.identity(rung.unwrap_or(Rung::Model))),
            reason: reason.map(Arc::from),
        };
        tracing::debug!("{source}: {}, model", state.name());
        let report = AlertReport {
            id: AlertId::default(),
            kind: AlertKind::Model.name(),
            state: state.name(),
            time: AlertTime::of_receipt(wall_us() as i64),
            sensor: Arc::clone(source),
            source: Arc::clone(source),
            seq: None,
            ts: None,
            row: None,
            about,
        };
        self.reporter.report(Event::Alert(report.identified()));
    }

    fn say_step(&self, step: &LadderStep) {
        let source = self.source();
        let (from, to, reason) = (step.from.name(), step.to.name(), step.reason.name());
        tracing::warn!(peer = %source, "{source}: the {to} answers, no longer the {from}: {reason}");
        self.reporter.report(Event::Ladder {
            source: Arc::clone(source),
            from,
            to,
            reason,
        });
    }

    /// Every place is taken. Once: from then on each newcomer takes another's.
    pub(super) fn say_full(&mut self, sensors_max: usize) {
        if std::mem::replace(&mut self.has_said_full, true) {
            return;
        }
        let source = Arc::clone(self.source());
        tracing::warn!(
            "{source}: all {sensors_max} places of device.sensors_max are taken; from now on a new \
             sensor takes the place of the one that has been silent for longest"
        );
        self.reporter.report(Event::SensorsFull {
            source,
            sensors_max,
        });
    }

    /// Keeps the first example of each reason: writing one for every bad
    /// reading of a noisy line would cost more than the line itself.
    pub(super) fn note_example(&mut self, reason: Rejection, example: impl FnOnce() -> String) {
        let source = &self.reporting.source;
        let kept = &mut self.examples[reason.index()];
        if kept.is_some() {
            if tracing::enabled!(tracing::Level::DEBUG) {
                let example = example();
                tracing::debug!("{source}: rejected, {}: {example}", reason.name());
            }
            return;
        }
        let example = example();
        tracing::warn!(peer = %source, "{source}: rejecting, {}: {example}", reason.name());
        self.reporter.report(Event::Rejecting {
            source: Arc::clone(source),
            reason: reason.name(),
            example: example.clone(),
        });
        *kept = Some(example);
    }

    /// The first rejection of each reason.
    pub(super) fn into_examples(self) -> Vec<(&'static str, String)> {
        Rejection::all()
            .zip(self.examples)
            .filter_map(|(reason, example)| Some((reason.name(), example?)))
            .collect()
    }
}

/// Verdicts of the rule and repeated ones are told with the active model.
fn identity_index(rung: Rung) -> usize {
    usize::from(rung == Rung::Previous)
}

/// Says what the driver hands over, and measures how long that took.
pub(super) struct Telling<'a> {
    pub(super) voice: &'a mut Voice,
    pub(super) figures: &'a mut Figures,
}

impl Sink for Telling<'_> {
    fn handle_output(&mut self, output: Output) {
        match output {
            Output::Verdict(verdict) => {
                self.figures.stages.end(Stage::Verdict);
                self.voice.say_verdict(&verdict);
                self.figures.stages.end(Stage::Output);
                // After it was handed over: that is when it has left the hot path.
                self.figures.note_verdict(&verdict);
            }
            Output::Alert(alert) => self.voice.say_alert(&alert),
            Output::Step(step) => self.voice.say_step(&step),
            Output::Explained(explained) => self.voice.say_explained(&explained),
        }
    }

    fn handle_stage_end(&mut self, stage: Stage) {
        self.figures.stages.end(stage);
    }
}
