"""Reconstruction: the readers of an axis take over what its dropped neurons contributed.

S (n, n) are the second moments of an axis's neurons h over calibration data, the mean of h h^T over
all positions; k are the kept neurons, d the dropped ones. Least squares predicts the dropped from
the kept: h_d = C h_k with C = S_dk S_kk^-1. What a reader W computes, W_k h_k + W_d h_d, is then
(W_k + W_d C) h_k: its kept columns become W_k + W_d C, its dropped columns 0. Nothing is trained.

This is what spectral pruning does for recurrent nets (Furuya, Suetake, Taniguchi, Kusumoto, Saiin,
Daimon, arXiv 2105.10832).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters
from l0gate._checks import check_kept
from l0gate._errors import L0GateError, check
from l0gate._pruner_training import PrunerTraining
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension, Pattern


class Reconstruction(PrunerTraining):
    """The part of a `Pruner` that reconstructs."""

    def reconstruct(
        self,
        parameters: Parameters,
        kept: Mapping[str, np.ndarray],
        moments: Mapping[str, Any],
        *,
        ridge: float = 1e-6,
    ) -> dict[str, Array]:
        """Parameters in which the readers of kept neurons make up for the dropped ones.

        `moments` maps an axis to its second moments (n, n): the mean of h h^T over calibration
        data, where h (n,) are the neurons as they are read. Nothing changes for axes without
        moments. What reads a dropped neuron becomes 0, so shrinking to `kept` is exact: give the
        result to `shrink` and `certify` in place of `parameters`.

        >>> from l0gate import Layout, Pruner
        >>> layout = Layout({"w": "h <- _", "v": "_ <- h"})
        >>> parameters = {"w": np.array([[1.0], [2.0]]), "v": np.array([[3.0, 5.0]])}
        >>> moments = {"h": np.array([[1.0, 2.0], [2.0, 4.0]])}  # the second is twice the first
        >>> pruner = Pruner(layout, strength=1.0)
        >>> pruner.reconstruct(parameters, {"h": np.array([0])}, moments, ridge=0.0)["v"].tolist()
        [[13.0, 0.0]]
        """
        self.bind(parameters)
        gates = {axis: np.zeros(size, dtype=bool) for axis, size in self.sizes.items()}
        check_kept(kept, gates)
        check(
            isinstance(ridge, (int, float)) and 0 <= ridge < float("inf"),
            f"`ridge` is {ridge!r}; it must be a finite number of at least 0",
        )
        given = check_moments(moments, self.sizes)
        mixing = {
            axis: mixing_matrix(values, np.asarray(kept[axis]), ridge)
            for axis, values in given.items()
        }
        return mix(self.layout, parameters, mixing, self.backend)


def mixing_matrix(moments: np.ndarray, kept: np.ndarray, ridge: float) -> np.ndarray:
    """M (n, n), so that W M is the reconstructed reader: M[k, k] = 1, M[d, k] = C, else 0.

    `ridge` times the mean of the kept neurons' second moments is added to the diagonal of S_kk.

    >>> moments = np.array([[1.0, 2.0], [2.0, 4.0]])  # the second neuron is twice the first
    >>> mixing_matrix(moments, np.array([0]), ridge=0.0).tolist()
    [[1.0, 0.0], [2.0, 0.0]]
    """
    n = len(moments)
    mixing = np.zeros((n, n))
    mixing[kept, kept] = 1.0
    dropped = np.setdiff1d(np.arange(n), kept)
    if len(dropped) == 0:
        return mixing
    among_kept = moments[np.ix_(kept, kept)]
    diagonal = ridge * np.trace(among_kept) / len(kept)
    regular = among_kept + diagonal * np.eye(len(kept))
    # Least squares, since neurons that are linear combinations of others make S_kk singular.
    solution = np.linalg.lstsq(regular, moments[np.ix_(kept, dropped)], rcond=None)[0]
    mixing[np.ix_(dropped, kept)] = solution.T
    return mixing


def mix(
    layout: Layout, parameters: Parameters, mixing: Mapping[str, np.ndarray], backend: Backend
) -> dict[str, Array]:
    """Multiply every dimension that reads neurons of an axis by the axis's matrix in `mixing`.

    A matrix is (n, n) for an axis of n neurons.

    Computed in float64 on the host. Axes without a matrix stay as they are.
    """

    sizes = layout.solve(parameters)

    def change(name: str, pattern: Pattern, value: Array) -> Array:
        read = [
            i for i, d in enumerate(pattern.dimensions) if d.reads and set(d.axes) & set(mixing)
        ]
        if not read:
            return value
        host = backend.to_numpy(value).astype(np.float64)
        for i in read:
            moved = np.moveaxis(host, i, -1)
            mixed = _mix_last(moved, pattern.dimensions[i], mixing, sizes)
            host = np.moveaxis(mixed, -1, i)
        return backend.cast(
            backend.asarray(np.ascontiguousarray(host), value), backend.dtype(value)
        )

    return layout.map(parameters, change, backend)


def _mix_last(
    array: np.ndarray,
    dimension: Dimension,
    mixing: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> np.ndarray:
    """Multiply the last dimension of an array, block by block, by the matrices of its axes."""
    parts, start = [], 0
    for block in dimension.blocks:
        size = 1 if block.axis is None else sizes[block.axis]
        stop = start + block.outer * size * block.inner
        part = array[..., start:stop]
        if block.axis is not None and block.axis in mixing:
            shape = (*array.shape[:-1], block.outer, size, block.inner)
            turned = np.swapaxes(part.reshape(shape), -1, -2) @ mixing[block.axis]
            part = np.swapaxes(turned, -1, -2).reshape(part.shape)
        parts.append(part)
        start = stop
    return np.concatenate(parts, axis=-1)


def reading_gram(layout: Layout, parameters: Parameters, backend: Backend) -> dict[str, np.ndarray]:
    """For every axis G = sum of W^T W (n, n) over all matrices W that read it.

    The squared change of what is read, h^T G h, weighs errors in the neurons' values.
    """
    sizes = layout.solve(parameters)
    found = {axis: np.zeros((size, size)) for axis, size in sizes.items()}
    for dimension, i, value in layout.axis_dimensions(parameters):
        if not dimension.reads:
            continue
        host = np.moveaxis(backend.to_numpy(value).astype(np.float64), i, -1)
        host, start = host.reshape(-1, host.shape[-1]), 0
        for block in dimension.blocks:
            size = 1 if block.axis is None else sizes[block.axis]
            stop = start + block.outer * size * block.inner
            if block.axis is not None:
                part = host[:, start:stop].reshape(len(host), block.outer, size, block.inner)
                columns = np.moveaxis(part, 2, -1).reshape(-1, size)
                found[block.axis] += columns.T @ columns
            start = stop
    return found


def explained_order(moments: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All neurons in greedy order, and the share of what is read that each one explains (n,).

    A pivoted Cholesky decomposition of S, weighted by the readers: every step takes the neuron that
    most reduces trace(G R), R being what the neurons taken so far leave unexplained of S.
    """
    n = len(moments)
    rest = np.array(moments, dtype=float)
    weighted = gram @ rest  # G R, kept up to date
    total = float(np.trace(weighted))
    smallest = 1e-12 * max(float(np.diag(rest).max(initial=0.0)), 1e-300)
    left = np.ones(n, dtype=bool)
    order, gains = [], []
    for _ in range(n):
        variance = np.diag(rest)
        usable = left & (variance > smallest)
        reduction = np.full(n, -1.0)
        reduction[left] = 0.0
        reduction[usable] = np.einsum("ij,ij->j", rest[:, usable], weighted[:, usable])
        reduction[usable] /= variance[usable]
        j = int(np.argmax(reduction))
        order.append(j)
        gains.append(max(reduction[j], 0.0))
        left[j] = False
        if usable[j]:
            column = rest[:, j] / variance[j]
            row = rest[j].copy()
            weighted -= np.outer(weighted[:, j] / variance[j], row)
            rest -= np.outer(column, row)
    return np.array(order), np.array(gains) / (total if total > 0 else 1.0)


def check_moments(moments: object, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The second moments of every axis as host arrays (n, n); others raise."""
    check(isinstance(moments, Mapping), f"`moments` is {moments!r}; it must map axes to arrays")
    assert isinstance(moments, Mapping)
    found = {}
    for axis, given in moments.items():
        check(axis in sizes, f"`moments` names the axis {axis!r}; the layout has {tuple(sizes)}")
        try:
            array = np.array(given, dtype=float)
        except (TypeError, ValueError):
            raise L0GateError(
                f"`moments[{axis!r}]` is {given!r}; it must be an array of numbers"
            ) from None
        n = sizes[axis]
        check(
            array.shape == (n, n),
            f"`moments[{axis!r}]` has shape {array.shape}; the axis has {n} neurons, so it must"
            f" be ({n}, {n})",
        )
        check(bool(np.isfinite(array).all()), f"`moments[{axis!r}]` must be finite")
        scale = float(np.abs(array).max(initial=0.0))
        check(
            bool(np.allclose(array, array.T, rtol=1e-5, atol=1e-6 * scale)),
            f"`moments[{axis!r}]` must be symmetric, as the mean of h h^T over positions is",
        )
        found[axis] = (array + array.T) / 2
    return found
