"""Losses of a net, each with its gradient."""

from __future__ import annotations

import numpy as np

from l0gate._errors import L0GateError
from l0gate.reference._scan import Array


def softmax_cross_entropy(
    logits: Array, targets: Array, *, overwrite: bool = False
) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[target] over all positions, in nats, and its gradient.

    logits (..., V); targets (...) integers in 0..V-1. Returns the loss and dlogits (..., V).
    With `overwrite`, dlogits may be written over logits. Raises if there are no positions.

    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> bool(np.isclose(loss, np.log(4))), dlogits
    (True, array([[ 0.25,  0.25, -0.75,  0.25]]))
    """
    targets = np.asarray(targets)
    size = logits.shape[-1]
    _check_targets(targets, logits.shape[:-1])
    if targets.dtype.kind not in "iu":
        raise L0GateError(f"`targets` have dtype {targets.dtype}; expected integers")
    wrong = targets[(targets < 0) | (targets >= size)]
    if wrong.size:
        raise L0GateError(f"`targets` contain {wrong[0]}; they must lie in 0..{size - 1}")
    # Shifting by the largest logit keeps exp from overflowing and changes nothing else.
    flat = logits.reshape(-1, size)
    rows, target = np.arange(len(flat)), targets.reshape(-1)
    d = np.subtract(flat, flat.max(axis=1, keepdims=True), out=flat if overwrite else None)
    chosen = d[rows, target]
    np.exp(d, out=d)
    total = d.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - chosen, dtype=np.float64))
    d *= 1 / (total * len(flat))
    d[rows, target] -= 1 / len(flat)
    return loss, d.reshape(logits.shape)


def mean_squared_error(y: Array, target: Array, *, overwrite: bool = False) -> tuple[float, Array]:
    """Mean of (y - target)^2 over all elements, and its gradient 2 (y - target) / count.

    y and target have the same shape. With `overwrite`, the gradient may be written over y.
    Raises if there are no elements.

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    (2.0, array([0., 2.]))
    """
    target = np.asarray(target, y.dtype)
    _check_targets(target, y.shape)
    d = np.subtract(y, target, out=y if overwrite else None)
    loss = float(np.mean(np.square(d), dtype=np.float64))
    d *= 2 / d.size
    return loss, d


def _check_targets(targets: Array, shape: tuple[int, ...]) -> None:
    if targets.shape != shape:
        raise L0GateError(f"`targets` have shape {targets.shape}; the output asks for {shape}")
    if not targets.size:
        raise L0GateError(f"`targets` have shape {shape}; a mean needs at least one position")
