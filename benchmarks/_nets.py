"""The nets that are compared: stacks of LSTM or GRU layers, with fixed random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l0gate.layout.stacked import BLOCKS
from l0gate.reference import Net

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spec:
    """A stack of recurrent layers, each with its own number of neurons."""

    cell: str
    input: int
    hidden: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds per time step and sequence.

        >>> Spec("lstm", 3, (5,)).multiply_adds
        160
        """
        reads = (self.input, *self.hidden)
        pairs = zip(reads, self.hidden, strict=False)
        return BLOCKS[self.cell] * sum((read + size) * size for read, size in pairs)

    def names(self, layer: int) -> list[str]:
        """The names of a layer's parameters: input and recurrent matrix, and their biases."""
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [f"rnn.{kind}_l{layer}" for kind in kinds]

    def net(self) -> Net:
        return Net([{"type": self.cell, "name": "rnn", "num_layers": len(self.hidden)}])

    def parameters(self) -> dict[str, Array]:
        rng = np.random.default_rng(0)
        return self.net().init(rng, input_size=self.input, sizes={"rnn": self.hidden})

    def x(self, length: int, batch: int) -> Array:
        """An input (length, batch, input)."""
        x = np.random.default_rng(1).standard_normal((length, batch, self.input))
        return x.astype(np.float32)
