#!/usr/bin/env python3
"""Trains, measures and writes this bundle from SKAB's recordings: `python train.py`.

As models/pump-rig/train.py, with recordings in place of the rig. By SKAB's protocol the
first 400 rows of each recording of valve1 and valve2 are healthy and learnt from, and
the last of those set the threshold. anomaly-free.csv is left out: it was taken at four
times the flow, and learning both points makes the model blind at either.

The recordings are GPL-3.0 and stay outside the repository. Golden readings are
synthetic, so that only weights and normalisation constants are learnt from them.
"""

import argparse
import csv
import sys
import tempfile
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "models" / "pump-rig"))

# The order matters: autoencoder pins numpy to one thread before numpy loads.
import autoencoder
import numpy as np
from bundle import PRECISIONS, Bundle, FeatureGroup, Hark, raising_scores

DATA = ROOT.parent / "shared" / "data" / "skab_dev" / "data"
HARK = ROOT / "target" / "release" / "hark"
HEALTHY_ROWS = 400
# The last seventh of what may be learnt from is for the threshold.
VALIDATE_SHARE = 0.15
HIDDEN = [16, 6, 16]
EPOCHS = 150
# Room between the threshold and the worst that the healthy rest scored.
THRESHOLD_MARGIN = 1.2
GOLDEN_SEED = 1

# Channel, SKAB's column, unit, and limits far outside all recordings: no row is rejected.
COLUMNS = [
    ("accelerometer1_rms", "Accelerometer1RMS", "g", 0.0, 10.0),
    ("accelerometer2_rms", "Accelerometer2RMS", "g", 0.0, 10.0),
    ("current", "Current", "A", -1.0, 50.0),
    ("pressure", "Pressure", "bar", -10.0, 20.0),
    ("temperature", "Temperature", "degC", -20.0, 200.0),
    ("thermocouple", "Thermocouple", "degC", -20.0, 200.0),
    ("voltage", "Voltage", "V", 0.0, 500.0),
    ("volume_flow_rate_rms", "Volume Flow RateRMS", "l/min", -10.0, 500.0),
]
CHANNELS = [
    {"name": name, "unit": unit, "min": low, "max": high} for name, _, unit, low, high in COLUMNS
]
NAMES = [channel["name"] for channel in CHANNELS]


def provisional_bundle(folder):
    return Bundle(
        folder=folder,
        header="# Written by train.py; edit that, not this.",
        model={
            "name": "skab", "version": "1.0.0",
            "description": "Finds faults of the SKAB water circuit from eight channels at"
            " 1 Hz. For tests; not a product.",
            "licence": "Apache-2.0 OR MIT",
            "data": "SKAB (GPL-3.0): the first 400 rows of each recording of valve1 and valve2"},
        schema={"period_ms": 1000.0},
        channels=CHANNELS,
        window={"length": 20, "stride": 1, "gap_max": 3},
        groups=[
            FeatureGroup("mean", NAMES, {}),
            FeatureGroup("std", NAMES, {}),
            FeatureGroup("slope", NAMES, {})],
        clip=8.0,
        verdict={"threshold": 1.0, "k": 8, "n": 12, "clear_ratio": 0.7, "hold_off_ms": 5000.0})


class Recording:
    """A SKAB file as rows of `(sequence, microseconds, values, is_anomaly)`."""

    def __init__(self, path):
        self.name = f"{path.parent.name}/{path.stem}"
        with path.open() as lines:
            rows = csv.DictReader(lines, delimiter=";")
            self.rows = [parse(sequence, row) for sequence, row in enumerate(rows)]

    def write(self, path, rows):
        """Writes part of the recording under the schema's names."""
        lines = [comma_separated("seq", "ts", *NAMES)]
        lines += [comma_separated(at, us, *values) for at, us, values, _ in self.rows[rows]]
        path.write_text("\n".join(lines) + "\n")
        return path


def comma_separated(*cells):
    return ",".join(map(str, cells))


def parse(sequence, row):
    moment = datetime.fromisoformat(row["datetime"] + "+00:00")
    is_anomaly = float(row.get("anomaly") or 0.0) > 0.5
    values = [row[column] for _, column, *_ in COLUMNS]
    return sequence, int(moment.timestamp()) * 1_000_000, values, is_anomaly


def healthy_features(hark, bundle, recordings, scratch):
    """Raw features to train on and to validate on, an array for each recording."""
    train, validate = [], []
    for recording in recordings:
        path = recording.write(scratch / "healthy.csv", slice(0, HEALTHY_ROWS))
        windows = hark.features(bundle.folder, path)
        split = round(len(windows) * (1.0 - VALIDATE_SHARE))
        train.append(windows[:split])
        # A window's length is skipped, so that the two share no reading.
        validate.append(windows[split + bundle.window["length"]:])
    return train, validate


def train(hark, bundle, recordings, scratch):
    """Learns normalisation, weights and threshold; writes both model files."""
    bundle.write_manifest()
    raw, validate = healthy_features(hark, bundle, recordings, scratch)
    bundle.normalise_by(np.concatenate(raw))
    features = bundle.normalised(np.concatenate(raw))
    model, bundle.residual_scale = autoencoder.fit(features, HIDDEN, EPOCHS, seed=1)
    float32, int8 = bundle.model_path("float32"), bundle.model_path("int8")
    autoencoder.write_float32(model, float32)
    autoencoder.write_int8(model, float32, int8, features, bundle.clip)
    set_threshold(bundle, [bundle.normalised(windows) for windows in validate])


def set_threshold(bundle, validate):
    runners = [autoencoder.Runner(bundle.model_path(p)) for p in PRECISIONS]
    k, n = bundle.verdict["k"], bundle.verdict["n"]
    worst = max(
        raising_scores(runner.scores(features, bundle.residual_scale), k, n).max()
        for features in validate for runner in runners)
    bundle.verdict["threshold"] = float(f"{THRESHOLD_MARGIN * worst:.3g}")


def freeze_golden(hark, bundle, scratch):
    """Seeded noise around plausible values, calm at first and ever wilder."""
    bundle.write_manifest()
    runners = {p: autoencoder.Runner(bundle.model_path(p)) for p in PRECISIONS}
    rng = np.random.default_rng(GOLDEN_SEED)
    length = bundle.window["length"]
    middle = np.array([0.05, 0.05, 1.0, 0.1, 75.0, 26.0, 230.0, 32.0])
    vectors = []
    for wildness in (0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0):
        noise = rng.normal(0.0, 0.02 * wildness, (length, len(middle)))
        rows = np.abs(middle * (1.0 + noise)).round(4).tolist()
        path = scratch / "golden.csv"
        lines = [comma_separated(at, at * 1_000_000, *row) for at, row in enumerate(rows)]
        path.write_text("\n".join([comma_separated("seq", "ts", *NAMES), *lines]) + "\n")
        vectors.append(bundle.golden_vector(hark, path, slice(0, length), runners))
    step = autoencoder.output_step(bundle.model_path("int8"))
    outputs = {"int8": float(f"{2 * step:.3g}"), "float32": 1e-3}
    bundle.write_golden(vectors, {"features": 1e-3, "outputs": outputs})
    bundle.write_manifest()


def print_quality(hark, bundle, recordings, scratch):
    """What the alerts of each recording have to do with its labelled anomaly."""
    print("| recording | raised before the anomaly | delay, s | raised after it began |")
    print("|---|---|---|---|")
    for recording in recordings:
        path = recording.write(scratch / "whole.csv", slice(None))
        raised, _ = hark.replay(bundle.folder, path)
        anomalies = [sequence for sequence, _, _, is_anomaly in recording.rows if is_anomaly]
        start = anomalies[0] if anomalies else len(recording.rows)
        after = [at for at in raised if at >= start]
        delay = after[0] - start if after else "none" if anomalies else ""
        early = len(raised) - len(after)
        print(f"| {recording.name} | {early} | {delay} | {len(after)} |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hark", type=Path, default=HARK, help="the binary (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=DATA,
                        help="SKAB's data folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="the bundle's folder")
    return parser.parse_args()


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    recordings = [Recording(path) for path in sorted(args.data.glob("valve*/*.csv"))]
    assert recordings, f"no recordings below {args.data}"
    bundle, hark = provisional_bundle(args.out), Hark(args.hark)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        train(hark, bundle, recordings, scratch)
        freeze_golden(hark, bundle, scratch)
        print_quality(hark, bundle, recordings, scratch)


if __name__ == "__main__":
    main()
