"""Choosing neurons by what their readers would lose without them, on calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from l0gate._backend import Backend, Parameters
from l0gate._errors import L0GateError
from l0gate._method import Method
from l0gate._moments import check_moments, what_readers_lose
from l0gate.layout.layout import Layout


class Spectral(Method):
    """Spectral pruning: the neurons from which least squares best predicts what all readers read.

    Furuya et al., arXiv 2105.10832, choose the neurons of a hidden layer so that the others are
    predicted best. Here the choice is greedy (a pivoted Cholesky decomposition), errors are weighed
    by the matrices of all readers, and axes compete: the score of a neuron is the share of what its
    axis's readers read that would be unexplained without it and those that come after it.

    It needs moments (see `Pruner.reconstruct`): give calibration data.
    """

    name = "spectral"
    needs_moments: ClassVar[bool] = True

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> dict[str, np.ndarray]:
        raise L0GateError(
            "`method` is 'spectral', which chooses neurons on calibration data: give them to"
            " `shrink(reconstruct=batches)`, or their moments to `Pruner.select(moments=...)`"
        )

    def scores_from_moments(
        self,
        layout: Layout,
        parameters: Parameters,
        backend: Backend,
        moments: Mapping[Any, Any],
    ) -> dict[str, np.ndarray]:
        sizes = layout.solve(parameters)
        known = check_moments(moments, layout, sizes)
        lost = what_readers_lose(layout, parameters, backend, known)
        scores = {}
        for axis, size in sizes.items():
            if axis not in lost:
                raise L0GateError(f"`moments` lack the axis {axis!r}, which 'spectral' needs")
            order, gains = explained_order(lost[axis])
            left = 1.0 - np.concatenate([[0.0], np.cumsum(gains)[:-1]])
            scores[axis] = np.empty(size)
            # The tiny slope keeps the order where nothing is left to explain.
            scores[axis][order] = np.maximum(left, 0.0) - 1e-12 * np.arange(size)
        return scores


def explained_order(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """All neurons in greedy order, and the share of what is read that each one explains (n,).

    `pairs` has (S, G) for every reader: the moments (n, n) that it sees, and its W^T W (n, n). A
    pivoted Cholesky decomposition of every S at once: each step takes the neuron that most reduces
    the sum of trace(G R), R being what the neurons taken so far leave unexplained of S.

    >>> order, gains = explained_order([(np.diag([1.0, 3.0]), np.eye(2))])
    >>> order.tolist(), gains.tolist()
    ([1, 0], [0.75, 0.25])
    """
    readers = [_Unexplained(s, g) for s, g in pairs]
    n = len(pairs[0][0])
    total = sum(reader.total for reader in readers)
    left = np.ones(n, dtype=bool)
    order, gains = [], []
    for _ in range(n):
        reduction = np.sum([reader.reductions() for reader in readers], axis=0)
        reduction[~left] = -1.0
        j = int(np.argmax(reduction))
        order.append(j)
        gains.append(max(reduction[j], 0.0))
        left[j] = False
        for reader in readers:
            reader.take(j)
    return np.array(order), np.array(gains) / (total if total > 0 else 1.0)


class _Unexplained:
    """What the neurons taken so far leave unexplained for one reader: R, and G R."""

    def __init__(self, moments: np.ndarray, gram: np.ndarray) -> None:
        self.rest = np.array(moments, dtype=float)
        self.weighted = gram @ self.rest
        self.total = float(np.trace(self.weighted))
        self.smallest = 1e-12 * max(float(np.diag(self.rest).max(initial=0.0)), 1e-300)

    def reductions(self) -> np.ndarray:
        """How much each neuron (n,) would reduce trace(G R)."""
        variance = np.diag(self.rest)
        usable = variance > self.smallest
        # The entries (R G R)[j, j], over the variance of each.
        found: np.ndarray = np.einsum("ij,ij->j", self.rest, self.weighted)
        return np.where(usable, found / np.where(usable, variance, 1.0), 0.0)

    def take(self, j: int) -> None:
        variance = self.rest[j, j]
        if variance > self.smallest:
            row = self.rest[j].copy()
            self.weighted -= np.outer(self.weighted[:, j] / variance, row)
            self.rest -= np.outer(self.rest[:, j] / variance, row)
