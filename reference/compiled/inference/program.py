"""`Program`: runs a whole net as one compiled call, on sequences or one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.reference._scan import Array
from l0gate.reference.compiled.arguments import check_arrays
from l0gate.reference.compiled.compile import entry
from l0gate.reference.compiled.inference.net_kernels import (
    run_in_place,
    run_sequences,
    run_step,
    workspace_size,
)
from l0gate.reference.compiled.inference.packing import ACTIVATIONS, PACKERS, in_lines
from l0gate.reference.compiled.inference.plan import LAST, WIDTH
from l0gate.reference.compiled.simd.lanes import lanes_of
from l0gate.reference.compiled.simd.memory import NEAR
from l0gate.reference.compiled.threads import LEAST_WORK, STEP_WORK, run_on_threads

# A step in place that takes less time than waking a thread does not release Python's lock. Its time
# is estimated from the bytes of parameters that it reads: _BRIEF bytes take 2 or 3 us. The
# activation functions of one neuron take as long as reading _NEURON bytes.
_BRIEF = 2**18
_NEURON = 2**8


class Program:
    """A chain of layers that runs as one compiled call.

    `layers` lists them in order. A layer is a list of its directions, each a tuple as below. All
    parameters have one dtype, and are packed here:

        ("lstm", reverse, weight_ih, weight_hh, bias)     bias (4H,): the sum of both biases
        ("gru", reverse, weight_ih, weight_hh, bias, bias_hn, reset_after)     as in `gru_scan`
        ("linear", False, weight, bias)
        ("tanh", False), ("sigmoid", False), ("relu", False)

    A bias may be None. A call takes x (T, B, I), the state, and the sequences' numbers of steps
    (B,) or None. It returns y (T, B, O) and the new state in new arrays. A state is one array (1-d)
    that begins with the arrays (B, H) of all recurrent layers and directions, one after the other:
    h, and for an LSTM also c. `state_sizes` lists their sizes H. A call raises a TypeError if an
    array has another dtype, is not in C order or is not aligned.

    With `exact`, float32 activations are computed by the C library's float64 functions; without,
    they are approximations within 4 units in the last place.

    >>> rng = np.random.default_rng(0)
    >>> weight_ih, weight_hh = rng.standard_normal((2, 8, 2))
    >>> lstm = "lstm", False, weight_ih, weight_hh, None
    >>> program = Program([[lstm], [("linear", False, np.ones((1, 2)), None)]])
    >>> y, state = program(np.ones((3, 1, 2)), np.zeros(program.state_size))
    >>> h, c = np.split(state, 2)
    >>> program.state_sizes, bool(np.isclose(y[-1, 0, 0], h.sum()))
    ((2, 2), True)
    """

    def __init__(self, layers: Sequence[Sequence[tuple[Any, ...]]], exact: bool = False) -> None:
        weights = [end[2] for layer in layers for end in layer if len(end) > 2]
        check(weights, "`layers` have no weights; at least one layer must have some")
        self.dtype: np.dtype[Any] = weights[0].dtype
        self.input_size = width = int(weights[0].shape[1])
        self.state_sizes: tuple[int, ...] = ()
        table, packed, start, widest, widest_state = [], [], 0, 0, 0
        for depth, layer in enumerate(layers):
            final, column, rows = depth == len(layers) - 1, 0, []
            for kind, reverse, *given in layer:
                parts: list[Array] = []
                if kind in PACKERS:
                    check_arrays(**{f"{kind} weight": (given[0], (len(given[0]), width))})
                    code, sizes, parts = PACKERS[kind](*given)
                    outputs = sizes[0] if sizes else len(given[0])
                else:
                    code, sizes, outputs = ACTIVATIONS[kind], (), width
                # In the order of `plan.py`; WIDTH and LAST follow below.
                rows.append([code, width, outputs, start, reverse, column, 0, 0, final])
                start += sum(part.size for part in parts)
                packed += parts
                self.state_sizes += sizes
                widest_state = max(widest_state, *sizes, 0)
                column += outputs
            rows[-1][LAST] = 1
            for row in rows:
                row[WIDTH] = column
            table += rows
            width = column
            widest = max(widest, 0 if final else width)
        self.output_size = width
        self.state_size = sum(self.state_sizes)
        self._parameters = in_lines(packed)
        start = self._parameters.ctypes.data // self._parameters.itemsize
        lanes = lanes_of(self.dtype)
        widest_state = -(-widest_state // lanes) * lanes
        far = self._parameters.nbytes > NEAR
        # In the order of `plan.py`.
        head = [len(table), widest, widest_state, exact, far, start]
        self._plan = np.concatenate([np.array(head), np.ravel(table)]).astype(np.int64)
        neurons = sum(outputs for _, _, outputs, *_ in table)
        self._brief = self._parameters.nbytes + _NEURON * neurons <= _BRIEF
        self._single = LEAST_WORK // (self._parameters.size + STEP_WORK)
        self._address = self._plan.ctypes.data // self._plan.itemsize
        self._run, self._run_step = run_sequences(self.dtype), run_step(self.dtype)
        self.step_size = self.state_size + self.output_size
        self.workspace_size = self.step_size + workspace_size(lanes, widest, widest_state, 1, 1)

    def __reduce__(self) -> Any:
        raise TypeError("a program cannot be copied: it holds addresses of its memory")

    def __call__(self, x: Array, state: Array, lengths: Array | None = None) -> tuple[Array, Array]:
        T, B, inputs = x.shape
        if inputs != self.input_size or len(state) < B * self.state_size:
            raise self._mismatch(x, state)
        y = np.empty((T, B, self.output_size), self.dtype)
        out = np.empty(B * self.state_size, self.dtype)
        where = 0 if lengths is None else lengths.ctypes.data // lengths.itemsize
        arguments = T, B, self._address, where, x, state, out, y
        if self._single > T * B:
            done = self._run(0, B, *arguments)
        else:
            done = run_on_threads(self._run, T, B, self._parameters.size, *arguments)
        if not done:
            raise TypeError("`x` or `state` is not aligned")
        return y, out

    def step(self, x: Array, state: Array) -> Array:
        """Run one step of one sequence x (I,); returns one array, the new state and then y."""
        if len(x) != self.input_size or len(state) < self.state_size:
            raise self._mismatch(x, state)
        out = np.empty(self.step_size, self.dtype)
        if not self._run_step(self.state_size, self._address, x, state, out):
            raise TypeError("`x` or `state` is not aligned")
        return out

    def bare_step(self) -> tuple[Callable[..., bool], int, int]:
        """`step` with fewer checks: a function and its first two arguments.

        The caller calls function(first, second, x, state, out). x, state and out must be arrays
        (1-d) of the program's dtype and of the right sizes; the new state and y are written to out.
        The function returns True, or does nothing and returns False if x is not in C order, or x or
        state is not aligned. The program must stay alive, because the function uses its memory.
        """
        return entry(self._run_step), self.state_size, self._address

    def bare_in_place(self, workspace: Array) -> tuple[Callable[..., bool], int, Any]:
        """A step in place: a function, its first argument, and an object that must stay alive.

        The caller calls function(first, x) with x (I,). The workspace has `workspace_size` numbers
        and begins with the state, then y; a step overwrites both. The function returns True or
        False as that of `bare_step`; also False if x has another size than I.
        """
        state = workspace.ctypes.data // workspace.itemsize
        addresses = state, state + self.state_size, state + self.step_size
        where = np.array([0, self._address, *addresses], np.int64)
        function = entry(run_in_place(self.dtype, nogil=not self._brief))
        return function, where.ctypes.data // where.itemsize, (self, workspace, where)

    def bare_call(self) -> tuple[Callable[..., bool], int, int]:
        """A call without lengths and with fewer checks: a function, an address, and a limit.

        The caller calls function(0, B, T, B, address, 0, x, state, out, y) with x (T, B, I). The
        new state is written to out. The function returns True or False as that of `bare_step`. It
        runs on one thread, so T B should be below the limit; above it, `__call__` may use several.
        """
        return entry(self._run), self._address, self._single

    def _mismatch(self, x: Array, state: Array) -> L0GateError:
        return L0GateError(
            f"`x` has shape {x.shape} and `state` {state.shape}; expected {self.input_size} "
            f"features and for each sequence {self.state_size} numbers"
        )
