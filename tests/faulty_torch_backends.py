"""PyTorch backends with one method gone wrong, and the check and message that say so."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from l0gate.backends._torch.backend import TorchBackend


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
        net.loss_and_gradients = lambda p, x, targets, state=None, **options: run(
            p, x, targets, **options
        )
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
