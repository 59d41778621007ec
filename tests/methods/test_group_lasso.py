"""The group lasso: its penalty, its gradient, and its end."""

from __future__ import annotations

import numpy as np
import pytest
from method_cases import LAYOUT, arrays

from l0gate import Budget, Layout, Pruner, get_backend
from l0gate.methods import GroupLasso


def test_the_lasso_is_the_sum_of_all_norms() -> None:
    layout = Layout({"w": "(2 h + 3) <- x", "u": "h <- h", "v": "_ <- h"})
    rng = np.random.default_rng(0)
    parameters = {
        "w": rng.standard_normal((11, 5)),
        "u": rng.standard_normal((4, 4)),
        "v": rng.standard_normal((2, 4)),
    }
    norms = []
    for j in range(4):
        own = [*parameters["w"][[j, 4 + j]].ravel(), *parameters["u"][j], *parameters["u"][:, j]]
        norms.append(np.linalg.norm([*own, *parameters["v"][:, j]]))
    lasso, backend = GroupLasso(0.5), get_backend("numpy")
    assert lasso.penalty(layout, parameters, backend, ["h"]) == pytest.approx(0.5 * sum(norms))
    columns = np.linalg.norm(parameters["w"], axis=0)
    both = lasso.penalty(layout, parameters, backend, ["h", "x"])
    assert both == pytest.approx(0.5 * (sum(norms) + columns.sum()))


@pytest.mark.parametrize("axes", [["h"], ["h", "x"]])
def test_the_lasso_has_its_gradient(axes: list[str]) -> None:
    layout = Layout({"w": "(2 h + 3) <- x", "u": "h <- h", "v": "_ <- h", "b": "(2 h + 3)"})
    rng = np.random.default_rng(0)
    shapes = {"w": (11, 5), "u": (4, 4), "v": (2, 4), "b": (11,)}
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    lasso, backend = GroupLasso(0.3), get_backend("numpy")
    slopes = lasso.penalty_gradient(layout, parameters, backend, axes)
    for name, value in parameters.items():
        direction = rng.standard_normal(value.shape)
        ends = [
            float(lasso.penalty(layout, parameters | {name: value + e * direction}, backend, axes))
            for e in (1e-5, -1e-5)
        ]
        assert np.sum(slopes[name] * direction) == pytest.approx((ends[0] - ends[1]) / 2e-5, 1e-7)


def test_the_lasso_ends_with_the_selection() -> None:
    parameters = arrays()
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method=GroupLasso(), freeze=["x"])
    state = pruner.init(parameters)
    assert float(pruner.penalty(state, 0.1, parameters)) > 0
    assert set(pruner.parameter_gradient(state, parameters)) == set(LAYOUT.patterns)
    state = pruner.select(pruner.update(state, 0.7, parameters), parameters)
    assert float(pruner.penalty(state, 0.7, parameters)) == 0
    assert not pruner.parameter_gradient(state, parameters)
