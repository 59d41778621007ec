"""A chain of layers as pure functions over named parameters: forward, backward, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from l0gate._chain import complete
from l0gate._errors import L0GateError, check
from l0gate.reference import _build
from l0gate.reference._cells import Array
from l0gate.reference._layers import (
    Embedding,
    Gradients,
    Input,
    Linear,
    Parameters,
    Pass,
    State,
)
from l0gate.reference._losses import mean_squared_error, softmax_cross_entropy
from l0gate.reference.runtime.bound_net import StreamingNet

LOSSES = {"cross_entropy": softmax_cross_entropy, "mse": mean_squared_error}


class Tape(NamedTuple):
    """What `Net.backward` needs from `Net.forward`."""

    run: Pass
    records: tuple[Any, ...]
    shape: tuple[int, ...]  # of the output, time first
    gated: tuple[str, ...]  # the axes whose gates were given


class Net:
    """A chain of embedding, LSTM or GRU, linear and activation layers.

    `layers` is a list of plain dicts, so that a net can be written to JSON:

    - `{"type": "embedding", "name": "embedding"}`, only as the first layer
    - `{"type": "lstm", "name": "rnn", "num_layers": 1, "bidirectional": False, "bias": True}`
    - `{"type": "gru", "name": "rnn", ..., "reset_after": True}`
    - `{"type": "linear", "name": "decoder", "bias": True}`
    - `{"type": "activation", "function": "tanh"}`, or `"sigmoid"`, `"relu"`

    Keys other than the type, the name and the function may be left out; the values above are
    their defaults. Parameters have PyTorch's names, shapes and gate order (`rnn.weight_ih_l0`,
    `decoder.bias`; no dot where the name is empty). Sizes come from the arrays, so every layer and
    direction may have a size of its own. All parameters are float32, or all float64, and that is
    the dtype of everything computed.

    Shapes: x is (T, B) integers below an embedding, else (T, B, features) floats; with
    `batch_first` T and B change places in x and y. A state is a flat tuple over the recurrent
    layers and directions of the whole chain (l0, l0_reverse, l1, ...), each `(h, c)` for an LSTM
    and `h` for a GRU, of shape (B, H); None stands for zeros. `lengths` (B,), each 0..T, are the
    sequences' own numbers of steps, as in a packed sequence. Arguments are never modified.

    >>> net = Net([{"type": "lstm", "name": "rnn"}, {"type": "linear", "name": "decoder"}])
    >>> rng = np.random.default_rng(0)
    >>> parameters = net.init(rng, input_size=3, sizes={"rnn": 8, "decoder": 2})
    >>> y, state = net.apply(parameters, np.ones((5, 4, 3), np.float32))
    >>> y.shape, y.dtype, state[0][0].shape
    ((5, 4, 2), dtype('float32'), (4, 8))
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], batch_first: bool = False) -> None:
        self.layers = complete(layers)
        self.batch_first = batch_first
        self.chain = _build.build(self.layers)  # one object per layer, stacks taken apart

    def __repr__(self) -> str:
        return f"Net({self.layers}, batch_first={self.batch_first})"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the chain.

        >>> Net([{"type": "gru", "name": "", "bias": False}]).parameter_names
        ('weight_ih_l0', 'weight_hh_l0')
        """
        return tuple(name for layer in self.chain for name in layer.names)

    def init(
        self,
        rng: np.random.Generator,
        *,
        input_size: int,
        sizes: Mapping[str, int | Sequence[int]],
        dtype: Any = np.float32,
    ) -> dict[str, Array]:
        """Random initial parameters, distributed as PyTorch's defaults.

        `input_size` is the vocabulary's size below an embedding, else the number of features.
        `sizes` gives, by layer name, the number of features of an embedding or linear layer and
        the hidden size of a recurrent one: one number, or one per layer and direction in the order
        of the states. Recurrent parameters are uniform within 1/sqrt(H) of 0, linear ones within
        1/sqrt(inputs), embeddings standard normal.

        >>> net = Net([{"type": "gru", "name": "rnn", "num_layers": 2}])
        >>> parameters = net.init(np.random.default_rng(0), input_size=3, sizes={"rnn": (8, 5)})
        >>> parameters["rnn.weight_ih_l1"].shape
        (15, 8)
        """
        dtype = _build.float_dtype("`dtype`", np.dtype(dtype))
        check(input_size >= 1, f"`input_size` is {input_size}; it must be a positive integer")
        remaining = {
            name: iter(given) for name, given in _build.check_sizes(self.layers, sizes).items()
        }
        parameters: dict[str, Array] = {}
        width = input_size
        for layer in self.chain:
            if layer.names:
                own = [next(remaining[layer.name]) for _ in layer.directions or (None,)]
                parameters |= layer.init(rng, width, own)
                width = sum(own)
        return {name: array.astype(dtype) for name, array in parameters.items()}

    def apply(
        self,
        parameters: Parameters,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        engine: str = "auto",
    ) -> tuple[Array, State]:
        """Run the net. Returns the output, time first or batch first as x, and the new state.

        `engine` is "numpy", "numba", or "auto": numba where it is installed. What comes after a
        recurrent layer still runs in the padding, on zeros.

        >>> net = Net([{"type": "embedding", "name": "embedding"}, {"type": "gru", "name": "rnn"}])
        >>> sizes = {"embedding": 4, "rnn": 6}
        >>> parameters = net.init(np.random.default_rng(0), input_size=10, sizes=sizes)
        >>> tokens = np.array([[1, 7], [2, 8], [3, 9]])
        >>> y, state = net.apply(parameters, tokens)
        >>> _, half = net.apply(parameters, tokens[:1])
        >>> y_rest, _ = net.apply(parameters, tokens[1:], half)
        >>> np.allclose(y[1:], y_rest)
        True
        """
        return self.bind(parameters, engine=engine)(x, state, lengths)

    def forward(
        self,
        parameters: Parameters,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        gates: Mapping[str, Any] | None = None,
        engine: str = "auto",
    ) -> tuple[Array, State, Tape]:
        """As `apply`, with explicit gates, and with the tape for `backward`.

        `gates` maps an axis to a vector that multiplies its neurons at their readers and nowhere
        else: "x", what the first recurrent layer reads; "h0", "h1", ... the hidden neurons of the
        recurrent layers, counted through the chain; "f0" and "b0" in place of "h0" where the layer
        is bidirectional; "x2", what recurrent layer 2 reads where it follows a linear layer. The
        readers of h0 are `weight_hh` of its own layer and the matrix of the next layer. States,
        products and y see ungated values (Wen et al., arXiv 1906.06847).
        Gating equals a net whose weights' columns are multiplied by the gates.

        >>> net = Net([{"type": "lstm", "name": "rnn"}])
        >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
        >>> x = np.ones((4, 1, 2), np.float32)
        >>> y, _, tape = net.forward(parameters, x, gates={"x": [1, 0], "h0": [1, 1, 0.5]})
        >>> gradients, dx, _, gate_gradients = net.backward(tape, np.ones_like(y))
        >>> bool(dx[0, 0, 1] == 0), sorted(gate_gradients)
        (True, ['h0', 'x'])
        """
        run, x, state = self._prepare(self._pass(parameters, engine), x, state, lengths, gates)
        y, state, records = self._forward(run, x, state)
        return self._swap(y), state, Tape(run, tuple(records), y.shape, tuple(gates or ()))

    def backward(
        self, tape: Tape, dy: Any, dstate: Any = None
    ) -> tuple[dict[str, Array], Array | None, State, dict[str, Array]]:
        """Backward through time: the gradients of anything computed from y and the new state.

        dy has the shape of y; dstate is laid out as the state, None for zeros. Returns the
        gradients of the parameters by name, of x (None below an embedding), of the initial state,
        and of the gates by axis.
        """
        shape = self._swap_shape(tape.shape)
        check(np.shape(dy) == shape, f"`dy` has shape {np.shape(dy)}; expected {shape}, as y")
        dy = self._swap(np.asarray(dy, tape.run.dtype))
        return self._backward(tape, dy, dstate, need_dx=True)

    def loss(
        self,
        parameters: Parameters,
        x: Any,
        targets: Any,
        state: Any = None,
        *,
        loss: str = "cross_entropy",
        lengths: Any = None,
        engine: str = "auto",
    ) -> tuple[float, State]:
        """The loss of `loss_and_gradients` without the gradients, and the new state."""
        y, state = self.apply(parameters, x, state, lengths=lengths, engine=engine)
        y = self._swap(y)
        return self._loss(loss, y, targets, _build.check_lengths(lengths, *y.shape[:2]))[0], state

    def loss_and_gradients(
        self,
        parameters: Parameters,
        x: Any,
        targets: Any,
        state: Any = None,
        *,
        loss: str = "cross_entropy",
        lengths: Any = None,
        engine: str = "auto",
    ) -> tuple[float, dict[str, Array], State]:
        """One training step's loss and parameter gradients, and the new state.

        `loss` is "cross_entropy", the mean over positions in nats, with integer targets of the
        shape of the positions; or "mse", the mean over elements, with targets of y's shape.
        With `lengths` the mean runs over each sequence's own steps. The new state carries no
        gradient: passing it on trains by truncated backpropagation through time.

        >>> net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "decoder"}])
        >>> sizes = {"rnn": 4, "decoder": 3}
        >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes=sizes)
        >>> x, targets = np.ones((5, 1, 2)), np.zeros((5, 1), int)
        >>> before, gradients, _ = net.loss_and_gradients(parameters, x, targets)
        >>> after, _ = net.loss({k: p - gradients[k] for k, p in parameters.items()}, x, targets)
        >>> after < before
        True
        """
        run, x, state = self._prepare(self._pass(parameters, engine), x, state, lengths)
        y, state, records = self._forward(run, x, state)
        value, dy = self._loss(loss, y, targets, run.lengths)
        tape = Tape(run, tuple(records), y.shape, ())
        return value, self._backward(tape, dy, None, need_dx=False)[0], state

    def bind(
        self,
        parameters: Parameters,
        *,
        input_kept: tuple[Any, int] | None = None,
        kept: Sequence[tuple[Any, int]] | None = None,
        engine: str = "auto",
        exact: bool = False,
    ) -> StreamingNet:
        """The net with its parameters, ready to run on sequences or step by step.

        A pruned net can take what its dense model took. `input_kept` gives the indices of the
        input features that it still reads and how many there were: x then has the dense width.
        `kept` gives the same for the hidden neurons of every recurrent layer and direction: states
        of the dense size are then accepted beside small ones.

        Compiled float32 activations are within 4 units in the last place, which is many times
        faster than the library's functions; `exact` takes those, computed in float64.

        >>> net = Net([{"type": "linear", "name": "decoder", "bias": False}])
        >>> small = net.bind({"decoder.weight": np.ones((1, 2))}, input_kept=([0, 2], 3))
        >>> small.step(np.array([1.0, 20.0, 300.0]))
        (array([301.]), ())
        """
        return StreamingNet(self, parameters, input_kept, kept, engine, exact)

    def _pass(self, parameters: Parameters, engine: str, keep: bool = True) -> Pass:
        """What all passes with these parameters have in common, after checking them."""
        dtype, axes = _build.check_parameters(self.chain, parameters)
        return Pass(parameters, dtype, axes, _build.find_scans(engine), keep)

    def _prepare(
        self, run: Pass, x: Any, state: Any, lengths: Any, gates: Mapping[str, Any] | None = None
    ) -> tuple[Pass, Array, State]:
        """Check the arguments of one pass; x comes back time first."""
        size = _build.input_size(self.chain, run.parameters)
        x = self._check_sequence(np.asarray(x), size, run.dtype)
        state = _build.check_state(state, self.chain, run.axes, x.shape[1:2], run.dtype)
        lengths = _build.check_lengths(lengths, *x.shape[:2])
        gates = _build.check_gates(gates, run.axes, run.dtype)
        return replace(run, lengths=lengths, gates=gates), x, state

    def _check_sequence(self, x: Array, size: int | None, dtype: np.dtype[Any]) -> Array:
        """The input of a sequence, time first."""
        tokens = isinstance(self.chain[0], Embedding)
        if x.ndim != 3 - tokens:
            expected = ("B, T" if self.batch_first else "T, B") + ("" if tokens else ", features")
            raise L0GateError(f"`x` has shape {x.shape}; expected ({expected})")
        return self._swap(_build.check_input(x, tokens, size, dtype))

    def _apply(self, run: Pass, x: Any, state: Any, lengths: Any) -> tuple[Array, State]:
        run, x, state = self._prepare(run, x, state, lengths)
        y, state, _ = self._forward(run, x, state)
        return self._swap(y), state

    def _forward(self, run: Pass, x: Array, state: State) -> tuple[Array, State, list[Any]]:
        records: list[Any] = []
        new_state: State = ()
        y: Input = x
        for layer in self.chain:
            own, state = state[: len(layer.directions)], state[len(layer.directions) :]
            y, own, record = layer.forward(run, y, own)
            new_state += own
            if run.keep:
                records.append(record)
        assert isinstance(y, np.ndarray)  # whatever follows an embedding writes its output out
        return y, new_state, records

    def _backward(
        self, tape: Tape, dy: Array, dstate: Any, need_dx: bool
    ) -> tuple[dict[str, Array], Array | None, State, dict[str, Array]]:
        run = replace(tape.run, gradients=Gradients(), gate_gradients=Gradients())
        dstate = _build.check_state(
            dstate, self.chain, run.axes, dy.shape[1:2], run.dtype, name="dstate"
        )
        dstate0: State = ()
        dx: Array | None = dy
        for index in reversed(range(len(self.chain))):
            layer = self.chain[index]
            split = len(dstate) - len(layer.directions)
            dstate, own = dstate[:split], dstate[split:]
            assert dx is not None  # only the first layer can be an embedding
            dx, own = layer.backward(run, tape.records[index], dx, own, need_dx or index > 0)
            dstate0 = own + dstate0
        gradients = {name: run.gradients[name] for name in self.parameter_names}
        gate_gradients = {axis: run.gate_gradients[axis] for axis in tape.gated}
        return gradients, None if dx is None else self._swap(dx), dstate0, gate_gradients

    def _loss(
        self, loss: str, y: Array, targets: Any, lengths: Array | None
    ) -> tuple[float, Array]:
        check(loss in LOSSES, f"`loss` is {loss!r}; allowed: {', '.join(LOSSES)}")
        targets = np.asarray(targets)
        if targets.ndim >= 2:  # otherwise the loss says what is wrong with the shape
            targets = self._swap(targets)
        if lengths is None:
            # The output of a linear layer is not on any tape.
            return LOSSES[loss](y, targets, overwrite=isinstance(self.chain[-1], Linear))
        valid = np.arange(len(y))[:, None] < lengths
        check(
            targets.shape[:2] == valid.shape,
            f"`targets` have shape {self._swap_shape(targets.shape)}; "
            f"expected {self._swap_shape(valid.shape)}",
        )
        value, gradient = LOSSES[loss](y[valid], targets[valid], overwrite=True)
        dy = np.zeros_like(y)
        dy[valid] = gradient
        return value, dy

    def _swap(self, x: Array) -> Array:
        return np.swapaxes(x, 0, 1) if self.batch_first else x

    def _swap_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[1], shape[0], *shape[2:]) if self.batch_first else shape
