"""A net as the writers of files see it: a list of layers that hold their arrays.

`layers_of` makes it from a saved model, and `l0gate.formats.assembly` makes a saved model from it.
All arrays are float32. Gate blocks stand in torch's order: i, f, g, o for an LSTM and r, z, n for
a GRU. Every recurrent layer of a stack is an entry of its own, so that sizes may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from l0gate._errors import L0GateError
from l0gate._saved_model import SavedModel
from l0gate._vocabulary import SLOPES
from l0gate.layout.stacked import join

__all__ = [
    "BLOCKS",
    "Activation",
    "Direction",
    "Embedding",
    "Layer",
    "Linear",
    "Other",
    "Recurrent",
    "Selection",
    "Skip",
    "input_size",
    "layers_of",
    "output_size",
    "recurrent_layers",
    "with_all_inputs",
    "with_storable_choice",
]

Array: TypeAlias = np.ndarray
BLOCKS = {"lstm": 4, "gru": 3, "rnn": 1}  # gate blocks of each cell


@dataclass(frozen=True, eq=False)
class Selection:
    """Takes the features `index` of the `size` features that the net is given."""

    index: Array
    size: int


@dataclass(frozen=True, eq=False)
class Embedding:
    """Replaces a token by its row of `weight` (V, E)."""

    name: str
    weight: Array


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction of a recurrent layer with G gate blocks, I inputs and H neurons.

    `weight_ih` (G H, I), `weight_hh` (G H, H); `bias_ih` and `bias_hh` (G H,), both or neither.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None

    def biases(self) -> tuple[Array, Array]:
        """`bias_ih` and `bias_hh`, zeros where there are none."""
        zeros = np.zeros(len(self.weight_ih), np.float32)
        return (
            zeros if self.bias_ih is None else self.bias_ih,
            zeros if self.bias_hh is None else self.bias_hh,
        )

    @property
    def hidden(self) -> int:
        return int(self.weight_hh.shape[1])


@dataclass(frozen=True, eq=False)
class Recurrent:
    """One recurrent layer of one direction, or of two whose outputs stand side by side.

    `cell` is "lstm", "gru" or "rnn". `reset_after` is for a GRU: whether the reset gate multiplies
    the recurrent product, as in torch, or the state before it. `activation` is the function of
    candidate and output, `recurrent_activation` that of the gates.
    """

    name: str
    cell: str
    directions: tuple[Direction, ...]
    reset_after: bool = True
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"

    @property
    def inputs(self) -> int:
        return int(self.directions[0].weight_ih.shape[1])

    @property
    def outputs(self) -> int:
        return sum(direction.hidden for direction in self.directions)

    @property
    def standard(self) -> bool:
        """Whether it has the functions that almost every program has: tanh and sigmoid."""
        return self.activation == "tanh" and self.recurrent_activation == "sigmoid"


@dataclass(frozen=True, eq=False)
class Linear:
    """y = weight x + bias, with `weight` (O, I) and `bias` (O,) or None."""

    name: str
    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Activation:
    """An elementwise function by its name in `l0gate._chain`, such as "tanh"."""

    function: str


@dataclass(frozen=True)
class Skip:
    """Adds what the net was given to the output: the last layer of many amplifier models.

    The input has as many features as the output, or one, which is added to every output.
    """


@dataclass(frozen=True, eq=False)
class Other:
    """Any other layer of a chain, such as conv1d: its entry as in `l0gate._chain`, and its arrays.

    The names in `arrays` are without the layer's name: "weight". `width` is how many features it
    writes, None for as many as it reads.
    """

    entry: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    width: int | None = None

    @property
    def name(self) -> str:
        return str(self.entry.get("name", ""))


Layer: TypeAlias = Selection | Embedding | Recurrent | Linear | Activation | Skip | Other


def layers_of(saved: SavedModel) -> list[Layer]:
    """The layers of a saved model, with their arrays.

    Raises `L0GateError` if the model is no chain of layers, or has layers that no format of this
    package holds.

    >>> import l0gate
    >>> net = l0gate.get_backend("numpy").net([{"type": "gru", "name": "rnn"}])
    >>> small = net.bind(net.init(np.random.default_rng(0), input_size=2, sizes={"rnn": 3}))
    >>> layer, = layers_of(l0gate.get_backend("numpy").describe(small))
    >>> layer.cell, layer.inputs, layer.outputs
    ('gru', 2, 3)
    """
    chain = saved.chain
    if chain is None:
        raise L0GateError(
            "`net` is no chain of embedding, recurrent, linear and activation layers, which is what"
            " files for other programs can hold; for a torch model of another shape use"
            " torch.onnx.export, which takes small models as it takes any other"
        )
    parameters = {name: np.asarray(a, np.float32) for name, a in saved.float_parameters().items()}
    found: list[Layer] = []
    index, size = saved.input_kept or (np.zeros(0), 0)
    if len(index) != size:
        found.append(Selection(np.asarray(index, np.int64), int(size)))
    layers = list(chain.layers)
    for position, layer in enumerate(layers):
        if _is_skip(layers, position):
            found.append(Skip())
            continue
        kind = layer["type"]
        if kind == "embedding":
            found.append(Embedding(layer["name"], parameters[join(layer["name"], "weight")]))
        elif kind == "linear":
            bias = parameters[join(layer["name"], "bias")] if layer["bias"] else None
            weight = parameters[join(layer["name"], "weight")]
            found.append(Linear(layer["name"], weight, bias))
        elif kind == "activation":
            function = layer["function"]
            usual = layer.get("slope") == SLOPES.get(function)
            found.append(Activation(function) if usual else Other(layer))
        elif kind in BLOCKS:
            found += [_recurrent(parameters, layer, depth) for depth in range(layer["num_layers"])]
        else:
            name = str(layer.get("name", ""))
            prefix = f"{name}." if name else ""
            own = {n.removeprefix(prefix): a for n, a in parameters.items() if n.startswith(prefix)}
            found.append(Other(layer, own if "name" in layer else {}))
            continue
        if layer.get("reads") is not None:
            found[-1] = Other(layer)  # no format holds a layer that reads another than the last
    return found


def _is_skip(layers: Sequence[Mapping[str, Any]], position: int) -> bool:
    """Whether this is the last layer, and adds the net's input to the output of the one before."""
    layer = layers[position]
    if layer["type"] != "add" or position != len(layers) - 1 or position == 0:
        return False
    before = layers[position - 1].get("label")
    return before is not None and set(layer["inputs"]) == {before, "input"}


def _recurrent(parameters: Mapping[str, Array], layer: Mapping[str, Any], depth: int) -> Recurrent:
    name = str(layer["name"])

    def direction(suffix: str) -> Direction:
        stems = ("weight_ih", "weight_hh") + (("bias_ih", "bias_hh") if layer["bias"] else ())
        return Direction(*(parameters[join(name, f"{s}_l{depth}{suffix}")] for s in stems))

    ends = ("", "_reverse") if layer["bidirectional"] else ("",)
    return Recurrent(
        name if layer["num_layers"] == 1 else f"{name}_l{depth}",
        str(layer["type"]),
        tuple(direction(suffix) for suffix in ends),
        bool(layer.get("reset_after", True)),
        str(layer.get("activation", "tanh")),
        str(layer.get("recurrent_activation", "sigmoid")),
    )


def recurrent_layers(layers: Sequence[Layer]) -> list[Recurrent]:
    """The recurrent layers, in order."""
    return [layer for layer in layers if isinstance(layer, Recurrent)]


def input_size(layers: Sequence[Layer]) -> int | None:
    """The number of features that the net is given; None if it reads tokens.

    Raises `L0GateError` if no layer says so.
    """
    for layer in layers:
        if isinstance(layer, Embedding):
            return None
        if isinstance(layer, Selection):
            return layer.size
        if isinstance(layer, Recurrent):
            return layer.inputs
        if isinstance(layer, Linear):
            return int(layer.weight.shape[1])
        if isinstance(layer, Other) and layer.entry["type"] == "conv1d":
            return int(layer.arrays["weight"].shape[1] * layer.entry.get("groups", 1))
    raise L0GateError("`net` has no layer with weights; there is nothing to write")


def output_size(layers: Sequence[Layer]) -> int:
    """The number of features of the net's output."""
    for layer in reversed(layers):
        if isinstance(layer, Recurrent):
            return layer.outputs
        if isinstance(layer, Linear):
            return len(layer.weight)
        if isinstance(layer, Embedding):
            return int(layer.weight.shape[1])
    raise L0GateError("`net` has no layer with weights; there is nothing to write")


def with_all_inputs(layers: Sequence[Layer]) -> list[Layer]:
    """The same net without `Selection`: the layer after it gets zero columns for the others.

    For formats that cannot take some of the features. The result is exact.
    """
    found: list[Layer] = []
    selection: Selection | None = None
    for layer in layers:
        if isinstance(layer, Selection):
            selection = layer
        elif selection is not None and isinstance(layer, (Recurrent, Linear)):
            found.append(_scattered(layer, selection))
            selection = None
        else:
            found.append(layer)
    return found


def with_storable_choice(layers: Sequence[Layer]) -> Sequence[Layer]:
    """The same net, with a choice of inputs only where a saved net can keep it.

    That is before a recurrent layer, whose input features are an axis, and in increasing order.
    """
    first, following = (*layers, None, None)[:2]
    if not isinstance(first, Selection):
        return layers
    kept = isinstance(following, Recurrent) and bool((np.diff(first.index) > 0).all())
    return layers if kept else with_all_inputs(layers)


def _scattered(layer: Recurrent | Linear, selection: Selection) -> Layer:
    def wide(weight: Array) -> Array:
        full = np.zeros((len(weight), selection.size), np.float32)
        full[:, selection.index] = weight
        return full

    if isinstance(layer, Linear):
        return replace(layer, weight=wide(layer.weight))
    return replace(
        layer,
        directions=tuple(replace(d, weight_ih=wide(d.weight_ih)) for d in layer.directions),
    )
