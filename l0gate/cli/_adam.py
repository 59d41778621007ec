"""The optimizer of weights and gates: Adam over named arrays (Kingma and Ba, arXiv 1412.6980)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from l0gate._backend import Array, Backend

_BETAS, _EPSILON = (0.9, 0.99), 1e-8


@dataclass
class Adam:
    """The optimizer's state: running means of every array's gradients and of their squares.

    Both are stored by the name of the array, and updated in place.
    """

    first: dict[str, Array]
    second: dict[str, Array]
    steps: int = 0

    @classmethod
    def start(cls, backend: Backend, arrays: Mapping[str, Array]) -> Adam:
        """The state before the first step: both running means of every array are zero."""
        zeros = backend.xp.zeros_like
        first, second = ({name: zeros(array) for name, array in arrays.items()} for _ in range(2))
        return cls(first, second)

    def step(
        self,
        backend: Backend,
        arrays: dict[str, Array],
        gradients: Mapping[str, Array],
        rate: float,
    ) -> None:
        """Take one optimizer step: change `arrays` in place so that the loss falls."""
        self.steps += 1
        unbias = [1 - beta**self.steps for beta in _BETAS]
        scale = rate * math.sqrt(unbias[1]) / unbias[0]
        for name, gradient in gradients.items():
            first, second = self.first[name], self.second[name]
            first *= _BETAS[0]
            first += (1 - _BETAS[0]) * gradient
            second *= _BETAS[1]
            second += (1 - _BETAS[1]) * gradient * gradient
            arrays[name] -= scale * first / (backend.xp.sqrt(second) + _EPSILON)
