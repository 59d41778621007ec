"""Patterns of stacked recurrent layers, with or without an embedding and a linear layer around.

Parameters have torch's names: `rnn.weight_ih_l0`, `rnn.weight_hh_l0_reverse`.
"""

from __future__ import annotations

from collections.abc import Sequence

from l0gate._errors import check

#: How many blocks over the hidden neurons a recurrent matrix has, one for each gate of the cell.
BLOCKS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_MOST_LAYERS = 1000  # a damaged file must not fill the memory

Patterns = dict[str, str | Sequence[str]]


def check_num_layers(where: str, given: object) -> None:
    """Refuse a number of layers that is not an int from 1 to 1,000."""
    valid = isinstance(given, int) and not isinstance(given, bool)
    check(
        valid and 1 <= given <= _MOST_LAYERS,  # type: ignore[operator]
        f"{where} {given!r}; it must be an int from 1 to {_MOST_LAYERS}",
    )


def join(name: str, parameter: str) -> str:
    """The name of a layer's parameter; as in torch, without a dot where the layer has no name."""
    return f"{name}.{parameter}" if name else parameter


def recurrent_patterns(
    cell: str,
    name: str,
    num_layers: int,
    *,
    bidirectional: bool,
    bias: bool,
    features: str,
    depth: int = 0,
) -> tuple[Patterns, list[tuple[str, ...]]]:
    """The patterns of a recurrent module, and the axes of each of its layers.

    Layer k writes the axis hk, or fk and bk for its two directions. The first k is `depth`.
    `features` is the pattern of what the first layer reads.

    >>> recurrent_patterns("gru", "rnn", 1, bidirectional=False, bias=False, features="x")
    ({'rnn.weight_ih_l0': '(3 h0) <- x', 'rnn.weight_hh_l0': '(3 h0) <- h0'}, [('h0',)])
    """
    patterns: Patterns = {}
    layers: list[tuple[str, ...]] = []
    for i in range(num_layers):
        k = depth + i
        axes = (f"f{k}", f"b{k}") if bidirectional else (f"h{k}",)
        for axis, suffix in zip(axes, ("", "_reverse"), strict=False):
            written = f"({BLOCKS[cell]} {axis})"
            texts = {"weight_ih": f"{written} <- {features}", "weight_hh": f"{written} <- {axis}"}
            if bias:
                texts |= {"bias_ih": written, "bias_hh": written}
            patterns |= {join(name, f"{stem}_l{i}{suffix}"): text for stem, text in texts.items()}
        layers.append(axes)
        features = features_of(axes)
    return patterns, layers


def features_of(axes: tuple[str, ...]) -> str:
    """The pattern of a recurrent layer's output: `h0`, or `(f0 + b0)` for two directions."""
    return axes[0] if len(axes) == 1 else f"({' + '.join(axes)})"


def stacked_patterns(
    cell: str,
    num_layers: int,
    bidirectional: bool,
    bias: bool,
    name: str,
    embedding: str | None,
    decoder: str | None,
) -> tuple[Patterns, dict[str, float]]:
    """The `patterns` and `uses` of a `Layout` of embedding, recurrent layers and linear layer."""
    check_num_layers("`num_layers` is", num_layers)
    for option, flag in (("bidirectional", bidirectional), ("bias", bias)):
        check(isinstance(flag, bool), f"`{option}` is {flag!r}; it must be True or False")
    names = [n for n in (name, embedding, decoder) if n is not None]
    check(
        all(isinstance(n, str) for n in names) and len(set(names)) == len(names),
        f"`name`, `embedding` and `decoder` are {name!r}, {embedding!r} and {decoder!r}; they must"
        " be different strings, the last two may be None",
    )
    patterns: Patterns = {}
    uses: dict[str, float] = {}
    if embedding is not None:
        patterns[join(embedding, "weight")] = "_ -> x"
        uses[join(embedding, "weight")] = 0  # looked up, not multiplied
    recurrent, layers = recurrent_patterns(
        cell, name, num_layers, bidirectional=bidirectional, bias=bias, features="x"
    )
    patterns |= recurrent
    if decoder is not None:
        patterns[join(decoder, "weight")] = f"_ <- {features_of(layers[-1])}"
        patterns[join(decoder, "bias")] = "_"
    return patterns, uses
