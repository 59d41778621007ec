"""Losses: values, gradients, extreme logits, and targets that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import assert_close, assert_gradient, freeze

from l0gate import L0GateError
from l0gate.reference import Net, mean_squared_error, softmax_cross_entropy

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, shape=st.sampled_from([(1,), (4,), (3, 2)]), size=st.integers(1, 6))
def test_cross_entropy_matches_differences(seed: int, shape: tuple[int, ...], size: int) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = freeze(
        (3 * rng.standard_normal((*shape, size)), rng.integers(size, size=shape))
    )
    loss, gradient = softmax_cross_entropy(logits, targets)
    naive = (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    )
    assert loss == pytest.approx(naive.mean(), rel=1e-12, abs=1e-12)
    assert_gradient(lambda z: softmax_cross_entropy(z, targets)[0], logits, gradient, seed)


@given(seed=seeds, shape=st.sampled_from([(1,), (4,), (3, 2)]))
def test_squared_error_matches_differences(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    y, target = freeze((rng.standard_normal(shape), rng.standard_normal(shape)))
    loss, gradient = mean_squared_error(y, target)
    assert loss == pytest.approx(((y - target) ** 2).mean(), rel=1e-12)
    assert_gradient(lambda y: mean_squared_error(y, target)[0], y, gradient, seed)


@pytest.mark.parametrize("function", [softmax_cross_entropy, mean_squared_error])
def test_overwriting_gives_the_same(function: Any) -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((4, 3)).astype(np.float32)
    target = rng.integers(3, size=4) if function is softmax_cross_entropy else y[::-1].copy()
    loss, gradient = function(freeze(y), target)
    assert isinstance(loss, float)
    again, in_place = function(y, target, overwrite=True)
    assert again == loss
    assert_close(in_place, gradient, np.float32)
    assert np.shares_memory(in_place, y)


def test_cross_entropy_of_extreme_logits() -> None:
    with np.errstate(all="raise", under="ignore"):
        logits = np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32)
        loss, gradient = softmax_cross_entropy(logits, np.array([0, 0]))
    assert loss == pytest.approx(5000)
    assert_close(gradient, np.array([[0, 0], [-0.5, 0.5]]), np.float32)
    assert np.isnan(softmax_cross_entropy(np.array([[np.nan, 0.0]]), np.array([0]))[0])


NET = Net(
    [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn"},
        {"type": "linear", "name": "decoder"},
    ]
)
PARAMETERS = NET.init(
    np.random.default_rng(0), input_size=5, sizes={"embedding": 2, "rnn": 3, "decoder": 4}
)
TOKENS = np.array([[1, 2], [0, 4], [3, 3]])


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (TOKENS, {"loss": "hinge"}, "`loss` is 'hinge'; allowed: cross_entropy, mse"),
        (TOKENS, {}, "`targets` contain 4; they must lie in 0..3"),
        (TOKENS - 1.0, {}, "`targets` have dtype float64; expected integers"),
        (TOKENS[:2], {}, "`targets` have shape (2, 2); the output asks for (3, 2)"),
        (TOKENS[:2], {"lengths": [3, 3]}, "`targets` have shape (2, 2); expected (3, 2)"),
        (TOKENS.repeat(2, 0), {"lengths": [3, 3]}, "`targets` have shape (6, 2); expected (3, 2)"),
        (TOKENS, {"loss": "mse"}, "`targets` have shape (3, 2); the output asks for (3, 2, 4)"),
        (TOKENS, {"lengths": [0, 0]}, "a mean needs at least one position"),
    ],
)
def test_wrong_targets_are_refused(targets: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        NET.loss_and_gradients(PARAMETERS, TOKENS, targets, **options)
    assert message in str(caught.value)
