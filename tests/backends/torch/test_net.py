"""Nets of torch compute what the reference does, and name what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from strategies import chains
from torch_models import nets_of_both

import l0gate
from l0gate import L0GateError

TORCH = l0gate.get_backend("torch")


@given(chains())
def test_nets_agree_with_the_reference(case: dict[str, Any]) -> None:
    net, torch_net, parameters, tensors = nets_of_both(case)
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
    teacher = rng.normal(size=y.shape)
    for outputs in (teacher, torch.tensor(teacher)):
        for options in ({"temperature": 2.0}, {"loss": "mse", "teacher_weight": 0.25}):
            of_y = 0 * y if "loss" in options else targets
            soft, gradients, _ = net.loss_and_gradients(
                parameters, x, of_y, teacher=teacher, **options
            )
            value, slopes, _ = torch_net.loss_and_gradients(
                tensors, x, of_y, teacher=outputs, **options
            )
            assert value == pytest.approx(soft, rel=1e-10)
            assert value == pytest.approx(
                torch_net.loss(tensors, x, of_y, teacher=outputs, **options)[0]
            )
            for name in gradients:
                np.testing.assert_allclose(slopes[name], gradients[name], rtol=1e-8, atol=1e-12)
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
