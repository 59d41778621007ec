"""The matrix products of the layers, over all positions of a batch at once, and their gradients.

A layer computes y = W (x z) for each position, with W (O, I), input x (I,) and gates z (I,); x z is
elementwise. Let G (O, I) be dy^T x, summed over all positions. Then dW is G with column i
multiplied by z[i], and dz is the elementwise product of G and W, summed over the rows. So the
backward pass needs x but not x z.

If the layer follows an embedding, x consists of rows of a table (V, features). Where V is smaller
than the number of positions T B, the table is multiplied first, and rows of the product are looked
up afterwards. In the backward pass, dy is summed by token before it is multiplied. See `Gathered`.
In a character model this saves half of the multiplications.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from l0gate.reference._scan import Array


class Gathered(NamedTuple):
    """The activations table[tokens] (T, B, features), whose rows have not been looked up yet."""

    table: Array  # (V, features)
    tokens: Array  # (T, B)


Input = Array | Gathered


def rows(x: Array) -> Array:
    """All positions of x (T, B, features) as the rows (T B, features) of a matrix."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def product(x: Input, weight: Array, bias: Array | None, z: Array | None) -> Array:
    """weight (x z) + bias (T, B, O), for x (T, B, I), weight (O, I), gates z (I,), bias (O,)."""
    read = x.table if isinstance(x, Gathered) else rows(x)
    y: Array = (read if z is None else read * z) @ weight.T
    if bias is not None:
        y += bias
    if isinstance(x, Gathered):
        return y.take(x.tokens, axis=0)
    return y.reshape(*x.shape[:-1], len(weight))


def summed(x: Input, dy: Array) -> tuple[Array, Array]:
    """Matrices of x (N, I) and dy (N, O) whose product dy^T x is the sum over all positions.

    N is the number of positions, or the size of the vocabulary where x is `Gathered`.
    """
    if isinstance(x, Gathered):
        return x.table, sum_by_index(x.tokens.ravel(), rows(dy), len(x.table))
    return rows(x), rows(dy)


def input_gradient(dy: Array, weight: Array, z: Array | None, x: Input) -> Array:
    """The gradient of x (T, B, I), or of its table (V, I) where x is `Gathered`.

    dy (N, O) is the second result of `summed`, weight (O, I), gates z (I,).
    """
    dx: Array = dy @ weight
    if z is not None:
        dx *= z
    return dx if isinstance(x, Gathered) else dx.reshape(x.shape)


def sum_by_index(index: Array, rows: Array, size: int) -> Array:
    """Sum rows (N, features) with the same index (N,): result (size, features), indices < size.

    Sorts by index, then multiplies the rows of each index by a vector of ones. On wide rows that is
    several times as fast as `np.add.at` and `np.add.reduceat`.

    >>> sum_by_index(np.array([2, 0, 2]), np.array([[1.0], [2.0], [3.0]]), 3).ravel()
    array([2., 0., 4.])
    """
    total = np.zeros((size, rows.shape[1]), rows.dtype)
    order = np.argsort(index, kind="stable")
    found, starts = np.unique(index[order], return_index=True)
    ones = np.ones(len(index), rows.dtype)
    for token, group in zip(found, np.split(order, starts)[1:], strict=True):
        np.dot(ones[: len(group)], rows[group], out=total[token])
    return total
