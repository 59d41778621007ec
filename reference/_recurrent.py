"""Recurrent layers: LSTM and GRU, which use the scans of `_lstm.py` and `_gru.py`, and simple RNN.

With other activation functions than the usual ones, and in a simple RNN, they use the cells of
`_general_cells.py`, which only run forward.

A layer computes the input pre-activations of the whole sequence as one matrix product, runs a scan
for each of its directions, and concatenates their outputs. Its backward pass computes the gradients
of its matrices, biases and gates from the gradients of pre-activations that the scans return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from l0gate.reference._activations import activation
from l0gate.reference._general_cells import Cell, cell_scan, gru_cell, lstm_cell, rnn_cell
from l0gate.reference._layers import (
    Direction,
    Layer,
    Parameters,
    Pass,
    RecurrentState,
    expect,
    matrix,
    uniform,
)
from l0gate.reference._products import Input, input_gradient, product, rows, summed
from l0gate.reference._scan import Array, Tape, previous_states


class Record(NamedTuple):
    """What one direction keeps for the backward pass: its output, initial state and tape."""

    y: Array
    initial: Any
    tape: Any


class Recurrent(Layer):
    """One recurrent layer; the outputs of two directions are concatenated."""

    blocks: ClassVar[int]  # the number of gates, stacked in the rows of its matrices

    def __init__(
        self,
        name: str,
        directions: tuple[Direction, ...],
        reads: tuple[str, ...],
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
    ) -> None:
        self.name, self.directions, self.reads = name, directions, reads
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.usual = (activation, recurrent_activation) == ("tanh", "sigmoid")
        self.trains = self.usual
        self.causal = len(directions) == 1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for end in self.directions for name in end.names)

    def input_size(self, parameters: Parameters) -> int:
        return int(matrix(parameters, self.names[0]).shape[1])

    def cell(self, parameters: Parameters, end: Direction) -> Cell:
        """One time step of a direction, with any activation functions; see `_general_cells.py`."""
        raise NotImplementedError

    def check(self, parameters: Parameters, width: int | None) -> int:
        total = 0
        for end in self.directions:
            if width is None:
                width = matrix(parameters, end.weight_ih).shape[1]
            hidden = matrix(parameters, end.weight_hh).shape[1]
            for name, shape in zip(end.names, self._shapes(width, hidden), strict=False):
                expect(parameters, name, shape)
            total += hidden
        return total

    def init(self, rng: np.random.Generator, width: int, sizes: Sequence[int]) -> dict[str, Array]:
        parameters: dict[str, Array] = {}
        for end, hidden in zip(self.directions, sizes, strict=True):
            parameters |= uniform(rng, end.names, self._shapes(width, hidden), hidden)
        return parameters

    def _shapes(self, width: int, hidden: int) -> list[tuple[int, ...]]:
        """The shapes of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`; `width` input features."""
        gates = self.blocks * hidden
        return [(gates, width), (gates, hidden), (gates,), (gates,)]

    def forward(
        self, run: Pass, x: Input, state: RecurrentState
    ) -> tuple[Array, RecurrentState, Any]:
        outputs, last, records = [], [], []
        for end, initial in zip(self.directions, state, strict=True):
            bias = self._input_bias(run.parameters, end)
            gx = product(x, run.parameters[end.weight_ih], bias, run.gate(self.reads))
            y, final, tape = self._scan(run, end, gx, initial)
            outputs.append(y)
            last.append(final)
            records.append(Record(y, initial, tape))
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=2)
        return y, tuple(last), (x, records)

    def backward(
        self, run: Pass, tape: Any, dy: Array, dstate: RecurrentState, need_dx: bool
    ) -> tuple[Array | None, RecurrentState]:
        x, records = tape
        splits = np.cumsum([record.y.shape[2] for record in records])[:-1]
        dys = np.split(dy, splits, axis=2)
        dx: Array | None = None
        dinitials = []
        for end, record, dy_end, dlast in zip(self.directions, records, dys, dstate, strict=True):
            dgx, dgh, dinitial = self._scan_backward(run, end, record, dy_end, dlast)
            dinitials.append(dinitial)
            read, dread = summed(x, dgx)
            run.add_matrix(end.weight_ih, dread.T @ read, self.reads)
            run.add_matrix(end.weight_hh, self._recurrent_product(run, end, record, dgh), end.axes)
            if end.bias:
                dbias = rows(dgx).sum(axis=0)
                run.gradients.add(end.bias_ih, dbias)
                same = dgh is dgx
                run.gradients.add(end.bias_hh, dbias.copy() if same else rows(dgh).sum(axis=0))
            if need_dx:
                dx_end = input_gradient(
                    dread, run.parameters[end.weight_ih], run.gate(self.reads), x
                )
                dx = dx_end if dx is None else dx + dx_end
        return dx, tuple(dinitials)

    def _input_bias(self, parameters: Parameters, end: Direction) -> Array | None:
        """The bias that is added to the input product: (4H,) for an LSTM, (3H,) for a GRU."""
        raise NotImplementedError

    def _scan(self, run: Pass, end: Direction, gx: Array, initial: Any) -> tuple[Array, Any, Tape]:
        """Run the scan on gx (T, B, blocks H); returns y (T, B, H), the last state and the tape."""
        states = initial if self.states == 2 else (initial,)
        cell = self.cell(run.parameters, end)
        y, last = cell_scan(cell, gx, states, run.lengths, end.reverse)
        return y, last if self.states == 2 else last[0], ()

    def _scan_backward(
        self, run: Pass, end: Direction, record: Record, dy: Array, dlast: Any
    ) -> tuple[Array, Array, Any]:
        """The gradients of gx, of the recurrent pre-activations, and of the initial state."""
        raise NotImplementedError

    def _recurrent_product(self, run: Pass, end: Direction, record: Record, dgh: Array) -> Array:
        """The sum over time and batch of dgh^T h_prev, where h_prev is the state before the step.

        In a GRU without reset_after, the n block has r * h_prev instead of h_prev.
        """
        raise NotImplementedError


class LSTM(Recurrent):
    """One layer of an LSTM; the state of a direction is (h, c)."""

    blocks = 4
    states = 2

    def cell(self, parameters: Parameters, end: Direction) -> Cell:
        functions = activation(self.activation), activation(self.recurrent_activation)
        return lstm_cell(parameters[end.weight_hh], *functions)

    def _input_bias(self, parameters: Parameters, end: Direction) -> Array | None:
        return summed_bias(parameters, end)

    def _scan(self, run: Pass, end: Direction, gx: Array, initial: Any) -> tuple[Array, Any, Tape]:
        if not self.usual:
            return super()._scan(run, end, gx, initial)
        weight_hh, options = _read_hidden(run, end)
        y, h, c, tape = run.engine.lstm_scan(gx, weight_hh, *initial, **options)
        return y, (h, c), tape

    def _scan_backward(
        self, run: Pass, end: Direction, record: Record, dy: Array, dlast: Any
    ) -> tuple[Array, Array, Any]:
        weight_hh, options = _read_hidden(run, end)
        dgx, dh0, dc0 = run.engine.lstm_scan_backward(
            dy, *dlast, weight_hh, record.y, *record.initial, record.tape, **options
        )
        return dgx, dgx, (dh0, dc0)

    def _recurrent_product(self, run: Pass, end: Direction, record: Record, dgh: Array) -> Array:
        h_prev = previous_states(record.y, record.initial[0], run.lengths, end.reverse)
        gradient: Array = rows(dgh).T @ rows(h_prev)
        return gradient


class GRU(Recurrent):
    """One layer of a GRU; the state of a direction is h."""

    blocks = 3
    states = 1

    def __init__(
        self,
        name: str,
        directions: tuple[Direction, ...],
        reads: tuple[str, ...],
        reset_after: bool,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
    ) -> None:
        super().__init__(name, directions, reads, activation, recurrent_activation)
        self.reset_after = reset_after

    def cell(self, parameters: Parameters, end: Direction) -> Cell:
        _, bias_hn = gru_bias(parameters, end, self.reset_after)
        functions = activation(self.activation), activation(self.recurrent_activation)
        return gru_cell(parameters[end.weight_hh], bias_hn, self.reset_after, *functions)

    def _input_bias(self, parameters: Parameters, end: Direction) -> Array | None:
        return gru_bias(parameters, end, self.reset_after)[0]

    def _scan(self, run: Pass, end: Direction, gx: Array, initial: Any) -> tuple[Array, Any, Tape]:
        if not self.usual:
            return super()._scan(run, end, gx, initial)
        weight_hh, options = _read_hidden(run, end)
        _, bias_hn = gru_bias(run.parameters, end, self.reset_after)
        others = bias_hn, initial, self.reset_after
        y, h, tape = run.engine.gru_scan(gx, weight_hh, *others, **options)
        return y, h, tape

    def _scan_backward(
        self, run: Pass, end: Direction, record: Record, dy: Array, dlast: Any
    ) -> tuple[Array, Array, Any]:
        weight_hh, options = _read_hidden(run, end)
        _, bias_hn = gru_bias(run.parameters, end, self.reset_after)
        others = record.y, record.initial, record.tape, self.reset_after
        dgx, dgh, dh0 = run.engine.gru_scan_backward(
            dy, dlast, weight_hh, bias_hn, *others, **options
        )
        return dgx, dgh, dh0

    def _recurrent_product(self, run: Pass, end: Direction, record: Record, dgh: Array) -> Array:
        h_prev = previous_states(record.y, record.initial, run.lengths, end.reverse)
        hidden = h_prev.shape[2]
        if self.reset_after:
            gradient: Array = rows(dgh).T @ rows(h_prev)
            return gradient
        reset = record.tape[0][..., :hidden] * h_prev
        gradient_rz = rows(dgh)[:, : 2 * hidden].T @ rows(h_prev)
        gradient_n = rows(dgh)[:, 2 * hidden :].T @ rows(reset)
        return np.concatenate((gradient_rz, gradient_n))


class RNN(Recurrent):
    """One layer of a simple RNN; the state of a direction is h."""

    blocks = 1
    states = 1

    def __init__(
        self,
        name: str,
        directions: tuple[Direction, ...],
        reads: tuple[str, ...],
        activation: str = "tanh",
    ) -> None:
        super().__init__(name, directions, reads, activation)
        self.usual = self.trains = False

    def cell(self, parameters: Parameters, end: Direction) -> Cell:
        return rnn_cell(parameters[end.weight_hh], activation(self.activation))

    def _input_bias(self, parameters: Parameters, end: Direction) -> Array | None:
        return summed_bias(parameters, end)


def summed_bias(parameters: Parameters, end: Direction) -> Array | None:
    """The bias (blocks H,) of the input product of LSTM and RNN: the sum of both; or None."""
    if not end.bias:
        return None
    bias_ih, bias_hh = parameters[end.bias_ih], parameters[end.bias_hh]
    return bias_ih + bias_hh


def gru_bias(
    parameters: Parameters, end: Direction, reset_after: bool
) -> tuple[Array | None, Array]:
    """The bias (3H,) that is added to the input product, or None, and the argument `bias_hn` (H,).

    See `gru_scan`, which says what each of them contains.
    """
    weight_hh = parameters[end.weight_hh]
    hidden = weight_hh.shape[1]
    if not end.bias:
        return None, np.zeros(hidden, weight_hh.dtype)
    bias_ih, bias_hh = parameters[end.bias_ih], parameters[end.bias_hh]
    bias = bias_ih + bias_hh
    if reset_after:
        bias[2 * hidden :] = bias_ih[2 * hidden :]
    return bias, bias_hh[2 * hidden :]


def _read_hidden(run: Pass, end: Direction) -> tuple[Array, dict[str, Any]]:
    """The matrix `weight_hh`, and the scan's keyword arguments `lengths`, `reverse` and `gate`.

    If the engine's scans have no argument `gate`, the columns of the matrix are multiplied by the
    gates here, which gives the same result.
    """
    weight_hh, gate = run.parameters[end.weight_hh], run.gate(end.axes)
    options: dict[str, Any] = {"lengths": run.lengths, "reverse": end.reverse}
    if run.engine.takes_gate:
        return weight_hh, options | {"gate": gate}
    return weight_hh if gate is None else weight_hh * gate, options
