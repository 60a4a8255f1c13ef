//! `hark features`: exactly what serving would compute from a recording.
//!
//! Training calls it, so that training and serving cannot differ: the readings
//! go through the same decoder, the same validation and the same engine, and
//! the rows printed are the very vectors that the model would get.

use anyhow::{Context, ensure};
use clap::Args;
use hark_codec::{Decoder, Format, LineSplitter, MappingConfig};
use hark_config::BundlePath;
use hark_engine::{Answers, Driver, Engine, Fault, Instance, Now, PipelineSpec, Rung};
use hark_models::Manifest;
use hark_models::bundle::MANIFEST;
use hark_serve::bundle::{ModelBundle, RECORDED};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `hark features`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints CSV: the number of the reading that completed the window, counted from 0
over all rows, and the features f0, f1, … that the model would get. Of the
bundle only manifest.toml is read, so it works before there is a model.")]
pub struct FeaturesArgs {
    /// The bundle's folder, its manifest.toml, or builtin:NAME
    #[arg(long, value_name = "BUNDLE")]
    model: BundlePath,
    /// Recordings: CSV with a header; each starts with an empty window
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What separates the cells of the recording
    #[arg(long, default_value_t = ',')]
    delimiter: char,
    /// JSON lines instead of CSV
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the manifest or a recording cannot be read, or a reading is rejected:
/// training data must be clean.
pub fn run(args: &FeaturesArgs) -> anyhow::Result<()> {
    let pipeline = read_pipeline(&args.model)?;
    pipeline.check()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if !args.json {
        let names: Vec<_> = (0..pipeline.features_len())
            .map(|i| format!("f{i}"))
            .collect();
        writeln!(out, "reading,{}", names.join(","))?;
    }
    let mut first = 0;
    for file in &args.files {
        let reading = || format!("recording {}", file.display());
        let mut rows = Rows::new(&pipeline, args, first).with_context(reading)?;
        rows.play(file, &mut out).with_context(reading)?;
        first = rows.reading;
    }
    out.flush().context("writing to standard output")
}

fn read_pipeline(model: &BundlePath) -> anyhow::Result<PipelineSpec> {
    let (manifest, _) = match model {
        BundlePath::Folder(path) if path.is_dir() => Manifest::read(&path.join(MANIFEST))?,
        BundlePath::Folder(file) => Manifest::read(file)?,
        BundlePath::Builtin(_) => return Ok(ModelBundle::open(model)?.pipeline().clone()),
    };
    Ok(manifest.pipeline)
}

/// The model that there is not yet: as many zeros as the pipeline's score needs.
/// Whatever a model would say, the next window is wanted from it too.
struct Zeros(Vec<f32>);

impl Answers for Zeros {
    fn answer(&self, _row: usize) -> Result<&[f32], Fault> {
        Ok(&self.0)
    }
}

/// The rows of one recording.
struct Rows {
    decoder: Decoder,
    driver: Driver<Zeros>,
    reading: u64,
    period_us: u64,
    as_json: bool,
}

impl Rows {
    fn new(pipeline: &PipelineSpec, args: &FeaturesArgs, first: u64) -> anyhow::Result<Self> {
        let delimiter = args.delimiter.to_string();
        let mapping: MappingConfig =
            serde_json::from_value(serde_json::json!({ "delimiter": delimiter }))
                .with_context(|| format!("--delimiter {delimiter:?}"))?;
        let features_len = pipeline.features_len();
        let zeros = Zeros(vec![0.0; pipeline.score.outputs_min(features_len)]);
        let mut driver = Driver::new(Engine::with_model(pipeline, RECORDED)?);
        driver.handle_instance(
            Instance::new(Rung::Model, zeros, 1, features_len),
            0,
            &mut (),
        );
        Ok(Self {
            decoder: Decoder::new(Format::Csv, &pipeline.schema, &mapping)?,
            driver,
            reading: first,
            period_us: (pipeline.schema.period_ms * 1e3) as u64,
            as_json: args.json,
        })
    }

    fn play(&mut self, path: &std::path::Path, out: &mut impl Write) -> anyhow::Result<()> {
        let mut file = File::open(path)?;
        let mut lines = LineSplitter::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut result = Ok(());
        let mut handle = |rows: &mut Self, line: Result<&[u8], hark_codec::Oversize>| {
            if result.is_ok() {
                result = line
                    .map_err(anyhow::Error::from)
                    .and_then(|line| rows.handle_line(line, out));
            }
        };
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            lines.push(&buffer[..len], |line| handle(self, line));
        }
        lines.finish(|line| handle(self, line));
        result
    }

    fn handle_line(&mut self, line: &[u8], out: &mut impl Write) -> anyhow::Result<()> {
        let (mut reading, now_us) = (None, hark_hal::wall_us() as i64);
        self.decoder.decode(line, now_us, &mut |outcome| {
            reading = Some(outcome.map(|decoded| *decoded.reading));
        });
        let reading = match reading {
            Some(Ok(reading)) => reading,
            None => return Ok(()),
            Some(Err(rejected)) => anyhow::bail!("reading {}: {rejected}", self.reading),
        };
        let sensor = self
            .driver
            .sensor("recording")
            .expect("there is room for one");
        let now = Now {
            mono_us: self.reading.saturating_mul(self.period_us),
            utc_us: 0,
        };
        self.driver
            .handle_reading(sensor, &reading, now.into(), &mut ());
        ensure!(
            self.driver.engine().counters().rejected == 0,
            "reading {} is not valid by the schema: {line}",
            self.reading,
            line = line.escape_ascii()
        );
        let number = self.reading;
        self.reading += 1;
        let Some(mut instance) = self.driver.start_inference(now, false, &mut ()) else {
            return Ok(());
        };
        write_row(out, number, instance.to_run().1, self.as_json)?;
        self.driver
            .finish_inference(instance, Duration::ZERO, now.mono_us, &mut ());
        Ok(())
    }
}

fn write_row(
    out: &mut impl Write,
    reading: u64,
    features: &[f32],
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let row = serde_json::json!({ "reading": reading, "features": features });
        writeln!(out, "{row}")?;
        return Ok(());
    }
    // Rust prints the shortest decimal that reads back as the same f32.
    write!(out, "{reading}")?;
    for x in features {
        write!(out, ",{x}")?;
    }
    Ok(writeln!(out)?)
}
