//! Causes of scores that are no sum of parts: one channel after the other is put back
//! to normal, and the model is asked what it says then.
//!
//! The verdict is given by then, and so is the alert. The runs wait in the driver's
//! hands for a moment in which no window waits, so that none comes later for them.
//! What is looked for is bounded in number and in time: for what cannot be had in
//! time the engine says that nobody knows.

use super::{Engine, Output, SensorId};
use crate::causes::{Causes, Parts};
use crate::engine::Fault;
use crate::verdict::Verdict;
use hark_ladder::{Choice, Rung};
use std::collections::VecDeque;

/// Scores whose causes may be looked for at once. Alerts of many sensors may come
/// together, as when the machine that they sit on stops.
pub const OCCLUSIONS_MAX: usize = 8;
/// Of them, those of mere verdicts: alerts find room beside them.
const VERDICTS_MAX: usize = OCCLUSIONS_MAX / 2;
/// A run takes at most this part of the deadline, so that a reading that comes while
/// it runs has the rest for itself.
const RUN_PART: u64 = 4;
/// A run that has not ended after this part of it is given up with its thread.
const HANG_PART: u64 = 2;

/// What became of the causes that a verdict was said to await.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explained {
    /// The verdict, with its causes; with none if nobody knows them.
    pub verdict: Verdict,
    /// Whether an alert awaits them, too.
    pub is_alert: bool,
}

/// The scores whose causes are looked for.
pub(super) struct Occlusions {
    /// Oldest first: the front is the one that is run.
    open: VecDeque<Open>,
    /// Buffers for those that are yet to come.
    spare: Vec<Box<[f32]>>,
    /// The channels that the features are of, rising.
    channels: Vec<usize>,
    opened: u64,
    run: Option<Run>,
}

struct Open {
    id: u64,
    verdict: Verdict,
    is_alert: bool,
    model: usize,
    features: Box<[f32]>,
    parts: Parts,
    /// So many channels have been put back to normal.
    done: usize,
    has_failed: bool,
    until_us: u64,
}

/// Rows that a model is running.
struct Run {
    /// Whose they are; that may be given up meanwhile.
    id: u64,
    /// Of the row that is answered next, index in [`Occlusions::channels`].
    at: usize,
}

impl Occlusions {
    /// Room for features of this length; none if there are none.
    pub(super) fn new(features_len: usize, channels: Vec<usize>) -> Self {
        let count = if features_len > 0 { OCCLUSIONS_MAX } else { 0 };
        Self {
            open: VecDeque::with_capacity(count),
            spare: (0..count).map(|_| vec![0.0; features_len].into()).collect(),
            channels,
            opened: 0,
            run: None,
        }
    }
}

impl Engine {
    /// Looks for the causes of `verdict`, which `model` gave to the features in
    /// `place`. Returns whether they may be awaited.
    pub(super) fn open_occlusion(
        &mut self,
        verdict: Verdict,
        is_alert: bool,
        model: usize,
        place: u8,
        now_us: u64,
    ) -> bool {
        let occlusions = &mut self.occlusions;
        let has_room = is_alert || occlusions.open.len() < VERDICTS_MAX;
        let Some(mut features) = occlusions.spare.pop_if(|_| has_room) else {
            self.counters.causes_unknown += 1;
            return false;
        };
        features.copy_from_slice(self.pending.features(place));
        occlusions.opened += 1;
        occlusions.open.push_back(Open {
            id: occlusions.opened,
            verdict,
            is_alert,
            model,
            features,
            parts: Parts::new(),
            done: 0,
            has_failed: false,
            until_us: now_us.saturating_add(self.limits.deadline_us),
        });
        true
    }

    /// Whether the causes of a score are looked for.
    pub(crate) fn awaits_causes(&self) -> bool {
        !self.occlusions.open.is_empty()
    }

    /// Gives up what took too long, or whose model does not run any more.
    pub(crate) fn expire_occlusions(&mut self, now_us: u64) {
        if self.occlusions.open.is_empty() || self.is_running() {
            return;
        }
        let choice = self.ladder.choice(now_us);
        let server = choice.filter(|c| !c.is_trial).map(|c| c.model);
        self.give_up_occlusions(|open| open.until_us <= now_us || Some(open.model) != server);
    }

    /// Who runs the next occluded rows; none while there is anything else to do.
    pub(crate) fn next_occlusion(&self, now_us: u64) -> Option<(Choice, Rung)> {
        let is_idle = !self.is_running() && self.pending.waiting() == 0;
        let front = self.occlusions.open.front().filter(|_| is_idle)?;
        let choice = self.ladder.choice(now_us)?;
        let is_server = choice.model == front.model && !choice.is_trial;
        is_server.then(|| (choice, self.ladder.model(choice.model).rung))
    }

    /// At most how many rows are one run, if one costs `cost_us`. 0: the model is too
    /// slow for any.
    pub(crate) fn occlusion_rows(&self, cost_us: f32) -> usize {
        let most_us = self.timeout_us(self.limits.deadline_us) / RUN_PART;
        // Cast: saturates, as wanted where a row costs nothing.
        (most_us as f32 / cost_us.max(0.0)) as usize
    }

    /// When a run that begins now is given up with its thread.
    pub(crate) fn occlusion_due_us(&self, now_us: u64) -> u64 {
        now_us.saturating_add(self.timeout_us(self.limits.deadline_us) / HANG_PART)
    }

    /// Gives up what was to be run next.
    pub(crate) fn give_up_front_occlusion(&mut self) {
        let front = self.occlusions.open.front().map(|open| open.id);
        self.give_up_occlusions(|open| Some(open.id) == front);
    }

    /// A run of `choice` begins.
    pub(crate) fn start_occlusion(&mut self, choice: Choice) {
        let front = self.occlusions.open.front();
        let front = front.expect("there is something to be run");
        self.occlusions.run = Some(Run {
            id: front.id,
            at: front.done,
        });
        self.batch.begin_without_windows(choice);
    }

    /// Writes row `row` of the run, shape `[features]`; false if there are no more.
    pub(crate) fn fill_occlusion(&self, row: usize, out: &mut [f32]) -> bool {
        let Some(front) = self.occlusions.open.front() else {
            return false;
        };
        let Some(&occluded) = self.occlusions.channels.get(front.done + row) else {
            return false;
        };
        out.copy_from_slice(&front.features);
        let rule = &self.sensors.get(front.verdict.sensor).rule;
        self.extractor.for_each(|index, channel| {
            if channel == occluded {
                out[index] = self.extractor.normalised_normal(index, |c| rule.mean(c));
            }
        });
        true
    }

    /// Takes in what the model said of the next row of the run.
    pub(crate) fn handle_occluded(&mut self, outputs: Result<&[f32], Fault>) {
        let Some(run) = &mut self.occlusions.run else {
            return;
        };
        let at = run.at;
        run.at += 1;
        let front = self.occlusions.open.front_mut();
        let Some(front) = front.filter(|front| front.id == run.id) else {
            return;
        };
        let score = &self.scorings[front.model].score;
        let score = outputs.map(|outputs| score.of(&front.features, outputs));
        let Some(score) = score.ok().filter(|score| score.is_finite()) else {
            front.has_failed = true;
            return;
        };
        let channel = self.occlusions.channels[at];
        let rule = &self.sensors.get(front.verdict.sensor).rule;
        // Who is the farthest from normal stands for its channel.
        let (mut farthest, mut distance) = (None, -1.0);
        self.extractor.for_each(|index, of| {
            if of == channel {
                let normal = self.extractor.normalised_normal(index, |c| rule.mean(c));
                let away = (front.features[index] - normal).abs();
                if away > distance {
                    (farthest, distance) = (Some(index), away);
                }
            }
        });
        front
            .parts
            .add(channel, farthest, front.verdict.score - score);
        front.done += 1;
    }

    /// The run has ended, in time.
    pub(crate) fn finish_occlusion(&mut self) {
        self.batch.end();
        let run = self.occlusions.run.take();
        let front = self.occlusions.open.front();
        let front = front.filter(|front| run.is_some_and(|run| run.id == front.id));
        let Some(front) = front else {
            return;
        };
        let is_done = front.done == self.occlusions.channels.len();
        if front.has_failed {
            self.give_up_front_occlusion();
        } else if is_done && let Some(front) = self.occlusions.open.pop_front() {
            let causes = self.causes_of_occlusion(&front);
            self.close_occlusion(front, causes);
        }
    }

    fn causes_of_occlusion(&mut self, open: &Open) -> Causes {
        let (extractor, shape) = (&mut self.extractor, &self.shape);
        let state = self.sensors.get(open.verdict.sensor);
        // Two channels may each be needed for all of the score, or bring a part of it.
        let whole = f64::from(open.verdict.score);
        open.parts.causes_of(whole, |_, feature| {
            let index = feature.expect("each channel has a feature");
            let value = extractor.value(index, open.features[index], shape, &state.window);
            (value, extractor.normal(index, |c| state.rule.mean(c)))
        })
    }

    /// The run's thread is stuck: what it was for is given up.
    pub(super) fn handle_occlusion_hang(&mut self) {
        if let Some(run) = self.occlusions.run.take() {
            self.give_up_occlusions(|open| open.id == run.id);
        }
    }

    /// Another alert of the sensor comes now, or its place is another's from here on:
    /// what awaits causes is to be said before.
    pub(super) fn give_up_occlusions_of(&mut self, sensor: SensorId) {
        self.give_up_occlusions(|open| open.verdict.sensor == sensor);
    }

    /// Nothing is run any more.
    pub(crate) fn give_up_all_occlusions(&mut self) {
        self.give_up_occlusions(|_| true);
    }

    fn give_up_occlusions(&mut self, is_over: impl Fn(&Open) -> bool) {
        // Once round, so that those that stay keep their order.
        for _ in 0..self.occlusions.open.len() {
            let Some(open) = self.occlusions.open.pop_front() else {
                return;
            };
            if is_over(&open) {
                self.close_occlusion(open, Causes::NONE);
            } else {
                self.occlusions.open.push_back(open);
            }
        }
    }

    fn close_occlusion(&mut self, open: Open, causes: Causes) {
        self.counters.causes_unknown += u64::from(causes == Causes::NONE);
        self.occlusions.spare.push(open.features);
        let verdict = Verdict {
            causes,
            ..open.verdict
        };
        self.say(Output::Explained(Explained {
            verdict,
            is_alert: open.is_alert,
        }));
    }
}
