//! The one way to drive an [`Engine`]: readings in; batches out, answers in;
//! what is to be said, drained.
//!
//! It decides when a batch is worth its run and which windows it holds, copies
//! them into the instance that runs them, and knows where each instance is. It
//! waits for nothing, runs no model, and asks no clock: its user does, on
//! whatever threads it likes. In the steady state it allocates nothing.

#[cfg(test)]
mod tests;

use crate::engine::{Claim, Job, Ticket};
use crate::{
    AlertKind, AlertMemory, Engine, Fault, Now, Output, Reading, Receipt, Rejection, Rung,
    SensorId, SensorMemories, Stage, Step, StepReason, Windowless,
};
use hark_ladder::Hang;
use std::sync::Arc;
use std::time::Duration;

/// The rungs of the ladder that run a model: those before the rule.
const MODEL_RUNGS: usize = Rung::Rule as usize;
/// The weight of the newest run in what a window is taken to cost.
const COST_ALPHA: f32 = 1.0 / 8.0;

/// Takes what comes out of a [`Driver`].
pub trait Sink {
    /// Something is to be said. It is handed over before the call that brought it
    /// about returns.
    fn handle_output(&mut self, output: Output);

    /// A stage of the reading that was handed in has ended.
    fn handle_stage_end(&mut self, _stage: Stage) {}
}

/// Nobody listens.
impl Sink for () {
    fn handle_output(&mut self, _output: Output) {}
}

impl Sink for Vec<Output> {
    fn handle_output(&mut self, output: Output) {
        self.push(output);
    }
}

/// An engine, and the instances of its models, each an `M` of the user's.
///
/// # Contract
/// A new driver has no instances. Its user brings one for each model rung, or says
/// why there is none. Then, whenever something has come or time has passed:
///
/// 1. [`handle_reading`](Self::handle_reading) for each reading, in order, or
///    [`handle_rejection`](Self::handle_rejection) or
///    [`handle_shed`](Self::handle_shed) for what is none.
/// 2. [`poll_wanted_instance`](Self::poll_wanted_instance), at times: the user
///    loads what is wanted, at leisure, and answers with
///    [`handle_instance`](Self::handle_instance) or
///    [`handle_no_instance`](Self::handle_no_instance).
/// 3. [`start_inference`](Self::start_inference), after every reading: with
///    nothing at hand to wait for, it must be asked before the user waits.
/// 4. [`start_occlusion`](Self::start_occlusion), where that has nothing to run and
///    [`awaits_causes`](Self::awaits_causes), and [`handle_end`](Self::handle_end) at
///    the end: each [`Output::Explained`] that is awaited comes by them.
/// 5. [`handle_absences`](Self::handle_absences), with nothing left to read, no
///    later than [`Engine::next_absence_us`];
///    [`handle_link_up`](Self::handle_link_up) and
///    [`handle_link_down`](Self::handle_link_down) as they happen.
///
/// ```text
///                         start_inference
///      ┌────────────┐ ──────────────────────► ┌───────────┐   handle_hang, at
///      │ instance   │     finish_inference    │ with the  │   due_us()
///      │ with the   │ ◄────────────────────── │ thread    │ ───────────┐
///      │ driver     │                         │ that runs │            ▼
///      └────────────┘                         └───────────┘    ┌───────────────┐
///            ▲   ▲            handle_late_return, if wanted    │ with a thread │
///            │   └──────────────────────────────────────────── │ that is stuck │
///            │ handle_instance    ┌─────────┐  not wanted, or  └───────────────┘
///            └─────────────────── │ dropped │ ◄───────┘ never back
///                                 └─────────┘
/// ```
///
/// Between `start_inference` and what ends it a user that shares nothing between
/// threads calls nothing else. One that reads on meanwhile may, with two duties
/// more: the instance that is out must end by one of the two ways, and
/// [`Engine::next_timeout_us`] says when the next window is due, for `handle_hang`
/// or, if nobody takes threads for stuck, [`handle_timeout`](Self::handle_timeout).
///
/// There is nothing to drain: each call hands what it brings about to its
/// [`Sink`], verdicts with the reading that they answer.
///
/// Time is an argument. It may stand still, and must not go back.
pub struct Driver<M> {
    engine: Engine,
    /// Those that are here, by [`Rung`].
    instances: [Option<Instance<M>>; MODEL_RUNGS],
    /// What a window of a batch is taken to cost, microseconds, by [`Rung`]; 0
    /// before the first run.
    cost_us: [f32; MODEL_RUNGS],
}

impl<M> Driver<M> {
    /// The driver of a fresh engine, without instances.
    pub fn new(mut engine: Engine) -> Self {
        engine.await_instances();
        Self {
            engine,
            instances: [const { None }; MODEL_RUNGS],
            cost_us: [0.0; MODEL_RUNGS],
        }
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a window of a batch of `rung` is taken to cost, microseconds; 0 before
    /// the first run.
    pub fn cost_us(&self, rung: Rung) -> f32 {
        let cost_us = self.cost_us.get(rung as usize);
        cost_us.copied().unwrap_or_default()
    }

    /// The sensor called `name`, taken in if it is new. It keeps its place, whoever
    /// else comes.
    ///
    /// # Errors
    /// [`Rejection::UnknownSensor`] if that would be one too many. Nothing is
    /// counted: the rejection of the reading is handed in by
    /// [`Driver::handle_rejection`].
    pub fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        self.engine.sensor(name)
    }

    /// Takes in a sensor that [`Engine::find`] does not find, for its first
    /// `reading`, which is then to be handed in. Only a valid reading takes a place,
    /// if need be that of the sensor which has been silent for longest; one out of
    /// range, which may be a machine in trouble, takes one that is free.
    ///
    /// # Errors
    /// Why there is no place for it. As for [`Driver::sensor`], nothing is counted.
    pub fn newcomer(
        &mut self,
        name: &str,
        reading: &Reading,
        now: Now,
        sink: &mut impl Sink,
    ) -> Result<SensorId, Rejection> {
        let claim = self.engine.judge_newcomer(reading, now)?;
        if name.is_empty() {
            return Err(Rejection::UnknownSensor);
        }
        if !self.engine.is_full() {
            return self.engine.take_in(name);
        }
        if let Claim::FreePlace(reason) = claim {
            return Err(reason);
        }
        let gone = self.engine.longest_silent(now);
        let gone = gone.ok_or(Rejection::UnknownSensor)?;
        // Nobody would clear its alert later.
        self.handle_gone(gone, now.mono_us, sink);
        self.engine.replace(gone, name);
        Ok(gone)
    }

    /// Takes in one decoded reading.
    pub fn handle_reading(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        receipt: Receipt,
        sink: &mut impl Sink,
    ) -> Step {
        let mark = |stage| sink.handle_stage_end(stage);
        let step = self.engine.handle_reading(sensor, reading, receipt, mark);
        self.drain(sink);
        step
    }

    /// A sensor whose windows are never full; one for each engine.
    pub fn poll_windowless(&mut self) -> Option<Windowless> {
        self.engine.poll_windowless()
    }

    /// Counts a reading that could not be decoded.
    pub fn handle_rejection(&mut self, reason: Rejection) {
        self.engine.handle_rejection(reason);
    }

    /// Counts a reading that was turned away before it was decoded.
    pub fn handle_shed(&mut self) {
        self.engine.handle_shed();
    }

    /// The node of `sensor` has started again.
    pub fn handle_restart(&mut self, sensor: SensorId) {
        self.engine.handle_restart(sensor);
    }

    /// The source's link was made.
    pub fn handle_link_up(&mut self, now_us: u64, sink: &mut impl Sink) {
        self.engine.handle_link_up(now_us);
        self.drain(sink);
    }

    /// The source's link was lost, or cannot be made.
    pub fn handle_link_down(&mut self, now_us: u64) {
        self.engine.handle_link_down(now_us);
    }

    /// The source has ended: nobody looks for causes any more.
    pub fn handle_end(&mut self, sink: &mut impl Sink) {
        self.engine.give_up_all_occlusions();
        self.drain(sink);
    }

    /// Says which sensors are silent by now, and whether the link has been away for
    /// too long: to be called when nothing is left to be read and
    /// [`Engine::next_absence_us`] has come.
    pub fn handle_absences(&mut self, now_us: u64, sink: &mut impl Sink) {
        while self.engine.handle_absence(now_us) {
            self.drain(sink);
        }
    }

    /// Nobody listened until now: what did not come meanwhile is not held against
    /// the sensors.
    pub fn handle_pause(&mut self, now_us: u64) {
        self.engine.handle_pause(now_us);
    }

    /// An alert of this kind of the sensor called `name` was raised before hark
    /// started: it stands, unsaid, until it is found to be over.
    ///
    /// # Errors
    /// [`Rejection::UnknownSensor`] if there is no place for the sensor.
    pub fn handle_standing(
        &mut self,
        name: &str,
        kind: AlertKind,
        now_us: u64,
    ) -> Result<SensorId, Rejection> {
        // Not as one that is configured: it may never come back.
        let found = self.engine.find(name);
        let sensor = found.map_or_else(|| self.engine.take_in(name), Ok)?;
        self.engine.handle_standing(sensor, kind, now_us);
        Ok(sensor)
    }

    /// As [`Driver::handle_standing`], of the source's link.
    pub fn handle_standing_link(&mut self) {
        self.engine.handle_standing_link();
    }

    /// What the next reading of each sensor is judged by, for the driver that takes
    /// this one's place.
    pub fn into_memories(self) -> SensorMemories {
        self.engine.into_memories()
    }

    /// Takes the place of a driver of the same pipeline and clock, before anything is
    /// handed in: its sensors go on where they were. `known` is called for each.
    pub fn handle_memories(
        &mut self,
        memories: SensorMemories,
        alerts: AlertMemory,
        now_us: u64,
        known: impl FnMut(SensorId, &Arc<str>),
    ) {
        self.engine.handle_memories(memories, alerts, now_us, known);
    }

    /// The node of `sensor` was taken away.
    pub fn handle_gone(&mut self, sensor: SensorId, now_us: u64, sink: &mut impl Sink) {
        self.engine.handle_gone(sensor, now_us);
        self.drain(sink);
    }

    /// The next batch, in the instance that is to run it. `has_more`: more readings
    /// are at hand, so that waiting for them costs nothing.
    pub fn start_inference(
        &mut self,
        now: Now,
        has_more: bool,
        sink: &mut impl Sink,
    ) -> Option<Instance<M>> {
        if !self.is_batch_due(now.mono_us, has_more) {
            return None;
        }
        let started = self.fill_batch(now);
        // With or without a batch: windows that came too late for one were
        // answered, and nothing may call for a long time.
        self.drain(sink);
        started
    }

    /// Rows that say what an alert comes from, in the instance that is to run them, for
    /// causes that are no sum of parts. It is for moments in which
    /// [`start_inference`](Self::start_inference) has nothing to do; with readings at
    /// hand that shall not wait, `has_more`, it only gives up what took too long.
    pub fn start_occlusion(
        &mut self,
        now: Now,
        has_more: bool,
        sink: &mut impl Sink,
    ) -> Option<Instance<M>> {
        self.engine.expire_occlusions(now.mono_us);
        let started = if has_more {
            None
        } else {
            self.fill_occlusion(now)
        };
        self.drain(sink);
        started
    }

    /// Whether there is a reason to ask [`start_occlusion`](Self::start_occlusion).
    pub fn awaits_causes(&self) -> bool {
        self.engine.awaits_causes()
    }

    fn fill_occlusion(&mut self, now: Now) -> Option<Instance<M>> {
        let (choice, rung) = self.engine.next_occlusion(now.mono_us)?;
        let rows_max = self.engine.occlusion_rows(self.cost_us(rung));
        if rows_max == 0 {
            self.engine.give_up_front_occlusion();
            return None;
        }
        let instance = self.instances[rung as usize].take();
        let mut instance = instance.expect("the engine names rungs that have an instance");
        for row in 0..rows_max.min(instance.rows_max()) {
            let features = instance.spare_row(row);
            if !self.engine.fill_occlusion(row, features) {
                break;
            }
            instance.occluded = row + 1;
        }
        instance.due_us = self.engine.occlusion_due_us(now.mono_us);
        self.engine.start_occlusion(choice);
        Some(instance)
    }

    /// Whether to run what waits, or to see what else comes.
    fn is_batch_due(&self, now_us: u64, has_more: bool) -> bool {
        let waiting = self.engine.waiting();
        if waiting == 0 || self.engine.is_running() {
            return false;
        }
        if !has_more {
            return true;
        }
        // Batches are never waited for, but what is at hand makes one better,
        // until no more of it would fit: into the model, or into the time that the
        // oldest window has left. Without a rung that may run there is no room at
        // all, and the rule is to answer.
        let rung = self.engine.next_rung(now_us).unwrap_or(Rung::Rule);
        let instance = self.instances.get(rung as usize).and_then(Option::as_ref);
        let room = self.engine.batch_room(self.cost_us(rung), now_us);
        waiting >= room.min(instance.map_or(room, Instance::rows_max))
    }

    fn fill_batch(&mut self, now: Now) -> Option<Instance<M>> {
        // First, because what is due by now must not count for the batch.
        self.engine.begin_batch(now);
        let rung = self.engine.next_rung(now.mono_us)?;
        let rows = self.engine.batch_len(self.cost_us(rung), now.mono_us);
        if rows == 0 {
            return None;
        }
        let margin_us = self.engine.keeper_margin_us();
        let instance = self.instances[rung as usize].take();
        let mut instance = instance.expect("the engine names rungs that have an instance");
        for _ in 0..rows.min(instance.rows_max()) {
            let job = self.engine.poll_inference(now.mono_us);
            let job = job.expect("a batch is no longer than what waits");
            assert_eq!(job.rung, rung, "a batch is of one rung");
            instance.push(&job, margin_us);
        }
        Some(instance)
    }

    /// Takes in what a batch came to. `took` is the time of the run itself.
    pub fn finish_inference(
        &mut self,
        mut instance: Instance<M>,
        took: Duration,
        now_us: u64,
        sink: &mut impl Sink,
    ) where
        M: Answers,
    {
        let rows = instance.rows();
        self.note_cost(
            instance.rung(),
            took.as_secs_f32() * 1e6 / rows.max(1) as f32,
        );
        for row in 0..instance.occluded {
            self.engine.handle_occluded(instance.model().answer(row));
        }
        if instance.occluded > 0 {
            self.engine.finish_occlusion();
            self.drain(sink);
        }
        for row in 0..instance.windows() {
            let answer = instance.model().answer(row);
            self.engine
                .handle_outputs(instance.ticket(row), answer, now_us);
            // One by one, so that the first verdict of a long batch is on its way
            // before the last is made.
            self.drain(sink);
        }
        instance.clear();
        self.put_back(instance);
    }

    /// The thread that runs the batch is taken for stuck: the rule answers for it.
    /// Returns whose model it is, if a batch was running. It does as little as a thread
    /// must that is to be on time for others.
    pub fn handle_hang(&mut self, now_us: u64, sink: &mut impl Sink) -> Option<Rung> {
        let hang = self.engine.handle_hang(now_us);
        self.drain(sink);
        hang.map(|hang| hang.rung)
    }

    /// A thread that was taken for stuck came back with its instance. Returns
    /// whether that is taken back, or was given up and is dropped.
    pub fn handle_late_return(
        &mut self,
        mut instance: Instance<M>,
        now_us: u64,
        sink: &mut impl Sink,
    ) -> bool {
        // All that the ladder needs to know of the hang came back with it, so
        // nobody keeps a list of threads.
        let hang = Hang {
            rung: instance.rung(),
            generation: instance.generation,
            windows: instance.windows() as u32,
        };
        let is_wanted = self.engine.handle_late_return(hang, now_us);
        if is_wanted {
            instance.clear();
            self.put_back(instance);
        }
        self.drain(sink);
        is_wanted
    }

    /// Answers every window that is due by the rule, also those that a model is
    /// running.
    pub fn handle_timeout(&mut self, now_us: u64, sink: &mut impl Sink) {
        self.engine.handle_timeout(now_us);
        self.drain(sink);
    }

    /// The rung of which an instance is to be loaded, if one is. Told once until it
    /// is answered.
    pub fn poll_wanted_instance(&mut self, now_us: u64, sink: &mut impl Sink) -> Option<Rung> {
        let wanted = self.engine.poll_wanted_instance(now_us);
        self.drain(sink);
        wanted
    }

    /// An instance was loaded.
    pub fn handle_instance(
        &mut self,
        mut instance: Instance<M>,
        now_us: u64,
        sink: &mut impl Sink,
    ) {
        let rung = instance.rung();
        self.engine.handle_instance(rung, now_us);
        if let Some(generation) = self.engine.generation(rung) {
            instance.generation = generation;
            self.put_back(instance);
        }
        self.drain(sink);
    }

    /// There is no instance of `rung`.
    pub fn handle_no_instance(
        &mut self,
        rung: Rung,
        reason: StepReason,
        now_us: u64,
        sink: &mut impl Sink,
    ) {
        if let Some(instance) = self.instances.get_mut(rung as usize) {
            *instance = None;
        }
        self.engine.handle_no_instance(rung, reason, now_us);
        self.drain(sink);
    }

    /// Whether models may be run at all: not without a thread that could take over
    /// from one that hangs.
    pub fn set_models_allowed(&mut self, are_allowed: bool, now_us: u64, sink: &mut impl Sink) {
        self.engine.set_models_allowed(are_allowed, now_us);
        self.drain(sink);
    }

    fn put_back(&mut self, instance: Instance<M>) {
        let rung = instance.rung() as usize;
        self.instances[rung] = Some(instance);
    }

    fn note_cost(&mut self, rung: Rung, cost_us: f32) {
        let known = &mut self.cost_us[rung as usize];
        *known = if *known == 0.0 {
            cost_us
        } else {
            *known + COST_ALPHA * (cost_us - *known)
        };
    }

    fn drain(&mut self, sink: &mut impl Sink) {
        while let Some(output) = self.engine.poll_output() {
            sink.handle_output(output);
        }
    }
}

/// What a model said when its instance was last run.
pub trait Answers {
    /// The outputs of one row of the batch, or that it failed. Called only after
    /// a run, and for its rows.
    fn answer(&self, row: usize) -> Result<&[f32], Fault>;
}

/// An instance of a model, with buffers for one batch.
///
/// A model that hangs keeps what it was given. So the features of a batch are
/// copied here, and the whole instance goes with the thread that runs it: what a
/// stuck thread does to it is seen by nobody else.
#[derive(Debug)]
pub struct Instance<M> {
    rung: Rung,
    model: M,
    /// Shape `[rows_max, inputs]`.
    features: Box<[f32]>,
    inputs: usize,
    rows_max: usize,
    tickets: Vec<Ticket>,
    /// Rows that nobody waits for; then there are no tickets.
    occluded: usize,
    due_us: u64,
    /// Which one of its rung the ladder counts it as.
    generation: u32,
}

impl<M> Instance<M> {
    /// An instance of the model of `rung`, which takes batches of at most
    /// `rows_max` windows of `inputs` features.
    ///
    /// # Panics
    /// If not even one window fits.
    pub fn new(rung: Rung, model: M, rows_max: usize, inputs: usize) -> Self {
        assert!(rows_max > 0, "a model takes at least one window");
        Self {
            rung,
            model,
            features: vec![0.0; rows_max * inputs].into(),
            inputs,
            rows_max,
            tickets: Vec::with_capacity(rows_max),
            occluded: 0,
            due_us: u64::MAX,
            generation: 0,
        }
    }

    /// Whose model it is.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, and the batch that it is to run, shape `[rows, inputs]`.
    pub fn to_run(&mut self) -> (&mut M, &[f32]) {
        let features = &self.features[..self.rows() * self.inputs];
        (&mut self.model, features)
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.tickets.len() + self.occluded
    }

    /// Those of them that a verdict waits for.
    pub fn windows(&self) -> usize {
        self.tickets.len()
    }

    /// When its thread is to be taken for stuck, on the engine's clock.
    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    fn rows_max(&self) -> usize {
        self.rows_max
    }

    fn ticket(&self, row: usize) -> Ticket {
        self.tickets[row]
    }

    fn push(&mut self, job: &Job<'_>, margin_us: u64) {
        let row = self.tickets.len() * self.inputs;
        self.features[row..][..self.inputs].copy_from_slice(job.features);
        self.tickets.push(job.ticket);
        self.due_us = self.due_us.min(job.deadline_us.saturating_sub(margin_us));
    }

    fn spare_row(&mut self, row: usize) -> &mut [f32] {
        &mut self.features[row * self.inputs..][..self.inputs]
    }

    fn clear(&mut self) {
        self.tickets.clear();
        self.occluded = 0;
        self.due_us = u64::MAX;
    }
}
