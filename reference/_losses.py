"""Losses of a net, each with its gradient: against targets, and against a teacher's outputs."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from l0gate._errors import L0GateError, check
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
    _check_shape("`targets` have", targets, logits.shape[:-1])
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
    _check_shape("`targets` have", target, y.shape)
    d = np.subtract(y, target, out=y if overwrite else None)
    loss = float(np.mean(np.square(d), dtype=np.float64))
    d *= 2 / d.size
    return loss, d


def kl_divergence(logits: Array, teacher: Array, temperature: float = 1.0) -> tuple[float, Array]:
    """Mean of T^2 KL(q || p) over all positions, in nats, and its gradient T (p - q) / count.

    p = softmax(logits / T) and q = softmax(teacher / T); both arrays are (..., V), and T is the
    temperature. The factor T^2 keeps the gradient's size when T changes (Hinton, Vinyals, Dean,
    arXiv 1503.02531). The loss is 0 if the two agree. Returns the loss and dlogits (..., V).
    Raises if there are no positions.

    >>> loss, dlogits = kl_divergence(np.zeros((1, 2)), np.log([[0.75, 0.25]]))
    >>> round(loss, 4), dlogits
    (0.1308, array([[-0.25,  0.25]]))
    """
    teacher = np.asarray(teacher, logits.dtype)
    _check_shape("`teacher` has", teacher, logits.shape)
    p, log_p = _softmax(logits / temperature)
    q, log_q = _softmax(teacher / temperature)
    count = logits.size // logits.shape[-1]
    log_p -= log_q
    loss = -float(np.sum(q * log_p, dtype=np.float64)) * temperature**2 / count
    p -= q
    p *= temperature / count
    return loss, p


class Teacher(NamedTuple):
    """Outputs of another net on the same inputs, as a second target beside the true one.

    The loss is then (1 - weight) times the loss against the targets, plus weight times the loss
    against `outputs`: `kl_divergence` beside cross entropy, the mean squared error beside itself.
    """

    outputs: Array
    weight: float
    temperature: float


def check_teacher(loss: str, weight: Any, temperature: Any) -> None:
    """Raise for a weight or a temperature that are none."""
    check(
        isinstance(weight, Real) and 0 <= float(weight) <= 1,
        f"`teacher_weight` is {weight!r}; it must be a number from 0 to 1",
    )
    check(
        isinstance(temperature, Real) and 0 < float(temperature) < math.inf,
        f"`temperature` is {temperature!r}; it must be a finite number above 0",
    )
    check(
        loss == "cross_entropy" or temperature == 1,
        f"`temperature` is {temperature!r}; only the loss 'cross_entropy' has one",
    )


def loss_of(
    loss: str, y: Array, targets: Array, teacher: Teacher | None = None, *, overwrite: bool = False
) -> tuple[float, Array]:
    """The loss of this name, a key of `LOSSES`, and its gradient in y.

    >>> teacher = Teacher(np.array([4.0]), weight=0.5, temperature=1.0)
    >>> loss_of("mse", np.array([1.0]), np.array([0.0]), teacher)
    (5.0, array([-2.]))
    """
    if teacher is None:
        return LOSSES[loss](y, targets, overwrite=overwrite)
    _check_shape("`teacher` has", np.asarray(teacher.outputs), y.shape)
    if loss == "mse":
        soft, soft_dy = mean_squared_error(y, teacher.outputs)
    else:
        soft, soft_dy = kl_divergence(y, teacher.outputs, teacher.temperature)
    hard, dy = LOSSES[loss](y, targets, overwrite=overwrite)
    dy *= 1 - teacher.weight
    soft_dy *= teacher.weight
    dy += soft_dy
    return (1 - teacher.weight) * hard + teacher.weight * soft, dy


LOSSES = {"cross_entropy": softmax_cross_entropy, "mse": mean_squared_error}


def _softmax(logits: Array) -> tuple[Array, Array]:
    """Softmax over the last dimension, and its logarithm."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=-1, keepdims=True)
    shifted -= np.log(total)
    p /= total
    return p, shifted


def _check_shape(what: str, given: Array, shape: tuple[int, ...]) -> None:
    if given.shape != shape:
        raise L0GateError(f"{what} shape {given.shape}; the output asks for {shape}")
    if not given.size:
        raise L0GateError(f"{what} shape {shape}; a mean needs at least one position")
