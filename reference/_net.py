"""A chain of layers as pure functions over named parameters: forward, backward, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate._vocabulary import complete
from l0gate.reference._build import build
from l0gate.reference._checks import (
    check_dtype,
    check_gates,
    check_lengths,
    check_parameters,
    check_sequence,
    check_sizes,
    check_state,
    input_size_of,
    reads_tokens,
)
from l0gate.reference._engine import find_engine
from l0gate.reference._layers import (
    Gradients,
    Layer,
    Linear,
    Parameters,
    Pass,
    RecurrentState,
    run_chain,
)
from l0gate.reference._losses import LOSSES, Teacher, check_teacher, loss_of
from l0gate.reference._scan import Array
from l0gate.reference.runtime.bound_net import StreamingNet


class Tape(NamedTuple):
    """What `Net.backward` needs from `Net.forward`."""

    run: Pass
    layers: tuple[Any, ...]  # the tape of each layer
    shape: tuple[int, ...]  # of the output, time first
    gated: tuple[str, ...]  # the axes whose gates were given


class Net:
    """A net of embedding, recurrent, convolution, linear and other layers.

    `layers` is a list of plain dicts, so that a net can be written to JSON. These train:

    - `{"type": "embedding", "name": "embedding"}`, only as the first layer
    - `{"type": "lstm", "name": "rnn", "num_layers": 1, "bidirectional": False, "bias": True}`
    - `{"type": "gru", "name": "rnn", ..., "reset_after": True}`
    - `{"type": "linear", "name": "decoder", "bias": True}`
    - `{"type": "activation", "function": "tanh"}`, or `"sigmoid"`, `"relu"`

    These run forward only: simple RNNs, other activation functions, convolutions, batch
    normalisation, sums, products and concatenations of earlier outputs, and several outputs. They
    are described in `l0gate/_vocabulary.py`, with all keys.

    Keys other than `type`, `name` and `function` may be left out; the values above are their
    defaults. Parameters have PyTorch's names, shapes and gate order (`rnn.weight_ih_l0`,
    `decoder.bias`; no dot where the name is empty). Sizes come from the arrays, so every layer and
    direction may have a size of its own. All parameters are float32, or all float64, and that is
    the dtype of everything computed.

    Shapes: if the net begins with an embedding, x is integers (T, B), else floats (T, B, features).
    y is (T, B, features); a net that ends in "outputs" returns a tuple of such arrays. With
    `batch_first`, B comes before T in all of them. A state is a tuple with one entry per recurrent
    layer and direction of the whole net (l0, l0_reverse, l1, ...): `(h, c)` for an LSTM, else `h`,
    each of shape (B, H); None stands for zeros. A causal convolution has an entry too, its last
    inputs (B, (K - 1) dilation, features).
    `lengths` (B,), each 0..T, gives every sequence its own number of steps, as in a packed
    sequence. Arguments are never modified.

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
        self.chain = build(self.layers)  # one object per layer of a recurrent stack

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Layers in pickles of 0.1.0 do not know which outputs they read.
        self.layers = complete(self.layers)
        self.chain = build(self.layers)

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
        """Random initial parameters, with the distributions of PyTorch's defaults.

        `input_size` is the vocabulary size if the net begins with an embedding, else the number of
        features. `sizes` maps the name of an embedding or linear layer to its number of output
        features, and the name of a recurrent layer to its hidden size: one number for all, or one
        per layer and direction, in the order of the state. Recurrent parameters are uniform
        within 1/sqrt(H) of 0, linear ones within 1/sqrt(inputs), embeddings standard normal.

        >>> net = Net([{"type": "gru", "name": "rnn", "num_layers": 2}])
        >>> parameters = net.init(np.random.default_rng(0), input_size=3, sizes={"rnn": (8, 5)})
        >>> parameters["rnn.weight_ih_l1"].shape
        (15, 8)
        """
        try:
            dtype = np.dtype(dtype)
        except TypeError:
            raise L0GateError(f"`dtype` is {dtype!r}; expected float32 or float64") from None
        check_dtype("`dtype`", dtype)
        check(
            isinstance(rng, np.random.Generator),
            f"`rng` is {rng!r}; it must be a NumPy generator, numpy.random.default_rng(0)",
        )
        for layer in self.chain:
            check(
                not layer.joins and type(layer).init is not Layer.init,
                f"{layer.where} gets no random parameters; `init` is for nets that train in NumPy",
            )
        whole = isinstance(input_size, (int, np.integer)) and not isinstance(input_size, bool)
        check(
            whole and 1 <= input_size < 2**31,
            f"`input_size` is {input_size}; it must be a positive integer",
        )
        remaining = {name: iter(given) for name, given in check_sizes(self.layers, sizes).items()}
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
    ) -> tuple[Array, RecurrentState]:
        """Run the net. Returns the output y, time first or batch first as x, and the new state.

        `engine` is "numpy", "numba", or "auto": numba where it is installed. With `lengths`, the
        output of recurrent layers is zero in the padding; later layers read these zeros.

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
    ) -> tuple[Array, RecurrentState, Tape]:
        """As `apply`, with explicit gates, and with the tape for `backward`.

        `gates` maps axes to vectors. An axis is a set of neurons: "x", the features that the first
        recurrent layer reads; "h0", "h1", ..., the hidden neurons of the recurrent layers, counted
        through the chain; "f0" and "b0" in place of "h0" where the layer is bidirectional; "x2",
        the features that recurrent layer 2 reads where it follows a linear layer. Gates multiply
        neurons only where they are the input of a matrix: h0 is the input of `weight_hh` of its own
        layer and of the matrix of the next layer. States, elementwise products and y are ungated
        (Wen et al., arXiv 1906.06847). So gating is the same as multiplying the columns of these
        matrices.

        >>> net = Net([{"type": "lstm", "name": "rnn"}])
        >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3})
        >>> x = np.ones((4, 1, 2), np.float32)
        >>> y, _, tape = net.forward(parameters, x, gates={"x": [1, 0], "h0": [1, 1, 0.5]})
        >>> gradients, dx, _, gate_gradients = net.backward(tape, np.ones_like(y))
        >>> bool(dx[0, 0, 1] == 0), sorted(gate_gradients)
        (True, ['h0', 'x'])
        """
        self._check_trains()
        run, x, state = self._prepare(parameters, x, state, lengths, gates, engine)
        y, state, tapes = run_chain(self.chain, run, x, state)
        return self._swap(y), state, Tape(run, tuple(tapes), y.shape, tuple(gates or ()))

    def backward(
        self, tape: Tape, dy: Any, dstate: Any = None
    ) -> tuple[dict[str, Array], Array | None, RecurrentState, dict[str, Array]]:
        """Backpropagation through time, for a loss that is a function of y and the new state.

        dy is the gradient of the loss with respect to y, of y's shape. dstate is the gradient with
        respect to the new state, a tuple like the state; None stands for zeros. Returns the
        gradients of the parameters by name, of x (None for a net with an embedding), of the initial
        state, and of the gates by axis.
        """
        shape = self._swap_shape(tape.shape)
        if np.shape(dy) != shape:
            raise L0GateError(f"`dy` has shape {np.shape(dy)}; expected {shape}, as y")
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
        teacher: Any = None,
        teacher_weight: float = 0.5,
        temperature: float = 1.0,
        lengths: Any = None,
        engine: str = "auto",
    ) -> tuple[float, RecurrentState]:
        """The loss and the new state, without gradients: arguments as in `loss_and_gradients`."""
        y, state = self.apply(parameters, x, state, lengths=lengths, engine=engine)
        check(isinstance(y, np.ndarray), "the net has several outputs; a loss needs one")
        y, given = self._swap(y), self._teacher(loss, teacher, teacher_weight, temperature)
        return self._loss(loss, y, targets, given, check_lengths(lengths, *y.shape[:2]))[0], state

    def loss_and_gradients(
        self,
        parameters: Parameters,
        x: Any,
        targets: Any,
        state: Any = None,
        *,
        loss: str = "cross_entropy",
        teacher: Any = None,
        teacher_weight: float = 0.5,
        temperature: float = 1.0,
        lengths: Any = None,
        engine: str = "auto",
    ) -> tuple[float, dict[str, Array], RecurrentState]:
        """The loss and the parameter gradients of one training step, and the new state.

        `loss` is "cross_entropy", the mean over all positions in nats, with integer targets (T, B);
        or "mse", the mean over all elements, with targets of y's shape. With `batch_first`,
        targets are (B, T, ...). With `lengths`, padded positions are left out of the mean.

        `teacher` holds the outputs of another net on x, in y's shape, as soft targets (Hinton,
        Vinyals, Dean, arXiv 1503.02531). The loss is then (1 - `teacher_weight`) times the above
        plus `teacher_weight` times the loss against them: for "cross_entropy", where they are
        logits, T^2 KL(softmax(teacher / T) || softmax(y / T)) with T = `temperature`; for "mse",
        the mean squared error.

        Passing the new state to the next call is truncated backpropagation through time: gradients
        do not flow back through it.

        >>> net = Net([{"type": "gru", "name": "rnn"}, {"type": "linear", "name": "decoder"}])
        >>> sizes = {"rnn": 4, "decoder": 3}
        >>> parameters = net.init(np.random.default_rng(0), input_size=2, sizes=sizes)
        >>> x, targets = np.ones((5, 1, 2)), np.zeros((5, 1), int)
        >>> before, gradients, _ = net.loss_and_gradients(parameters, x, targets)
        >>> after, _ = net.loss({k: p - gradients[k] for k, p in parameters.items()}, x, targets)
        >>> after < before
        True

        A net learns from a larger one, `teacher`, and from the targets:

        >>> sizes = {"rnn": 20, "decoder": 3}
        >>> teacher = net.init(np.random.default_rng(1), input_size=2, sizes=sizes)
        >>> logits, _ = net.apply(teacher, x)
        >>> soft, gradients, _ = net.loss_and_gradients(parameters, x, targets, teacher=logits)
        >>> soft < before  # the other half is a divergence, 0 where the two nets agree
        True
        """
        self._check_trains()
        run, x, state = self._prepare(parameters, x, state, lengths, None, engine)
        y, state, tapes = run_chain(self.chain, run, x, state)
        given = self._teacher(loss, teacher, teacher_weight, temperature)
        value, dy = self._loss(loss, y, targets, given, run.lengths)
        tape = Tape(run, tuple(tapes), y.shape, ())
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

        A pruned net can take the inputs and the states of its dense model. `input_kept` is a pair:
        the indices of the input features that were kept, and the number of features before pruning.
        x must then have all features of the dense model. `kept` lists such a pair for the hidden
        neurons of every recurrent layer and direction. A state may then have the size of the dense
        or of the pruned model.

        Compiled float32 activations are approximations, within 4 units in the last place and many
        times faster than the library's functions. With `exact` the library's functions are used,
        computed in float64.

        >>> net = Net([{"type": "linear", "name": "decoder", "bias": False}])
        >>> small = net.bind({"decoder.weight": np.ones((1, 2))}, input_kept=([0, 2], 3))
        >>> small.step(np.array([1.0, 20.0, 300.0]))
        (array([301.]), ())
        """
        return StreamingNet(self, parameters, input_kept, kept, engine, exact)

    def _prepare(
        self,
        parameters: Parameters,
        x: Any,
        state: Any,
        lengths: Any,
        gates: Mapping[str, Any] | None,
        engine: str,
    ) -> tuple[Pass, Array, RecurrentState]:
        """Check the arguments. Returns a `Pass`, x as (T, B, ...), and the state.

        A state of None becomes zeros.
        """
        dtype, axis_sizes = check_parameters(self.chain, parameters)
        found = find_engine(engine)
        size = input_size_of(self.chain, parameters)
        tokens = reads_tokens(self.chain)
        x = check_sequence(np.asarray(x), tokens, size, dtype, self.batch_first)
        state = check_state(state, self.chain, parameters, x.shape[1:2], dtype)
        lengths = check_lengths(lengths, *x.shape[:2])
        gates = check_gates(gates, axis_sizes, dtype)
        return Pass(parameters, dtype, axis_sizes, found, lengths=lengths, gates=gates), x, state

    def _check_trains(self) -> None:
        """Refuse a net with a layer that only runs forward, or that is not one chain."""
        for index, layer in enumerate(self.chain):
            check(
                layer.trains and layer.sources == (index,),
                f"{layer.where} only runs forward here; a net with it is trained in its own"
                " framework",
            )

    def _backward(
        self, tape: Tape, dy: Array, dstate: Any, need_dx: bool
    ) -> tuple[dict[str, Array], Array | None, RecurrentState, dict[str, Array]]:
        run = replace(tape.run, gradients=Gradients(), gate_gradients=Gradients())
        dstate = check_state(
            dstate, self.chain, run.parameters, dy.shape[1:2], run.dtype, name="dstate"
        )
        dstate0: RecurrentState = ()
        dx: Array | None = dy
        for index in reversed(range(len(self.chain))):
            layer = self.chain[index]
            split = len(dstate) - len(layer.directions)
            dstate, own = dstate[:split], dstate[split:]
            assert dx is not None  # only the first layer can be an embedding
            dx, own = layer.backward(run, tape.layers[index], dx, own, need_dx or index > 0)
            dstate0 = own + dstate0
        gradients = {name: run.gradients[name] for name in self.parameter_names}
        gate_gradients = {axis: run.gate_gradients[axis] for axis in tape.gated}
        return gradients, None if dx is None else self._swap(dx), dstate0, gate_gradients

    def _teacher(
        self, loss: str, outputs: Any, weight: float, temperature: float
    ) -> Teacher | None:
        if loss not in LOSSES:
            raise L0GateError(f"`loss` is {loss!r}; allowed: {', '.join(LOSSES)}")
        if outputs is None:
            return None
        check_teacher(loss, weight, temperature)
        outputs = np.asarray(outputs)
        return Teacher(
            self._swap(outputs) if outputs.ndim >= 2 else outputs, weight, float(temperature)
        )

    def _loss(
        self, loss: str, y: Array, targets: Any, teacher: Teacher | None, lengths: Array | None
    ) -> tuple[float, Array]:
        """The loss and its gradient with respect to y, which is time first; without the padding."""
        targets = np.asarray(targets)
        if targets.ndim >= 2:  # with fewer dimensions, the loss raises
            targets = self._swap(targets)
        if lengths is None:
            # A linear layer needs no output in its backward pass, so it may be overwritten.
            return loss_of(loss, y, targets, teacher, overwrite=isinstance(self.chain[-1], Linear))
        valid = np.arange(len(y))[:, None] < lengths
        if targets.shape[:2] != valid.shape:
            raise L0GateError(
                f"`targets` have shape {self._swap_shape(targets.shape)}; "
                f"expected {self._swap_shape(valid.shape)}"
            )
        if teacher is not None:
            if teacher.outputs.shape != y.shape:
                raise L0GateError(
                    f"`teacher` has shape {self._swap_shape(teacher.outputs.shape)}; "
                    f"expected {self._swap_shape(y.shape)}"
                )
            teacher = teacher._replace(outputs=teacher.outputs[valid])
        value, gradient = loss_of(loss, y[valid], targets[valid], teacher, overwrite=True)
        dy = np.zeros_like(y)
        dy[valid] = gradient
        return value, dy

    def _swap(self, x: Array) -> Array:
        return np.swapaxes(x, 0, 1) if self.batch_first else x

    def _swap_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[1], shape[0], *shape[2:]) if self.batch_first else shape
