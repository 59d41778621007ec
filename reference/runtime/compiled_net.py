"""`CompiledNet`: runs a net through `compiled/`, with conversions between arrays and states.

A step of a small net takes a few microseconds, so that every check in Python counts. So there are
two versions of each call. `__call__` and `step` take any arguments that have been checked.
The functions that `next_call`, `next_step` and `in_place` make are faster, but take only the most
common arguments; for others they return None, and the caller uses the general version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from l0gate.reference._layers import (
    Activation,
    Embedding,
    Layer,
    Linear,
    Parameters,
    RecurrentState,
)
from l0gate.reference._recurrent import GRU, gru_bias, summed_bias
from l0gate.reference._scan import Array

_Entries = Callable[[Array], Iterable[Any]]  # takes the array of a state, returns its entries


class FlatState(tuple[Any, ...]):
    """A state that a compiled net returned: its entries are views of one array.

    Every compiled net makes subclasses of its own, one per batch size. So the type of a state shows
    whether it fits the net and the batch size. A copy of a state is a plain tuple; so is what the
    constructor of such a class returns.
    """

    net: ClassVar[CompiledNet]
    batch: ClassVar[int | None]  # None for a sequence without a batch dimension

    def __new__(cls, entries: Iterable[Any] = ()) -> Any:
        return tuple(entries)

    @property
    def flat(self) -> Array:
        """The array (1-d) that holds all entries, from its beginning."""
        h: Any = self[0] if isinstance(self[0], np.ndarray) else self[0][0]
        array: Array = h.base
        return array

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class CompiledNet:
    """Runs a sequence or a step of a net as one compiled call, from parameters that it packs.

    `program` is the class `Program`. Rows of an embedding are looked up here, in NumPy.
    """

    def __init__(
        self, chain: Sequence[Layer], parameters: Parameters, program: Any, exact: bool
    ) -> None:
        tokens = isinstance(chain[0], Embedding)
        layers = [_directions(layer, parameters) for layer in chain[tokens:]]
        self._rows = np.ascontiguousarray(parameters[chain[0].names[0]]) if tokens else None
        self._program = program(layers, exact)
        self._pairs = [layer.states == 2 for layer in chain for _ in layer.directions]
        self._kinds: dict[int | None, tuple[type[FlatState], _Entries]] = {}
        self._zeros = np.zeros(0, self._program.dtype)

    def __call__(
        self, x: Array, state: RecurrentState | None, lengths: Array | None
    ) -> tuple[Array, FlatState]:
        """Run tokens (T, B) or features (T, B, I); returns y (T, B, O) and the new state."""
        if self._rows is not None:
            x = self._rows.take(x, axis=0)
        batch = x.shape[1]
        flat = self._flat(state, batch)
        try:
            y, out = self._program(x, flat, lengths)
        except TypeError:  # not aligned, or not in C order
            y, out = self._program(np.array(x, order="C"), flat, lengths)
        return y, self.state(out, batch)

    def step(self, x: Array, state: RecurrentState | None) -> tuple[Array, FlatState]:
        """Run one step of a token () or features (I,), or of a batch of them, (B,) or (B, I)."""
        if x.ndim == (self._rows is None) + 1:
            y, new_state = self(x[None], state, None)
            return y[0], new_state
        if self._rows is not None:
            x = self._rows[x]
        flat = self._flat(state, 1)
        try:
            out = self._program.step(x, flat)
        except TypeError:
            out = self._program.step(np.array(x, order="C"), flat)
        return out[self._program.state_size :], self.state(out, None)

    def next_call(self) -> Callable[[Any, Any], tuple[Array, RecurrentState] | None]:
        """A function of (x, state) that runs a short sequence with few checks.

        x must be features (T, B, I) of the net's dtype in C order, and the state None or one that
        this net returned for the same batch size. Otherwise, and for long sequences, the function
        does nothing and returns None. Attributes are looked up here once, not in every call.
        """
        program, kinds = self._program, self._kinds
        if self._rows is not None or not self._pairs:
            return lambda x, state: None
        run, address, below = program.bare_call()
        dtype = np.dtype(program.dtype.type)  # the one object that arrays hold, for `is`
        inputs, outputs, size = program.input_size, program.output_size, program.state_size
        ndarray, empty, make, flat_of = np.ndarray, np.empty, tuple.__new__, self._flat

        def call(x: Any, state: Any) -> tuple[Array, RecurrentState] | None:
            if type(x) is not ndarray or x.dtype is not dtype or x.ndim != 3:
                return None
            T, B, features = x.shape
            if features != inputs or below <= T * B:
                return None
            kind, entries = kinds.get(B) or self.kind(B)
            if state is not None and type(state) is not kind:
                return None
            y, out = empty((T, B, outputs), dtype), empty(B * size, dtype)
            if not run(0, B, T, B, address, 0, x, flat_of(state, B), out, y):
                return None
            return y, make(kind, entries(out))

        return call

    def next_step(self) -> Callable[[Any, Any], tuple[Array, RecurrentState] | None]:
        """A function of (x_t, state) that runs a step of one sequence with few checks.

        x_t must be a token, or features (I,) of the net's dtype, and the state one that this net
        returned for a step of one sequence. Otherwise the function does nothing and returns None.
        """
        program, rows = self._program, self._rows
        if not self._pairs:
            return lambda x_t, state: None
        kind, entries = self.kind(None)
        (run, split, address), size = program.bare_step(), program.step_size
        dtype = np.dtype(program.dtype.type)
        shape, y = (program.input_size,), slice(program.state_size, None)
        tokens = 0 if rows is None else len(rows)
        ndarray, empty, make = np.ndarray, np.empty, tuple.__new__
        integers = (int, np.int64)

        def step(x_t: Any, state: Any) -> tuple[Array, RecurrentState] | None:
            if type(state) is not kind:
                return None
            if rows is not None:
                if type(x_t) not in integers or not 0 <= x_t < tokens:
                    return None
                x_t = rows[x_t]
            elif type(x_t) is not ndarray or x_t.dtype is not dtype or x_t.shape != shape:
                return None
            out, first = empty(size, dtype), state[0]
            if not run(
                split, address, x_t, (first if type(first) is ndarray else first[0]).base, out
            ):
                return None
            return out[y], make(kind, entries(out))

        return step

    def in_place(
        self, state: RecurrentState | None, kept: tuple[Array, int] | None
    ) -> tuple[Array, Callable[[Any], Array | None], Callable[[Array], Array]]:
        """A workspace that holds the state of one sequence, and two functions that run a step.

        Both take x_t, update the state in the workspace and return y_t. The first takes an x_t as
        in `next_step`; for any other it does nothing and returns None. The second takes any token
        () or features (I,) that have been checked. `kept` is for the first function of a pruned
        net: the indices of the kept features, and the number of features of the dense model. The
        first function then takes all of these.
        """
        program, rows = self._program, self._rows
        size, dtype = program.state_size, np.dtype(program.dtype.type)
        workspace = np.zeros(program.workspace_size, dtype)
        workspace[:size] = self._flat(state, 1)[:size]
        run, where, held = program.bare_in_place(workspace)
        y_t = workspace[size : program.step_size]
        index, features = kept or (None, 0)
        tokens = 0 if rows is None else len(rows)
        ndarray, integers = np.ndarray, (int, np.int64)
        copy: Callable[[], Array] = y_t.copy

        # `_held` keeps the memory alive whose addresses are in `where`.
        def step(x_t: Any, _held: Any = held) -> Array | None:
            if rows is not None:
                if type(x_t) not in integers or not 0 <= x_t < tokens:
                    return None
                x_t = rows[x_t]
            elif type(x_t) is not ndarray or x_t.dtype is not dtype or x_t.ndim != 1:
                return None
            elif index is not None:
                if len(x_t) != features:
                    return None
                x_t = x_t.take(index)
            return copy() if run(where, x_t) else None

        def checked_step(x: Array, _held: Any = held) -> Array:
            done = run(where, np.array(x if rows is None else rows[x], order="C"))
            assert done
            return copy()

        return workspace, step, checked_step

    def state_of(self, workspace: Array) -> FlatState:
        """A copy of the state in a workspace of `in_place`."""
        return self.state(workspace[: self._program.state_size].copy(), None)

    def _flat(self, state: RecurrentState | None, batch: int) -> Array:
        """All arrays of a state in one array (1-d), as the program takes them."""
        if isinstance(state, FlatState) and state:
            return state.flat
        if state is None:
            zeros, size = self._zeros, batch * self._program.state_size
            if len(zeros) != size:
                self._zeros = zeros = np.zeros(size, self._program.dtype)
            return zeros
        arrays: list[Array] = []
        for entry, pair in zip(state, self._pairs, strict=True):
            arrays += entry if pair else [entry]
        return np.concatenate([array.ravel() for array in arrays]) if arrays else self._zeros[:0]

    def state(self, out: Array, batch: int | None) -> FlatState:
        """The state that a program's result begins with; `batch` as in `FlatState`."""
        kind, entries = self.kind(batch)
        return tuple.__new__(kind, entries(out))

    def kind(self, batch: int | None) -> tuple[type[FlatState], _Entries]:
        """The class of states of a batch size, and the function that finds their entries."""
        found = self._kinds.get(batch)
        if found is None:
            kind = type("FlatState", (FlatState,), {"net": self, "batch": batch})
            found = self._kinds[batch] = kind, self._entries(batch)
        return found

    def _entries(self, batch: int | None) -> _Entries:
        """The function that takes the entries of a state from a program's result."""
        takers: list[Callable[[Array], Any]] = []
        start, sizes = 0, iter(self._program.state_sizes)
        for pair in self._pairs:
            shape = (next(sizes),) if batch is None else (batch, next(sizes))
            if pair:
                next(sizes)
            takers.append(_taker(start, shape, pair))
            start += math.prod(shape) * (2 if pair else 1)
        if len(takers) == 1:
            (take,) = takers
            return lambda out: (take(out),)
        return lambda out: [take(out) for take in takers]


def _taker(start: int, shape: tuple[int, ...], pair: bool) -> Callable[[Array], Any]:
    """A function that takes h, or the pair (h, c), from a program's result (1-d).

    h begins at position `start`, and c follows it. Each has the given shape.
    """
    size = math.prod(shape)
    h, c = slice(start, start + size), slice(start + size, start + 2 * size)
    if len(shape) == 1:
        return itemgetter(h, c) if pair else itemgetter(h)
    if not pair:
        return lambda out: out[h].reshape(shape)
    both, shapes, each = slice(start, start + 2 * size), (2, *shape), itemgetter(0, 1)
    return lambda out: each(out[both].reshape(shapes))


def _directions(layer: Layer, parameters: Parameters) -> list[tuple[Any, ...]]:
    """The directions of a layer as `Program` takes them."""
    if isinstance(layer, Activation):
        return [(layer.function, False)]
    if isinstance(layer, Linear):
        return [("linear", False, *layer.weight_and_bias(parameters))]
    ends: list[tuple[Any, ...]] = []
    for end in layer.directions:
        weights = end.reverse, parameters[end.weight_ih], parameters[end.weight_hh]
        if isinstance(layer, GRU):
            biases = gru_bias(parameters, end, layer.reset_after)
            ends.append(("gru", *weights, *biases, layer.reset_after))
        else:
            ends.append(("lstm", *weights, summed_bias(parameters, end)))
    return ends
