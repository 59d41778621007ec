"""Losses: values, gradients, extreme logits, and targets that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import assert_close, assert_gradient, freeze

from l0gate import L0GateError
from l0gate.reference import Net, kl_divergence, mean_squared_error, softmax_cross_entropy
from l0gate.reference._losses import Teacher, loss_of

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


temperatures = st.sampled_from([0.5, 1.0, 2.0])


@given(
    seed=seeds,
    shape=st.sampled_from([(1,), (4,), (3, 2)]),
    size=st.integers(1, 6),
    temperature=temperatures,
)
def test_divergence_matches_differences_and_torch(
    seed: int, shape: tuple[int, ...], size: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    logits, teacher = freeze(3 * rng.standard_normal((2, *shape, size)))
    loss, gradient = kl_divergence(logits, teacher, temperature)
    assert_gradient(lambda z: kl_divergence(z, teacher, temperature)[0], logits, gradient, seed)
    z = torch.tensor(logits, requires_grad=True)
    log_p = torch.log_softmax(z / temperature, -1)
    q = torch.softmax(torch.tensor(teacher) / temperature, -1)
    wanted = torch.nn.functional.kl_div(log_p, q, reduction="none").sum(-1).mean()
    wanted = temperature**2 * wanted
    assert loss == pytest.approx(wanted.item(), rel=1e-10, abs=1e-12)
    (slope,) = torch.autograd.grad(wanted, z)
    assert_close(gradient, slope.numpy(), np.float64)


@given(seed=seeds, temperature=temperatures)
def test_divergence_is_zero_where_the_nets_agree(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((3, 4))
    loss, gradient = kl_divergence(logits, logits + rng.standard_normal((3, 1)), temperature)
    assert loss == pytest.approx(0, abs=1e-12)
    assert_close(gradient, np.zeros((3, 4)), np.float64)
    assert kl_divergence(logits, rng.standard_normal((3, 4)), temperature)[0] > 0


@given(
    seed=seeds,
    loss=st.sampled_from(["cross_entropy", "mse"]),
    weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    temperature=temperatures,
)
def test_soft_targets_match_differences(
    seed: int, loss: str, weight: float, temperature: float
) -> None:
    """The value is the weighted mean of both losses, and the gradient is that of the value."""
    rng = np.random.default_rng(seed)
    y, outputs = freeze(rng.standard_normal((2, 3, 4)))
    if loss == "mse":
        targets, temperature = rng.standard_normal((3, 4)), 1.0
        parts = [mean_squared_error(y, t)[0] for t in (targets, outputs)]
    else:
        targets = rng.integers(4, size=3)
        parts = [softmax_cross_entropy(y, targets)[0], kl_divergence(y, outputs, temperature)[0]]
    teacher = Teacher(outputs, weight, temperature)
    value, gradient = loss_of(loss, y, targets, teacher)
    assert value == pytest.approx((1 - weight) * parts[0] + weight * parts[1], rel=1e-12)
    assert_gradient(lambda y: loss_of(loss, y, targets, teacher)[0], y, gradient, seed)
    again, in_place = loss_of(loss, y.copy(), targets, teacher, overwrite=True)
    assert again == value
    assert_close(in_place, gradient, np.float64)


def test_divergence_of_extreme_logits() -> None:
    with np.errstate(all="raise", under="ignore"):
        logits = np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32)
        loss, gradient = kl_divergence(logits, np.zeros((2, 2)))
    assert loss == pytest.approx(5000, rel=1e-3)
    assert gradient.dtype == np.float32
    assert_close(gradient, np.array([[0.25, -0.25], [-0.25, 0.25]]), np.float32)


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
        (TOKENS, {"teacher": TOKENS}, "`teacher` has shape (3, 2); the output asks for (3, 2, 4)"),
        (TOKENS, {"teacher": 1.0}, "`teacher` has shape (); the output asks for (3, 2, 4)"),
        (
            TOKENS % 4,
            {"teacher": np.zeros((2, 2, 4)), "lengths": [3, 1]},
            "`teacher` has shape (2, 2, 4); expected (3, 2, 4)",
        ),
        (
            TOKENS,
            {"teacher": 1.0, "teacher_weight": 1.5},
            "`teacher_weight` is 1.5; it must be a number from 0 to 1",
        ),
        (
            TOKENS,
            {"teacher": 1.0, "temperature": 0},
            "`temperature` is 0; it must be a finite number above 0",
        ),
        (
            TOKENS,
            {"teacher": 1.0, "loss": "mse", "temperature": 2.0},
            "`temperature` is 2.0; only the loss 'cross_entropy' has one",
        ),
    ],
)
def test_wrong_targets_are_refused(targets: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as caught:
        NET.loss_and_gradients(PARAMETERS, TOKENS, targets, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_soft_targets_of_padded_sequences_leave_the_padding_out(
    loss: str, batch_first: bool
) -> None:
    """The mean over both sequences is that over each alone, weighted by its length."""
    net = Net([*NET.layers, {"type": "activation", "function": "tanh"}], batch_first)
    rng = np.random.default_rng(1)
    outputs = rng.standard_normal((3, 2, 4)).astype(np.float32)
    targets = outputs[::-1] if loss == "mse" else TOKENS[::-1] % 4
    lengths, x = [3, 1], TOKENS

    def run(x: Any, targets: Any, outputs: Any, **options: Any) -> Any:
        if batch_first:
            x, targets, outputs = (np.swapaxes(a, 0, 1) for a in (x, targets, outputs))
        options |= {"loss": loss, "teacher": outputs, "teacher_weight": 0.25}
        value, gradients, _ = net.loss_and_gradients(PARAMETERS, x, targets, **options)
        assert net.loss(PARAMETERS, x, targets, **options)[0] == pytest.approx(value)
        return value, gradients

    value, gradients = run(x, targets, outputs, lengths=lengths)
    alone = [run(*(a[:n, i : i + 1] for a in (x, targets, outputs))) for i, n in enumerate(lengths)]
    assert value == pytest.approx((3 * alone[0][0] + alone[1][0]) / 4, rel=1e-5)
    for name, gradient in gradients.items():
        wanted = (3 * alone[0][1][name] + alone[1][1][name]) / 4
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
