"""A net that reads one sequence step by step and keeps the state itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from l0gate.reference._cells import Array
from l0gate.reference._layers import State

if TYPE_CHECKING:
    from l0gate.reference.runtime.bound_net import StreamingNet


class Stream:
    """What `StreamingNet.stream` returns: `step` takes x_t and returns y_t, nothing else.

    A compiled net changes the state of a single sequence in place. A stream belongs to one thread
    at a time; any number of them share a net.

    >>> from l0gate.reference import Net
    >>> net = Net([{"type": "gru", "name": "rnn"}])
    >>> small = net.bind(net.init(np.random.default_rng(0), input_size=3, sizes={"rnn": 6}))
    >>> stream = small.stream()
    >>> y_0, y_1 = stream.step(np.ones(3, np.float32)), stream.step(np.zeros(3, np.float32))
    >>> stream.state[0].shape, np.array_equal(stream.state[0], y_1)
    ((6,), True)
    >>> fork = small.stream(stream.state)  # goes on from here by itself
    >>> stream.state = None  # begins anew
    >>> np.array_equal(stream.step(np.ones(3, np.float32)), y_0)
    True
    """

    __slots__ = ("__weakref__", "_checked_step", "_net", "_place", "_quick_step", "_state")

    def __init__(self, net: StreamingNet, state: Any = None) -> None:
        net._check_directions()
        self._net = net
        self.state = state

    @property
    def state(self) -> State | None:
        """The state after the last step, as `StreamingNet.step` returns it; None for zeros.

        A copy, as is what is assigned to go on from another state. Before the first step None
        leaves open whether there is a batch.
        """
        if self._place is None:
            return copy.deepcopy(self._state)
        assert self._net._compiled is not None
        return self._net._compiled.state_of(self._place)

    @state.setter
    def state(self, state: Any) -> None:
        batch: tuple[int, ...] = ()
        if state is not None:
            batch, state = self._net._check_batch_and_state(state)
        self._place: Array | None = None  # of a single sequence in compiled code
        self._state: State | None = None  # any other
        self._quick_step: Callable[[Any], Array | None] | None = None
        self._checked_step: Callable[[Array], Array] | None = None
        if state is None or self._net._compiled is None or batch:
            self._state = copy.deepcopy(state)
        else:
            self._begin(state)

    def _begin(self, state: Any) -> Callable[[Array], Array]:
        """Keep the state of a single sequence in compiled code."""
        assert self._net._compiled is not None
        place, quick, checked = self._net._compiled.in_place(state, self._net.input_kept)
        self._place, self._quick_step, self._checked_step = place, quick, checked
        return checked

    def step(self, x_t: Any) -> Array:
        """Run one time step; x_t, y_t and what is wrong with them as in `StreamingNet.step`.

        The first step, or the state that was given, decides whether there is a batch.
        """
        quick = self._quick_step
        if quick is not None:
            y_t = quick(x_t)
            if y_t is not None:
                return y_t
        return self._other_step(x_t)

    def _other_step(self, x_t: Any) -> Array:
        """A step that begins, or that is not as usual. What fails leaves the state as it was."""
        x_t = np.asarray(x_t)  # before the state is read: it may run code of the caller's
        if self._net._compiled is not None and self._state is None:
            x, batch = self._net._check_step(x_t)
            if not batch:
                return (self._checked_step or self._begin(None))(x)
        state = self._state if self._place is None else self.state
        y_t, self._state = self._net.step(x_t, state)
        return y_t

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._net, self.state)

    def __repr__(self) -> str:
        return f"Stream({self._net!r})"
