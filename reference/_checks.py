"""Checks of the arguments of a net: parameters, inputs, states, lengths, gates, sizes.

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
    """Check names, dtypes and shapes of the parameters.

    Returns their common dtype and the size of every axis by name, such as {"x": 3, "h0": 8}.
    """
    if not isinstance(parameters, Mapping):
        raise L0GateError(f"`parameters` is {_kind(parameters)}; it must map names to arrays")
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
    axis_sizes: dict[str, int] = {}
    check_widths(chain, parameters)
    for layer in chain:
        for axis in layer.reads:  # an earlier layer has set its hidden sizes already
            axis_sizes.setdefault(axis, parameters[layer.names[0]].shape[1])
        for end in layer.directions:
            axis_sizes[end.axes[0]] = parameters[end.weight_hh].shape[1]
    return (parameters[names[0]].dtype if names else np.dtype(np.float64)), axis_sizes


def check_widths(chain: Sequence[Layer], parameters: Parameters) -> list[int | None]:
    """Check the shapes of all parameters; returns the number of features of every output.

    Outputs are numbered as in `Layer.sources`. A number is None where any number fits.
    """
    widths = [None if reads_tokens(chain) else input_size_of(chain, parameters)]
    for layer in chain:
        read = [widths[source] for source in layer.sources]
        widths.append(layer.check(parameters, read if layer.joins else read[0]))
    return widths


def check_dtype(what: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is neither float32 nor float64."""
    if dtype not in _FLOATS:
        raise _wrong_dtype(what, dtype)


def _wrong_dtype(what: str, dtype: np.dtype[Any]) -> L0GateError:
    return L0GateError(f"{what} has dtype {dtype}; expected float32 or float64")


def input_size_of(chain: Sequence[Layer], parameters: Parameters) -> int | None:
    """The vocabulary size if the net begins with an embedding, else the number of input features.

    None if no layer with parameters reads the input: then any number of features fits.
    """
    same = {0}  # outputs with the features of the input
    for number, layer in enumerate(chain, start=1):
        if not layer.joins and layer.sources[0] in same:
            size = layer.input_size(parameters)
            if size is not None:
                return size
            same.add(number)
    return None


def reads_tokens(chain: Sequence[Layer]) -> bool:
    """Whether the net begins with an embedding, so that it reads integer tokens."""
    return isinstance(chain[0], Embedding)


def check_sequence(
    x: Array, tokens: bool, size: int | None, dtype: np.dtype[Any], batch_first: bool
) -> Array:
    """Check the input of `Net.apply` and return it time first.

    The result is tokens (T, B), or features (T, B, size) of `dtype`. With `batch_first`, x is
    (B, T) or (B, T, size).
    """
    if x.ndim != 3 - tokens:
        expected = ("B, T" if batch_first else "T, B") + ("" if tokens else ", features")
        raise L0GateError(f"`x` has shape {x.shape}; expected ({expected})")
    x = check_input(x, tokens, size, dtype)
    return np.swapaxes(x, 0, 1) if batch_first else x


def check_input(x: Array, tokens: bool, size: int | None, dtype: np.dtype[Any]) -> Array:
    """Check tokens (...) in 0..size-1, or features (..., size), which are cast to `dtype`.

    If `size` is None, there may be any number of features.
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
    assert size is not None  # a net with an embedding has a vocabulary size
    if x.size and not (x.min() >= 0 and x.max() < size):
        token = x[(x < 0) | (x >= size)].flat[0]
        raise L0GateError(f"`x` contains the token {token}; allowed: 0..{size - 1}")
    return x


def check_state(
    state: Any,
    chain: Sequence[Layer],
    parameters: Parameters,
    batch: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str = "state",
) -> RecurrentState:
    """Check the state and return it as a tuple, one entry per recurrent layer and direction.

    An entry is a pair (h, c) for an LSTM, else h; each array has the shape (*batch, H). A causal
    convolution has an entry too, its last inputs. `batch` is (B,), or () for one sequence without
    a batch dimension. If `state` is None, the result is zeros. `name` is the argument's name in
    error messages.
    """
    entries = [shapes for layer in chain for shapes in layer.state_shapes(parameters)]
    if state is None:
        return tuple(
            _entry([np.zeros((*batch, *shape), dtype) for shape in shapes]) for shapes in entries
        )
    if not (isinstance(state, (tuple, list)) and len(state) == len(entries)):
        raise L0GateError(
            f"`{name}` is {_kind(state)}; expected a tuple of {len(entries)} entries, "
            "one per recurrent layer and direction"
        )
    return tuple(
        _entry(_check_entry(entry, [(*batch, *s) for s in shapes], dtype, name, index))
        for index, (entry, shapes) in enumerate(zip(state, entries, strict=True))
    )


def _check_entry(
    entry: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], name: str, index: int
) -> list[Array]:
    """Check entry `index` of a state; returns its arrays in a list, [h] or [h, c]."""
    parts = [entry] if len(shapes) == 1 else entry
    if not (isinstance(parts, (tuple, list)) and len(parts) == len(shapes)):
        raise L0GateError(f"`{name}[{index}]` is {_kind(entry)}; expected a pair (h, c)")
    try:
        arrays = [np.asarray(part, dtype) for part in parts]
    except (TypeError, ValueError):
        raise L0GateError(f"`{name}[{index}]` is {_kind(entry)}; expected arrays") from None
    for array, shape in zip(arrays, shapes, strict=True):
        if array.shape != shape:
            raise L0GateError(
                f"`{name}[{index}]` has an array of shape {array.shape}; expected {shape}"
            )
    return arrays


def _entry(parts: Sequence[Array]) -> Any:
    """The entry of a state that consists of [h] or [h, c]: h, or the pair (h, c)."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def check_lengths(given: Any, steps: int, batch: int) -> Array | None:
    """Check `lengths` (B,), the number of steps of each sequence, 0..T; None stays None."""
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


def check_axes(what: str, given: Mapping[str, Any], axis_sizes: Mapping[str, int]) -> None:
    """Check that `given` maps axes of the net to vectors, each of its axis's size.

    `what` is the argument's name in error messages.
    """
    for axis, vector in given.items():
        if axis not in axis_sizes:
            raise L0GateError(
                f"`{what}` names the axis {axis!r}; this net has {', '.join(axis_sizes)}"
            )
        found, shape = np.shape(vector), (axis_sizes[axis],)
        if found != shape:
            raise L0GateError(f"`{what}[{axis!r}]` has shape {found}; expected {shape}")


def check_gates(
    gates: Mapping[str, Any] | None, axis_sizes: Mapping[str, int], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Check the gates, and add ones for all axes that are not named; {} if none are named."""
    if not gates:
        return {}
    check_axes("gates", gates, axis_sizes)
    return {
        axis: np.asarray(gates[axis], dtype) if axis in gates else np.ones(size, dtype)
        for axis, size in axis_sizes.items()
    }


def check_sizes(
    layers: Sequence[Mapping[str, Any]], sizes: Mapping[str, int | Sequence[int]]
) -> dict[str, list[int]]:
    """Check the argument `sizes` of `Net.init`.

    Returns for each layer name a list with one size per layer and direction. A single number is
    repeated for all of them.
    """
    check(isinstance(sizes, Mapping), f"`sizes` is {sizes!r}; it must map layers to sizes")
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
