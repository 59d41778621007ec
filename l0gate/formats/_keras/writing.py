"""The configuration and the arrays of a sequential Keras 3 model."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from typing import Any

import numpy as np

from l0gate._errors import L0GateError
from l0gate.formats._keras.h5 import needs_h5py
from l0gate.formats.format import Content, refuse
from l0gate.formats.keras_layout import to_keras
from l0gate.formats.layers import (
    Activation,
    Embedding,
    Layer,
    Linear,
    Recurrent,
    input_size,
    with_all_inputs,
)

__all__ = ["group_name", "keras_file"]

_NAME, _INSTEAD = "a sequential Keras model", "use the format 'onnx', which holds such nets"
_VERSION = "3.0.0"  # the oldest Keras whose files have this form
_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
_FUNCTIONS = {
    **{f: f for f in ("tanh", "sigmoid", "relu", "softmax", "elu", "softplus", "softsign")},
    **{"swish": "silu", "gelu": "gelu", "relu6": "relu6", "hard_sigmoid": "hard_sigmoid"},
    "linear": "linear",
}


def keras_file(content: Content) -> bytes:
    """The bytes of a `.keras` file. Keras puts batches before time, whatever the net does."""
    layers = with_all_inputs(content.layers)
    width = input_size(layers)
    shape = [None, None] if width is None else [None, None, width]
    entries = [_entry("InputLayer", "input", {"batch_shape": shape, "dtype": _dtype(width)})]
    arrays: dict[str, np.ndarray] = {}
    counts: Counter[str] = Counter()
    for position, layer in enumerate(layers):
        kind, options, parts = _described(layer)
        name = re.sub(r"[^0-9A-Za-z_]", "_", getattr(layer, "name", "")) or f"layer_{position}"
        if name in {entry["config"]["name"] for entry in entries}:
            name = f"{name}_{position}"
        entries.append(_entry(kind, name, options))
        snake = group_name(kind)
        place = f"layers/{snake}" + (f"_{counts[snake]}" if counts[snake] else "")
        counts[snake] += 1
        for part, values in parts.items():
            for index, value in enumerate(values):
                arrays[f"{place}/{part}vars/{index}"] = value
    model = _entry("Sequential", "sequential", {"layers": entries}, "keras")
    model["build_config"] = {"input_shape": shape}
    buffer = io.BytesIO()
    stored = {
        "metadata.json": json.dumps({"keras_version": _VERSION, "date_saved": ""}).encode(),
        "config.json": json.dumps(model).encode(),
        "model.weights.h5": _h5(arrays),
    }
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, data in stored.items():
            archive.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def group_name(kind: str) -> str:
    """Where Keras keeps the arrays of a class of layers: "lstm", "time_distributed".

    >>> group_name("TimeDistributed"), group_name("LSTM"), group_name("SimpleRNN")
    ('time_distributed', 'lstm', 'simple_rnn')
    """
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _dtype(width: int | None) -> str:
    return "int32" if width is None else "float32"


def _entry(kind: str, name: str, config: dict[str, Any], module: str = "keras.layers") -> Any:
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": None,
    }


def _described(layer: Layer) -> tuple[str, dict[str, Any], dict[str, list[np.ndarray]]]:
    """The Keras class of a layer, its options, and its arrays by the part that holds them."""
    if isinstance(layer, Embedding):
        rows, columns = layer.weight.shape
        return "Embedding", {"input_dim": rows, "output_dim": columns}, {"": [layer.weight]}
    if isinstance(layer, Linear):
        bias = [] if layer.bias is None else [layer.bias]
        options = {"units": len(layer.weight), "use_bias": bool(bias), "activation": "linear"}
        return "Dense", options, {"": [layer.weight.T, *bias]}
    if isinstance(layer, Activation):
        return "Activation", {"activation": _function(layer, layer.function)}, {}
    if not isinstance(layer, Recurrent):
        raise refuse(layer, _NAME, "has no place for it", _INSTEAD)
    options = {
        "units": layer.directions[0].hidden,
        "activation": _function(layer, layer.activation),
        "use_bias": layer.directions[0].bias_ih is not None,
        "return_sequences": True,
    }
    if layer.cell != "rnn":
        options["recurrent_activation"] = _function(layer, layer.recurrent_activation)
    if layer.cell == "gru":
        options["reset_after"] = layer.reset_after
    cells = [to_keras(layer, end) for end in layer.directions]
    if len(cells) == 1:
        return _CLASSES[layer.cell], options, {"cell/": cells[0]}
    if layer.directions[0].hidden != layer.directions[1].hidden:
        raise refuse(layer, _NAME, "has directions of one size", _INSTEAD)
    inner = _entry(_CLASSES[layer.cell], "forward", options)
    both = {"forward_layer/cell/": cells[0], "backward_layer/cell/": cells[1]}
    return "Bidirectional", {"layer": inner, "merge_mode": "concat"}, both


def _function(layer: Layer, name: str) -> str:
    if name not in _FUNCTIONS:
        raise refuse(layer, _NAME, f"has no activation {name!r}", _INSTEAD)
    return _FUNCTIONS[name]


def _h5(arrays: dict[str, np.ndarray]) -> bytes:
    h5py = needs_h5py()
    buffer = io.BytesIO()
    try:
        with h5py.File(buffer, "w") as file:
            for path, array in arrays.items():
                file.create_dataset(path, data=np.ascontiguousarray(array, np.float32))
    except (OSError, ValueError) as error:
        raise L0GateError(f"`net` cannot be written as HDF5: {error}") from None
    return buffer.getvalue()
