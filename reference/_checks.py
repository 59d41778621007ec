"""Checks of what a net is given: parameters, inputs, states, lengths, gates, sizes.

They run in every call, so most of them format their message only when they fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.reference._layers import Embedding, Layer, Parameters, RecurrentState
from l0gate.reference._scan import Array

_FLOATS = np.dtype(np.float32), np.dtype(np.float64)


def check_parameters(
    chain: Sequence[Layer], parameters: Parameters
) -> tuple[np.dtype[Any], dict[str, int]]:
    """Check names, dtypes and shapes. Returns the common dtype, and the size of every axis."""
    names = [name for layer in chain for name in layer.names]
    for name in names:
        if name not in parameters:
            raise L0GateError(f"parameter `{name}` is missing; expected {', '.join(names)}")
        array, first = parameters[name], parameters[names[0]]
        if not isinstance(array, np.ndarray):
            raise L0GateError(
                f"parameter `{name}` is a {type(array).__name__}; expected a NumPy array"
            )
        if array.dtype not in _FLOATS:
            raise _wrong_dtype(f"parameter `{name}`", array.dtype)
        if array.dtype != first.dtype:
            raise L0GateError(
                f"parameter `{name}` is {array.dtype} and `{names[0]}` {first.dtype}; "
                "all parameters must have one dtype"
            )
    axes: dict[str, int] = {}
    width: int | None = None
    for layer in chain:
        width = layer.check(parameters, width)
        for axis in layer.reads:  # hidden neurons of an earlier layer have their size already
            axes.setdefault(axis, parameters[layer.names[0]].shape[1])
        for end in layer.directions:
            axes[end.axes[0]] = parameters[end.weight_hh].shape[1]
    return (parameters[names[0]].dtype if names else np.dtype(np.float64)), axes


def check_dtype(what: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is neither float32 nor float64."""
    if dtype not in _FLOATS:
        raise _wrong_dtype(what, dtype)


def _wrong_dtype(what: str, dtype: np.dtype[Any]) -> L0GateError:
    return L0GateError(f"{what} has dtype {dtype}; expected float32 or float64")


def input_size_of(chain: Sequence[Layer], parameters: Parameters) -> int | None:
    """The size of the vocabulary, or the number of input features; None if any number fits."""
    for layer in chain:
        if layer.names:
            vocabulary, features = parameters[layer.names[0]].shape
            return int(vocabulary if isinstance(layer, Embedding) else features)
    return None


def reads_tokens(chain: Sequence[Layer]) -> bool:
    """Whether the net begins with an embedding, so that its input are integer tokens."""
    return isinstance(chain[0], Embedding)


def check_sequence(
    x: Array, tokens: bool, size: int | None, dtype: np.dtype[Any], batch_first: bool
) -> Array:
    """The input of sequences, time first: tokens (T, B), or features (T, B, size) in `dtype`."""
    if x.ndim != 3 - tokens:
        expected = ("B, T" if batch_first else "T, B") + ("" if tokens else ", features")
        raise L0GateError(f"`x` has shape {x.shape}; expected ({expected})")
    x = check_input(x, tokens, size, dtype)
    return np.swapaxes(x, 0, 1) if batch_first else x


def check_input(x: Array, tokens: bool, size: int | None, dtype: np.dtype[Any]) -> Array:
    """Tokens (...) below `size`, or features (..., size) in `dtype`; the other dimensions are free.

    A `size` of None fits any number of features.
    """
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
) -> RecurrentState:
    """The state as a tuple, one entry per recurrent layer and direction, of shape (*batch, H).

    None stands for zeros. `batch` is (B,), or () for a sequence without a batch dimension.
    """
    ends = [(layer, end) for layer in chain for end in layer.directions]
    if state is None:
        return tuple(
            _entry([np.zeros((*batch, axes[end.axes[0]]), dtype) for _ in range(layer.states)])
            for layer, end in ends
        )
    if not (isinstance(state, (tuple, list)) and len(state) == len(ends)):
        raise L0GateError(
            f"`{name}` is {_kind(state)}; expected a tuple of {len(ends)} entries, "
            "one per recurrent layer and direction"
        )
    return tuple(
        _entry(_check_entry(entry, layer.states, (*batch, axes[end.axes[0]]), dtype, name, index))
        for index, (entry, (layer, end)) in enumerate(zip(state, ends, strict=True))
    )


def _check_entry(
    entry: Any, count: int, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, index: int
) -> list[Array]:
    """The `count` arrays of one entry of a state."""
    parts = [entry] if count == 1 else entry
    if not (isinstance(parts, (tuple, list)) and len(parts) == count):
        raise L0GateError(f"`{name}[{index}]` is {_kind(entry)}; expected a pair (h, c)")
    arrays = [np.asarray(part, dtype) for part in parts]
    for array in arrays:
        if array.shape != shape:
            raise L0GateError(
                f"`{name}[{index}]` has an array of shape {array.shape}; expected {shape}"
            )
    return arrays


def _entry(parts: Sequence[Array]) -> Any:
    """h for one array, (h, c) for two."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def check_lengths(given: Any, steps: int, batch: int) -> Array | None:
    """The sequences' numbers of steps (B,), each 0..T; None if none are given."""
    if given is None:
        return None
    lengths: Array = np.asarray(given)
    if not (lengths.dtype.kind in "iu" and lengths.shape == (batch,)):
        raise L0GateError(
            f"`lengths` has dtype {lengths.dtype} and shape {lengths.shape}; "
            f"expected integers of shape {(batch,)}"
        )
    wrong = lengths[(lengths < 0) | (lengths > steps)]
    if wrong.size:
        raise L0GateError(f"`lengths` contains {wrong[0]}; allowed: 0..{steps}")
    return lengths.astype(np.int64)


def check_axes(what: str, given: Mapping[str, Any], axes: Mapping[str, int]) -> None:
    """Check that the vectors are named after axes of the net and have their sizes."""
    for axis, vector in given.items():
        if axis not in axes:
            raise L0GateError(f"`{what}` names the axis {axis!r}; this net has {', '.join(axes)}")
        found, shape = np.shape(vector), (axes[axis],)
        if found != shape:
            raise L0GateError(f"`{what}[{axis!r}]` has shape {found}; expected {shape}")


def check_gates(
    gates: Mapping[str, Any] | None, axes: Mapping[str, int], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """The gates of all axes, ones for axes that are not named; {} if no gates are given."""
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
    """The sizes by layer name, one per layer and direction, each written out."""
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
