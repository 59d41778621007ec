"""The conformance kit on PyTorch: what NumPy cannot claim."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
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


def _branching(x: Any, y: Any) -> Any:
    """The right value; but the branch not taken overflows, and its derivative counts."""
    return torch.where(x > y, x + torch.log1p(torch.exp(y - x)), y + torch.log1p(torch.exp(x - y)))


class GradientOfTheBranchNotTaken(TorchBackend):
    xp: Any = SimpleNamespace(**{**vars(torch), "logaddexp": _branching})


class WrongRebuild(TorchBackend):
    def rebuild(self, into: Any, saved: Any) -> Any:
        model = super().rebuild(into, saved)
        with torch.no_grad():
            next(model.parameters()).add_(0.1)
        return model


class NoExamples(TorchBackend):
    def example_models(self) -> Any:
        return []


class SharesTheHostsMemory(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        if isinstance(array, np.ndarray) and array.flags.writeable:
            return torch.from_numpy(array)
        return super().asarray(array, like)


class IgnoresLike(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return super().asarray(array)


class OnAnotherDevice(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return super().asarray(array) if like is None else super().asarray(array).to("meta")


FAULTS = {
    GradientOffByAFactor: "check_gradients",
    GradientOfTheBranchNotTaken: "check_gradients",
    GradientKeepsDependence: "check_stop_gradient",
    GradientIsFlat: "check_gradient_structure",
    WrongRebuild: "check_models",
    NoExamples: "check_models",
    SharesTheHostsMemory: "check_conversion",
    OnAnotherDevice: "check_device",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    named = run_check(getattr(l0gate.testing, FAULTS[fault]), fault())
    assert named.result == "failed", named
    if fault is GradientOffByAFactor:
        message = r"sum\(w \* \(x \+ y\)\)\['gradient'\]\['x'\]\[0, 0\] = .* should be"
        assert re.search(message, named.reason), named.reason
    if fault is GradientOfTheBranchNotTaken:
        run_check(l0gate.testing.check_extreme_values, fault()).raise_if_failed()
        assert re.search(r"logaddexp.*\['gradient'\]\['x'\]\[0, 1\] = nan", named.reason), (
            named.reason
        )
    if fault is SharesTheHostsMemory:
        assert "asarray(x) shares memory with x" in named.reason


def test_a_second_device_is_tried_where_one_is_given() -> None:
    other = torch.zeros(2, 3, device="meta")
    l0gate.testing.check_device(TorchBackend(), other)
    l0gate.testing.check_device(IgnoresLike())
    with pytest.raises(AssertionError, match="asarray gives an array on cpu, but should on meta"):
        l0gate.testing.check_device(IgnoresLike(), other)
