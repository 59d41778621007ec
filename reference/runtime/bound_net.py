"""A net with its parameters, ready to run on sequences or one step at a time."""

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
    use, so they must not be changed afterwards.

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

    saved: Any = None  # what the net was loaded from

    def __init__(
        self,
        net: Description,
        parameters: Parameters,
        input_kept: tuple[Any, int] | None = None,
        kept: Sequence[tuple[Any, int]] | None = None,
        engine: str = "auto",
        exact: bool = False,
    ) -> None:
        if engine != "auto":  # for "auto", numba is imported on first use
            find_engine(engine)
        self._chain = net.chain
        self._dtype, self._axes = check_parameters(self._chain, parameters)
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

    def __repr__(self) -> str:
        return f"StreamingNet({self.layers}, batch_first={self.net.batch_first})"

    def __call__(
        self, x: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Array, RecurrentState]:
        """Run sequences, as `Net.apply`; dense inputs and states as `Net.bind` describes them."""
        done = self._usual_call(x, state) if lengths is None else None
        if done is not None:
            return done
        x = self._reduce_input(np.asarray(x))
        batch_first = self.net.batch_first
        x = check_sequence(x, self._tokens, self._input_size, self._dtype, batch_first)
        state = self._check_state(state, x.shape[1:2])
        lengths = check_lengths(lengths, *x.shape[:2])
        if self._compiled is None:
            y, new_state, _ = run_chain(self._chain, replace(self._pass, lengths=lengths), x, state)
        else:
            y, new_state = self._compiled(x, state, lengths)
        return np.swapaxes(y, 0, 1) if batch_first else y, new_state

    def step(self, x_t: Any, state: Any = None) -> tuple[Array, RecurrentState]:
        """Run one time step.

        x_t is a token or features (I,): then y_t is (O,), and the entries of the state are (H,). Or
        it is a batch, tokens (B,) or features (B, I): then they are (B, O) and (B, H). Returns y_t
        and the new state. A state is never changed afterwards, so earlier ones can be kept and
        continued from. The first call packs the parameters; with numba it may have to compile,
        once per installation.
        """
        done = self._usual_step(x_t, state)
        if done is not None:
            return done
        x, batch = self._check_step(x_t)
        return self._step(x, self._check_state(state, batch))

    def _check_step(self, x_t: Any) -> tuple[Array, tuple[int, ...]]:
        """The input of a step, without pruned features, and its batch, (B,) or ()."""
        x = np.asarray(x_t)
        features = 0 if self._tokens else 1
        if x.ndim not in (features, features + 1):
            expected = "a token or (B,)" if self._tokens else "(features,) or (B, features)"
            raise L0GateError(f"`x_t` has shape {x.shape}; expected {expected}")
        batch = x.shape[: x.ndim - features]
        x = self._reduce_input(x)
        return check_input(x, self._tokens, self._input_size, self._dtype), batch

    def stream(self, state: Any = None) -> Stream:
        """A stream, which keeps the state itself: `stream.step(x_t)` returns y_t alone.

        It begins with `state`, or with zeros. A compiled stream updates its state in place, which
        takes some 40% less time per step of a small net than new arrays do.
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
        # A program needs at least one matrix.
        if program is None or not any(layer.names for layer in self._chain[self._tokens :]):
            return None
        return CompiledNet(self._chain, self.parameters, program, self.exact)

    def _is_own(self, state: Any, batch: int | None) -> bool:
        """Whether this net, as it is compiled, returned the state for this batch size."""
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
        """The step of all layers, for arguments that have been checked."""
        self._check_directions()
        if self._compiled is not None:
            return self._compiled.step
        return numpy_step(self._chain, self.parameters)

    @cached_property
    def _pass(self) -> Pass:
        """What all sequences that run in NumPy have in common."""
        engine = find_engine(self.engine)
        return Pass(self.parameters, self._dtype, self._axes, engine, keep=False)

    def _check_directions(self) -> None:
        check(
            all(len(layer.directions) < 2 for layer in self._chain),
            "`step` needs layers of one direction; a reverse layer reads the future",
        )

    def _check_batch_and_state(self, state: Any) -> tuple[tuple[int, ...], Any]:
        """The batch of a state, (B,) or (), and the state as `_check_state` returns it."""
        first = state
        while isinstance(first, (tuple, list)) and first:
            first = first[0]
        shape = np.shape(first)
        batch = shape[:1] if len(shape) == 2 else ()
        return batch, self._check_state(state, batch)

    def _check_state(self, state: Any, batch: tuple[int, ...]) -> Any:
        """A state without pruned neurons, one entry per recurrent layer and direction.

        Compiled nets also take None for zeros, and their own states without another check.
        """
        if self._compiled is not None and (
            state is None or self._is_own(state, batch[0] if batch else None)
        ):
            return state
        state = self._reduce_state(state)
        return check_state(state, self._chain, self._axes, batch, self._dtype)

    def _check_input_kept(self, given: Any) -> tuple[Array, int] | None:
        if given is None:
            return None
        check(not self._tokens, "`input_kept` is given, but the net reads tokens, not features")
        return _check_pair("input_kept", given, self._input_size)

    def _check_kept(self, kept: Any) -> list[tuple[Array, int]] | None:
        if kept is None:
            return None
        sizes = [self._axes[end.axes[0]] for layer in self._chain for end in layer.directions]
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
        """The features that the net reads, of those of the dense model."""
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
        """A state without pruned neurons: arrays of the dense size lose them, others stay."""
        if self.kept is None or not isinstance(state, (tuple, list)):
            return state
        if len(state) != len(self.kept):
            return state
        return tuple(
            tuple(_reduce(part, *pair) for part in entry)
            if isinstance(entry, (tuple, list))
            else _reduce(entry, *pair)
            for entry, pair in zip(state, self.kept, strict=True)
        )


def _check_pair(what: str, given: Any, size: int | None) -> tuple[Array, int]:
    """The kept indices (size,) and the dense size, after checking them."""
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
    """The entries at `index` of an array (..., dense); any other array as it is."""
    shape = np.shape(array)
    return np.asarray(array).take(index, axis=-1) if shape and shape[-1] == dense else array
