"""Layers from the configuration of a Keras model and its arrays.

Keras keeps matrices as (inputs, units) and the blocks of a GRU as z, r, h. Arrays come in the order
in which Keras makes them: kernel, recurrent kernel, bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats.json_text import integer, section
from l0gate.formats.keras_layout import from_keras
from l0gate.formats.layers import (
    BLOCKS,
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Other,
    Recurrent,
)

__all__ = ["Arrays", "layers_of_model"]

Arrays = Callable[[str, str, str], list[np.ndarray]]  # (class, layer's name, part) -> its arrays
_CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
_FUNCTIONS = {
    **{name: name for name in ("tanh", "sigmoid", "relu", "softmax", "elu", "softplus")},
    **{name: name for name in ("softsign", "relu6", "gelu", "hard_tanh", "leaky_relu")},
    "silu": "swish",
    "swish": "swish",
    "linear": "linear",
}
_IGNORED = ("InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout")
_KNOWN = "LSTM, GRU, SimpleRNN, Bidirectional, Dense, TimeDistributed, Embedding, Conv1D,"
_KNOWN += " BatchNormalization and activations"


def layers_of_model(model: Mapping[str, Any], arrays: Arrays, version: str) -> list[Layer]:
    """The layers of a sequential model, or of a functional one that is one line of layers.

    `arrays` finds the arrays of a layer by its class, its name and a part of it. `version` is that
    of Keras, which changed what "hard_sigmoid" means.
    """
    kind = section(model, "class_name", str)
    check(
        kind in ("Sequential", "Functional", "Model"),
        f"is a model of class {kind[:60]!r}; l0gate reads sequential models and lines of layers",
    )
    config = model.get("config")
    entries = config if isinstance(config, list) else section(config, "layers", list, "`config`")
    if kind != "Sequential":
        _check_line(entries)
    found: list[Layer] = []
    read = _Reader(arrays, version)
    for position, entry in enumerate(entries):
        name = section(entry, "class_name", str, f"layer {position}")
        given = section(entry, "config", dict, f"layer {position}")
        check(
            not read.ended or name not in (*_CELLS, "Bidirectional", "Conv1D"),
            f"has {name} after a layer with return_sequences=False, which leaves one time step",
        )
        found += read.layer(name, given)
    return found


def _check_line(entries: Sequence[Any]) -> None:
    """Refuse a functional model whose layers do not each read the one before."""
    before = None
    for entry in entries:
        name = section(entry, "name", str) if "name" in entry else entry["config"].get("name")
        nodes = entry.get("inbound_nodes", [])
        text = str(nodes)
        fits = (before is None and not nodes) or (len(nodes) == 1 and repr(before) in text)
        check(
            fits and text.count("keras_history") <= 1,
            f"has the layer {str(name)[:60]!r}, which does not read the one layer before it;"
            " l0gate reads lines of layers",
        )
        before = name


class _Reader:
    def __init__(self, arrays: Arrays, version: str) -> None:
        self.arrays, self.version = arrays, version
        self.ended = False  # whether a layer has returned its last step only

    def layer(self, kind: str, given: Mapping[str, Any]) -> list[Layer]:
        name = section(given, "name", str, kind)
        if kind in _IGNORED:
            return []
        if kind in _CELLS:
            end = self._cell(kind, given, self.arrays(kind, name, "cell"), name)
            return [self._recurrent(name, kind, (end,), given)]
        if kind == "Bidirectional":
            return self._bidirectional(given, name)
        if kind == "TimeDistributed":
            inner = section(given, "layer", dict, name)
            check(
                inner.get("class_name") == "Dense",
                f"has TimeDistributed around {str(inner.get('class_name'))[:40]}; expected Dense",
            )
            options = section(inner, "config", dict, name)
            return self._dense(options, name, self.arrays(kind, name, "layer"))
        if kind == "Dense":
            return self._dense(given, name, self.arrays(kind, name, ""))
        if kind == "Embedding":
            check(not given.get("mask_zero"), f"has mask_zero in {name!r}, which masks steps")
            (weight,) = self._sized(self.arrays(kind, name, ""), 1, name)
            return [Embedding(name, weight)]
        if kind == "BatchNormalization":
            return [self._batch_norm(given, name)]
        if kind == "Conv1D":
            return self._conv1d(given, name)
        if kind in ("Activation", "ReLU", "Softmax", "ELU", "LeakyReLU"):
            return self._activation_layer(kind, given, name)
        raise L0GateError(
            f"has a layer {name[:60]!r} of class {kind[:60]!r}; l0gate reads {_KNOWN}"
        )

    def _activation_layer(self, kind: str, given: Mapping[str, Any], name: str) -> list[Layer]:
        if kind == "Activation":
            return self._function(given.get("activation"), name)
        alpha = given.get("negative_slope", given.get("alpha", 0.0))
        if kind == "ReLU":
            plain = given.get("max_value") is None and not alpha and not given.get("threshold")
            check(plain, f"has a ReLU {name!r} with a slope, threshold or maximum")
        if kind == "Softmax":
            check(given.get("axis", -1) == -1, f"has a Softmax {name!r} over another axis")
        if kind in ("ELU", "LeakyReLU"):
            check(isinstance(alpha, (int, float)), f"has no slope in {name!r}")
            function = {"ELU": "elu", "LeakyReLU": "leaky_relu"}[kind]
            entry = {"type": "activation", "function": function, "slope": float(alpha)}
            return [Other(entry)]
        return self._function(kind.lower(), name)

    def _bidirectional(self, given: Mapping[str, Any], name: str) -> list[Layer]:
        check(
            given.get("merge_mode") == "concat",
            f"has merge_mode {given.get('merge_mode')!r} in {name!r}; expected 'concat'",
        )
        inner = section(given, "layer", dict, name)
        kind = section(inner, "class_name", str, name)
        check(kind in _CELLS, f"has Bidirectional around {kind[:40]!r}")
        options = section(inner, "config", dict, name)
        check(
            bool(options.get("return_sequences")),
            f"has return_sequences=False in the bidirectional layer {name!r}: its last outputs"
            " belong to two time steps",
        )
        ends = (
            self._cell(kind, options, self.arrays("Bidirectional", name, part), name)
            for part in ("forward_layer", "backward_layer")
        )
        return [self._recurrent(name, kind, tuple(ends), options)]

    def _recurrent(
        self, name: str, kind: str, ends: tuple[Direction, ...], given: Mapping[str, Any]
    ) -> Layer:
        for option in ("go_backwards", "time_major", "return_state"):
            check(not given.get(option), f"has {option}=True in {name!r}")
        self.ended = not given.get("return_sequences")
        gates = "sigmoid" if kind == "SimpleRNN" else given.get("recurrent_activation", "sigmoid")
        return Recurrent(
            name,
            _CELLS[kind],
            ends,
            self._resets_after(given, name) if kind == "GRU" else True,
            self._name_of(given.get("activation", "tanh"), name),
            self._name_of(gates, name),
        )

    def _resets_after(self, given: Mapping[str, Any], name: str) -> bool:
        """Keras wrote no `reset_after` before it had the choice; then it reset before."""
        found = given.get("reset_after", False)
        check(isinstance(found, bool), f"has reset_after {found!r} in {name!r}")
        return bool(found)

    def _cell(
        self, kind: str, given: Mapping[str, Any], arrays: list[np.ndarray], name: str
    ) -> Direction:
        units = integer(given, "units", where=repr(name))
        rows = BLOCKS[_CELLS[kind]] * units
        biased = given.get("use_bias", True)
        kernel, recurrent, *rest = self._sized(arrays, 3 if biased else 2, name)
        _expect(kernel, (None, rows), name)
        _expect(recurrent, (units, rows), name)
        bias = rest[0] if biased else None
        if bias is not None:
            two = kind == "GRU" and self._resets_after(given, name)
            _expect(bias, (2, rows) if two else (rows,), name)
        return from_keras(_CELLS[kind], kernel, recurrent, bias)

    def _dense(self, given: Mapping[str, Any], name: str, arrays: list[np.ndarray]) -> list[Layer]:
        units = integer(given, "units", where=repr(name))
        biased = given.get("use_bias", True)
        kernel, *bias = self._sized(arrays, 2 if biased else 1, name)
        _expect(kernel, (None, units), name)
        layer = Linear(name, kernel.T, bias[0] if biased else None)
        return [layer, *self._function(given.get("activation"), name)]

    def _batch_norm(self, given: Mapping[str, Any], name: str) -> Layer:
        flags = [bool(given.get("scale", True)), bool(given.get("center", True))]
        arrays = self._sized(self.arrays("BatchNormalization", name, ""), sum(flags) + 2, name)
        size = arrays[-1].shape
        gamma = arrays[0] if flags[0] else np.ones(size, np.float32)
        beta = arrays[sum(flags) - 1] if flags[1] else np.zeros(size, np.float32)
        epsilon = given.get("epsilon", 1e-3)
        check(isinstance(epsilon, float), f"has epsilon {epsilon!r} in {name!r}")
        stems = ("weight", "bias", "running_mean", "running_var")
        values = dict(zip(stems, (gamma, beta, *arrays[-2:]), strict=True))
        for value in values.values():
            _expect(value, (size[0] if size else 0,), name)
        return Other({"type": "batch_norm", "name": name, "epsilon": epsilon}, values)

    def _conv1d(self, given: Mapping[str, Any], name: str) -> list[Layer]:
        check(
            given.get("data_format", "channels_last") == "channels_last",
            f"has data_format {given.get('data_format')!r} in {name!r}",
        )
        biased = given.get("use_bias", True)
        kernel, *bias = self._sized(self.arrays("Conv1D", name, ""), 2 if biased else 1, name)
        check(kernel.ndim == 3, f"has a kernel of shape {kernel.shape} in {name!r}")
        stride, dilation = (
            value[0] if isinstance(value := given.get(key, 1), list) and value else value
            for key in ("strides", "dilation_rate")
        )
        entry = {
            "type": "conv1d",
            "name": name,
            "bias": bool(biased),
            "stride": stride,
            "dilation": dilation,
            "groups": given.get("groups", 1),
            "padding": given.get("padding", "valid"),
        }
        arrays = {"weight": kernel.transpose(2, 1, 0), **({"bias": bias[0]} if biased else {})}
        layer = Other(entry, arrays, int(kernel.shape[2]))
        return [layer, *self._function(given.get("activation"), name)]

    def _function(self, given: Any, name: str) -> list[Layer]:
        found = self._name_of("linear" if given is None else given, name)
        return [] if found == "linear" else [Activation(found)]

    def _name_of(self, given: Any, name: str) -> str:
        if isinstance(given, dict):  # a serialized object or function
            given = given.get("config") if isinstance(given.get("config"), str) else None
        if given == "hard_sigmoid":
            old = not self.version.startswith("3")
            return "hard_sigmoid_keras2" if old else "hard_sigmoid"
        if not isinstance(given, str) or given not in _FUNCTIONS:
            raise L0GateError(
                f"has the activation {str(given)[:60]!r} in {name!r}; l0gate reads"
                f" {', '.join(_FUNCTIONS)} and hard_sigmoid"
            )
        return _FUNCTIONS[given]

    def _sized(self, arrays: list[np.ndarray], count: int, name: str) -> list[np.ndarray]:
        check(len(arrays) == count, f"has {len(arrays)} arrays for {name!r}; expected {count}")
        return arrays


def _expect(array: np.ndarray, shape: tuple[int | None, ...], name: str) -> None:
    fits = array.ndim == len(shape) and all(
        size in (None, have) for size, have in zip(shape, array.shape, strict=True)
    )
    expected = ", ".join("any" if size is None else str(size) for size in shape)
    check(fits, f"has an array of shape {array.shape} for {name!r}; expected ({expected})")
