"""The hard-concrete distribution against its samples, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import log_alphas

from l0gate import HardConcrete, L0GateError

RULES = [HardConcrete(), HardConcrete(rule="median"), HardConcrete(0.5, -0.2, 1.3)]


@pytest.mark.parametrize("gates", RULES)
def test_open_probability_is_the_share_of_open_samples(gates: HardConcrete) -> None:
    u = (np.arange(200_000) + 0.5) / 200_000
    for log_alpha in (-3.0, -1.0, 0.0, 2.0):
        samples = gates.sample(np.full_like(u, log_alpha), u)
        share = float(np.mean(samples > 0))
        found = float(gates.open_probability(np.array([log_alpha]))[0])
        assert share == pytest.approx(found, abs=1e-5)
        assert samples.min() >= 0
        assert samples.max() <= 1


def test_the_rules_close_where_they_should() -> None:
    mean, median = HardConcrete(), HardConcrete(rule="median")
    edge = math.log(0.1 / 1.1)
    assert mean.test_gate(np.array([edge - 1e-6, edge + 1e-6]))[0] == 0
    assert mean.test_gate(np.array([edge - 1e-6, edge + 1e-6]))[1] > 0
    grid = np.linspace(-5, 3, 1001)
    assert np.array_equal(median.test_gate(grid) > 0, median.open_probability(grid) > 0.5)
    assert not np.array_equal(mean.test_gate(grid) > 0, mean.open_probability(grid) > 0.5)


@pytest.mark.parametrize("gates", RULES)
def test_the_initial_gate_is_the_wanted_one(gates: HardConcrete) -> None:
    for value in (0.0, 0.3, 1.0):
        log_alpha = np.array([gates.initial_log_alpha(value)])
        assert float(gates.test_gate(log_alpha)[0]) == pytest.approx(value, abs=1e-12)
    assert gates.test_gate(np.array([gates.initial_log_alpha(1.0) - 1e-3]))[0] < 1


@given(log_alphas(6), st.integers(0, 99), st.sampled_from(RULES))
def test_slopes_are_derivatives(log_alpha: np.ndarray, seed: int, gates: HardConcrete) -> None:
    rng = np.random.default_rng(seed)
    u = rng.uniform(0.01, 0.99, size=6)
    step = 1e-6
    for value, slope in (
        (lambda a: gates.sample(a, u), gates.sample_slope(log_alpha, u)),
        (gates.test_gate, gates.test_gate_slope(log_alpha)),
        (gates.open_probability, gates.open_probability_slope(log_alpha)),
    ):
        ahead, behind = value(log_alpha + step), value(log_alpha - step)
        numeric = (ahead - behind) / (2 * step)
        # Away from the clip's kinks, where no derivative exists.
        smooth = (
            ((ahead > 0) & (behind > 0) & (ahead < 1) & (behind < 1))
            | ((ahead == 0) & (behind == 0))
            | ((ahead == 1) & (behind == 1))
        )
        np.testing.assert_allclose(slope[smooth], numeric[smooth], rtol=1e-6, atol=1e-8)


def test_extreme_log_alpha_and_noise_stay_finite() -> None:
    gates = HardConcrete()
    log_alpha = np.array([-1e30, -80.0, 0.0, 80.0, 1e30], np.float32)
    u = np.full(5, 2.0**-24, np.float32)
    for array in (
        gates.sample(log_alpha, u),
        gates.test_gate(log_alpha),
        gates.open_probability(log_alpha),
        gates.sample_slope(log_alpha, u),
        gates.clamp(log_alpha),
    ):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert gates.clamp(log_alpha).tolist() == [-8, -8, 0, 5, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0}, "`beta` is 0"),
        ({"beta": float("nan")}, "`beta` is nan"),
        ({"gamma": 0.0}, "`gamma` is 0.0; it must be below 0"),
        ({"zeta": 1.0}, "`zeta` is 1.0; it must be above 1"),
        ({"rule": "mode"}, "`rule` is 'mode'"),
        ({"initial": 0.0}, "`initial` is 0.0"),
        ({"lowest": -1.0}, "must leave room for a closed gate"),
        ({"highest": 2.0}, "must leave room for a closed gate"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        HardConcrete(**options)


def test_a_wanted_gate_outside_its_range() -> None:
    with pytest.raises(L0GateError, match=r"`gate` is 1.5; it must be in \[0, 1\]"):
        HardConcrete().initial_log_alpha(1.5)
