"""GuitarML's JSON (NeuralPi, Proteus, and the trainers around them): one LSTM or GRU, one linear.

Source: `jatinchowdhury18/RTNeural` and `GuitarML/Automated-GuitarAmpModelling`, whose `SimpleRNN`
writes `model_data` and a `state_dict` with torch's names and layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from l0gate._errors import L0GateError, check
from l0gate.formats.format import Content, refuse
from l0gate.formats.json_text import array, integer, numbers, parse, section, text
from l0gate.formats.layers import (
    BLOCKS,
    Direction,
    Layer,
    Linear,
    Recurrent,
    Skip,
    input_size,
    output_size,
    with_all_inputs,
)
from l0gate.formats.one_stack import OneStack

__all__ = ["GuitarML"]

_CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


class GuitarML(OneStack):
    """One stack of LSTM or GRU layers of one size, a linear layer, and the input added or not."""

    name = "guitarml"
    suffixes = (".json",)
    summary = "amplifier models of GuitarML: an LSTM or GRU and a linear layer"
    reader = "NeuralPi, Proteus, Chowdhury's and AIDA-X's trainers"
    holds: ClassVar[Mapping[str, Any]] = {**OneStack.holds, "cells": "LSTM, GRU"}
    title = "GuitarML's JSON"
    body = "holds an LSTM or GRU and then a linear layer"
    instead = "use the format 'onnx' or 'c', which hold such nets"

    def recognizes(self, content: bytes) -> bool:
        return b'"model_data"' in content

    def check_cell(self, layer: Recurrent, first: Recurrent) -> None:
        if layer.cell != first.cell or layer.cell not in ("lstm", "gru"):
            why = "holds a stack of LSTM layers or one of GRU layers"
        elif not layer.standard or not layer.reset_after:
            why = "knows tanh, sigmoid and torch's GRU (reset_after) only"
        else:
            return
        raise refuse(layer, self.title, why, self.instead)

    def write(self, content: Content, **options: Any) -> bytes:
        layers = with_all_inputs(content.layers)
        skip = isinstance(layers[-1], Skip)
        body = layers[:-1] if skip else layers
        stack, last = self.stack_of(body)
        first = stack[0]
        width = input_size(layers)
        if skip and width != 1:
            raise refuse(
                layers[-1], self.title, f"adds one input; the net has {width}", self.instead
            )
        biased = any(layer.directions[0].bias_ih is not None for layer in stack)
        arrays: dict[str, Any] = {}
        for depth, layer in enumerate(stack):
            end = layer.directions[0]
            found = (end.weight_ih, end.weight_hh, *(end.biases()))
            for stem, values in zip(_STEMS, found, strict=True):
                if stem.startswith("weight") or biased:
                    arrays[f"rec.{stem}_l{depth}"] = numbers(values)
        arrays["lin.weight"] = numbers(last.weight)
        if last.bias is not None:
            arrays["lin.bias"] = numbers(last.bias)
        data = {
            "model": "SimpleRNN",
            "input_size": width,
            "skip": int(skip),
            "output_size": output_size(body),
            "unit_type": first.cell.upper(),
            "num_layers": len(stack),
            "hidden_size": first.outputs,
            "bias_fl": last.bias is not None,
        }
        return text({"model_data": data, "state_dict": arrays, **_metadata(content)})

    def read(self, content: bytes, **options: Any) -> Content:
        found = parse(content)
        data = section(found, "model_data", dict)
        arrays = section(found, "state_dict", dict)
        unit = section(data, "unit_type", str, "`model_data`")
        check(unit in _CELLS, f"has unit_type {unit[:40]!r}; allowed: {', '.join(_CELLS)}")
        cell = _CELLS[unit]
        inputs, outputs, hidden, count = (
            integer(data, key, where="`model_data`")
            for key in ("input_size", "output_size", "hidden_size", "num_layers")
        )
        skip = integer(data, "skip", 0, "`model_data`") if "skip" in data else 0
        check(count <= 1000, f"has {count} layers; allowed are 1,000")
        check(
            skip in (0, 1) and (skip == 0 or inputs == 1),
            f"has skip {skip} with {inputs} inputs; only the one input of a model can be added",
        )
        layers: list[Layer] = []
        rows = BLOCKS[cell] * hidden
        bias = "rec.bias_ih_l0" in arrays
        for depth in range(count):
            shapes = {
                "weight_ih": (rows, inputs if depth == 0 else hidden),
                "weight_hh": (rows, hidden),
                **({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}),
            }
            own = (_array(arrays, f"rec.{s}_l{depth}", shape) for s, shape in shapes.items())
            name = "rec" if count == 1 else f"rec_l{depth}"
            layers.append(Recurrent(name, cell, (Direction(*own),)))
        weight = _array(arrays, "lin.weight", (outputs, hidden))
        with_bias = "lin.bias" in arrays
        layers.append(
            Linear("lin", weight, _array(arrays, "lin.bias", (outputs,)) if with_bias else None)
        )
        if skip:
            layers.append(Skip())
        metadata = found.get("metadata", {})
        check(isinstance(metadata, dict), "has a `metadata` that is no object")
        return Content(layers, metadata)


_STEMS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _array(arrays: dict[str, Any], name: str, shape: tuple[int, ...]) -> Any:
    if name not in arrays:
        raise L0GateError(f"lacks the array `{name}` in `state_dict`")
    return array(arrays[name], shape, f"`{name}`")


def _metadata(content: Content) -> dict[str, Any]:
    return {"metadata": dict(content.metadata)} if content.metadata else {}
