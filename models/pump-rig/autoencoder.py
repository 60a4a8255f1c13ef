"""A dense autoencoder in numpy: training, ONNX export and int8 quantization.

Small enough that numpy trains it in a minute, so a bundle needs no training
framework. Everything random comes from a seed, and one thread computes, so the
same machine gives the same bytes again.

Shapes: features are float32 `[windows, inputs]`; the ONNX model takes one window,
input `x` and output `y`, both `[1, inputs]`.
"""

import logging
import os

# More threads would sum in another order, and the files would differ.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

# The quantizer advises to fuse operators first; Gemm and Relu leave none to fuse.
logging.getLogger().setLevel(logging.ERROR)

BATCH = 512
LEARNING_RATE = 2e-3
# An int8 input over ±8 has steps of 0.063, an error of 0.018 (standard deviation).
# A residual may not count as precise beyond a few of those.
RESIDUAL_SCALE_MIN = 0.1
# No window is drawn more than this many times as often as an ordinary one.
EMPHASIS_MAX = 50.0


class Autoencoder:
    """Layers `x @ weight + bias`, ReLU between them and none after the last."""

    def __init__(self, sizes, rng):
        self.weights = [
            rng.normal(0.0, np.sqrt(2.0 / fan_in), (fan_in, fan_out)).astype(np.float32)
            for fan_in, fan_out in zip(sizes, sizes[1:])
        ]
        self.biases = [np.zeros(size, np.float32) for size in sizes[1:]]

    def activations(self, x):
        """The input and what each layer gives; the last is the reconstruction."""
        layers = [x]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = x @ weight + bias
            if index + 1 < len(self.weights):
                x = np.maximum(x, 0.0)
            layers.append(x)
        return layers

    def residuals(self, x):
        return self.activations(x)[-1] - x

    def gradients(self, x, importance):
        """Of the mean over batch and features of `importance · residual²`."""
        layers = self.activations(x)
        delta = 2.0 * (layers[-1] - x) * importance / x.size
        weights, biases = [], []
        for index in reversed(range(len(self.weights))):
            weights.insert(0, layers[index].T @ delta)
            biases.insert(0, delta.sum(axis=0))
            if index:
                delta = (delta @ self.weights[index].T) * (layers[index] > 0.0)
        return weights + biases


class Adam:
    """Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.mean = [np.zeros_like(p) for p in parameters]
        self.square = [np.zeros_like(p) for p in parameters]
        self.steps = 0

    def step(self, gradients, rate):
        self.steps += 1
        mean_gain = 1.0 / (1.0 - 0.9**self.steps)
        square_gain = 1.0 / (1.0 - 0.999**self.steps)
        for p, g, m, s in zip(self.parameters, gradients, self.mean, self.square):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= np.float32(rate) * (m * mean_gain) / (np.sqrt(s * square_gain) + 1e-8)


def fit(features, hidden, epochs, seed):
    """Trains on healthy `features`; returns the autoencoder and its residual scale.

    Three passes. The first learns every feature alike. The second weighs features by
    how well they can be known, as the score will. The third draws badly
    reconstructed windows more often: the rare fast load change is healthy too, and
    it is what sets the threshold.
    """
    rng = np.random.default_rng(seed)
    inputs = features.shape[1]
    model = Autoencoder([inputs, *hidden, inputs], rng)
    run_epochs(model, features, np.ones(inputs, np.float32), None, epochs, rng)
    scale = residual_scale(model, features)
    run_epochs(model, features, importance(scale), None, epochs, rng)
    scale = residual_scale(model, features)
    odds = 1.0 + np.minimum(mean_square(model.residuals(features), scale), EMPHASIS_MAX)
    run_epochs(model, features, importance(scale), odds, epochs, rng)
    return model, residual_scale(model, features)


def run_epochs(model, features, weight, odds, epochs, rng):
    """Adam over the mean of `weight · residual²`, the rate falling along a cosine."""
    adam = Adam(model.weights + model.biases)
    batches = len(features) // BATCH
    for epoch in range(epochs):
        order = draw(len(features), batches * BATCH, odds, rng)
        for index, rows in enumerate(order.reshape(batches, BATCH)):
            progress = (epoch * batches + index) / (epochs * batches)
            rate = LEARNING_RATE * 0.5 * (1.0 + np.cos(np.pi * progress)) + 1e-5
            adam.step(model.gradients(features[rows], weight), rate)


def draw(windows, count, odds, rng):
    """`count` window numbers: each once, or by `odds` with replacement."""
    if odds is None:
        return rng.permutation(windows)[:count]
    odds = odds.astype(np.float64)
    return rng.choice(windows, count, p=odds / odds.sum())


def residual_scale(model, features):
    """Standard deviation of each residual, bounded below, to six digits as the
    manifest will hold it."""
    scale = np.maximum(model.residuals(features).std(axis=0), RESIDUAL_SCALE_MIN)
    return np.array([float(f"{s:.6g}") for s in scale], np.float32)


def importance(scale):
    weight = 1.0 / scale**2
    return (weight / weight.mean()).astype(np.float32)


def mean_square(residuals, scale):
    """The score of `reconstruction_mse`, for each window."""
    return np.mean((residuals / scale) ** 2, axis=1)


def write_float32(model, path):
    """Writes the autoencoder as ONNX: Gemm and Relu, batch 1."""
    nodes, tensors, last = [], [], "x"
    layers = len(model.weights)
    for index, (weight, bias) in enumerate(zip(model.weights, model.biases)):
        tensors.append(numpy_helper.from_array(weight, f"weight{index}"))
        tensors.append(numpy_helper.from_array(bias, f"bias{index}"))
        out = "y" if index + 1 == layers else f"sum{index}"
        nodes.append(helper.make_node(
            "Gemm", [last, f"weight{index}", f"bias{index}"], [out], name=f"dense{index}"))
        last = out
        if index + 1 < layers:
            last = f"hidden{index}"
            nodes.append(helper.make_node("Relu", [out], [last], name=f"relu{index}"))
    shape = [1, model.weights[0].shape[0]]
    graph = helper.make_graph(
        nodes, "autoencoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors)
    # Opset 17 and IR 8 are of 2022: old enough for every runtime in the field.
    onnx.save(helper.make_model(
        graph, producer_name="hark", ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)]), path)


class Calibration(quantization.CalibrationDataReader):
    """The windows that set the range of each activation over all of `features`.

    A sample would miss the rare fast load change, and saturate on it.
    """

    def __init__(self, model, features):
        layers = model.activations(features)
        extremes = [find(layer, axis=0) for layer in layers for find in (np.argmin, np.argmax)]
        self.windows = iter(features[np.unique(np.concatenate(extremes))])

    def get_next(self):
        window = next(self.windows, None)
        return None if window is None else {"x": window[np.newaxis]}


def write_int8(model, float32_path, path, features, clip):
    """Quantizes weights (a scale for each column) and activations to int8, as QDQ pairs.

    The input's range is the features' bound rather than what calibration saw, so
    that a fault does not saturate the input. Every other range is the healthy
    one: saturation inside the model only makes a fault's reconstruction worse.
    """
    limits = {"rmin": np.float32(-clip), "rmax": np.float32(clip)}
    quantization.quantize_static(
        str(float32_path), str(path), Calibration(model, features),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={"TensorQuantOverrides": {"x": [limits]}})


def output_step(path):
    """What one step of the int8 output is worth."""
    graph = onnx.load(path).graph
    last = next(node for node in graph.node if "y" in node.output)
    scale = next(t for t in graph.initializer if t.name == last.input[1])
    return float(numpy_helper.to_array(scale))


class Runner:
    """ONNX Runtime on a model file, for any number of windows at once."""

    def __init__(self, path):
        model = onnx.load(path)
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "windows"
        del model.graph.value_info[:]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def outputs(self, features):
        return self.session.run(["y"], {"x": features})[0]

    def scores(self, features, scale):
        return mean_square(self.outputs(features) - features, scale)
