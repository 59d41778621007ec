"""From layers with their arrays to a saved model, which `l0gate.load`'s run time can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._saved_model import SavedModel
from l0gate.formats.layers import (
    BLOCKS,
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Other,
    Recurrent,
    Selection,
    Skip,
    with_storable_choice,
)
from l0gate.layout.stacked import join

__all__ = ["assembled"]


def assembled(
    layers: Sequence[Layer],
    metadata: Mapping[str, Any] | None = None,
    *,
    batch_first: bool = False,
) -> SavedModel:
    """A saved model of these layers. Raises `L0GateError` for shapes that do not fit, and for NaN.

    Recurrent layers that differ in their number only ("rnn_l0", "rnn_l1") become one stack.

    >>> saved = assembled([Linear("out", np.ones((2, 3), np.float32), None)])
    >>> saved.net()(np.ones((5, 1, 3)))[0].shape
    (5, 1, 2)
    """
    check(len(layers) > 0, "the file holds no layers")
    layers = with_storable_choice(layers)
    entries: list[dict[str, Any]] = []
    parameters: dict[str, np.ndarray] = {}
    selection: Selection | None = None
    width: int | None = None
    for layer in layers:
        if isinstance(layer, Selection):
            selection, width = layer, len(layer.index)
        elif isinstance(layer, Embedding):
            entries.append({"type": "embedding", "name": layer.name})
            parameters[join(layer.name, "weight")] = _matrix(layer.name, "weight", layer.weight)
            width = int(layer.weight.shape[1])
        elif isinstance(layer, Linear):
            width = _linear(layer, width, entries, parameters)
        elif isinstance(layer, Activation):
            entries.append({"type": "activation", "function": layer.function})
        elif isinstance(layer, Other):
            entries.append(dict(layer.entry))
            parameters |= {join(layer.name, n): a for n, a in layer.arrays.items()}
            width = width if layer.width is None else layer.width
        elif isinstance(layer, Skip):
            check(len(entries) > 0, "the file holds no layers")
            entries[-1]["label"] = "before_skip"
            entries.append({"type": "add", "inputs": ["before_skip", "input"]})
        else:
            width = _recurrent(layer, width, entries, parameters)
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            raise L0GateError(f"the array `{name}` holds numbers that are not finite")
    chain = Chain(entries, batch_first=batch_first)
    sizes = dict(chain.layout.solve(parameters))
    kept = {axis: np.arange(size) for axis, size in sizes.items()}
    if selection is not None and chain.input_axis is not None:
        kept[chain.input_axis] = selection.index
        sizes[chain.input_axis] = selection.size
    return SavedModel(parameters, chain.layout, kept, sizes, chain, metadata=dict(metadata or {}))


def _linear(
    layer: Linear, width: int | None, entries: list[dict[str, Any]], parameters: dict[str, Any]
) -> int:
    weight = _matrix(layer.name, "weight", layer.weight)
    _check_width(layer.name, weight.shape[1], width)
    entries.append({"type": "linear", "name": layer.name, "bias": layer.bias is not None})
    parameters[join(layer.name, "weight")] = weight
    if layer.bias is not None:
        parameters[join(layer.name, "bias")] = _vector(layer.name, "bias", layer.bias, len(weight))
    return len(weight)


def _recurrent(
    layer: Recurrent, width: int | None, entries: list[dict[str, Any]], parameters: dict[str, Any]
) -> int:
    bias = layer.directions[0].bias_ih is not None
    entry: dict[str, Any] = {
        "type": layer.cell,
        "name": layer.name,
        "bidirectional": len(layer.directions) == 2,
        "bias": bias,
    }
    if layer.cell == "gru":
        entry["reset_after"] = layer.reset_after
    if layer.activation != "tanh":
        entry["activation"] = layer.activation
    if layer.cell != "rnn" and layer.recurrent_activation != "sigmoid":
        entry["recurrent_activation"] = layer.recurrent_activation
    base, depth = _stack(layer.name, entry, entries)
    if depth:
        entries[-1]["num_layers"] = depth + 1
    else:
        entries.append({**entry, "name": base})
    _check_width(layer.name, layer.inputs, width)
    for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
        for stem, array in _checked(layer, direction).items():
            parameters[join(base, f"{stem}_l{depth}{suffix}")] = array
    return layer.outputs


def _stack(
    name: str, entry: Mapping[str, Any], entries: Sequence[dict[str, Any]]
) -> tuple[str, int]:
    """The name of the stack that a layer belongs to, and its place: ("rnn", 1) for "rnn_l1"."""
    base, mark, number = name.rpartition("_l")
    if not mark or not number.isdecimal():
        return name, 0
    if number == "0":
        return base, 0
    last = entries[-1] if entries else {}
    same = {**last, "name": name, "num_layers": 1} == {**entry, "num_layers": 1}
    if same and last.get("name") == base and last.get("num_layers", 1) == int(number):
        return base, int(number)
    return name, 0


def _checked(layer: Recurrent, direction: Direction) -> dict[str, np.ndarray]:
    weight_hh = _matrix(layer.name, "weight_hh", direction.weight_hh)
    rows, hidden = BLOCKS[layer.cell] * weight_hh.shape[1], weight_hh.shape[1]
    weight_ih = _matrix(layer.name, "weight_ih", direction.weight_ih)
    for what, weight in (("weight_ih", weight_ih), ("weight_hh", weight_hh)):
        check(
            len(weight) == rows,
            f"layer {layer.name!r}: {what} has {len(weight)} rows; {layer.cell} with {hidden}"
            f" neurons needs {rows}",
        )
    found = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    if direction.bias_ih is not None and direction.bias_hh is not None:
        found["bias_ih"] = _vector(layer.name, "bias_ih", direction.bias_ih, rows)
        found["bias_hh"] = _vector(layer.name, "bias_hh", direction.bias_hh, rows)
    return found


def _matrix(layer: str, what: str, array: np.ndarray) -> np.ndarray:
    check(
        array.ndim == 2 and array.size > 0,
        f"layer {layer!r}: {what} has shape {array.shape}; it must be a matrix that is not empty",
    )
    return np.ascontiguousarray(array, np.float32)


def _vector(layer: str, what: str, array: np.ndarray, size: int) -> np.ndarray:
    check(
        array.shape == (size,),
        f"layer {layer!r}: {what} has shape {array.shape}; expected ({size},)",
    )
    return np.ascontiguousarray(array, np.float32)


def _check_width(layer: str, found: int, width: int | None) -> None:
    check(
        width is None or found == width,
        f"layer {layer!r} reads {found} features; the layer before it writes {width}",
    )
