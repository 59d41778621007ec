"""The conformance kit on PyTorch: what NumPy cannot claim."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import l0gate
import l0gate.testing
from l0gate.backends._torch import TorchBackend
from l0gate.testing import backend_checks, run_check


@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
def test_torch_conforms(check: Callable[..., None]) -> None:
    outcome = run_check(check, TorchBackend())
    outcome.raise_if_failed()
    assert outcome.result == "passed"


class GradientOffByAFactor(TorchBackend):
    def value_and_grad(self, function: Any) -> Any:
        right = super().value_and_grad(function)

        def wrong(arrays: Any, *args: Any, **kwargs: Any) -> Any:
            value, slope = right(arrays, *args, **kwargs)
            return value, _scaled(slope)

        return wrong


def _scaled(tree: Any) -> Any:
    return {k: _scaled(v) for k, v in tree.items()} if isinstance(tree, dict) else 1.5 * tree


class GradientKeepsDependence(TorchBackend):
    def stop_gradient(self, x: Any) -> Any:
        return x


class GradientIsFlat(TorchBackend):
    def value_and_grad(self, function: Any) -> Any:
        right = super().value_and_grad(function)

        def wrong(arrays: Any, *args: Any, **kwargs: Any) -> Any:
            value, slope = right(arrays, *args, **kwargs)
            flat = {}
            for name, part in slope.items():
                flat |= part if isinstance(part, dict) else {name: part}
            return value, flat

        return wrong


class WrongRebuild(TorchBackend):
    def rebuild(self, into: Any, saved: Any) -> Any:
        model = super().rebuild(into, saved)
        with torch.no_grad():
            next(model.parameters()).add_(0.1)
        return model


class NoExamples(TorchBackend):
    def example_models(self) -> Any:
        return []


class OnAnotherDevice(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return super().asarray(array) if like is None else super().asarray(array).to("meta")


FAULTS = {
    GradientOffByAFactor: "check_gradients",
    GradientKeepsDependence: "check_stop_gradient",
    GradientIsFlat: "check_gradient_structure",
    WrongRebuild: "check_models",
    NoExamples: "check_models",
    OnAnotherDevice: "check_device",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    named = run_check(getattr(l0gate.testing, FAULTS[fault]), fault())
    assert named.result == "failed", named
    if fault is GradientOffByAFactor:
        message = r"the gradient of sum\(w \* \(x \+ y\)\)\['x'\]\[0, 0\] = .* should be"
        assert re.search(message, named.reason), named.reason
