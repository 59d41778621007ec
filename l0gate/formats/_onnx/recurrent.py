"""Layers from the nodes LSTM, GRU and RNN.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours. X is (T, B, I), or
(B, T, I) with `layout` 1; Y is (T, D, B, H), or (B, T, D, H).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.functions import cell_names
from l0gate.formats._onnx.order import DIRECTIONS, FEATURES, Axis, from_onnx
from l0gate.formats._onnx.tensors import exact_float32
from l0gate.formats._onnx.values import Dims, Moved, Node, Reversed, Stream, Unknown, Value, Zeros
from l0gate.formats.layers import BLOCKS, Direction, Recurrent

__all__ = ["CELLS", "paired", "recurrent"]

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
_DEFAULTS = {
    "lstm": ["Sigmoid", "Tanh", "Tanh"],
    "gru": ["Sigmoid", "Tanh"],
    "rnn": ["Tanh"],
}


def recurrent(node: Node) -> list[Value]:
    """The outputs Y, Y_h and Y_c of a node."""
    x = node.input(0)
    if not isinstance(x, Stream) or x.tokens:
        raise L0GateError(
            f"has {node.described}, which reads something else than a sequence of features"
        )
    layout = node.attributes.get("layout", 0)
    check(layout in (0, 1), f"has layout {layout} in {node.described}")
    axes = x.axes
    check(
        len(axes) == 3 and x.ends_in_features and not x.last,
        f"has {node.described}, whose input is no sequence (time, batch, features)",
    )
    time, batch = (axes[1], axes[0]) if layout else (axes[0], axes[1])
    _check_axes(node, x, time, batch)
    layer, direction = _layer(node)
    _check_states(node, x, time)
    reverse = direction == "reverse"
    both = len(layer.directions) == 2
    ends: Axis = (DIRECTIONS,) if both else ()
    y_axes = (axes[0], axes[1], ends, (FEATURES,)) if layout else (time, ends, batch, (FEATURES,))
    entry = Reversed(layer) if reverse else layer
    sizes = {**x.sizes, "time": None}
    width = layer.directions[0].hidden
    y = x.then(entry, width, axes=y_axes, sizes=sizes)
    h_axes = (batch, ends, (FEATURES,)) if layout else (ends, batch, (FEATURES,))
    state: Value = Moved(x.source, True)
    if not both and not reverse:
        state = replace(y, axes=h_axes, last=True, state=True)
    return [y, state, Moved(x.source, True)]


def _check_axes(node: Node, x: Stream, time: Axis, batch: Axis) -> None:
    """Time and batch must be the same axes as of the recurrent layers before."""
    check(
        len(time) <= 1 and len(batch) <= 1,
        f"has {node.described}, whose input has time and batch in one axis",
    )
    for found, label in ((time, "time of"), (batch, "batch of")):
        known = node.notes.get(f"{label} {x.source}")
        number = -1 if not found else int(found[0])
        check(
            known in (None, -1, number) or number == -1,
            f"has {node.described}, which takes another axis as time than the layers before it",
        )
        if known in (None, -1):
            node.notes[f"{label} {x.source}"] = number


def _check_states(node: Node, x: Stream, time: Axis) -> None:
    """Refuse states and lengths that l0gate's nets do not have. Zeros and given states are fine."""
    lengths = node.input(4)
    known = x.sizes.get(time[0]) if time else 1
    full = (
        isinstance(lengths, np.ndarray) and known is not None and bool((lengths == known).all())
    ) or (isinstance(lengths, Dims) and set(lengths.entries) <= {(1, time)})
    check(
        lengths is None or full,
        f"has sequence_lens in {node.described}: lengths that differ within a batch. Give `lengths`"
        " to the net when it runs, and leave them out of the file",
    )
    places = (
        ((5, "initial_h"), (6, "initial_c")) if node.operator == "LSTM" else ((5, "initial_h"),)
    )
    for place, what in places:
        value = node.input(place)
        given = isinstance(value, Moved) and not value.computed and value.source != x.source
        given = given or (
            isinstance(value, Stream) and not value.layers and value.source != x.source
        )
        zeros = isinstance(value, Zeros) or (isinstance(value, np.ndarray) and not value.any())
        if value is None or given or zeros:
            continue
        why = (
            "numbers other than zero" if isinstance(value, np.ndarray) else "what the net computes"
        )
        if isinstance(value, Unknown):
            why = f"something that l0gate cannot follow (the file {value.why})"
        raise L0GateError(
            f"has {node.described} whose {what} is {why}; l0gate reads layers that start from zeros"
            " or from states that the caller gives"
        )
    peepholes = node.input(7) if node.operator == "LSTM" else None
    check(
        peepholes is None or (isinstance(peepholes, np.ndarray) and not peepholes.any()),
        f"has peepholes (P) in {node.described}, which l0gate's LSTM lacks",
    )


def _layer(node: Node) -> tuple[Recurrent, str]:
    cell, given = CELLS[node.operator], node.attributes
    direction = given.get("direction", "forward")
    check(
        direction in ("forward", "reverse", "bidirectional"),
        f"has direction {str(direction)[:40]!r} in {node.described}",
    )
    check(not given.get("clip"), f"clips its gates in {node.described}; l0gate's cells never do")
    check(
        not given.get("input_forget"),
        f"couples input and forget gates in {node.described}, which l0gate's LSTM does not",
    )
    count = 2 if direction == "bidirectional" else 1
    ends = _directions(node, cell, count)
    operators = given.get("activations") or _DEFAULTS[cell] * count
    check(
        isinstance(operators, list) and len(operators) == count * len(_DEFAULTS[cell]),
        f"has the wrong number of activations in {node.described}",
    )
    try:
        names = cell_names(
            operators, given.get("activation_alpha") or [], given.get("activation_beta") or []
        )
    except L0GateError as error:
        raise L0GateError(f"has {node.described}, which {error}") from None
    own = names[: len(names) // count]
    fits = names == own * count and (cell != "lstm" or own[1] == own[2])
    check(
        fits,
        f"has different activations in the parts of {node.described}; l0gate has one for candidate"
        " and output, and one for all gates",
    )
    gates = own[0] if cell != "rnn" else "sigmoid"
    return (
        Recurrent(
            _name(node, cell),
            cell,
            ends,
            cell != "gru" or bool(given.get("linear_before_reset", 0)),
            own[-1],
            gates,
        ),
        direction,
    )


def _name(node: Node, cell: str) -> str:
    if node.verbatim and node.name:
        return node.scope
    scope = node.scope or cell
    number = node.notes.get(f"layers of {scope}", 0)
    node.notes[f"layers of {scope}"] = number + 1
    return f"{scope}_l{number}"


def _directions(node: Node, cell: str, count: int) -> tuple[Direction, ...]:
    arrays: dict[str, np.ndarray] = {}
    for place, key in ((1, "W"), (2, "R"), (3, "B")):
        value = node.input(place)
        if value is None and key == "B":
            continue
        if not isinstance(value, np.ndarray):
            name = node.input_names[place] if place < len(node.input_names) else key
            why = f": the file {value.why}" if isinstance(value, Unknown) else ""
            raise L0GateError(
                f"has {node.described} whose {key} ({name[:60]!r}) is no constant{why}; give the"
                " arrays of inputs with `constants`"
            )
        arrays[key] = exact_float32(value, f"{key} of {node.described}")
    W, R, B = arrays["W"], arrays["R"], arrays.get("B")
    rows = len(_blocks(cell)) * (R.shape[2] if R.ndim == 3 else 0)
    fits = W.ndim == R.ndim == 3 and W.shape[:2] == R.shape[:2] == (count, rows) and rows > 0
    fits = fits and (B is None or B.shape == (count, 2 * rows))
    fits = fits and node.attributes.get("hidden_size", R.shape[-1]) == R.shape[-1]
    shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
    check(fits, f"has {node.described} with arrays that do not fit: {shapes}")
    found = []
    for k in range(count):
        biases = () if B is None else np.split(B[k], 2)
        found.append(Direction(*(from_onnx(cell, a) for a in (W[k], R[k], *biases))))
    return tuple(found)


def _blocks(cell: str) -> range:
    return range(BLOCKS[cell])


def paired(node: Node, first: Stream, second: Stream) -> Value:
    """A Concat of a layer and of one in the other direction: a layer of two directions."""
    a, b = first.layers[-1], second.layers[-1]
    if (
        isinstance(a, Recurrent)
        and isinstance(b, Reversed)
        and len(a.directions) == 1
        and first.layers[:-1] == second.layers[:-1]
        and first.axes == second.axes
        and _kind(a) == _kind(b.layer)
        and first.width is not None
        and second.width is not None
    ):
        both = replace(a, directions=(*a.directions, *b.layer.directions))
        width = first.width + second.width
        return replace(first, layers=(*first.layers[:-1], both), width=width)
    return Unknown(
        f"joins values in {node.described}; l0gate reads the two directions of a layer joined, and"
        " nothing else"
    )


def _kind(layer: Recurrent) -> Mapping[str, object]:
    bias = layer.directions[0].bias_ih is not None
    own = {key: value for key, value in vars(layer).items() if key not in ("name", "directions")}
    return {**own, "bias": bias}
