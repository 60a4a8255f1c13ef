#!/usr/bin/env python3
"""Trains, measures and writes this bundle: `python train.py`.

1. Simulate healthy pumps with `hark simulate`, compute raw features with
   `hark features`, and learn each feature's center and scale.
2. Train the autoencoder, export it as float32, quantize it to int8.
3. Set the threshold above all that healthy pumps of other seeds score.
4. Freeze golden vectors, write the manifest.
5. Replay pumps of yet other seeds, healthy and with faults, through `hark replay`
   and print the quality table of README.md.

Everything is seeded: the same machine, binary and versions give the same bytes.
"""

import argparse
import dataclasses
import shutil
import statistics
import tempfile
from pathlib import Path

import autoencoder
import numpy as np
from bundle import PRECISIONS, Bundle, FeatureGroup, Hark, raising_scores

HERE = Path(__file__).resolve().parent
HARK = HERE.parent.parent / "target" / "release" / "hark"

# Seeds below 1000 are for people and demos, so no model has seen them.
SEEDS_TRAIN, SEEDS_VALIDATE, SEEDS_TEST, SEEDS_FAULT, SEED_GOLDEN = 1000, 2000, 3000, 4000, 5000
DEMO_SEEDS = range(1, 41)
HOUR_S = 3600
READINGS_PER_S = 10

HIDDEN = [24, 8, 24]
# Neighbouring windows share 23 of 24 readings: every third says it all.
TRAIN_STRIDE = 3
# Room between the threshold and the worst that healthy pumps scored.
THRESHOLD_MARGIN = 1.25

FAULTS = ["imbalance", "cavitation", "closing_valve", "outer_race", "stuck_sensor", "dropout"]
FAULT_START_S, FAULT_RUN_S = 60, 120

VIBRATION = ["accel_motor_rms", "accel_pump_rms"]
# The ranges are the instruments': app/rig/src/instruments.rs.
CHANNELS = [
    {"name": "accel_motor_rms", "unit": "g", "min": 0.0, "max": 4.0},
    {"name": "accel_pump_rms", "unit": "g", "min": 0.0, "max": 4.0},
    {"name": "current", "unit": "A", "min": 0.0, "max": 12.0},
    {"name": "pressure", "unit": "bar", "min": 0.0, "max": 6.0},
    # A steel bearing shield cannot warm by 2 K between two readings.
    {"name": "temperature", "unit": "degC", "min": -20.0, "max": 120.0, "rate_max": 20.0},
    {"name": "voltage", "unit": "V", "min": 300.0, "max": 480.0},
    {"name": "flow", "unit": "l/min", "min": 0.0, "max": 300.0},
]
ALL = [channel["name"] for channel in CHANNELS]
# Thermal time constants are minutes: a slope over 2.4 s is noise.
QUICK = [name for name in ALL if name != "temperature"]


def provisional_bundle(folder):
    return Bundle(
        folder=folder,
        header="# Written by train.py; edit that, not this.",
        model={
            "name": "pump-rig", "version": "1.0.0",
            "description": "Finds faults of a motor-driven centrifugal pump from seven"
            " channels at 10 Hz: a dense autoencoder over statistics of 2.4 s.",
            "licence": "Apache-2.0 OR MIT",
            "data": "simulated by app/rig, seeds 1000 to 1023, an hour each, healthy"},
        schema={"period_ms": 100.0, "age_max_ms": 2000.0},
        channels=CHANNELS,
        window={"length": 24, "stride": 1, "gap_max": 2},
        groups=[
            FeatureGroup("ewma", ALL, {"alpha": 0.3}),
            FeatureGroup("mean", ALL, {}),
            FeatureGroup("std", ALL, {}),
            FeatureGroup("slope", QUICK, {}),
            FeatureGroup("peak", VIBRATION, {}),
            FeatureGroup("kurtosis", VIBRATION, {})],
        clip=8.0,
        # The threshold is a placeholder until there are scores.
        verdict={"threshold": 1.0, "k": 4, "n": 6, "clear_ratio": 0.5, "hold_off_ms": 2000.0})


class Bench:
    """Recordings in a scratch folder, and how much of everything to make."""

    def __init__(self, hark, scratch, is_quick):
        self.hark, self.scratch = hark, Path(scratch)
        self.healthy_runs = 3 if is_quick else 24
        self.fault_runs = 4 if is_quick else 20
        self.epochs = 3 if is_quick else 30

    def record(self, seed, duration_s, *faults):
        path = self.scratch / "recording.csv"
        self.hark.simulate(path, seed, duration_s, *faults)
        return path

    def healthy_features(self, bundle, first_seed):
        """One array for each seed, an hour each."""
        for seed in range(first_seed, first_seed + self.healthy_runs):
            yield self.hark.features(bundle.folder, self.record(seed, HOUR_S))


def train(bench, bundle):
    """Learns normalisation and weights; writes both model files."""
    bundle.write_manifest()
    healthy = bench.healthy_features(bundle, SEEDS_TRAIN)
    raw = np.concatenate([windows[::TRAIN_STRIDE] for windows in healthy])
    bundle.normalise_by(raw)
    features = bundle.normalised(raw)
    model, bundle.residual_scale = autoencoder.fit(features, HIDDEN, bench.epochs, seed=1)
    autoencoder.write_float32(model, bundle.model_path("float32"))
    autoencoder.write_int8(
        model, bundle.model_path("float32"), bundle.model_path("int8"), features, bundle.clip)


def set_threshold(bench, bundle):
    """Above what any healthy validation window would have needed, in any precision."""
    bundle.write_manifest()
    runners = [autoencoder.Runner(bundle.model_path(p)) for p in PRECISIONS]
    k, n = bundle.verdict["k"], bundle.verdict["n"]
    worst = max(
        raising_scores(runner.scores(features, bundle.residual_scale), k, n).max()
        for features in bench.healthy_features(bundle, SEEDS_VALIDATE)
        for runner in runners)
    bundle.verdict["threshold"] = float(f"{THRESHOLD_MARGIN * worst:.3g}")


def freeze_golden(bench, bundle):
    """Two healthy windows, and one 8 s into each fault that the model can see."""
    bundle.write_manifest()
    runners = {p: autoencoder.Runner(bundle.model_path(p)) for p in PRECISIONS}
    end = (FAULT_START_S + 8) * READINGS_PER_S
    rows = slice(end - bundle.window["length"], end)
    cases = [[], [], *([f"{fault}@{FAULT_START_S}s"] for fault in FAULTS if fault != "dropout")]
    vectors = [
        bundle.golden_vector(
            bench.hark, bench.record(SEED_GOLDEN + index, FAULT_RUN_S, *faults), rows, runners)
        for index, faults in enumerate(cases)]
    # Another CPU may round a sum the other way: in int8 that is one step, and two
    # steps still tell a broken kernel.
    step = autoencoder.output_step(bundle.model_path("int8"))
    outputs = {"int8": float(f"{2 * step:.3g}"), "float32": 1e-3}
    bundle.write_golden(vectors, {"features": 1e-3, "outputs": outputs})
    bundle.write_manifest()


def with_only(bundle, precision, folder):
    """A copy of the bundle that has no other precision to fall back to."""
    shutil.copytree(bundle.folder, folder, ignore=shutil.ignore_patterns("*.py", "*.md", "__*"))
    copy = dataclasses.replace(bundle, folder=folder)
    copy.write_manifest([precision])
    return copy


def print_quality(bench, bundle):
    print("| precision | condition | runs | false alarms | missed | delay median, s | max, s |")
    print("|---|---|---|---|---|---|---|")
    for precision in PRECISIONS:
        copy = with_only(bundle, precision, bench.scratch / precision)
        seeds = range(SEEDS_TEST, SEEDS_TEST + bench.healthy_runs)
        print_healthy(bench, copy, precision, seeds, HOUR_S)
        print_healthy(bench, copy, precision, DEMO_SEEDS, 60)
        for fault in FAULTS:
            for severity in (1, 0.5):
                print_fault(bench, copy, precision, fault, severity)


def print_healthy(bench, bundle, precision, seeds, duration_s):
    alarms = 0
    for seed in seeds:
        raised, summary = bench.hark.replay(bundle.folder, bench.record(seed, duration_s))
        assert summary["scored"] > 0, "the model answers"
        alarms += len(raised)
    hours = len(seeds) * duration_s / HOUR_S
    condition = f"healthy, {duration_s} s of seeds {seeds[0]} to {seeds[-1]}"
    print(f"| {precision} | {condition} | {len(seeds)} | {alarms} in {hours:.1f} h | | | |",
          flush=True)


def print_fault(bench, bundle, precision, fault, severity):
    """An alert before the fault is false; without one after it the fault is missed."""
    start = FAULT_START_S * READINGS_PER_S
    early, delays_s = 0, []
    for seed in range(SEEDS_FAULT, SEEDS_FAULT + bench.fault_runs):
        recording = bench.record(seed, FAULT_RUN_S, f"{fault}@{FAULT_START_S}s:{severity}")
        raised, _ = bench.hark.replay(bundle.folder, recording)
        early += sum(sequence < start for sequence in raised)
        delays_s += [(at - start) / READINGS_PER_S for at in raised if at >= start][:1]
    missed = bench.fault_runs - len(delays_s)
    delays = f"{statistics.median(delays_s):.1f} | {max(delays_s):.1f}" if delays_s else "|"
    print(f"| {precision} | {fault}, severity {severity} | {bench.fault_runs} | {early}"
          f" | {missed} | {delays} |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hark", type=Path, default=HARK, help="the binary (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="the bundle's folder")
    parser.add_argument("--quick", action="store_true",
                        help="an eighth of the data: to try the script, with --out")
    parser.add_argument("--no-quality", action="store_true", help="leave the quality table out")
    return parser.parse_args()


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    bundle = provisional_bundle(args.out)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Hark(args.hark), scratch, args.quick)
        train(bench, bundle)
        set_threshold(bench, bundle)
        freeze_golden(bench, bundle)
        if not args.no_quality:
            print_quality(bench, bundle)


if __name__ == "__main__":
    main()
