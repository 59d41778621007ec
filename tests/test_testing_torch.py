"""The conformance kit on PyTorch: what NumPy cannot claim."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import l0gate
import l0gate.testing
from l0gate.backends._torch.backend import TorchBackend
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


class WidensItsOwn(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        made = super().asarray(array, like)
        return made.double() if isinstance(array, torch.Tensor) else made


class ClearsItsOwn(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        made = super().asarray(array, like)
        return 0 * made if isinstance(array, torch.Tensor) else made


class DoublesLists(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        made = super().asarray(array, like)
        return 2 * made if isinstance(array, list) else made


class IgnoresLike(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return super().asarray(array)


class OnAnotherDevice(TorchBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return super().asarray(array) if like is None else super().asarray(array).to("meta")


class ChangesWhatItDifferentiates(TorchBackend):
    def value_and_grad(self, function: Any) -> Any:
        right = super().value_and_grad(function)

        def wrong(arrays: Any, *args: Any, **kwargs: Any) -> Any:
            found = right(arrays, *args, **kwargs)
            for x in arrays.values():
                if isinstance(x, torch.Tensor) and x.dtype == torch.float32:
                    x.add_(1.0)
            return found

        return wrong


class OwnsNoModels(TorchBackend):
    def owns_model(self, model: object) -> bool:
        return False


class OwnsNoGatedModels(TorchBackend):
    def owns_model(self, model: object) -> bool:
        return isinstance(model, torch.nn.Sequential)


class _Gated(TorchBackend):
    """Gates in the right way, and then does something else."""

    def gate_model(self, model: Any, **options: Any) -> Any:
        return self.changed(super().gate_model(model, **options))

    def changed(self, gated: Any) -> Any:
        raise NotImplementedError


class GatedModelReturnsNoArray(_Gated):
    def changed(self, gated: Any) -> Any:
        gated.forward = lambda *inputs: {"outputs": [1.0, "text"]}
        return gated


class GatedModelReturnsADict(_Gated):
    """That is allowed."""

    def changed(self, gated: Any) -> Any:
        forward = gated.forward
        gated.forward = lambda *inputs: {"outputs": (forward(*inputs), "text")}
        return gated


class PenaltyIsAList(_Gated):
    def changed(self, gated: Any) -> Any:
        penalty = gated.penalty
        gated.penalty = lambda progress: penalty(progress).reshape(1)
        return gated


class ShrinksNothing(_Gated):
    def changed(self, gated: Any) -> Any:
        shrink = gated.shrink

        def same() -> Any:
            small = shrink()
            kept = {a: range(n) for a, n in small.certificate.dense_sizes.items()}
            small.certificate = dataclasses.replace(small.certificate, kept=kept)
            return small

        gated.shrink = same
        return gated


class DescribesADict(TorchBackend):
    def describe(self, model: Any) -> Any:
        return dict(model.state_dict())


class RebuiltModelReturnsMore(TorchBackend):
    def rebuild(self, into: Any, saved: Any) -> Any:
        model = super().rebuild(into, saved)
        return lambda *inputs: [model(*inputs), model(*inputs)]


class NetReturnsTooMuch(TorchBackend):
    def net(self, layers: Any, batch_first: bool = False) -> Any:
        net = super().net(layers, batch_first)
        apply = net.apply

        def more(*args: Any) -> Any:
            y, state = apply(*args)
            return y + 1e-6, state

        net.apply = more
        return net


class NetForgetsItsState(TorchBackend):
    def net(self, layers: Any, batch_first: bool = False) -> Any:
        net = super().net(layers, batch_first)
        run = net.loss_and_gradients
        net.loss_and_gradients = lambda p, x, targets, state=None: run(p, x, targets)
        return net


FAULTS = {
    WidensItsOwn: "check_conversion",
    ClearsItsOwn: "check_conversion",
    DoublesLists: "check_conversion",
    ChangesWhatItDifferentiates: "check_purity",
    OwnsNoModels: "check_models",
    OwnsNoGatedModels: "check_models",
    GatedModelReturnsNoArray: "check_models",
    PenaltyIsAList: "check_models",
    ShrinksNothing: "check_models",
    DescribesADict: "check_models",
    RebuiltModelReturnsMore: "check_models",
    NetReturnsTooMuch: "check_nets",
    NetForgetsItsState: "check_nets",
    GradientOffByAFactor: "check_gradients",
    GradientOfTheBranchNotTaken: "check_gradients",
    GradientKeepsDependence: "check_stop_gradient",
    GradientIsFlat: "check_gradient_structure",
    WrongRebuild: "check_models",
    NoExamples: "check_models",
    SharesTheHostsMemory: "check_conversion",
    OnAnotherDevice: "check_device",
}


MESSAGES = {
    WidensItsOwn: r"^asarray\(asarray\(x\)\) has dtype float64, but should have float32",
    ClearsItsOwn: r"^asarray\(asarray\(x\)\)\[0, 0\] = 0.0, but should be 0.31",
    DoublesLists: r"^asarray of nested lists\[0, 0\] = 2.0, but should be 1.0",
    ChangesWhatItDifferentiates: "value_and_grad changed an array that it was given",
    GradientIsFlat: r"value_and_grad\['gradient'\] has \['b', 'c', 'd'\], but should have \['a', ",
    GradientOffByAFactor: r"sum\(w \* \(x \+ y\)\)\['gradient'\]\['x'\]\[0, 0\] = .* should be",
    GradientOfTheBranchNotTaken: r"logaddexp.*\['gradient'\]\['x'\]\[0, 1\] = nan",
    GradientKeepsDependence: r"the gradient of stop_gradient\(x\) \* x\['x'\]\[0, 0\] = 0.62",
    SharesTheHostsMemory: r"^asarray\(x\) shares memory with x",
    OwnsNoModels: "`owns_model` is false of example model 0",
    OwnsNoGatedModels: "`owns_model` is false of the gated example model 0",
    GatedModelReturnsNoArray: "the gated example model 0 returned no array",
    NoExamples: r"`example_models` returned \[\]; it must return",
    PenaltyIsAList: r"`penalty` of example model 0 has the shape torch.Size\(\[1\]\)",
    ShrinksNothing: "example model 0 has as many neurons as before: certified on",
    DescribesADict: "`small` is a dict of arrays",
    WrongRebuild: r"example model 0, saved and rebuilt, computes \[array\(.*, but should \[array",
    RebuiltModelReturnsMore: "example model 0, saved and rebuilt, computes",
    NetReturnsTooMuch: r"a stacked LSTM below a linear layer\['y'\]\[0, 0, 0\] = ",
    NetForgetsItsState: "the losses of a stacked LSTM below a linear layer are",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    named = run_check(getattr(l0gate.testing, FAULTS[fault]), fault())
    assert named.result == "failed", named
    assert re.search(MESSAGES.get(fault, ""), named.reason, re.DOTALL), named.reason
    if fault is GradientOfTheBranchNotTaken:
        run_check(l0gate.testing.check_extreme_values, fault()).raise_if_failed()


def _off(tree: Any) -> Any:
    """The same numbers, a millionth too large."""
    if isinstance(tree, dict):
        return {name: _off(part) for name, part in tree.items()}
    return tuple(map(_off, tree)) if isinstance(tree, tuple) else tree * (1 + 1e-6)


@pytest.mark.parametrize(
    ("method", "place", "with_state", "said"),
    [
        ("loss_and_gradients", 2, False, r"\['state beside gradients'\]\[0\]\[0\]\[0, 0\] = "),
        ("loss_and_gradients", 1, False, r"\['gradients'\]\['embedding.weight'\]\[0, 0\] = "),
        ("loss_and_gradients", 1, True, r"\['gradients from a state'\]\['embedding.weight'\]"),
    ],
)
def test_what_is_wrong_with_a_net_is_named(
    method: str, place: int, with_state: bool, said: str
) -> None:
    class Wrong(TorchBackend):
        def net(self, layers: Any, batch_first: bool = False) -> Any:
            net = super().net(layers, batch_first)
            right = getattr(net, method)

            def wrong(*args: Any, **options: Any) -> Any:
                found = right(*args, **options)
                if with_state and len(args) < 4:
                    return found
                return tuple(_off(part) if i == place else part for i, part in enumerate(found))

            setattr(net, method, wrong)
            return net

    named = run_check(l0gate.testing.check_nets, Wrong())
    assert re.match(f"(a stacked LSTM below a linear layer)?{said}", named.reason), named.reason


def test_a_wrong_gradient_is_seen_in_the_algorithm_too() -> None:
    named = run_check(l0gate.testing.check_gradients_of_gating, GradientOffByAFactor())
    assert re.match(r"the gradient of gating\['\w+'\]\['\w+'\]", named.reason), named.reason


def test_models_may_return_nested_arrays() -> None:
    run_check(l0gate.testing.check_models, GatedModelReturnsADict()).raise_if_failed()


@pytest.mark.parametrize("method", ["uniform", "take", "stop_gradient"])
def test_a_call_that_leaves_the_device_is_named(method: str) -> None:
    def elsewhere(self: Any, *args: Any) -> Any:
        made = getattr(TorchBackend, method)(self, *args)
        return (made[0].to("meta"), made[1]) if method == "uniform" else made.to("meta")

    backend = type("Elsewhere", (TorchBackend,), {method: elsewhere})()
    with pytest.raises(AssertionError, match=f"{method} gives an array on meta, but should on cpu"):
        l0gate.testing.check_device(backend)


def test_an_own_array_is_moved_to_the_device_too() -> None:
    class LeavesItsOwn(TorchBackend):
        def asarray(self, array: Any, like: Any = None) -> Any:
            return array if isinstance(array, torch.Tensor) else super().asarray(array, like)

    other = torch.zeros(2, 3, device="meta")
    with pytest.raises(AssertionError, match="asarray gives an array on cpu, but should on meta"):
        l0gate.testing.check_device(LeavesItsOwn(), other)


def test_a_second_device_is_tried_where_one_is_given() -> None:
    other = torch.zeros(2, 3, device="meta")
    l0gate.testing.check_device(TorchBackend(), other)
    l0gate.testing.check_device(IgnoresLike())
    with pytest.raises(AssertionError, match="asarray gives an array on cpu, but should on meta"):
        l0gate.testing.check_device(IgnoresLike(), other)
