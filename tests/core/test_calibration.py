"""The best cut without training: candidates, their errors, and the choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner, calibrate
from l0gate.reference import second_moments

LAYERS = [
    {"type": "embedding", "name": "embedding"},
    {"type": "lstm", "name": "rnn", "num_layers": 2},
    {"type": "linear", "name": "decoder"},
]


def trained() -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    net = l0gate.get_backend("numpy").net(LAYERS)
    rng = np.random.default_rng(0)
    sizes = {"embedding": 5, "rnn": [7, 6], "decoder": 4}
    parameters = net.init(rng, input_size=9, sizes=sizes, dtype=np.float64)
    return net, parameters, rng.integers(0, 9, (20, 3))


def test_the_candidate_with_the_smallest_error_is_taken_and_certified() -> None:
    net, parameters, x = trained()
    wanted = net.apply(parameters, x)[0]

    def errors(candidates: Any) -> list[float]:
        return [float(np.square(net.apply(c, x)[0] - wanted).mean()) for c in candidates]

    pruner = Pruner(Layout.lstm(2), Budget(parameters=0.5), method="spectral")
    found = calibrate(pruner, parameters, second_moments(net, parameters, x), errors)
    assert set(found.errors) == {
        f"{method}{how}"
        for method in ("spectral", "magnitude")
        for how in ("", ", reconstructed (ridge 0.001)", ", reconstructed (ridge 0.1)")
    }
    assert found.errors[found.chosen] == min(found.errors.values())
    small, kept = pruner.shrink(found.parameters, found.state)
    assert errors([pruner.gate(found.parameters, found.state)]) == [found.errors[found.chosen]]
    certificate = pruner.certify(
        lambda given, i: net.apply(given, i)[0], found.parameters, found.state, small, kept, [x]
    )
    assert certificate.max_abs_difference < 1e-12
    assert pruner.cost.at({a: len(k) for a, k in kept.items()}) <= pruner.limit
    assert "chosen" in str(found).splitlines()[1]
    assert found.chosen in str(found).splitlines()[1]


def test_another_method_competes_with_itself_only() -> None:
    net, parameters, x = trained()
    pruner = Pruner(Layout.lstm(2), Budget(parameters=0.5), method="magnitude")
    moments = second_moments(net, parameters, x)
    found = calibrate(pruner, parameters, moments, lambda c: range(len(c)), ridges=(0.0,))
    assert list(found.errors) == ["magnitude", "magnitude, reconstructed"]
    assert found.chosen == "magnitude"


def test_soft_gates_are_folded_first() -> None:
    net, parameters, x = trained()
    pruner = Pruner(Layout.lstm(2), Budget(parameters=0.5))
    rng = np.random.default_rng(1)
    pruner.bind(parameters)
    log_alpha = {a: rng.uniform(-3, 3, n) for a, n in pruner.sizes.items()}
    state = pruner.init(parameters, log_alpha=log_alpha)
    gated = pruner.gate(parameters, state)
    moments = second_moments(net, gated, x)
    found = calibrate(pruner, parameters, moments, lambda c: [1.0, 0.0], state, ridges=(0.0,))
    small, kept = pruner.shrink(found.parameters, found.state)
    pruner.certify(
        lambda given, i: net.apply(given, i)[0], found.parameters, found.state, small, kept, [x]
    )


def test_bad_errors() -> None:
    net, parameters, x = trained()
    pruner = Pruner(Layout.lstm(2), Budget(parameters=0.5), method="magnitude")
    moments = second_moments(net, parameters, x)
    with pytest.raises(L0GateError, match="`errors` gave 1 numbers for 3 candidates"):
        calibrate(pruner, parameters, moments, lambda c: [1.0])
    with pytest.raises(L0GateError, match="at least one of them must be finite"):
        calibrate(pruner, parameters, moments, lambda c: [float("nan")] * 3)
    found = calibrate(pruner, parameters, moments, lambda c: [float("nan"), 2.0, 3.0])
    assert found.chosen == "magnitude, reconstructed (ridge 0.001)"
    with pytest.raises(L0GateError, match="selected already"):
        calibrate(pruner, parameters, moments, lambda c: [1.0] * 3, found.state)
