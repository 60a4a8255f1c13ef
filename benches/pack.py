"""Packs a dense autoencoder in ONNX as a hark bundle, to measure hark with it.

The model takes one raw window, `length` readings of `channels` values, oldest
reading first, and gives it back; the score is the mean squared difference. All
readings that are numbers are valid, and one anomaly raises the alert: what is
measured is hark, not a pipeline.

The golden vectors come from ONNX Runtime, so a backend that loads the bundle
agrees with it within the tolerance. The same model gives the same bytes.
"""

import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models" / "pump-rig"))
from bundle import digested, numbers, table  # noqa: E402

SEED = 3
# Standard deviations of the golden windows. The last is far outside of what an
# int8 model was calibrated for, where backends that saturate differently part.
SPREADS = [1.0, 1.0, 0.1, 4.0]
# Far beyond any sensor, and exact in float32.
VALUE_MAX = 1e6
# float32 sums in another order, relative to the largest output.
FLOAT_TOLERANCE = 1e-4
# Each int8 tensor on the way may round the other way where a runtime computes in
# float; a calibrated output is then off by this many of its steps at most.
INT8_TOLERANCE_STEPS = 2.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path, help="of the bundle; made if absent")
    parser.add_argument("--name", required=True, help="a-z 0-9 -")
    parser.add_argument("--precision", choices=["int8", "float32"], required=True)
    parser.add_argument("--backends", default="dense,tract", help="the most wanted first")
    parser.add_argument("--meta", type=pathlib.Path,
                        help="JSON with `channels`, `window` and `threshold`, in place of the three options")
    parser.add_argument("--channels", type=int)
    parser.add_argument("--length", type=int, help="readings in a window")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--period-ms", type=float, default=10.0)
    args = parser.parse_args()
    if args.meta:
        meta = json.loads(args.meta.read_text())
        args.channels, args.length = meta["channels"], meta["window"]
        args.threshold = meta["threshold"]
        check_is_raw(parser, meta)
    if None in (args.channels, args.length, args.threshold):
        parser.error("expected --meta, or --channels, --length and --threshold")
    return args


def check_is_raw(parser, meta):
    """hark could normalise, but then its features would not be the raw window."""
    if any(meta.get("mean", [])) or any(scale != 1.0 for scale in meta.get("std", [])):
        parser.error("the model's inputs are normalised; only raw windows are packed")


class Model:
    """The ONNX file on one thread of ONNX Runtime."""

    def __init__(self, path, width):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (self.input,), (output,) = self.session.get_inputs(), self.session.get_outputs()
        for side in (self.input, output):
            if side.shape[-1] != width:
                raise SystemExit(f"{path}: {side.name} has shape {side.shape}, expected [1, {width}]")

    def outputs(self, features):
        return self.session.run(None, {self.input.name: features[None, :]})[0][0]


def golden_windows(length, channels):
    """Windows `[length, channels]` in float32, in decimals that are exact in JSON."""
    rng = np.random.default_rng(SEED)
    for spread in SPREADS:
        yield rng.normal(0.0, spread, (length, channels)).round(4).astype(np.float32)


def golden_vector(model, precision, readings):
    features = readings.reshape(-1)
    outputs = model.outputs(features)
    score = np.mean((outputs.astype(np.float64) - features) ** 2)
    return {
        "readings": [numbers(row) for row in readings],
        "features": numbers(features),
        "outputs": {precision: numbers(outputs)},
        "score": {precision: float(score)},
    }


def tolerance(precision, vectors):
    outputs = np.array([vector["outputs"][precision] for vector in vectors])
    largest = np.abs(outputs).max()
    if precision == "float32":
        return float(f"{FLOAT_TOLERANCE * max(1.0, largest):.2g}")
    # A quantized output takes few values; the least distance of two is its step.
    distances = np.diff(np.unique(outputs))
    step = distances[distances > 1e-5 * largest].min()
    return float(f"{INT8_TOLERANCE_STEPS * step:.3g}")


def manifest(args, model_file, golden_file):
    width = args.channels * args.length
    variants = [
        table("[[variants]]", {"precision": args.precision, "backend": backend} | digested(model_file))
        for backend in args.backends.split(",")
    ]
    channels = [
        table("[[pipeline.schema.channels]]",
              {"name": f"c{index}", "unit": "1", "min": -VALUE_MAX, "max": VALUE_MAX})
        for index in range(args.channels)
    ]
    return "\n\n".join([
        "# Written by benches/pack.py; edit that, not this.\nformat = 1",
        table("[model]", {
            "name": args.name,
            "version": "1.0.0",
            "description": "A dense autoencoder over raw windows, packed for a bench.",
            "licence": "NOASSERTION",
            "data": f"unknown; packed from {args.onnx.name}",
            "inputs": width,
            "outputs": width,
        }),
        *variants,
        table("[golden]", digested(golden_file)),
        table("[pipeline.schema]", {"period_ms": args.period_ms}),
        *channels,
        table("[pipeline.window]", {"length": args.length, "stride": 1}),
        table("[[pipeline.features]]", {"kind": "raw"}),
        table("[pipeline.score]", {"kind": "reconstruction_mse"}),
        table("[pipeline.verdict]", {
            "threshold": args.threshold,
            "k": 1,
            "n": 1,
            "clear_ratio": 1.0,
            "hold_off_ms": 0.0,
        }),
    ]) + "\n"


def main():
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    model_file = args.folder / f"model.{args.precision}.onnx"
    golden_file = args.folder / "golden.json"
    shutil.copyfile(args.onnx, model_file)
    model = Model(model_file, args.channels * args.length)
    vectors = [
        golden_vector(model, args.precision, readings)
        for readings in golden_windows(args.length, args.channels)
    ]
    allowed = tolerance(args.precision, vectors)
    golden = {"tolerance": {"features": 0.0, "outputs": {args.precision: allowed}}, "vectors": vectors}
    golden_file.write_text(json.dumps(golden) + "\n")
    (args.folder / "manifest.toml").write_text(manifest(args, model_file, golden_file))
    print(f"{args.folder}: {args.name}, {args.precision} on {args.backends}, outputs within {allowed}")


if __name__ == "__main__":
    main()
