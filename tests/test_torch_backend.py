"""The torch backend: arrays, autodiff, nets; and the same gates and sizes as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import chains
from torch_models import random_log_alpha

import l0gate
from l0gate import Budget, L0GateError, Pruner
from l0gate._chain import Chain
from l0gate.layout.cost import Cost
from l0gate.reference import Net

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


def with_torch_names(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers, with the one kind of GRU that torch has."""
    return [{k: v for k, v in layer.items() if k != "reset_after"} for layer in case["layers"]]


def both(case: dict[str, Any], seed: int = 0) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """The chain as a net of each backend, with the same float64 parameters, of ragged sizes."""
    layers = with_torch_names(case)
    rng = np.random.default_rng(case["seed"])
    sizes: dict[str, Any] = {"embedding": case["hidden_size"], "decoder": 3}
    for layer in layers:
        if "num_layers" in layer:
            count = layer["num_layers"] * (1 + layer["bidirectional"])
            sizes["rnn"] = rng.integers(1, case["hidden_size"] + 1, count).tolist()
    sizes = {name: size for name, size in sizes.items() if name in str(layers)}
    options: dict[str, Any] = {"input_size": case["input_size"], "sizes": sizes}
    nets = Net(layers, case["batch_first"]), TORCH.net(layers, case["batch_first"])
    numbers = [n.init(np.random.default_rng(seed), dtype=np.float64, **options) for n in nets]
    return *nets, *numbers


@given(chains())
def test_nets_agree_with_the_reference(case: dict[str, Any]) -> None:
    net, torch_net, parameters, tensors = both(case)
    for name, array in parameters.items():
        np.testing.assert_array_equal(tensors[name], array)
    rng = np.random.default_rng(case["seed"])
    shape = (
        (case["batch"], case["length"]) if case["batch_first"] else (case["length"], case["batch"])
    )
    if case["layers"][0]["type"] == "embedding":
        x: np.ndarray = rng.integers(case["input_size"], size=shape)
    else:
        x = rng.normal(size=(*shape, case["input_size"]))
    y, state = net.apply(parameters, x)
    found, found_state = torch_net.apply(tensors, x)
    np.testing.assert_allclose(found, y, rtol=1e-10, atol=1e-12)
    targets = rng.integers(y.shape[-1], size=shape)
    for given_state, torch_state in ((None, None), (state, found_state)):
        loss, gradients, last = net.loss_and_gradients(parameters, x, targets, given_state)
        value, slopes, torch_last = torch_net.loss_and_gradients(tensors, x, targets, torch_state)
        assert value == pytest.approx(loss, rel=1e-10)
        assert list(slopes) == list(gradients)
        for name in gradients:
            np.testing.assert_allclose(slopes[name], gradients[name], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(flat(torch_last), flat(last), rtol=1e-10, atol=1e-12)
        assert value == pytest.approx(torch_net.loss(tensors, x, targets, torch_state)[0])
    squared = net.loss_and_gradients(parameters, x, 0 * y, loss="mse")[0]
    assert torch_net.loss(tensors, x, 0 * y, loss="mse")[0] == pytest.approx(squared)


def flat(state: Any) -> np.ndarray:
    parts = [part for entry in state for part in (entry if isinstance(entry, tuple) else (entry,))]
    assert not any(isinstance(part, torch.Tensor) and part.requires_grad for part in parts)
    return np.concatenate([np.ravel(part) for part in parts]) if parts else np.zeros(0)


LAYERS = [{"type": "embedding", "name": "e"}, {"type": "lstm", "name": "r"}]


def net_and_numbers() -> tuple[Any, dict[str, torch.Tensor]]:
    net = TORCH.net(LAYERS)
    sizes = {"e": 4, "r": 3}
    return net, net.init(np.random.default_rng(0), input_size=5, sizes=sizes)


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        (np.array([[5]]), None, "the token 5; allowed: 0..4"),
        (np.array([[-1]]), None, "the token -1; allowed: 0..4"),
        (np.zeros((1, 1)), None, "an embedding reads integer tokens"),
        (np.array([1]), None, r"shape \(1,\); expected \(T, B\)"),
        (np.array([[1]]), (), "`state` must be a tuple of 1 entries"),
        (np.array([[1]]), (torch.zeros(1, 3),), r"a pair \(h, c\)"),
        (
            np.array([[1]]),
            ((torch.zeros(1, 3), torch.zeros(1, 4)),),
            r"\(1, 4\); expected \(1, 3\)",
        ),
    ],
)
def test_nets_name_what_is_wrong(x: Any, state: Any, message: str) -> None:
    net, parameters = net_and_numbers()
    with pytest.raises(L0GateError, match=message):
        net.apply(parameters, x, state)


def test_nets_name_what_is_missing() -> None:
    net, parameters = net_and_numbers()
    del parameters["r.bias_hh_l0"]
    with pytest.raises(L0GateError, match=r"parameter 'r.bias_hh_l0' is missing"):
        net.apply(parameters, np.array([[1]]))
    net, parameters = net_and_numbers()
    with pytest.raises(L0GateError, match=r"`targets` have shape \(2, 1\); expected \(1, 1\)"):
        net.loss(parameters, np.array([[1]]), np.array([[1], [2]]))
    with pytest.raises(L0GateError, match=r"`loss` is 'hinge'; allowed: cross_entropy, mse"):
        net.loss(parameters, np.array([[1]]), np.array([[1]]), loss="hinge")
    with pytest.raises(L0GateError, match=r"'g' has reset_after=False"):
        TORCH.net([{"type": "gru", "name": "g", "reset_after": False}])


@given(chains(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_gates_prices_and_small_models_are_those_of_numpy(
    case: dict[str, Any], share: float, progress: float
) -> None:
    _, _, parameters, tensors = both(case)
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
    _, _, _, tensors = both(case)
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
