"""The torch backend: arrays and autodiff, and the same gates and sizes as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import chains
from torch_models import nets_of_both, random_log_alpha, with_torch_names

import l0gate
from l0gate import Budget, Pruner
from l0gate._chain import Chain
from l0gate.layout.cost import Cost

# Random gates may close a whole axis, and are far from any budget.
pytestmark = [
    pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning"),
    pytest.mark.filterwarnings("ignore:the gates:UserWarning"),
]
TORCH, NUMPY = l0gate.get_backend("torch"), l0gate.get_backend("numpy")


def test_it_owns_tensors_and_modules_alone() -> None:
    assert l0gate.get_backend(torch.zeros(2)) is TORCH
    assert l0gate.get_backend(torch.nn.Linear(2, 2)) is TORCH
    assert not TORCH.owns(np.zeros(2))
    assert not TORCH.owns_model(torch.zeros(2))


@pytest.mark.parametrize("dtype", TORCH.dtypes)
def test_arrays_keep_their_values_through_casts(dtype: str) -> None:
    x = TORCH.cast(torch.tensor([0.5, -2.0], requires_grad=True), dtype)
    assert TORCH.dtype(x) == dtype
    assert TORCH.to_numpy(x).tolist() == [0.5, -2.0]
    TORCH.cast(x, "float64").sum().backward()  # derivatives pass through


def test_arrays_are_copied_from_numpy() -> None:
    given = np.array([1.0, 2.0])
    given.flags.writeable = False
    tensor = TORCH.asarray(given)
    tensor += 1
    assert given.tolist() == [1.0, 2.0]
    assert TORCH.asarray([1.0]).dtype == torch.float64  # as NumPy, not torch's default


def test_take_is_a_fresh_contiguous_copy() -> None:
    x = torch.arange(6.0).reshape(2, 3).T
    taken = TORCH.take(x, np.array([2, 0]), 0)
    assert taken.tolist() == [[2.0, 5.0], [0.0, 3.0]]
    assert taken.is_contiguous()
    assert taken.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_value_and_grad_reaches_into_nested_dicts() -> None:
    function = TORCH.value_and_grad(lambda p, k: k * (p["a"]["b"] ** 2).sum() + p["c"].sum() * 0)
    with torch.no_grad():
        value, gradient = function({"a": {"b": torch.ones(2)}, "c": torch.ones(1)}, 3.0)
    assert value.item() == 6.0
    assert not value.requires_grad
    assert gradient["a"]["b"].tolist() == [6.0, 6.0]
    assert gradient["c"].tolist() == [0.0]


@given(chains(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_gates_prices_and_small_models_are_those_of_numpy(
    case: dict[str, Any], share: float, progress: float
) -> None:
    _, _, parameters, tensors = nets_of_both(case)
    chain = Chain(with_torch_names(case), case["batch_first"])
    rng = np.random.default_rng(case["seed"])
    sizes = chain.layout.solve(parameters)
    log_alpha = {
        axis: random_log_alpha(case["gates"], n, rng)
        for axis, n in sizes.items()
        if axis not in chain.frozen
    }
    cost = Cost(chain.layout, parameters)
    floor = cost.at({axis: n if axis in chain.frozen else 1 for axis, n in sizes.items()})
    budget = Budget(parameters=floor + int(share * (cost.total - floor)))
    results = []
    for backend, arrays in ((NUMPY, parameters), (TORCH, tensors)):
        pruner = Pruner(chain.layout, budget, backend=backend, freeze=chain.frozen)
        state = pruner.init(arrays, 3, log_alpha=log_alpha)
        state["multipliers"] = backend.asarray(np.array([0.3, 0.7]))
        noise, _ = pruner.noise(state, backend.rng(5))
        state = pruner.update(state, progress)
        small, kept = pruner.shrink(arrays, pruner.select(state, arrays, reopen=False))
        results.append(
            {
                "gates": pruner.gates(state),
                "samples": pruner.gates(state, noise),
                "folded": pruner.gate(arrays, state, noise),
                "penalty": pruner.penalty(state, progress),
                "slope": pruner.penalty_gradient(state, progress),
                "size": pruner.expected_size(state),
                "multipliers": state["multipliers"],
                "pullback": pruner.pullback(arrays, state, noise, arrays),
                "small": small,
                "kept": kept,
            }
        )
    compare(*results)


def compare(numpy_result: Any, torch_result: Any) -> None:
    if isinstance(numpy_result, dict):
        assert list(numpy_result) == list(torch_result)
        for key in numpy_result:
            compare(numpy_result[key], torch_result[key])
    elif isinstance(numpy_result, tuple):
        for one, other in zip(numpy_result, torch_result, strict=True):
            compare(one, other)
    else:
        np.testing.assert_allclose(
            np.asarray(torch_result), np.asarray(numpy_result), rtol=1e-10, atol=1e-12
        )


@given(chains(), st.booleans())
def test_closed_form_gradients_are_those_of_autograd(case: dict[str, Any], sampled: bool) -> None:
    _, _, _, tensors = nets_of_both(case)
    chain = Chain(with_torch_names(case), case["batch_first"])
    pruner = Pruner(chain.layout, strength=0.01, backend=TORCH)
    rng = np.random.default_rng(case["seed"])
    sizes = chain.layout.solve(tensors)
    log_alpha = {axis: random_log_alpha(case["gates"], n, rng) for axis, n in sizes.items()}
    state = pruner.init(tensors, 0, log_alpha=log_alpha)
    noise = pruner.noise(state, TORCH.rng(1))[0] if sampled else None
    weights = {name: torch.tensor(rng.normal(size=t.shape)) for name, t in tensors.items()}

    def total(p: dict[str, Any]) -> torch.Tensor:
        own = {**state, "log_alpha": p["log_alpha"]}
        folded = pruner.gate(p["parameters"], own, noise)
        return sum(((folded[n] * w).sum() for n, w in weights.items()), pruner.penalty(own, 0.5))

    _, slopes = TORCH.value_and_grad(total)(
        {"parameters": tensors, "log_alpha": state["log_alpha"]}
    )
    of_parameters, of_gates = pruner.pullback(tensors, state, noise, weights)
    of_penalty = pruner.penalty_gradient(state, 0.5)
    for name in tensors:
        torch.testing.assert_close(of_parameters[name], slopes["parameters"][name])
    for axis in sizes:
        torch.testing.assert_close(of_gates[axis] + of_penalty[axis], slopes["log_alpha"][axis])
