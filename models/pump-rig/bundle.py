"""The files of a bundle, and the hark binary that is asked about them.

Features come from `hark features` and quality from `hark replay`, so that what
was trained and measured is what is served. Nothing here computes a feature.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PRECISIONS = ("int8", "float32")
# Backend and precision, the most wanted first. hark's own kernels are many times
# faster on so small a network; the general runtime is there should they refuse it.
VARIANTS = (("dense", "int8"), ("tract", "int8"), ("tract", "float32"))


class Hark:
    """The binary, as a child process for each question."""

    def __init__(self, path):
        self.path = Path(path).resolve()

    def run(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout

    def simulate(self, path, seed, duration_s, *faults):
        """Writes a recording of the rig to `path`."""
        flags = [flag for fault in faults for flag in ("--fault", fault)]
        self.run("simulate", "--csv", path, "--seed", seed, "--for", f"{duration_s}s", *flags)

    def features(self, bundle, recording):
        """Float32 `[windows, features]` of a recording."""
        lines = self.run("features", "--model", bundle, recording).splitlines()[1:]
        return np.loadtxt(lines, delimiter=",", dtype=np.float32, ndmin=2)[:, 1:]

    def replay(self, bundle, recording, *flags):
        """The sequence numbers at which alerts were raised, and the summary."""
        out = self.run("replay", recording, "--model", bundle, "--json", *flags)
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        raised = [e for e in events if e.get("event") == "alert" and e["state"] == "raised"]
        return [e["seq"] for e in raised], events[-1]


@dataclass
class FeatureGroup:
    """One `[[pipeline.features]]`; `parameters` are its other keys."""

    kind: str
    channels: list
    parameters: dict


@dataclass
class Bundle:
    """All that manifest.toml says, less the digests.

    `model`, `schema`, `window` and `verdict` are the tables of the same names;
    `channels` those of the schema. `center` and `scale` have one number for each
    feature, or none before they are known.
    """

    folder: Path
    header: str
    model: dict
    schema: dict
    channels: list
    window: dict
    groups: list
    clip: float
    verdict: dict
    center: np.ndarray = None
    scale: np.ndarray = None
    residual_scale: np.ndarray = None

    @property
    def width(self):
        return sum(len(group.channels) for group in self.groups)

    def normalise_by(self, raw):
        """Takes center and scale from raw healthy features, to six digits."""
        self.center = six_digits(raw.mean(axis=0, dtype=np.float64))
        self.scale = six_digits(raw.std(axis=0, dtype=np.float64))

    def normalised(self, raw):
        return np.clip((raw - self.center) / self.scale, -self.clip, self.clip)

    def model_path(self, precision):
        return self.folder / f"model.{precision}.onnx"

    def write_manifest(self, precisions=PRECISIONS):
        """Writes manifest.toml; a file that does not exist yet has digest 0."""
        tables = [
            self.header + "\nformat = 1",
            table("[model]", self.model | {"inputs": self.width, "outputs": self.width}),
            *(table("[[variants]]", self.variant(b, p)) for b, p in VARIANTS if p in precisions),
            table("[golden]", digested(self.folder / "golden.json")),
            table("[pipeline.schema]", self.schema),
            *(table("[[pipeline.schema.channels]]", channel) for channel in self.channels),
            table("[pipeline.window]", self.window),
            *self.feature_tables(),
            table("[pipeline.score]", self.score()),
            table("[pipeline.verdict]", self.verdict),
        ]
        (self.folder / "manifest.toml").write_text("\n\n".join(tables) + "\n")

    def variant(self, backend, precision):
        start = {"precision": precision, "backend": backend}
        return start | digested(self.model_path(precision))

    def feature_tables(self):
        start = 0
        for group in self.groups:
            end = start + len(group.channels)
            keys = {"kind": group.kind, "channels": group.channels} | group.parameters
            if self.center is not None:
                keys |= {"center": self.center[start:end], "scale": self.scale[start:end]}
                keys |= {"clip": self.clip}
            yield table("[[pipeline.features]]", keys)
            start = end

    def score(self):
        keys = {"kind": "reconstruction_mse"}
        if self.residual_scale is not None:
            keys |= {"residual_scale": self.residual_scale}
        return keys

    def write_golden(self, vectors, tolerance):
        """Writes golden.json, one vector a line."""
        lines = ",\n".join(json.dumps(vector) for vector in vectors)
        text = f'{{"tolerance": {json.dumps(tolerance)},\n"vectors": [\n{lines}\n]}}\n'
        (self.folder / "golden.json").write_text(text)

    def golden_vector(self, hark, recording, rows, runners):
        """The frozen path of the window in the CSV lines `rows` of a recording, by a
        runner for each precision."""
        header, *lines = recording.read_text().splitlines()
        window = lines[rows]
        excerpt = recording.with_suffix(".window.csv")
        excerpt.write_text("\n".join([header, *window]) + "\n")
        features = hark.features(self.folder, excerpt)
        assert features.shape == (1, self.width), "the rows fill exactly one window"
        first = header.split(",").index(self.channels[0]["name"])
        cells = [line.split(",")[first:first + len(self.channels)] for line in window]
        outputs = {p: runner.outputs(features) for p, runner in runners.items()}
        scores = {p: runner.scores(features, self.residual_scale) for p, runner in runners.items()}
        return {
            "readings": [[float(cell) for cell in row] for row in cells],
            "features": numbers(features[0]),
            "outputs": {p: numbers(y[0]) for p, y in outputs.items()},
            "score": {p: numbers(s)[0] for p, s in scores.items()},
        }


def raising_scores(scores, k, n):
    """For each window the score that a threshold must lie below to raise an alert
    there: the k-th largest of the last n."""
    padded = np.concatenate([np.zeros(n - 1, np.float32), scores])
    recent = np.lib.stride_tricks.sliding_window_view(padded, n)
    return np.partition(recent, n - k, axis=1)[:, n - k]


def table(name, keys):
    """A TOML table. JSON's strings, numbers and arrays of these are TOML's too."""
    return "\n".join([name, *(f"{key} = {toml_value(value)}" for key, value in keys.items())])


def toml_value(value):
    if isinstance(value, np.ndarray):
        value = numbers(value)
    return json.dumps(value)


def numbers(array):
    """The shortest decimals that read back as the same float32."""
    return [float(str(x)) for x in np.asarray(array, np.float32)]


def six_digits(array):
    return np.array([float(f"{x:.6g}") for x in array], np.float32)


def digested(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64
    return {"file": path.name, "sha256": digest}
