"""The operations that the algorithm needs of an array namespace, as a table of expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Operation:
    """An expression over two arrays of shape (2, 3), in functions of an array namespace `xp`.

    `smooth` says whether the expression has a gradient.
    """

    compute: Callable[..., Any]  # (xp, x, y)
    smooth: bool = True  # False: the result is boolean or constant


# Inside (0, 1), and not near the bounds that the expressions below clip at or compare with.
X = np.array([[0.31, 0.62, 0.13], [0.84, 0.45, 0.76]])
Y = np.array([[0.21, 0.92, 0.53], [0.24, 0.65, 0.36]])

OPERATIONS: Mapping[str, Operation] = {
    "x + y": Operation(lambda xp, x, y: x + y),
    "x - y": Operation(lambda xp, x, y: x - y),
    "x * y": Operation(lambda xp, x, y: x * y),
    "x / y": Operation(lambda xp, x, y: x / y),
    "-x": Operation(lambda xp, x, y: -x),
    "x**2": Operation(lambda xp, x, y: x**2),
    "x + 2.0": Operation(lambda xp, x, y: x + 2.0),
    "1.0 - x": Operation(lambda xp, x, y: 1.0 - x),
    "0.5 * x": Operation(lambda xp, x, y: 0.5 * x),
    "x / 3.0": Operation(lambda xp, x, y: x / 3.0),
    "x < 0.5": Operation(lambda xp, x, y: x < 0.5, smooth=False),
    "x > y": Operation(lambda xp, x, y: x > y, smooth=False),
    "(x > 0.2) & (x < 0.8)": Operation(lambda xp, x, y: (x > 0.2) & (x < 0.8), smooth=False),
    "exp(x)": Operation(lambda xp, x, y: xp.exp(x)),
    "log(x)": Operation(lambda xp, x, y: xp.log(x)),
    "log1p(-x)": Operation(lambda xp, x, y: xp.log1p(-x)),
    "tanh(x)": Operation(lambda xp, x, y: xp.tanh(x)),
    "sqrt(x)": Operation(lambda xp, x, y: xp.sqrt(x)),
    "exp(-logaddexp(0.0 * x, -x))": Operation(lambda xp, x, y: xp.exp(-xp.logaddexp(0.0 * x, -x))),
    "logaddexp(x, y)": Operation(lambda xp, x, y: xp.logaddexp(x, y)),
    "logaddexp(100.0 * x, -100.0 * y)": Operation(
        lambda xp, x, y: xp.logaddexp(100.0 * x, -100.0 * y)
    ),
    "clip(x, 0.2, 0.7)": Operation(lambda xp, x, y: xp.clip(x, 0.2, 0.7)),
    "where(x < 0.5, x, y)": Operation(lambda xp, x, y: xp.where(x < 0.5, x, y)),
    "isfinite(x)": Operation(lambda xp, x, y: xp.isfinite(x), smooth=False),
    "ones_like(x)": Operation(lambda xp, x, y: xp.ones_like(x), smooth=False),
    "zeros_like(x)": Operation(lambda xp, x, y: xp.zeros_like(x), smooth=False),
    "reshape(x, (3, 2))": Operation(lambda xp, x, y: xp.reshape(x, (3, 2))),
    "reshape(x, (-1,))": Operation(lambda xp, x, y: xp.reshape(x, (-1,))),
    "reshape(x[0], (1, -1, 1))": Operation(lambda xp, x, y: xp.reshape(x[0], (1, -1, 1))),
    "concat([x, y], axis=0)": Operation(lambda xp, x, y: xp.concat([x, y], axis=0)),
    "concat([x, y], axis=1)": Operation(lambda xp, x, y: xp.concat([x, y], axis=1)),
    "stack([x, y], axis=0)": Operation(lambda xp, x, y: xp.stack([x, y], axis=0)),
    "stack([x[0], y[0]], axis=1)": Operation(lambda xp, x, y: xp.stack([x[0], y[0]], axis=1)),
    "sum(x)": Operation(lambda xp, x, y: xp.sum(x)),
    "sum(x, axis=0)": Operation(lambda xp, x, y: xp.sum(x, axis=0)),
    "sum(x, axis=1)": Operation(lambda xp, x, y: xp.sum(x, axis=1)),
    "x[1]": Operation(lambda xp, x, y: x[1]),
    "x[0, 2]": Operation(lambda xp, x, y: x[0, 2]),
    "x[:, 1:]": Operation(lambda xp, x, y: x[:, 1:]),
    "x[0] * y": Operation(lambda xp, x, y: x[0] * y),
    "reshape(x[:, 0], (2, 1)) * y": Operation(lambda xp, x, y: xp.reshape(x[:, 0], (2, 1)) * y),
    "sum(x) * y": Operation(lambda xp, x, y: xp.sum(x) * y),
}
BROADCASTING = ("x[0] * y", "reshape(x[:, 0], (2, 1)) * y", "sum(x) * y")
SCALARS = ("x + 2.0", "1.0 - x", "0.5 * x", "x / 3.0", "x < 0.5", "sum(x)", "x[0, 2]")

_INFINITE = np.array([-np.inf, -800.0, 0.0, 800.0, np.inf, np.nan])
_LARGE = np.array([-800.0, 0.0, 800.0])
# log(1 - x), computed as written, loses most digits of these.
_TINY_AND_HUGE = np.array([1e-3, -1e-3, 1e-5, -1e-5, -1e-6, -1e-8, -1e-30, -1e30, 1.0])
# exp of these overflows or underflows; logaddexp must not.
_FAR, _APART = np.array([[800.0, 0.0, -800.0, 800.0, -1e30], [0.0, 800.0, -801.0, 799.0, 5.0]])

# (operation, x, y) where a formula that is right for moderate values often fails.
EXTREMES: Sequence[tuple[Any, ...]] = (
    ("clip(x, 0.2, 0.7)", _INFINITE, _INFINITE),
    ("isfinite(x)", _INFINITE, _INFINITE),
    ("tanh(x)", _INFINITE, _INFINITE),
    ("x < 0.5", _INFINITE, _INFINITE),
    ("exp(x)", _INFINITE, _INFINITE),
    ("log1p(-x)", _TINY_AND_HUGE, _TINY_AND_HUGE),
    ("logaddexp(x, y)", _FAR, _APART),
    ("exp(-logaddexp(0.0 * x, -x))", _LARGE, _LARGE),
)
