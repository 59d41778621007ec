"""Reconstruction: the readers of an axis take over what its dropped neurons contributed.

S (n, n) are the second moments of an axis's neurons h over calibration data, the mean of h h^T over
all positions; k are the kept neurons, d the dropped ones. Least squares predicts the dropped from
the kept: h_d = C h_k with C = S_dk S_kk^-1. What a reader W computes, W_k h_k + W_d h_d, is then
(W_k + W_d C) h_k: its kept columns become W_k + W_d C, its dropped columns 0. Where W has a bias
and the means are known, S are covariances and the bias takes over W_d (mean_d - C mean_k). Nothing
is trained.

This is what spectral pruning does for recurrent nets (Furuya, Suetake, Taniguchi, Kusumoto, Saiin,
Daimon, arXiv 2105.10832). New here: every reader has moments of its own, and the bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from l0gate._backend import Array, Backend, Parameters
from l0gate._checks import check_kept
from l0gate._errors import check
from l0gate._moments import bias_of, centred, check_moments, reading_dimension
from l0gate._pruner_training import PrunerTraining
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension, Pattern


class Reconstruction(PrunerTraining):
    """The part of a `Pruner` that reconstructs."""

    def reconstruct(
        self,
        parameters: Parameters,
        kept: Mapping[str, np.ndarray],
        moments: Mapping[Any, Any],
        *,
        ridge: float = 1e-6,
    ) -> dict[str, Array]:
        """Parameters in which the readers of kept neurons make up for the dropped ones.

        `moments` maps an axis to the mean of h h^T (n, n) over calibration data, where h (n,) are
        the neurons as they are read; or to the sum of [h, 1] [h, 1]^T (n + 1, n + 1), which also
        lets biases take over means. A key (axis, parameter) gives the moments as that parameter
        reads them. Nothing changes for axes without moments. What reads a dropped neuron becomes 0,
        so shrinking to `kept` is exact: give the result to `shrink` and `certify` in place of
        `parameters`. `ridge`, relative to the mean of the diagonal, is added to the diagonal of the
        kept neurons' moments.

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
        mixing = {}
        for key, values in check_moments(moments, self.layout, self.sizes).items():
            n, index = self.sizes[key[0]], np.asarray(kept[key[0]])
            if len(values) > n and bias_of(self.layout, key[1]) is not None:
                mixing[key] = mixing_with_mean(values, index, ridge)
            else:
                mixing[key] = Mixing(mixing_matrix(values[:n, :n], index, ridge))
        return mix(self.layout, parameters, mixing, self.backend)


class Mixing(NamedTuple):
    """What a reader W sees in place of h: matrix h + shift, with shapes (n, n) and (n,)."""

    matrix: np.ndarray
    shift: np.ndarray | None = None


def mixing_with_mean(moments: np.ndarray, kept: np.ndarray, ridge: float) -> Mixing:
    """The least squares prediction with a constant, from moments (n + 1, n + 1) with a 1 appended.

    >>> moments = np.array([[2.0, 3.0, 1.0], [3.0, 5.0, 2.0], [1.0, 2.0, 1.0]])  # h_1 = h_0 + 1
    >>> matrix, shift = mixing_with_mean(moments, np.array([0]), ridge=0.0)
    >>> matrix.tolist(), shift.tolist()
    ([[1.0, 0.0], [1.0, 0.0]], [0.0, 1.0])
    """
    covariance, mean = centred(moments, len(moments) - 1)
    matrix = mixing_matrix(covariance, kept, ridge)
    shift = mean - matrix @ mean
    shift[kept] = 0.0
    return Mixing(matrix, shift)


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
    layout: Layout,
    parameters: Parameters,
    mixing: Mapping[tuple[str, str], Mixing],
    backend: Backend,
) -> dict[str, Array]:
    """Every dimension that reads neurons, times the matrix of the axis and the parameter.

    Shifts are added to the biases. Computed in float64 on the host. Where there is no matrix,
    nothing changes.
    """
    sizes = layout.solve(parameters)
    shifts: dict[str, np.ndarray] = {}

    def change(name: str, pattern: Pattern, value: Array) -> Array:
        own = {axis: m for (axis, reader), m in mixing.items() if reader == name}
        read = [i for i, d in enumerate(pattern.dimensions) if d.reads and set(d.axes) & set(own)]
        if not read:
            return value
        host = backend.to_numpy(value).astype(np.float64)
        _add_shift(shifts, layout, name, pattern, host, own, sizes)
        for i in read:
            moved = np.moveaxis(host, i, -1)
            mixed = _mix_last(moved, pattern.dimensions[i], own, sizes)
            host = np.moveaxis(mixed, -1, i)
        return _like(host, value, backend)

    mixed = layout.map(parameters, change, backend)
    for name, shift in shifts.items():
        host = backend.to_numpy(parameters[name]).astype(np.float64)
        mixed[name] = _like(host + shift, parameters[name], backend)
    return mixed


def _like(host: np.ndarray, value: Array, backend: Backend) -> Array:
    array = backend.asarray(np.ascontiguousarray(host), value)
    return backend.cast(array, backend.dtype(value))


def _add_shift(
    shifts: dict[str, np.ndarray],
    layout: Layout,
    name: str,
    pattern: Pattern,
    weight: np.ndarray,
    mixing: Mapping[str, Mixing],
    sizes: Mapping[str, int],
) -> None:
    """Add what the weight (float64, before it is mixed) computes of the shifts to its bias."""
    bias, read = bias_of(layout, name), reading_dimension(pattern)
    if bias is None or read is None or all(m.shift is None for m in mixing.values()):
        return
    position, dimension = read
    parts = []
    for block in dimension.blocks:
        size = 1 if block.axis is None else sizes[block.axis]
        own = mixing.get(block.axis) if block.axis is not None else None
        each = np.zeros(size) if own is None or own.shift is None else own.shift
        parts.append(np.tile(np.repeat(each, block.inner), block.outer))
    change = np.moveaxis(weight, position, -1) @ np.concatenate(parts)
    written = [d for i, d in enumerate(pattern.dimensions) if i != position]
    others = tuple(i for i, d in enumerate(written) if d.reads)  # the taps of a convolution
    shifts[bias] = shifts.get(bias, 0.0) + change.sum(axis=others)


def _mix_last(
    array: np.ndarray,
    dimension: Dimension,
    mixing: Mapping[str, Mixing],
    sizes: Mapping[str, int],
) -> np.ndarray:
    """The last dimension of an array, mixed block by block."""
    parts, start = [], 0
    for block in dimension.blocks:
        size = 1 if block.axis is None else sizes[block.axis]
        stop = start + block.outer * size * block.inner
        part = array[..., start:stop]
        if block.axis is not None and block.axis in mixing:
            shape = (*array.shape[:-1], block.outer, size, block.inner)
            turned = np.swapaxes(part.reshape(shape), -1, -2) @ mixing[block.axis].matrix
            part = np.swapaxes(turned, -1, -2).reshape(part.shape)
        parts.append(part)
        start = stop
    return np.concatenate(parts, axis=-1)
