//! The hot path of one source: decoded reading in, verdict out, inline on the
//! source's own thread.
//!
//! A source hands over each reading with the [`Receipt`] of the read that
//! completed it. Nothing here waits; everything slower is reached through the
//! reporter's bounded channels.

use crate::bundle::{LoadedModel, ModelBundle};
use crate::config::{Clock as ClockConfig, DeviceConfig, SourceConfig, check_level};
use crate::report::{AlertReport, Event, ModelIdentity, Reporter};
use hark_engine::{
    Counters, Engine, Fault, Limits, NodeClock, Now, Output, REASONS, Reading, Rejection, Schema,
    SensorId,
};
use hark_hal::{Clock, wall_us};
use hark_models::Infer;
use hdrhistogram::Histogram;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

/// The longest sensor name: it becomes a level of a topic and a label.
const SENSOR_NAME_MAX: usize = 64;
/// Bytes of a rejected payload that are kept as an example.
const EXAMPLE_BYTES: usize = 64;
/// The longest latency that is told apart, nanoseconds: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// When the bytes that completed a reading were returned by their read.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    at: Instant,
    now: Now,
}

/// The hot path of one source.
pub struct HotPath {
    source: Arc<str>,
    engine: Engine,
    model: Option<Box<dyn Infer>>,
    identity: Arc<ModelIdentity>,
    model_outputs: Box<[f32]>,
    /// By [`SensorId::index`].
    names: Vec<Arc<str>>,
    clock: Clock,
    /// Added to the clock while a file is replayed, so that the engine sees
    /// the time of the recording. Microseconds.
    shift_us: i64,
    latency_ns: Histogram<u64>,
    inference_ns: Histogram<u64>,
    examples: [Option<String>; REASONS],
    link_losses: u64,
    connects: u64,
    reporter: Reporter,
}

/// What is left of a source when it has ended.
pub struct SourceResult {
    /// The source's name.
    pub source: Arc<str>,
    /// Its outcomes.
    pub counters: Counters,
    /// Sensors seen.
    pub sensors: usize,
    /// Times that the link was made.
    pub connects: u64,
    /// Times that the link was lost.
    pub link_losses: u64,
    /// From read to verdict, nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Of the model alone, nanoseconds.
    pub inference_ns: Histogram<u64>,
    /// The first rejection of each reason.
    pub examples: Vec<(&'static str, String)>,
    /// The model that answered.
    pub identity: Arc<ModelIdentity>,
}

impl HotPath {
    /// The hot path of `source` with its own instance of the model.
    ///
    /// A model that does not load is an event and not an error: the rule
    /// answers in its place.
    ///
    /// # Errors
    /// If the pipeline cannot be served at all.
    pub fn new(
        source: &SourceConfig,
        device: &DeviceConfig,
        bundle: &ModelBundle,
        reporter: Reporter,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let name: Arc<str> = source.name.as_str().into();
        let engine = Engine::new(bundle.pipeline(), limits(source, device))?;
        let (model, identity) = match bundle.load() {
            Ok(LoadedModel { infer, identity }) => (Some(infer), identity),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!("{name}: the rule answers, the model does not: {reason}");
                let source = Arc::clone(&name);
                reporter.report(Event::ModelRefused { source, reason });
                (None, Arc::new(bundle.identity("")))
            }
        };
        let outputs = model.as_ref().map_or(0, |m| m.outputs());
        Ok(Self {
            source: name,
            engine,
            model,
            identity,
            model_outputs: vec![0.0; outputs].into(),
            names: Vec::new(),
            clock,
            shift_us: 0,
            latency_ns: histogram(),
            inference_ns: histogram(),
            examples: [const { None }; REASONS],
            link_losses: 0,
            connects: 0,
            reporter,
        })
    }

    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The schema by which readings are judged.
    pub fn schema(&self) -> &Schema {
        self.engine.schema()
    }

    /// Called when a read has returned.
    pub fn receive(&self) -> Receipt {
        let at = Instant::now();
        let now = Now {
            mono_us: self.shifted(self.clock.us_at(at)),
            utc_us: (wall_us() as i64).saturating_add(self.shift_us),
        };
        Receipt { at, now }
    }

    /// As [`HotPath::receive`], for a recording that is replayed: the engine
    /// sees `recorded_us`, on a clock that only the recording knows, and
    /// judges latency by the real one. A row's timestamp is never stale.
    pub fn receive_recorded(&mut self, recorded_us: u64, timestamp_us: Option<i64>) -> Receipt {
        let at = Instant::now();
        self.shift_us = (recorded_us as i64).saturating_sub(self.clock.us_at(at) as i64);
        let now = Now {
            mono_us: recorded_us,
            utc_us: timestamp_us.unwrap_or(recorded_us as i64),
        };
        Receipt { at, now }
    }

    fn shifted(&self, mono_us: u64) -> u64 {
        mono_us.saturating_add_signed(self.shift_us)
    }

    /// The sensor called `name`.
    ///
    /// # Errors
    /// If the name cannot be a topic's level, or is one too many. The reading
    /// is counted by [`HotPath::handle_rejection`].
    pub fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        if name.len() > SENSOR_NAME_MAX || check_level(name).is_err() {
            return Err(Rejection::UnknownSensor);
        }
        let id = self.engine.sensor(name)?;
        if id.index() == self.names.len() {
            self.names.push(name.into());
        }
        Ok(id)
    }

    /// Takes in one reading and everything that follows from it.
    pub fn handle_reading(&mut self, sensor: SensorId, reading: &Reading, receipt: Receipt) {
        let step = self.engine.handle_reading(sensor, reading, receipt.now);
        if let hark_engine::Step::Settled(hark_engine::Outcome::Rejected(reason)) = step {
            self.note_invalid(sensor, reading, reason);
        }
        self.infer();
        self.emit(receipt);
    }

    /// Counts a payload that is no reading. `detail` says why, and `payload`
    /// is kept in part as an example.
    pub fn handle_rejection(&mut self, reason: Rejection, detail: &dyn Display, payload: &[u8]) {
        self.engine.handle_rejection(reason);
        let shown = payload[..payload.len().min(EXAMPLE_BYTES)].escape_ascii();
        self.note_example(reason, || match payload {
            [] => detail.to_string(),
            _ => format!("{detail}: \"{shown}\""),
        });
    }

    /// The node of `sensor` has started again.
    pub fn handle_restart(&mut self, sensor: SensorId) {
        self.engine.handle_restart(sensor);
    }

    /// The source's link was made.
    pub fn handle_link_up(&mut self) {
        self.connects += 1;
        tracing::info!("{}: connected", self.source);
        let source = Arc::clone(&self.source);
        self.reporter.report(Event::LinkUp { source });
    }

    /// The source's link was lost, or could not be made.
    pub fn handle_link_down(&mut self, reason: &dyn Display) {
        self.link_losses += 1;
        tracing::warn!("{}: {reason}", self.source);
        self.reporter.report(Event::LinkDown {
            source: Arc::clone(&self.source),
            reason: reason.to_string(),
        });
    }

    fn infer(&mut self) {
        while let Some(job) = self.engine.poll_inference() {
            let ticket = job.ticket;
            let start = Instant::now();
            let answered = self.model.as_mut().ok_or(Fault).and_then(|model| {
                model
                    .infer(job.features, &mut self.model_outputs)
                    .map_err(|_| Fault)
            });
            let end = Instant::now();
            let outputs = answered.map(|()| &*self.model_outputs);
            let now_us = self.clock.us_at(end).saturating_add_signed(self.shift_us);
            self.inference_ns
                .saturating_record((end - start).as_nanos() as u64);
            self.engine.handle_outputs(ticket, outputs, now_us);
        }
    }

    fn emit(&mut self, receipt: Receipt) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Verdict(verdict) => {
                    let name = &self.names[verdict.sensor.index()];
                    self.reporter.report_verdict(name, &verdict);
                    let latency = receipt.at.elapsed().as_nanos() as u64;
                    self.latency_ns.saturating_record(latency);
                }
                Output::Alert(alert) => {
                    let name = &self.names[alert.verdict.sensor.index()];
                    let report =
                        AlertReport::new(&alert.verdict, name, &self.source, &self.identity);
                    self.reporter.report(Event::Alert(report));
                }
            }
        }
    }

    fn note_invalid(&mut self, sensor: SensorId, reading: &Reading, reason: Rejection) {
        let name = Arc::clone(&self.names[sensor.index()]);
        let channel = reason
            .channel()
            .map(|index| self.engine.schema().channels[index].clone());
        self.note_example(reason, || match channel {
            Some(channel) => format!(
                "{name} {} = {:?} {} (valid {} to {})",
                channel.name,
                reading.values().get(reason.channel().unwrap_or(0)),
                channel.unit,
                channel.min,
                channel.max
            ),
            None => format!(
                "{name} sequence {:?}, timestamp {:?}",
                reading.sequence, reading.timestamp_us
            ),
        });
    }

    /// Keeps the first example of each reason: writing one for every bad
    /// reading of a noisy line would cost more than the line itself.
    fn note_example(&mut self, reason: Rejection, example: impl FnOnce() -> String) {
        let slot = &mut self.examples[reason.index()];
        if slot.is_some() {
            return;
        }
        let example = example();
        tracing::warn!("{}: rejecting, {}: {example}", self.source, reason.name());
        self.reporter.report(Event::Rejecting {
            source: Arc::clone(&self.source),
            reason: reason.name(),
            example: example.clone(),
        });
        *slot = Some(example);
    }

    /// Ends the source.
    pub fn finish(self) -> SourceResult {
        let examples = Rejection::all()
            .zip(self.examples)
            .filter_map(|(reason, example)| Some((reason.name(), example?)));
        SourceResult {
            source: self.source,
            counters: self.engine.counters().clone(),
            sensors: self.engine.sensors_len(),
            connects: self.connects,
            link_losses: self.link_losses,
            latency_ns: self.latency_ns,
            inference_ns: self.inference_ns,
            examples: examples.collect(),
            identity: self.identity,
        }
    }
}

/// Three significant digits, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid constants")
}

fn limits(source: &SourceConfig, device: &DeviceConfig) -> Limits {
    Limits {
        sensors_max: device.sensors_max,
        deadline_us: (device.deadline_ms * 1e3) as u64,
        keeper_margin_us: 0,
        readings_per_second_max: source.readings_per_second_max,
        clock: match source.clock {
            ClockConfig::None => NodeClock::None,
            ClockConfig::Node => NodeClock::Node,
            ClockConfig::Utc => NodeClock::Utc,
        },
    }
}
