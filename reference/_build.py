"""From the plain description of a net to its layers, and the checks of what a net is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.layout.stacked import join
from l0gate.reference import _cells
from l0gate.reference._cells import Array
from l0gate.reference._layers import (
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Parameters,
    State,
)
from l0gate.reference._recurrent import GRU, LSTM

ENGINES = ("auto", "numpy", "numba")


def build(layers: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """The layers of a completed description, recurrent stacks taken apart, axes named."""
    chain: list[Layer] = []
    reads: tuple[str, ...] = ()  # axes of the features so far, () where they have no gates
    count = 0
    following = [layer["type"] for layer in layers[1:]] + ["activation"]
    for layer in layers:
        if layer["type"] == "embedding":
            chain.append(Embedding(layer["name"], multiplied=following[0] != "activation"))
        elif layer["type"] == "linear":
            chain.append(Linear(layer["name"], layer["bias"], reads))
            reads = ()
        elif layer["type"] == "activation":
            chain.append(Activation(layer["function"]))
        else:
            for depth in range(layer["num_layers"]):
                reads = reads or ("x" if count == 0 else f"x{count}",)
                directions = _directions(layer, depth, count)
                chain.append(
                    LSTM(layer["name"], directions, reads)
                    if layer["type"] == "lstm"
                    else GRU(layer["name"], directions, reads, layer["reset_after"])
                )
                reads = tuple(axis for direction in directions for axis in direction.axes)
                count += 1
    return tuple(chain)


def _directions(layer: Mapping[str, Any], depth: int, count: int) -> tuple[Direction, ...]:
    def direction(suffix: str, axis: str, reverse: bool) -> Direction:
        def name(kind: str) -> str:
            return join(layer["name"], f"{kind}_l{depth}{suffix}")

        return Direction(
            name("weight_ih"),
            name("weight_hh"),
            name("bias_ih"),
            name("bias_hh"),
            layer["bias"],
            (axis,),
            reverse,
        )

    if not layer["bidirectional"]:
        return (direction("", f"h{count}", reverse=False),)
    return (
        direction("", f"f{count}", reverse=False),
        direction("_reverse", f"b{count}", reverse=True),
    )


@cache
def find_scans(engine: str) -> ModuleType:
    """The module that holds the scans of an engine; "auto" is numba where it is installed."""
    check(engine in ENGINES, f"`engine` is {engine!r}; allowed: {', '.join(ENGINES)}")
    if engine == "numpy":
        return _cells
    try:
        return import_module("l0gate.reference.compiled.scans")
    except ImportError as error:
        if engine == "auto":
            return _cells
        raise L0GateError(
            f"`engine` is 'numba', which needs numba ({error}): pip install 'l0gate[fast]', "
            "or choose 'numpy'"
        ) from error


def set_num_threads(threads: int) -> None:
    """Let compiled nets use up to so many threads, from now on and in the whole process.

    At first it is NUMBA_NUM_THREADS, or the cores there are. Sequences of a batch are shared among
    threads where that pays; one sequence runs on one. Needs numba.

    >>> set_num_threads(2)
    >>> set_num_threads(0)
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `threads` is 0; it must be at least 1
    """
    find_scans("numba").set_num_threads(threads)


def check_parameters(
    chain: Sequence[Layer], parameters: Parameters
) -> tuple[np.dtype[Any], dict[str, int]]:
    """Check names, dtypes and shapes. Returns the common dtype, and the size of every axis."""
    names = [name for layer in chain for name in layer.names]
    for name in names:
        check(name in parameters, f"parameter `{name}` is missing; expected {', '.join(names)}")
        array = parameters[name]
        check(
            isinstance(array, np.ndarray),
            f"parameter `{name}` is a {type(array).__name__}; expected a NumPy array",
        )
        first = parameters[names[0]]
        check(
            float_dtype(f"parameter `{name}`", array.dtype) == first.dtype,
            f"parameter `{name}` is {array.dtype} and `{names[0]}` {first.dtype}; "
            "all parameters must have one dtype",
        )
    axes: dict[str, int] = {}
    width: int | None = None
    for layer in chain:
        width = layer.check(parameters, width)
        for axis in layer.reads:  # the others are hidden neurons of an earlier layer
            axes.setdefault(axis, parameters[layer.names[0]].shape[1])
        for end in layer.directions:
            axes[end.axes[0]] = parameters[end.weight_hh].shape[1]
    return (parameters[names[0]].dtype if names else np.dtype(np.float64)), axes


def float_dtype(what: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    check(
        dtype in (np.float32, np.float64), f"{what} has dtype {dtype}; expected float32 or float64"
    )
    return dtype


def input_size(chain: Sequence[Layer], parameters: Parameters) -> int | None:
    """The vocabulary's size, or the number of features that the net reads."""
    for layer in chain:
        if layer.names:
            vocabulary, features = parameters[layer.names[0]].shape
            return int(vocabulary if isinstance(layer, Embedding) else features)
    return None


def check_input(x: Array, tokens: bool, size: int | None, dtype: np.dtype[Any]) -> Array:
    """The features (..., size) in `dtype`, or the tokens (...); the leading shape is free."""
    if not tokens:
        if x.dtype.kind != "f":
            raise L0GateError(f"`x` has dtype {x.dtype}; a net without an embedding reads floats")
        if size not in (None, x.shape[-1]):
            raise L0GateError(
                f"`x` has shape {x.shape}; its last dimension must be the {size} input features"
            )
        return x if x.dtype == dtype else x.astype(dtype)
    if x.dtype.kind not in "iu":
        raise L0GateError(f"`x` has dtype {x.dtype}; an embedding reads integer tokens")
    assert size is not None  # the vocabulary's
    if x.size and not (x.min() >= 0 and x.max() < size):
        token = x[(x < 0) | (x >= size)].flat[0]
        raise L0GateError(f"`x` contains the token {token}; allowed: 0..{size - 1}")
    return x


def check_state(
    state: Any,
    chain: Sequence[Layer],
    axes: Mapping[str, int],
    batch: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str = "state",
) -> State:
    """The flat state, one entry per layer and direction, of shape (*batch, H); zeros for None."""
    ends = [(layer, end) for layer in chain for end in layer.directions]
    if state is None:
        return tuple(
            _entry([np.zeros((*batch, axes[end.axes[0]]), dtype) for _ in range(layer.states)])
            for layer, end in ends
        )
    if not (isinstance(state, (tuple, list)) and len(state) == len(ends)):
        raise L0GateError(
            f"`{name}` is {_outline(state)}; expected a tuple of {len(ends)} entries, "
            "one per recurrent layer and direction"
        )
    return tuple(
        _entry(_check_entry(entry, layer.states, (*batch, axes[end.axes[0]]), dtype, name, index))
        for index, (entry, (layer, end)) in enumerate(zip(state, ends, strict=True))
    )


def _check_entry(
    entry: Any, count: int, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, index: int
) -> list[Array]:
    parts = [entry] if count == 1 else entry
    if not (isinstance(parts, (tuple, list)) and len(parts) == count):
        raise L0GateError(f"`{name}[{index}]` is {_outline(entry)}; expected a pair (h, c)")
    arrays = [np.asarray(part, dtype) for part in parts]
    for array in arrays:
        if array.shape != shape:
            raise L0GateError(
                f"`{name}[{index}]` has an array of shape {array.shape}; expected {shape}"
            )
    return arrays


def _entry(parts: Sequence[Array]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)


def _outline(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def check_lengths(given: Any, steps: int, batch: int) -> Array | None:
    if given is None:
        return None
    lengths: Array = np.asarray(given)
    check(
        lengths.dtype.kind in "iu" and lengths.shape == (batch,),
        f"`lengths` has dtype {lengths.dtype} and shape {lengths.shape}; "
        f"expected integers of shape {(batch,)}",
    )
    wrong = lengths[(lengths < 0) | (lengths > steps)]
    if wrong.size:
        raise L0GateError(f"`lengths` contains {wrong[0]}; allowed: 0..{steps}")
    return lengths.astype(np.int64)


def check_axes(what: str, given: Mapping[str, Any], axes: Mapping[str, int]) -> None:
    """Check that vectors belong to axes of the net, and have their sizes."""
    for axis, vector in given.items():
        check(axis in axes, f"`{what}` names the axis {axis!r}; this net has {', '.join(axes)}")
        found, shape = np.shape(vector), (axes[axis],)
        check(found == shape, f"`{what}[{axis!r}]` has shape {found}; expected {shape}")


def check_gates(
    gates: Mapping[str, Any] | None, axes: Mapping[str, int], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """The gates of all axes, 1 where none are given; none at all if `gates` is empty."""
    if not gates:
        return {}
    check_axes("gates", gates, axes)
    return {
        axis: np.asarray(gates[axis], dtype) if axis in gates else np.ones(size, dtype)
        for axis, size in axes.items()
    }


def check_sizes(
    layers: Sequence[Mapping[str, Any]], sizes: Mapping[str, int | Sequence[int]]
) -> dict[str, list[int]]:
    """By layer name, one size per layer and direction."""
    expected: dict[str, list[int]] = {}
    for layer in layers:
        if "name" not in layer:
            continue
        name = layer["name"]
        check(name in sizes, f"`sizes` lacks the layer {name!r}")
        count = layer.get("num_layers", 1) * (1 + layer.get("bidirectional", False))
        given = np.asarray(sizes[name])
        check(
            given.dtype.kind in "iu" and given.shape in ((), (count,)) and (given >= 1).all(),
            f"`sizes[{name!r}]` is {sizes[name]!r}; expected a positive integer"
            + (f" or {count} of them" if count > 1 else ""),
        )
        expected[name] = np.broadcast_to(given, (count,)).tolist()
    unknown = sorted(set(sizes) - set(expected))
    check(not unknown, f"`sizes` names {unknown}; this net has the layers {', '.join(expected)}")
    return expected
