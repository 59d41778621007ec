"""RTNeural's JSON, and the fields that AIDA-X adds to it.

Source: `jatinchowdhury18/RTNeural` (`RTNeural/model_loader.h`): the layout is Keras's. Matrices are
transposed, a GRU's blocks are z, r, h, an LSTM has one bias, a GRU two rows of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats.format import Content, Format, refuse
from l0gate.formats.json_text import array, integer, numbers, parse, section, text
from l0gate.formats.keras_layout import from_keras, to_keras
from l0gate.formats.layers import (
    Activation,
    Direction,
    Layer,
    Linear,
    Recurrent,
    Skip,
    input_size,
    recurrent_layers,
    with_all_inputs,
)

__all__ = ["RTNeural"]

_NAME = "RTNeural's JSON"
_INSTEAD = "use the format 'onnx' or 'c', which hold such nets"
_FUNCTIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
_AIDA_X_SIZES = (8, 12, 16, 20, 24, 32, 40, 64, 80)
_FIELDS = ("in_gain", "out_gain", "metadata", "samplerate", "input_batch", "output_batch")


class RTNeural(Format):
    """Stacks of LSTM, GRU, linear and activation layers, of any sizes."""

    name = "rtneural"
    suffixes = (".json", ".aidax")
    summary = "stacks of LSTM, GRU, linear and activation layers for audio plugins"
    reader = "RTNeural, AIDA-X, NeuralAudio"
    holds: ClassVar[Mapping[str, Any]] = {
        "cells": "LSTM, GRU",
        "unequal": True,
        "bidirectional": False,
        "embedding": False,
    }
    options: ClassVar[Mapping[str, Any]] = {"aida_x": False, "in_gain": 0.0, "out_gain": 0.0}

    def recognizes(self, content: bytes) -> bool:
        return b'"in_shape"' in content and b'"layers"' in content

    def accepted_sizes(self, hidden: Sequence[int], *, aida_x: bool = False, **_: Any) -> list[int]:
        if not aida_x:
            return list(hidden)
        found = [next((size for size in _AIDA_X_SIZES if size >= h), None) for h in hidden]
        if None in found:
            raise L0GateError(
                f"`net` has {max(hidden)} neurons in a layer; AIDA-X takes {_AIDA_X_SIZES}"
            )
        return [size for size in found if size is not None]

    def write(
        self,
        content: Content,
        *,
        aida_x: bool = False,
        in_gain: float = 0.0,
        out_gain: float = 0.0,
        **_: Any,
    ) -> bytes:
        layers = with_all_inputs(content.layers)
        width = input_size(layers)
        if width is None:
            raise refuse(layers[0], _NAME, "has no embedding", _INSTEAD)
        skip = isinstance(layers[-1], Skip)
        if skip and not aida_x:
            raise refuse(
                layers[-1], _NAME, "has no such layer", "give `aida_x=True`, whose `in_skip` is it"
            )
        body = layers[:-1] if skip else layers
        if aida_x:
            self._check_aida_x(body, width)
        entries: list[dict[str, Any]] = []
        for layer in body:
            _append(entries, layer, width)
        found: dict[str, Any] = {"in_shape": [None, None, width], "layers": entries}
        own = content.metadata.get("rtneural", {})
        found |= {key: own[key] for key in _FIELDS if key in own}
        if aida_x:
            for name, gain in (("in_gain", in_gain), ("out_gain", out_gain)):
                valid = isinstance(gain, (int, float)) and abs(gain) < 200
                check(valid, f"`{name}` is {gain!r}; it must be a gain in decibels")
                found[name] = gain or own.get(name, 0.0)
            found |= {"in_skip": int(skip), **_golden(content, layers)}
        return text(found)

    def _check_aida_x(self, layers: Sequence[Layer], width: int) -> None:
        stack = recurrent_layers(layers)
        fits = len(layers) == 2 and len(stack) == 1 and isinstance(layers[-1], Linear)
        if not fits or len(layers[-1].weight) != 1:  # type: ignore[union-attr]
            raise refuse(
                layers[-1], "AIDA-X", "takes one LSTM or GRU and a linear layer to 1", _INSTEAD
            )
        if stack[0].outputs not in _AIDA_X_SIZES:
            raise refuse(
                stack[0],
                "AIDA-X",
                f"takes the hidden sizes {', '.join(map(str, _AIDA_X_SIZES))}",
                'give `pad_to="target"`, which adds closed neurons: the outputs stay the same',
            )

    def read(self, content: bytes, **options: Any) -> Content:
        found = parse(content)
        entries = section(found, "layers", list)
        shape = section(found, "in_shape", list)
        check(bool(shape), "has an empty `in_shape`")
        width = integer({"in_shape": shape[-1]}, "in_shape")
        layers: list[Layer] = []
        inputs = width
        for position, entry in enumerate(entries):
            where = f"`layers[{position}]`"
            kind = section(entry, "type", str, where)
            read = _READERS.get(kind)
            if read is None:
                raise L0GateError(
                    f"has {where} of type {kind[:40]!r}; l0gate reads {', '.join(_READERS)}"
                )
            new, inputs = read(entry, where, position, inputs)
            layers += new
        skip = found.get("in_skip", 0)
        check(skip in (0, 1), f"has `in_skip` {str(skip)[:40]!r}; expected 0 or 1")
        if skip:
            layers.append(Skip())
        own = {key: found[key] for key in _FIELDS if key in found}
        return Content(layers, {"rtneural": own} if own else {})


def _append(entries: list[dict[str, Any]], layer: Layer, width: int) -> None:
    """Add a layer to the entries of a file. An activation becomes part of a linear layer."""
    if isinstance(layer, Activation):
        if layer.function not in _FUNCTIONS:
            raise refuse(layer, _NAME, f"knows {', '.join(_FUNCTIONS)}", _INSTEAD)
        if entries and entries[-1]["type"] == "dense" and not entries[-1]["activation"]:
            entries[-1]["activation"] = layer.function
            return
        size = entries[-1]["shape"][-1] if entries else width
        entries.append(_entry("activation", layer.function, size, []))
    elif isinstance(layer, Linear):
        bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        weights = [numbers(layer.weight.T), numbers(bias)]
        entries.append(_entry("dense", "", len(layer.weight), weights))
    elif isinstance(layer, Recurrent):
        entries.append(_entry(layer.cell, "", layer.outputs, _recurrent_weights(layer)))
    else:
        raise refuse(layer, _NAME, "has no such layer", _INSTEAD)


def _entry(kind: str, function: str, size: int, weights: list[Any]) -> dict[str, Any]:
    return {"type": kind, "activation": function, "shape": [None, None, size], "weights": weights}


def _recurrent_weights(layer: Recurrent) -> list[Any]:
    if layer.cell not in ("lstm", "gru"):
        raise refuse(layer, _NAME, "has no such cell", _INSTEAD)
    if len(layer.directions) == 2:
        raise refuse(layer, _NAME, "has layers of one direction only", _INSTEAD)
    if not layer.standard or not layer.reset_after:
        raise refuse(layer, _NAME, "knows tanh, sigmoid and a GRU with reset_after only", _INSTEAD)
    end = layer.directions[0]
    filled = Direction(end.weight_ih, end.weight_hh, *end.biases())  # a bias is required
    return [numbers(array) for array in to_keras(layer, filled)]


def _golden(content: Content, layers: Sequence[Layer]) -> dict[str, Any]:
    """AIDA-X's vectors to test a loaded model with: what the net gives for a fixed input."""
    from l0gate.formats.assembly import assembled
    from l0gate.formats.runner import run_net

    time = np.arange(2048, dtype=np.float32)
    x = (0.5 * np.sin(time * time * 2e-5))[:, None] * np.ones(input_size(layers) or 1, np.float32)
    y = run_net(assembled(layers), x.astype(np.float32))
    return {"input_batch": numbers(x[:, 0]), "output_batch": numbers(y[:, 0])}


def _size(entry: Any, where: str) -> int:
    shape = section(entry, "shape", list, where)
    check(bool(shape), f"has an empty `shape` in {where}")
    return integer({"shape": shape[-1]}, "shape", where=where)


def _parts(entry: Any, where: str, count: int) -> list[Any]:
    weights = section(entry, "weights", list, where)
    check(len(weights) == count, f"has {len(weights)} arrays in {where}; expected {count}")
    return list(weights)


def _read_recurrent(entry: Any, where: str, position: int, inputs: int) -> tuple[list[Layer], int]:
    cell, hidden = entry["type"], _size(entry, where)
    gates = 4 if cell == "lstm" else 3
    kernel, recurrent, bias = _parts(entry, where, 3)
    end = from_keras(
        cell,
        array(kernel, (inputs, gates * hidden), f"the kernel of {where}"),
        array(recurrent, (hidden, gates * hidden), f"the recurrent kernel of {where}"),
        array(
            bias,
            (gates * hidden,) if cell == "lstm" else (2, gates * hidden),
            f"the bias of {where}",
        ),
    )
    return [Recurrent(f"{cell}_{position}", cell, (end,))], hidden


def _read_dense(entry: Any, where: str, position: int, inputs: int) -> tuple[list[Layer], int]:
    size = _size(entry, where)
    kernel, bias = _parts(entry, where, 2)
    weight = array(kernel, (inputs, size), f"the kernel of {where}").T
    found: list[Layer] = [
        Linear(f"dense_{position}", weight, array(bias, (size,), f"the bias of {where}"))
    ]
    return found + _function(entry, where), size


def _read_activation(entry: Any, where: str, position: int, inputs: int) -> tuple[list[Layer], int]:
    return _function(entry, where), inputs


def _function(entry: Any, where: str) -> list[Layer]:
    function = entry.get("activation", "")
    if function in ("", "linear"):
        return []
    check(
        isinstance(function, str) and function in _FUNCTIONS,
        f"has activation {str(function)[:40]!r} in {where}; allowed: {', '.join(_FUNCTIONS)}",
    )
    return [Activation(function)]


_READERS = {
    "lstm": _read_recurrent,
    "gru": _read_recurrent,
    "dense": _read_dense,
    "time-distributed-dense": _read_dense,
    "activation": _read_activation,
}
