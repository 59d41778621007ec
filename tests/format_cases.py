"""Random nets for tests of file formats, by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from l0gate._saved_model import SavedModel
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import (
    BLOCKS,
    Activation,
    Direction,
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Selection,
    Skip,
)

SETTINGS: dict[str, Any] = {"deadline": None, "max_examples": 25}


def direction(
    rng: np.random.Generator, cell: str, inputs: int, hidden: int, bias: bool = True
) -> Direction:
    rows = BLOCKS[cell] * hidden
    shapes = [(rows, inputs), (rows, hidden), *([(rows,), (rows,)] if bias else [])]
    return Direction(*(0.5 * rng.standard_normal(shape).astype(np.float32) for shape in shapes))


def linear(rng: np.random.Generator, inputs: int, outputs: int, bias: bool = True) -> Linear:
    weight, b = rng.standard_normal((outputs, inputs)), rng.standard_normal(outputs)
    return Linear("out", 0.5 * weight.astype(np.float32), b.astype(np.float32) if bias else None)


@st.composite
def nets(
    draw: st.DrawFn,
    cells: tuple[str, ...] = ("lstm", "gru"),
    equal: bool = False,
    bidirectional: bool = False,
    embedding: bool = False,
    selection: bool = True,
    skip: bool = False,
    functions: tuple[str, ...] = ("tanh", "relu", "sigmoid"),
    reset_before: bool = False,
    mixed: bool = True,
    outputs: int | None = None,
    linear_bias: bool = True,
) -> list[Layer]:
    """One to three recurrent layers, then a linear one, with what the format can hold."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = draw(st.integers(1, 4))
    layers: list[Layer] = []
    skipped = skip and draw(st.booleans())
    if embedding and draw(st.booleans()):
        vocabulary = draw(st.integers(1, 9))
        layers.append(Embedding("words", rng.standard_normal((vocabulary, features)).astype("f4")))
        skipped = False
    elif selection and not skipped and draw(st.booleans()):
        size = features + draw(st.integers(0, 3))
        layers.append(Selection(np.sort(rng.choice(size, features, replace=False)), size))
    if skipped:
        features = 1
    width, cell = features, draw(st.sampled_from(cells))
    hidden = draw(st.integers(1, 9))
    bias = draw(st.booleans())
    reset_after = not (reset_before and draw(st.booleans()))
    for position in range(draw(st.integers(1, 3))):
        if mixed and position:
            cell = draw(st.sampled_from(cells))
        hidden = hidden if equal else draw(st.integers(1, 9))
        ends = 2 if bidirectional and draw(st.booleans()) else 1
        directions = tuple(direction(rng, cell, width, hidden, bias) for _ in range(ends))
        layers.append(Recurrent(f"rnn{position}", cell, directions, reset_after or cell != "gru"))
        width = ends * hidden
        if functions and draw(st.booleans()) and not equal:
            layers.append(Activation(draw(st.sampled_from(functions))))
    size = outputs or (1 if skipped else draw(st.integers(1, 4)))
    layers.append(linear(rng, width, size, linear_bias or draw(st.booleans())))
    if functions and not skipped and not equal and draw(st.booleans()):
        layers.append(Activation(draw(st.sampled_from(functions))))
    return [*layers, Skip()] if skipped else layers


def saved(layers: list[Layer]) -> SavedModel:
    return assembled(layers)


def amplifier(hidden: int = 8, cell: str = "lstm", seed: int = 0) -> list[Layer]:
    """One recurrent layer and a linear layer, from one feature to one."""
    rng = np.random.default_rng(seed)
    return [
        Recurrent("rec", cell, (direction(rng, cell, 1, hidden),)),
        linear(rng, hidden, 1),
    ]
