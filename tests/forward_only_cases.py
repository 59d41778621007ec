"""Nets of layers that only run forward, with parameters, and the same nets in torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0gate._vocabulary import complete
from l0gate.layout.stacked import join

BLOCKS = {"lstm": 4, "gru": 3, "rnn": 1}
FEATURES = 3
CELL = {"activation": "relu", "recurrent_activation": "hard_sigmoid_keras2"}
NETS: dict[str, list[dict[str, Any]]] = {
    "rnn": [
        {"type": "rnn", "name": "a", "num_layers": 2},
        {"type": "rnn", "name": "b", "activation": "relu", "bias": False},
    ],
    "keras 2": [
        {"type": "lstm", "name": "a", "recurrent_activation": "hard_sigmoid_keras2"},
        {"type": "gru", "name": "b", "reset_after": False, **CELL},
        {"type": "gru", "name": "c", "recurrent_activation": "hard_sigmoid"},
        {"type": "linear", "name": "d"},
        {"type": "activation", "function": "softmax"},
    ],
    "amplifier": [
        {"type": "lstm", "name": "a"},
        {"type": "linear", "name": "b", "label": "y"},
        {"type": "slice", "reads": "input", "start": 0, "stop": 1, "label": "dry"},
        {"type": "add", "inputs": ["y", "dry"]},
    ],
    "rnnoise": [
        {"type": "linear", "name": "dense"},
        {"type": "activation", "function": "tanh", "label": "dense"},
        {"type": "gru", "name": "vad", "activation": "relu", "label": "vad"},
        {"type": "linear", "name": "vad_out"},
        {"type": "activation", "function": "sigmoid", "label": "speech"},
        {"type": "concat", "inputs": ["dense", "vad", "input"]},
        {"type": "gru", "name": "noise", "activation": "relu", "label": "noise"},
        {"type": "concat", "inputs": ["vad", "noise", "input"]},
        {"type": "gru", "name": "gain", "activation": "relu"},
        {"type": "linear", "name": "gain_out"},
        {"type": "activation", "function": "sigmoid", "label": "gains"},
        {"type": "outputs", "inputs": ["gains", "speech"]},
    ],
    "front": [
        {"type": "conv1d", "name": "a", "dilation": 2},
        {"type": "batch_norm", "name": "b"},
        {"type": "activation", "function": "leaky_relu", "slope": 0.2},
        {"type": "conv1d", "name": "c", "bias": False, "groups": 2},
        {"type": "activation", "function": "elu"},
        {"type": "lstm", "name": "d"},
        {"type": "batch_norm", "name": "e", "affine": False},
    ],
    "gated": [
        {"type": "conv1d", "name": "a", "label": "u"},
        {"type": "activation", "function": "sigmoid", "label": "g"},
        {"type": "multiply", "inputs": ["u", "g"]},
        {"type": "activation", "function": "gelu"},
        {"type": "linear", "name": "b"},
    ],
}
SIZE = 4  # output features of every layer but the output layers of the amplifier


def parameters_of(layers: list[dict[str, Any]], dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Random parameters: every layer has SIZE outputs, but the linear layer of the amplifier 1."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    widths, labels = [FEATURES], {"input": FEATURES}
    amplifier = layers is NETS["amplifier"]

    def draw(name: str, stem: str, *shape: int) -> None:
        found[join(name, stem)] = (0.6 * rng.standard_normal(shape)).astype(dtype)

    for layer in complete(layers):
        kind, name = layer["type"], layer.get("name", "")
        width = labels[layer["reads"]] if "reads" in layer else widths[-1]
        size = 1 if amplifier and kind == "linear" else SIZE
        if kind in BLOCKS:
            for depth in range(layer["num_layers"]):
                gates = BLOCKS[kind] * size
                draw(name, f"weight_ih_l{depth}", gates, size if depth else width)
                draw(name, f"weight_hh_l{depth}", gates, size)
                if layer["bias"]:
                    draw(name, f"bias_ih_l{depth}", gates)
                    draw(name, f"bias_hh_l{depth}", gates)
        elif kind in ("linear", "conv1d"):
            kernel = (width // layer["groups"], 3) if kind == "conv1d" else (width,)
            draw(name, "weight", size, *kernel)
            if layer["bias"]:
                draw(name, "bias", size)
        elif kind == "batch_norm":
            size = width
            for stem in ("weight", "bias") * layer["affine"] + ("running_mean",):
                draw(name, stem, size)
            found[join(name, "running_var")] = rng.uniform(0.5, 2, size).astype(dtype)
        elif kind == "slice":
            size = layer["stop"] - layer["start"]
        elif kind in ("concat", "outputs"):
            size = sum(labels[label] for label in layer["inputs"])
        elif kind in ("add", "multiply"):
            size = max(labels[label] for label in layer["inputs"])
        else:
            size = width
        widths.append(size)
        if "label" in layer:
            labels[layer["label"]] = size
    return found
