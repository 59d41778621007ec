"""`StreamingNet`: a net bound to its parameters, to run on sequences or one step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.reference._checks import (
    check_input,
    check_lengths,
    check_parameters,
    check_sequence,
    check_state,
    input_size_of,
    reads_tokens,
)
from l0gate.reference._engine import find_engine
from l0gate.reference._forward_only import reads_by_position
from l0gate.reference._layers import Layer, Parameters, Pass, RecurrentState, run_chain
from l0gate.reference._scan import Array
from l0gate.reference.runtime.compiled_net import CompiledNet, FlatState
from l0gate.reference.runtime.numpy_step import Step, numpy_step
from l0gate.reference.runtime.stream import Stream


class Description(Protocol):
    """The parts of a `Net` that a bound net uses."""

    layers: list[dict[str, Any]]
    chain: tuple[Layer, ...]
    batch_first: bool

    @property
    def parameter_names(self) -> tuple[str, ...]: ...


_PACKING = threading.RLock()


class StreamingNet:
    """What `Net.bind` returns: `net(x, state)` runs a sequence, `net.step(x_t, state)` one step.

    `net.stream()` returns an object that keeps the state itself. Parameters are packed on first
    use, so they must not be modified after that.

    >>> from l0gate.reference import Net
    >>> net = Net([{"type": "embedding", "name": "embedding"}, {"type": "lstm", "name": "rnn"}])
    >>> sizes = {"embedding": 4, "rnn": 6}
    >>> small = net.bind(net.init(np.random.default_rng(0), input_size=10, sizes=sizes))
    >>> y, _ = small(np.array([[3], [1]]))
    >>> y_0, state = small.step(3)
    >>> y_1, state = small.step(1, state)
    >>> y.shape, y_1.shape, np.allclose(y[1, 0], y_1)
    ((2, 1, 6), (6,), True)
    """

    saved: Any = None  # the `SavedModel` that the net was loaded from

    def __init__(
        self,
        net: Description,
        parameters: Parameters,
        input_kept: tuple[Any, int] | None = None,
        kept: Sequence[tuple[Any, int]] | None = None,
        engine: str = "auto",
        exact: bool = False,
    ) -> None:
        if (
            not isinstance(engine, str) or engine != "auto"
        ):  # for "auto", numba is imported on first use
            find_engine(engine)
        self._chain = net.chain
        self._dtype, self._axis_sizes = check_parameters(self._chain, parameters)
        self.net = net
        self.parameters = {name: parameters[name] for name in net.parameter_names}
        self.engine, self.exact = engine, exact
        self._tokens = reads_tokens(self._chain)
        self._input_size = input_size_of(self._chain, self.parameters)
        self.input_kept = self._check_input_kept(input_kept)
        self.kept = self._check_kept(kept)

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.net, self.parameters, self.input_kept, self.kept, self.engine, self.exact
        return type(self), given, {"saved": self.saved}  # packed parameters are not copied

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The description of the net, as `Net.layers`."""
        return self.net.layers

    def to_torch(self) -> Any:
        """A torch module that computes the same, to train, gate and shrink: `y, states = model(x)`.

        For a net that `l0gate.load` or `l0gate.import_` returned. Raises `L0GateError` for layers
        that torch has no module for.
        """
        check(
            self.saved is not None,
            "the net was bound by hand; save it with `l0gate.save`, and load it",
        )
        return self.saved.to_torch()

    def __repr__(self) -> str:
        return f"StreamingNet({self.layers}, batch_first={self.net.batch_first})"

    def __call__(
        self, x: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Array, RecurrentState]:
        """Run sequences, as `Net.apply`; `Net.bind` says which sizes a pruned net takes."""
        done = self._usual_call(x, state) if lengths is None else None
        if done is not None:
            return done
        x = self._reduce_input(np.asarray(x))
        batch_first = self.net.batch_first
        x = check_sequence(x, self._tokens, self._input_size, self._dtype, batch_first)
        state = self._check_state(state, x.shape[1:2])
        lengths = check_lengths(lengths, *x.shape[:2])
        if lengths is not None:
            self._check_convolutions("`lengths` need")
        if self._compiled is None:
            y, new_state, _ = run_chain(self._chain, replace(self._pass, lengths=lengths), x, state)
        else:
            y, new_state = self._compiled(x, state, lengths)
        if batch_first:
            swapped = [np.swapaxes(part, 0, 1) for part in (y if isinstance(y, tuple) else (y,))]
            y = tuple(swapped) if isinstance(y, tuple) else swapped[0]
        return y, new_state

    def step(self, x_t: Any, state: Any = None) -> tuple[Array, RecurrentState]:
        """Run one time step.

        Returns y_t and the new state. For one sequence, x_t is a token or features (I,), y_t is
        (O,), and the arrays of the state are (H,). For a batch, x_t is tokens (B,) or features
        (B, I), y_t is (B, O), and the arrays of the state are (B, H). Later steps do not modify a
        returned state, so a sequence can be continued from any earlier state. The first call packs
        the parameters. With numba it also compiles the step, once per installation.
        """
        done = self._usual_step(x_t, state)
        if done is not None:
            return done
        x, batch = self._check_step(x_t)
        return self._step(x, self._check_state(state, batch))

    def _check_step(self, x_t: Any) -> tuple[Array, tuple[int, ...]]:
        """Check x_t, the input of one step. Returns its kept features, and its batch shape.

        The batch shape is (B,), or () for one sequence without a batch dimension.
        """
        x = np.asarray(x_t)
        features = 0 if self._tokens else 1
        if x.ndim not in (features, features + 1):
            expected = "a token or (B,)" if self._tokens else "(features,) or (B, features)"
            raise L0GateError(f"`x_t` has shape {x.shape}; expected {expected}")
        batch = x.shape[: x.ndim - features]
        x = self._reduce_input(x)
        return check_input(x, self._tokens, self._input_size, self._dtype), batch

    def stream(self, state: Any = None) -> Stream:
        """An object that keeps the state: `stream.step(x_t)` takes x_t and returns y_t.

        It begins with `state`, or with zeros. A compiled stream updates its state in place. In
        small nets a step then takes some 40% less time than one that makes new arrays.
        """
        return Stream(self, state)

    @cached_property
    def _compiled(self) -> CompiledNet | None:
        """The net compiled, with its parameters packed; None if it runs in NumPy."""
        with _PACKING:  # threads that begin at the same time must get the same object
            if "_compiled" not in self.__dict__:
                self.__dict__["_compiled"] = self._compile()
            found: CompiledNet | None = self.__dict__["_compiled"]
            return found

    def _compile(self) -> CompiledNet | None:
        program = find_engine(self.engine).program
        # A program needs at least one matrix. Layers that only run forward are left to NumPy.
        if program is None or not any(layer.names for layer in self._chain[self._tokens :]):
            return None
        if not all(one.trains and one.sources == (n,) for n, one in enumerate(self._chain)):
            return None
        return CompiledNet(self._chain, self.parameters, program, self.exact)

    def _is_own(self, state: Any, batch: int | None) -> bool:
        """Whether this compiled net returned the state, for this batch size (None: no batch)."""
        own = isinstance(state, FlatState) and state.net is self._compiled
        return own and state.batch == batch

    @cached_property
    def _usual_call(self) -> Callable[[Any, Any], tuple[Array, RecurrentState] | None]:
        """The fast path of a call, see `CompiledNet.next_call`."""
        if self.input_kept is not None or self._compiled is None or self.net.batch_first:
            return lambda x, state: None
        return self._compiled.next_call()

    @cached_property
    def _usual_step(self) -> Callable[[Any, Any], tuple[Array, RecurrentState] | None]:
        """The fast path of `step`, see `CompiledNet.next_step`."""
        if self.input_kept is not None or self._compiled is None:
            return lambda x_t, state: None
        return self._compiled.next_step()

    @cached_property
    def _step(self) -> Step:
        """The function that runs a step of the whole net, for arguments that have been checked."""
        self._check_directions()
        if self._compiled is not None:
            return self._compiled.step
        return numpy_step(self._chain, self.parameters)

    @cached_property
    def _pass(self) -> Pass:
        """The `Pass` for sequences that run layer by layer."""
        engine = find_engine(self.engine)
        return Pass(self.parameters, self._dtype, self._axis_sizes, engine, keep=False)

    def _check_directions(self) -> None:
        for layer in self._chain:
            check(
                len(layer.directions) < 2,
                "`step` needs layers of one direction; a reverse layer reads the future",
            )
        self._check_convolutions("`step` needs")

    def _check_convolutions(self, what: str) -> None:
        for layer in self._chain:
            check(
                layer.causal or bool(layer.directions),
                f"{what} convolutions with padding 'causal' and stride 1; {layer.where} runs whole"
                " sequences only",
            )

    def _check_batch_and_state(self, state: Any) -> tuple[tuple[int, ...], Any]:
        """Check a state. Returns its batch, (B,) or (), and the state as `_check_state` does."""
        first = state
        while isinstance(first, (tuple, list)) and first:
            first = first[0]
        shape = np.shape(first)
        batch = shape[:1] if len(shape) == 2 else ()
        return batch, self._check_state(state, batch)

    def _check_state(self, state: Any, batch: tuple[int, ...]) -> Any:
        """Check a state and return it without pruned neurons.

        With a compiled net, None and states that it returned itself are passed on as they are.
        """
        if self._compiled is not None and (
            state is None or self._is_own(state, batch[0] if batch else None)
        ):
            return state
        state = self._reduce_state(state)
        return check_state(state, self._chain, self.parameters, batch, self._dtype)

    def _check_input_kept(self, given: Any) -> tuple[Array, int] | None:
        if given is None:
            return None
        check(not self._tokens, "`input_kept` is given, but the net reads tokens, not features")
        index, dense = _check_pair("input_kept", given, self._input_size)
        if len(index) == dense:
            return None  # all were kept
        for layer in self._chain:
            check(
                0 not in layer.sources or not reads_by_position(layer),
                f"`input_kept` leaves out features of the input, which {layer.where} reads",
            )
        return index, dense

    def _check_kept(self, kept: Any) -> list[tuple[Array, int]] | None:
        if kept is None:
            return None
        sizes = [self._axis_sizes[end.axes[0]] for layer in self._chain for end in layer.directions]
        if not isinstance(kept, (list, tuple)):
            raise L0GateError(f"`kept` is a {type(kept).__name__}; it must be a list of pairs")
        if len(kept) != len(sizes):
            raise L0GateError(
                f"`kept` has {len(kept)} entries; expected {len(sizes)}, "
                "one per layer and direction"
            )
        return [
            _check_pair(f"kept[{position}]", pair, size)
            for position, (pair, size) in enumerate(zip(kept, sizes, strict=True))
        ]

    def _reduce_input(self, x: Array) -> Array:
        """Take the kept features of x (..., dense features); x as it is without `input_kept`."""
        if self.input_kept is None or x.ndim == 0:
            return x
        index, dense = self.input_kept
        if x.shape[-1] != dense:
            raise L0GateError(
                f"`x` has shape {x.shape}; the last dimension must be the dense model's {dense}"
                " features"
            )
        return x.take(index, axis=-1)

    def _reduce_state(self, state: Any) -> Any:
        """Take the kept neurons of all arrays of the dense size; other arrays stay as they are."""
        if self.kept is None or not isinstance(state, (tuple, list)):
            return state
        pairs: list[Any] = []  # for every entry of a state
        remaining = iter(self.kept)
        for layer in self._chain:
            for _ in layer.state_shapes(self.parameters):
                pairs.append(next(remaining) if layer.directions else None)
        if len(state) != len(pairs):
            return state
        return tuple(
            entry
            if pair is None
            else tuple(_reduce(part, *pair) for part in entry)
            if isinstance(entry, (tuple, list))
            else _reduce(entry, *pair)
            for entry, pair in zip(state, pairs, strict=True)
        )


def _check_pair(what: str, given: Any, size: int | None) -> tuple[Array, int]:
    """Check a pair of kept indices (size,) and the size of the dense model; returns both."""
    try:
        index, dense = np.array(given[0]), int(given[1])
    except (TypeError, ValueError, IndexError, KeyError):
        raise L0GateError(
            f"`{what}` is {given!r}; it must be indices and how many there were"
        ) from None
    if not (
        index.dtype.kind in "iu"
        and index.shape == (size,)
        and ((index >= 0) & (index < dense)).all()
        and (index[1:] > index[:-1]).all()
    ):
        raise L0GateError(
            f"`{what}` is {given!r}; expected {size} increasing indices below {dense}, and {dense}"
        )
    return index.astype(np.intp, copy=False), dense


def _reduce(array: Any, index: Array, dense: int) -> Any:
    """Take the entries `index` of an array (..., dense); returns any other array as it is."""
    shape = np.shape(array)
    return np.asarray(array).take(index, axis=-1) if shape and shape[-1] == dense else array
