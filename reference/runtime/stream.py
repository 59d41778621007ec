"""`Stream`: runs a net step by step, on one sequence or a batch, and keeps the state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from l0gate.reference._layers import RecurrentState
from l0gate.reference._scan import Array
from l0gate.reference.runtime.compiled_net import CompiledNet


class Steps(Protocol):
    """The parts of a `StreamingNet` that its streams use."""

    input_kept: tuple[Array, int] | None

    @property
    def _compiled(self) -> CompiledNet | None: ...

    def _check_directions(self) -> None: ...

    def _check_step(self, x_t: Any) -> tuple[Array, tuple[int, ...]]: ...

    def _check_batch_and_state(self, state: Any) -> tuple[tuple[int, ...], Any]: ...

    def step(self, x_t: Any, state: Any = None) -> tuple[Array, RecurrentState]: ...


class Stream:
    """What `StreamingNet.stream` returns: `step` takes x_t and returns y_t.

    For a sequence without a batch dimension, a compiled net updates the state in place. A stream
    must be used by one thread at a time; any number of streams may share a net.

    >>> from l0gate.reference import Net
    >>> net = Net([{"type": "gru", "name": "rnn"}])
    >>> small = net.bind(net.init(np.random.default_rng(0), input_size=3, sizes={"rnn": 6}))
    >>> stream = small.stream()
    >>> y_0, y_1 = stream.step(np.ones(3, np.float32)), stream.step(np.zeros(3, np.float32))
    >>> stream.state[0].shape, np.array_equal(stream.state[0], y_1)
    ((6,), True)
    >>> fork = small.stream(stream.state)  # another stream, which continues from here
    >>> stream.state = None  # begins again, with zeros
    >>> np.array_equal(stream.step(np.ones(3, np.float32)), y_0)
    True
    """

    __slots__ = ("__weakref__", "_checked_step", "_net", "_quick_step", "_state", "_workspace")

    def __init__(self, net: Steps, state: Any = None) -> None:
        net._check_directions()
        self._net = net
        self.state = state

    @property
    def state(self) -> RecurrentState | None:
        """A copy of the state after the last step, as `StreamingNet.step` returns it.

        None stands for zeros; the next step then decides whether there is a batch dimension. After
        an assignment, the stream continues from a copy of the assigned state.
        """
        if self._workspace is None:
            return copy.deepcopy(self._state)
        assert self._net._compiled is not None
        return self._net._compiled.state_of(self._workspace)

    @state.setter
    def state(self, state: Any) -> None:
        batch: tuple[int, ...] = ()
        if state is not None:
            batch, state = self._net._check_batch_and_state(state)
        self._workspace: Array | None = None  # holds the state of one sequence, if compiled
        self._state: RecurrentState | None = None  # the state of a batch, or in NumPy
        self._quick_step: Callable[[Any], Array | None] | None = None
        self._checked_step: Callable[[Array], Array] | None = None
        if state is None or self._net._compiled is None or batch:
            self._state = copy.deepcopy(state)
        else:
            self._begin(state)

    def _begin(self, state: Any) -> Callable[[Array], Array]:
        """Keep the state in a workspace of the compiled net; returns a step for checked inputs."""
        assert self._net._compiled is not None
        workspace, quick, checked = self._net._compiled.in_place(state, self._net.input_kept)
        self._workspace, self._quick_step, self._checked_step = workspace, quick, checked
        return checked

    def step(self, x_t: Any) -> Array:
        """Run one time step. Takes x_t and returns y_t, with shapes as in `StreamingNet.step`.

        The state decides whether there is a batch dimension; if it is None, the first x_t does.
        """
        quick = self._quick_step
        if quick is not None:
            y_t = quick(x_t)
            if y_t is not None:
                return y_t
        return self._other_step(x_t)

    def _other_step(self, x_t: Any) -> Array:
        """A step that `_quick_step` does not take. If it raises, the state is unchanged."""
        x_t = np.asarray(x_t)  # before the state is read, because it may run the caller's code
        if self._net._compiled is not None and self._state is None:
            x, batch = self._net._check_step(x_t)
            if not batch:
                return (self._checked_step or self._begin(None))(x)
        state = self._state if self._workspace is None else self.state
        y_t, self._state = self._net.step(x_t, state)
        return y_t

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._net, self.state)

    def __repr__(self) -> str:
        return f"Stream({self._net!r})"
