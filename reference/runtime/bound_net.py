"""A net with its parameters, ready to run on sequences or one step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.reference import _build, _cells
from l0gate.reference._cells import Array
from l0gate.reference._layers import Embedding, Parameters, Pass, State
from l0gate.reference.runtime.steps import Compiled, Flat, Step, plain_step
from l0gate.reference.runtime.stream import Stream

if TYPE_CHECKING:
    from l0gate.reference._net import Net

_PACKING = threading.RLock()


class StreamingNet:
    """What `Net.bind` returns: `net(x, state)` runs a sequence, `net.step(x_t, state)` a step.

    `net.stream()` keeps the state itself. Parameters are packed once, so they must not be changed
    afterwards.

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
        net: Net,
        parameters: Parameters,
        input_kept: tuple[Any, int] | None = None,
        kept: Sequence[tuple[Any, int]] | None = None,
        engine: str = "auto",
        exact: bool = False,
    ) -> None:
        if engine != "auto":  # which looks for numba only when it runs
            _build.find_scans(engine)
        self._chain = net.chain
        self._dtype, self._axes = _build.check_parameters(self._chain, parameters)
        self.net = net
        self.parameters = {name: parameters[name] for name in net.parameter_names}
        self.engine, self.exact = engine, exact
        self._tokens = isinstance(self._chain[0], Embedding)
        self._input_size = _build.input_size(self._chain, self.parameters)
        self.input_kept = self._check_input_kept(input_kept)
        self.kept = self._check_kept(kept)

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.net, self.parameters, self.input_kept, self.kept, self.engine, self.exact
        return type(self), given, {"saved": self.saved}  # what is packed is packed anew

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The description of the net, as `Net.layers`."""
        return self.net.layers

    def __repr__(self) -> str:
        return f"StreamingNet({self.layers}, batch_first={self.net.batch_first})"

    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, State]:
        """Run a sequence: as `Net.apply`, with what `Net.bind` says of dense inputs and states."""
        done = self._next_call(x, state) if lengths is None else None
        if done is not None:
            return done
        x = self._reduce_input(np.asarray(x))
        if self._compiled is None:
            return self.net._apply(self._pass, x, self._reduce_state(state), lengths)
        x = self.net._check_sequence(x, self._input_size, self._dtype)
        state = self._check_state(state, x.shape[1:2])
        y, new_state = self._compiled(x, state, _build.check_lengths(lengths, *x.shape[:2]))
        return self.net._swap(y), new_state

    def step(self, x_t: Any, state: Any = None) -> tuple[Array, State]:
        """Run one time step.

        x_t is a token or (I,) features, giving y_t (O,) and state entries (H,); or a batch, (B,)
        tokens or (B, I) features, giving (B, O) and (B, H). Returns y_t and the new state. A state
        is never changed afterwards, so earlier ones can be kept and continued from. The first
        call packs the parameters; with numba it may have to compile, once per installation.
        """
        done = self._next_step(x_t, state)
        if done is not None:
            return done
        x, batch = self._check_step(x_t)
        return self._step(x, self._check_state(state, batch))

    def _check_step(self, x_t: Any) -> tuple[Array, tuple[int, ...]]:
        """The input of a step, reduced, and its batch: (B,) or ()."""
        x = np.asarray(x_t)
        features = 0 if self._tokens else 1
        if x.ndim not in (features, features + 1):
            expected = "a token or (B,)" if self._tokens else "(features,) or (B, features)"
            raise L0GateError(f"`x_t` has shape {x.shape}; expected {expected}")
        batch = x.shape[: x.ndim - features]
        x = self._reduce_input(x)
        return _build.check_input(x, self._tokens, self._input_size, self._dtype), batch

    def stream(self, state: Any = None) -> Stream:
        """Steps that carry the state on by themselves: `stream.step(x_t)` returns y_t alone.

        It begins with `state`, or with zeros. Compiled, a step of a small net takes some 40% less
        time than with arrays for a new state in every step.
        """
        return Stream(self, state)

    @cached_property
    def _compiled(self) -> Compiled | None:
        """The net as a compiled program, with its parameters packed."""
        with _PACKING:  # threads that begin together must get the same one
            if "_compiled" not in self.__dict__:
                self.__dict__["_compiled"] = self._compile()
            found: Compiled | None = self.__dict__["_compiled"]
            return found

    def _compile(self) -> Compiled | None:
        scans = _build.find_scans(self.engine)
        # A program for a net without a matrix would have nothing to do.
        if scans is _cells or not any(layer.names for layer in self._chain[self._tokens :]):
            return None
        return Compiled(self._chain, self.parameters, scans.Program, self.exact)

    def _goes_on(self, state: Any, batch: int | None) -> bool:
        """Whether a state comes from this net as it is compiled, with the same batch."""
        own = isinstance(state, Flat) and state.net is self._compiled
        return own and state.batch == batch

    @cached_property
    def _next_call(self) -> Callable[[Any, Any], tuple[Array, State] | None]:
        """What a call does all the time, see `Compiled.next_call`."""
        if self.input_kept is not None or self._compiled is None or self.net.batch_first:
            return lambda x, state: None
        return self._compiled.next_call()

    @cached_property
    def _next_step(self) -> Callable[[Any, Any], tuple[Array, State] | None]:
        """What `step` does all the time, see `Compiled.next_step`."""
        if self.input_kept is not None or self._compiled is None:
            return lambda x_t, state: None
        return self._compiled.next_step()

    @cached_property
    def _step(self) -> Step:
        """The step of all layers."""
        self._check_directions()
        if self._compiled is not None:
            return self._compiled.step
        return plain_step(self._chain, self.parameters)

    @cached_property
    def _pass(self) -> Pass:
        """For sequences in plain NumPy."""
        return self.net._pass(self.parameters, self.engine, keep=False)

    def _check_directions(self) -> None:
        check(
            all(len(layer.directions) < 2 for layer in self._chain),
            "`step` needs layers of one direction; a reverse layer reads the future",
        )

    def _check_batch_and_state(self, state: Any) -> tuple[tuple[int, ...], Any]:
        """The batch of a state, and the state as the engine takes it."""
        first = state
        while isinstance(first, (tuple, list)) and first:
            first = first[0]
        shape = np.shape(first)
        batch = shape[:1] if len(shape) == 2 else ()
        return batch, self._check_state(state, batch)

    def _check_state(self, state: Any, batch: tuple[int, ...]) -> Any:
        """A state as the engine takes it; compiled, None stands for zeros there too."""
        if self._compiled is not None and (
            state is None or self._goes_on(state, batch[0] if batch else None)
        ):
            return state
        state = self._reduce_state(state)
        return _build.check_state(state, self._chain, self._axes, batch, self._dtype)

    def _check_input_kept(self, given: Any) -> tuple[Array, int] | None:
        if given is None:
            return None
        check(not self._tokens, "`input_kept` is given, but the net reads tokens, not features")
        return _check_pair("input_kept", given, self._input_size)

    def _check_kept(self, kept: Any) -> list[tuple[Array, int]] | None:
        if kept is None:
            return None
        sizes = [self._axes[end.axes[0]] for layer in self._chain for end in layer.directions]
        check(
            len(kept) == len(sizes),
            f"`kept` has {len(kept)} entries; expected {len(sizes)}, one per layer and direction",
        )
        return [
            _check_pair(f"kept[{position}]", pair, size)
            for position, (pair, size) in enumerate(zip(kept, sizes, strict=True))
        ]

    def _reduce_input(self, x: Array) -> Array:
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
        """Arrays of the dense size lose the neurons that were pruned; all else stays."""
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
    """Indices that stayed, and how many there were."""
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
    ):  # no check(), which would write out the indices each time that a net is loaded
        raise L0GateError(
            f"`{what}` is {given!r}; expected {size} increasing indices below {dense}, and {dense}"
        )
    return index.astype(np.intp, copy=False), dense


def _reduce(array: Any, index: Array, dense: int) -> Any:
    shape = np.shape(array)
    return np.asarray(array).take(index, axis=-1) if shape and shape[-1] == dense else array
