"""Activation functions by l0gate's names and by ONNX's operators.

Source: https://onnx.ai/onnx/operators. As nodes they may have attributes `alpha` and `beta`; as
functions of a cell they take them from `activation_alpha` and `activation_beta`, lists with an
entry for each function that has such a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from l0gate._errors import L0GateError, check

__all__ = ["Function", "cell_functions", "cell_names", "function_name", "node_of"]


class Function(NamedTuple):
    """An operator with its numbers; None where it has none."""

    operator: str
    alpha: float | None = None
    beta: float | None = None


_NODES = {
    "tanh": Function("Tanh"),
    "sigmoid": Function("Sigmoid"),
    "relu": Function("Relu"),
    "softplus": Function("Softplus"),
    "softsign": Function("Softsign"),
    "elu": Function("Elu", 1.0),
    "leaky_relu": Function("LeakyRelu", 0.01),
    "hard_sigmoid": Function("HardSigmoid", 1 / 6, 0.5),
    "hard_sigmoid_keras2": Function("HardSigmoid", 0.2, 0.5),
}
_IN_CELLS = {**_NODES, "linear": Function("Affine", 1.0, 0.0)}
# What an operator's numbers are where a file gives none.
_DEFAULTS = {
    "Elu": Function("Elu", 1.0),
    "LeakyRelu": Function("LeakyRelu", 0.01),
    "HardSigmoid": Function("HardSigmoid", 0.2, 0.5),
    "Affine": Function("Affine", 1.0, 0.0),
    "ScaledTanh": Function("ScaledTanh", 1.0, 1.0),
    "ThresholdedRelu": Function("ThresholdedRelu", 1.0),
}


def node_of(name: str, slope: float | None = None) -> Function | None:
    """The operator of an activation function; None if it is not one operator with numbers.

    >>> node_of("elu", 0.5)
    Function(operator='Elu', alpha=0.5, beta=None)
    """
    found = _NODES.get(name)
    return found if found is None or slope is None else found._replace(alpha=slope)


def function_name(operator: str, alpha: float | None, beta: float | None) -> str | None:
    """The name of an operator with these numbers; None if l0gate has no such function.

    None in place of a number stands for its default in ONNX.

    >>> function_name("HardSigmoid", None, None), function_name("HardSigmoid", 0.3, 0.5)
    ('hard_sigmoid_keras2', None)
    """
    found = _filled(operator, alpha, beta)
    return next((n for n, other in _IN_CELLS.items() if _same(found, other)), None)


def _filled(operator: str, alpha: float | None, beta: float | None) -> Function:
    default = _DEFAULTS.get(operator, Function(operator))
    return Function(
        operator,
        default.alpha if alpha is None else alpha,
        default.beta if beta is None else beta,
    )


def _same(a: Function, b: Function) -> bool:
    return a.operator.lower() == b.operator.lower() and all(
        (x is None) == (y is None) and (x is None or y is None or np.float32(x) == np.float32(y))
        for x, y in ((a.alpha, b.alpha), (a.beta, b.beta))
    )


def cell_functions(names: Sequence[str]) -> Mapping[str, list[object]] | None:
    """The attributes of a cell with these functions; None if a cell of ONNX cannot have one.

    >>> cell_functions(["sigmoid", "elu"])
    {'activations': ['Sigmoid', 'Elu'], 'activation_alpha': [1.0], 'activation_beta': []}
    """
    if not all(name in _IN_CELLS for name in names):
        return None
    found = [_IN_CELLS[name] for name in names]
    return {
        "activations": [f.operator for f in found],
        "activation_alpha": [f.alpha for f in found if f.alpha is not None],
        "activation_beta": [f.beta for f in found if f.beta is not None],
    }


def cell_names(
    operators: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[str]:
    """l0gate's names of the functions of a cell. Raises `L0GateError` for one that it lacks.

    >>> cell_names(["Sigmoid", "Affine"], [1.0], [0.0])
    ['sigmoid', 'linear']
    """
    rest = {"alpha": list(alphas), "beta": list(betas)}
    names = []
    for operator in operators:
        default = _DEFAULTS.get(next((o for o in _DEFAULTS if o.lower() == operator.lower()), ""))
        numbers = [
            rest[key].pop(0) if default is not None and value is not None and rest[key] else None
            for key, value in (
                ("alpha", default and default.alpha),
                ("beta", default and default.beta),
            )
        ]
        canonical = operator if default is None else default.operator
        name = function_name(canonical, *numbers)
        if name is None:
            raise L0GateError(
                f"uses the function {operator[:40]!r} with alpha {numbers[0]} and beta"
                f" {numbers[1]}; l0gate has {', '.join(_IN_CELLS)}"
            )
        names.append(name)
    check(
        not rest["alpha"] and not rest["beta"],
        "has more numbers in `activation_alpha` or `activation_beta` than its functions take",
    )
    return names
