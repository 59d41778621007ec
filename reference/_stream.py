"""A net that reads one sequence step by step and keeps the state itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from l0gate.reference._cells import Array

if TYPE_CHECKING:
    from l0gate.reference._streaming import StreamingNet


class Stream:
    """What `StreamingNet.stream` returns: `step` takes x_t and returns y_t, nothing else.

    A compiled net changes the state of a single sequence in place, so that beside the arithmetic a
    step costs a third of `StreamingNet.step`. A stream belongs to one thread at a time; any number
    of them share a net.

    >>> import numpy as np
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

    __slots__ = ("_flat", "_net", "_quick", "_state")

    def __init__(self, net: StreamingNet, state: Any = None) -> None:
        self._net = net
        self.state = state

    @property
    def state(self) -> Any:
        """The state after the last step, as `StreamingNet.step` returns it; None for zeros.

        A copy, as is what is assigned to go on from another state.
        """
        return copy.deepcopy(self._state) if self._flat is None else self._state_in_place()

    @state.setter
    def state(self, state: Any) -> None:
        self._state = copy.deepcopy(state)
        self._flat: Array | None = None  # the state of a compiled net, while steps change it
        self._quick: Callable[[Any], Array | None] | None = None

    def step(self, x_t: Any) -> Array:
        """Run one time step; x_t, y_t and what is wrong with them as in `StreamingNet.step`.

        The first step, or the state that was given, decides whether there is a batch.
        """
        if self._quick is not None:
            y_t = self._quick(x_t)
            if y_t is not None:
                return y_t
        if self._flat is not None:
            y_t, state = self._net.step(x_t, self._state_in_place())
            self._flat[:] = self._net.flat_of(state)
        else:
            y_t, self._state = self._net.step(x_t, self._state)
            if type(self._state) is not tuple:  # a compiled net made it
                self._flat, self._quick = self._net.in_place(self._state)
        return y_t

    def _state_in_place(self) -> Any:
        assert self._flat is not None
        return self._net.state_in(self._flat.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._net, self.state)

    def __repr__(self) -> str:
        return f"Stream({self._net!r})"
