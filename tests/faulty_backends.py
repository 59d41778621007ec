"""Backends with one method or function gone wrong, and the check and message that say so.

Those of PyTorch are in faulty_torch_backends.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from faulty_generators import (
    DrawsFollowOneAnother,
    LongDrawsOverlap,
    NextDrawStartsAtTheLastNumber,
    NextDrawStartsAtTheLastTwo,
    NextDrawStartsOneLater,
    SeedsAreAlike,
    SeedsFollowOneAnother,
    SeedsShareTheEnd,
    UniformChangesItsGenerator,
    UniformGivesAList,
    UniformHasAnotherDtype,
    UniformHasAnotherShape,
    UniformHasASecretState,
    UniformIgnoresTheSeed,
    UniformIsRarely0,
    UniformIsRarely1,
    UniformIsUneven,
    UniformIsWavy,
    UniformReachesTheEnds,
    UniformRepeats,
)

from l0gate import hookimpl
from l0gate._registry import registry
from l0gate.backends._numpy import NumpyBackend


class ChangesItsInput(NumpyBackend):
    def stop_gradient(self, x: Any) -> Any:
        x += 1.0
        return x


class CastInPlace(NumpyBackend):
    def cast(self, x: Any, dtype: str) -> Any:
        if isinstance(x, np.ndarray) and x.dtype == dtype and x.flags.writeable:
            x *= 1.001
        return super().cast(x, dtype)


def namespace(**replaced: Any) -> Any:
    names = [name for name in dir(np) if not name.startswith("_")]
    return SimpleNamespace(**{name: getattr(np, name) for name in names} | replaced)


class SilentlyFloat64(NumpyBackend):
    xp: Any = namespace(exp=lambda x: np.exp(np.asarray(x, np.float64)))


class WrongFunction(NumpyBackend):
    xp: Any = namespace(log1p=np.log)


class NaiveLog1p(NumpyBackend):
    xp: Any = namespace(log1p=lambda x: np.log(1.0 + x))


class NaiveLogaddexp(NumpyBackend):
    xp: Any = namespace(logaddexp=lambda x, y: np.log(np.exp(x) + np.exp(y)))


class TinyLog1pIs0(NumpyBackend):
    xp: Any = namespace(log1p=lambda x: np.where(np.abs(x) < 1e-20, 0.0, np.log1p(x)))


class RoughLog1p(NumpyBackend):
    """Within the tolerance of float32; there alone."""

    xp: Any = namespace(log1p=lambda x: np.log1p(x) * (1 + 1e-5 * (x.dtype == "float32")))


class OffLog1p(NumpyBackend):
    xp: Any = namespace(log1p=lambda x: np.log1p(x) * np.asarray(1.01, x.dtype))


class OffLogaddexp(NumpyBackend):
    xp: Any = namespace(logaddexp=lambda x, y: np.logaddexp(x, y) * np.asarray(1.01, x.dtype))


class TakeReversesFloat64(NumpyBackend):
    def take(self, x: Any, index: Any, axis: int) -> Any:
        return super().take(x, index[::-1] if x.dtype == "float64" else index, axis)


class ToNumpyReversesGates(NumpyBackend):
    def to_numpy(self, x: Any) -> Any:
        return super().to_numpy(x)[::-1] if x.shape == (6,) else super().to_numpy(x)


class AsarrayWidens(NumpyBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        array = np.array(array)
        return array.astype("float64") if array.dtype == "float32" else array


class AsarrayRounds(NumpyBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        array = np.array(array)
        return array * (1 + 1e-12) if array.dtype == "float64" else array


class ExpInPlace(NumpyBackend):
    xp: Any = namespace(exp=lambda x: np.exp(x, out=x))


class UniformChangesLike(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        like += 1.0
        return super().uniform(rng, shape, like)


class TakeWidens(NumpyBackend):
    def take(self, x: Any, index: Any, axis: int) -> Any:
        return super().take(x, index, axis).astype("float64")


class TakeChangesItsInput(NumpyBackend):
    def take(self, x: Any, index: Any, axis: int) -> Any:
        taken = super().take(x, index, axis)
        x += 1.0
        return taken


class ToNumpyChangesGates(NumpyBackend):
    def to_numpy(self, x: Any) -> Any:
        values = np.array(x)
        if x.shape == (6,):
            x += 1e-3
        return values


class WrongScalars(NumpyBackend):
    xp: Any = namespace(
        sum=lambda x, axis=None: float(np.sum(x)) if axis is None else np.sum(x, axis)
    )


class WrongConcat(NumpyBackend):
    xp: Any = namespace(stack=lambda arrays, axis: np.stack(arrays[::-1], axis))


class WrongClip(NumpyBackend):
    """Fails on infinite values alone."""

    xp: Any = namespace(
        clip=lambda x, low, high: np.where(np.isfinite(x), np.clip(x, low, high), low)
    )


class CastForgetsTheDtype(NumpyBackend):
    def cast(self, x: Any, dtype: str) -> Any:
        return super().cast(x, "float32" if dtype == "float64" else dtype)


class TakeSharesMemory(NumpyBackend):
    def take(self, x: Any, index: Any, axis: int) -> Any:
        whole = np.array_equal(index, np.arange(x.shape[axis]))
        return x if whole else super().take(x, index, axis)


class TakeIgnoresTheAxis(NumpyBackend):
    def take(self, x: Any, index: Any, axis: int) -> Any:
        return super().take(x, index, 0)


class OwnsEverything(NumpyBackend):
    def owns(self, x: object) -> bool:
        return True


class LosesTheShape(NumpyBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        return np.atleast_1d(array)


class OwnsNumbers(NumpyBackend):
    def owns(self, x: object) -> bool:
        return isinstance(x, float) or super().owns(x)


class OwnsNoArrays(NumpyBackend):
    def owns(self, x: object) -> bool:
        return isinstance(x, np.generic)


class OwnsNoViews(NumpyBackend):
    def owns(self, x: object) -> bool:
        return super().owns(x) and getattr(x, "base", None) is None


class OwnsNoSums(NumpyBackend):
    def owns(self, x: object) -> bool:
        return isinstance(x, np.ndarray)


class OwnsArraysAsModels(NumpyBackend):
    def owns_model(self, model: object) -> bool:
        return isinstance(model, np.ndarray)


class NoName(NumpyBackend):
    name: ClassVar[str] = ""


class NumberForAName(NumpyBackend):
    name: ClassVar[str] = 3  # type: ignore[assignment]


class UnknownDtype(NumpyBackend):
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "float8")


class NoFloat64(NumpyBackend):
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)


class ReversesRows(NumpyBackend):
    def asarray(self, array: Any, like: Any = None) -> Any:
        array = super().asarray(array, like)
        return array[::-1] if array.ndim > 1 else array


class ConstantsMatter(NumpyBackend):
    def stop_gradient(self, x: Any) -> Any:
        return 2.0 * x


class UnknownCapability(NumpyBackend):
    capabilities: ClassVar[frozenset[str]] = frozenset({"nets", "telepathy"})


class WrongNets(NumpyBackend):
    def net(self, layers: Any, batch_first: bool = False) -> Any:
        layers = [
            {**layer, "reset_after": False} if layer["type"] == "gru" else layer for layer in layers
        ]
        return super().net(layers, batch_first)


FAULTS = {
    ExpInPlace: "check_purity",
    UniformChangesLike: "check_purity",
    TakeWidens: "check_take",
    TakeChangesItsInput: "check_selection",
    ToNumpyChangesGates: "check_selection",
    TinyLog1pIs0: "check_extreme_values",
    OffLog1p: "check_hard_concrete",
    OffLogaddexp: "check_hard_concrete",
    TakeReversesFloat64: "check_certificate",
    ToNumpyReversesGates: "check_selection",
    AsarrayWidens: "check_conversion",
    AsarrayRounds: "check_conversion",
    UniformReachesTheEnds: "check_uniform_range",
    UniformIsUneven: "check_uniform_range",
    UniformRepeats: "check_uniform_independence",
    UniformHasASecretState: "check_uniform_seed",
    UniformIgnoresTheSeed: "check_uniform_seed",
    NextDrawStartsOneLater: "check_uniform_independence",
    NextDrawStartsAtTheLastNumber: "check_uniform_independence",
    NextDrawStartsAtTheLastTwo: "check_uniform_independence",
    LongDrawsOverlap: "check_uniform_independence",
    SeedsFollowOneAnother: "check_uniform_independence",
    SeedsShareTheEnd: "check_uniform_independence",
    UniformIsRarely0: "check_uniform_range",
    UniformIsRarely1: "check_uniform_range",
    ChangesItsInput: "check_purity",
    CastInPlace: "check_purity",
    SilentlyFloat64: "check_dtypes",
    WrongFunction: "check_values",
    NaiveLog1p: "check_extreme_values",
    NaiveLogaddexp: "check_extreme_values",
    WrongScalars: "check_scalars",
    WrongConcat: "check_values",
    WrongClip: "check_extreme_values",
    CastForgetsTheDtype: "check_dtypes",
    TakeSharesMemory: "check_take",
    TakeIgnoresTheAxis: "check_take",
    OwnsEverything: "check_ownership",
    OwnsNumbers: "check_ownership",
    OwnsNoArrays: "check_ownership",
    OwnsNoViews: "check_ownership",
    OwnsNoSums: "check_ownership",
    OwnsArraysAsModels: "check_ownership",
    NoName: "check_description",
    NumberForAName: "check_description",
    UnknownDtype: "check_description",
    NoFloat64: "check_description",
    ReversesRows: "check_conversion",
    UniformHasAnotherShape: "check_uniform_range",
    UniformHasAnotherDtype: "check_uniform_range",
    UniformGivesAList: "check_uniform_range",
    UniformChangesItsGenerator: "check_uniform_seed",
    UniformIsWavy: "check_uniform_independence",
    DrawsFollowOneAnother: "check_uniform_independence",
    SeedsAreAlike: "check_uniform_independence",
    ConstantsMatter: "check_stop_gradient",
    LosesTheShape: "check_conversion",
    UnknownCapability: "check_description",
    WrongNets: "check_nets",
}


MESSAGES = {
    ExpInPlace: r"^exp\(x\) changed an array that it was given",
    UniformChangesLike: "^uniform changed an array that it was given",
    TakeWidens: r"^take\(x, \[1\], 0\) has dtype float64, but should have float32",
    TakeChangesItsInput: "^select or shrink changed an array that it was given",
    ToNumpyChangesGates: "^select or shrink changed an array that it was given",
    TinyLog1pIs0: r"log1p\(-x\) for x, y = .*\[6\] = 0.0, but should be 1e-30",
    OffLog1p: r"\[sample, sample_gradient\] of HardConcrete\[0\]\[\d+\] = ",
    OffLogaddexp: r"\[sample, sample_gradient\] of HardConcrete\[0\]\[\d+\] = ",
    TakeReversesFloat64: "L0GateError: the small model does not equal the gated one",
    ToNumpyReversesGates: r"axis 'h' keeps \[.*\], but should keep \[",
    AsarrayWidens: r"to_numpy\(asarray\(x\)\) has dtype float64, but should have float32",
    AsarrayRounds: r"to_numpy\(asarray\(x\)\)\[0, 0\] = 0.31",
    OwnsEverything: "`owns` is true of 1.5",
    OwnsNumbers: "`owns` is true of 1.5",
    OwnsNoArrays: "`owns` is false of x, where",
    OwnsNoViews: r"`owns` is false of x\[0\], where",
    OwnsNoSums: r"`owns` is false of x.sum\(\), where",
    OwnsArraysAsModels: r"`owns_model` is true of an array: array\(",
    NoName: "`name` is ''; it must be text",
    NumberForAName: "`name` is 3; it must be text",
    UnknownDtype: r"`dtypes` has \['float8'\]; known: \['bfloat16', ",
    NoFloat64: r"`dtypes` is \('float32',\); gates need",
    UnknownCapability: r"`capabilities` has \['telepathy'\]; known: \['autodiff', ",
    LosesTheShape: r"to_numpy\(asarray\(x\)\) has shape \(1,\), but should have \(\)",
    ReversesRows: r"to_numpy\(asarray\(x\)\)\[0, 0\] = 0.84, but should be 0.31",
    WrongFunction: r"log1p\(-x\) in float32\[0, 0\] = nan, but should be -0.37",
    WrongScalars: r"sum\(x\) in float32 is float, which the backend does not own",
    WrongClip: r"clip\(x, 0.2, 0.7\) for x, y = .*\[4\] = 0.2, but should be 0.7",
    CastForgetsTheDtype: "cast from float32 has dtype float32, but should have float64",
    TakeSharesMemory: r"^take\(x, \[0, 1\], 0\) shares memory with x: a later .*\[0, 0\] = 5.0",
    TakeIgnoresTheAxis: r"take\(x, \[.*\], 1\)|index 2 is out of bounds",
    CastInPlace: "cast changed an array that it was given",
    UniformIsUneven: "uniform is not even: its distribution is off by 0.0",
    UniformHasASecretState: r"drawing changed the generator \(7, 0\): it must be a value",
    UniformChangesItsGenerator: "drawing changed the generator Generator",
    UniformIgnoresTheSeed: r"several of the seeds \(0, 1, .* gave the same numbers",
    UniformHasAnotherShape: r"uniform gives the shape \(1,\), but should give \(\)",
    UniformHasAnotherDtype: "uniform has dtype float64, but should have float32",
    UniformGivesAList: "uniform gives float",
    UniformIsWavy: "neighbours in a draw are correlated: 0.3",
    DrawsFollowOneAnother: "successive draws are correlated: 0.9",
    SeedsAreAlike: "neighbouring seeds are correlated: 0.9",
    ConstantsMatter: r"stop_gradient\(x\)\[0, 0\] = 0.62, but should be 0.31",
    WrongNets: r"the losses of a bidirectional GRU are \[1.78.*\], but should be \[1.78",
    UniformReachesTheEnds: r"uniform returns 0.0; it must stay above 0",
    UniformIsRarely0: r"uniform returns 0.0; it must stay above 0",
    UniformIsRarely1: r"uniform returns 1.0; it must stay below 1",
    UniformRepeats: "uniform repeats itself: .* give numbers drawn before",
    NextDrawStartsOneLater: "uniform repeats itself: .* give numbers drawn before",
    NextDrawStartsAtTheLastNumber: "uniform repeats the last 1 of the draw before",
    NextDrawStartsAtTheLastTwo: "uniform repeats the last 2 of the draw before",
    LongDrawsOverlap: "uniform repeats itself: .* give numbers drawn before",
    SeedsFollowOneAnother: "the seeds 7 and 8 share numbers",
    SeedsShareTheEnd: "the seeds 7 and 8 share numbers",
    NaiveLog1p: r"log1p\(-x\) for x, y = .*, but should be",
    NaiveLogaddexp: r"logaddexp\(x, y\) for .*\[0\] = inf, but should be 800.0",
    ChangesItsInput: "stop_gradient changed an array that it was given",
    SilentlyFloat64: r"exp\(x\) has dtype float64, but should have float32",
}


@contextmanager
def installed() -> Iterator[str]:
    """A faulty backend among the installed ones; gives its name."""

    class Faulty(UniformReachesTheEnds):
        name = "faulty"

    class Plugin:
        @hookimpl
        def l0gate_backends(self) -> list[dict[str, Any]]:
            return [{"name": "faulty", "module": "numpy", "factory": Faulty}]

    registry.register(Plugin(), "a faulty one")
    try:
        yield "faulty"
    finally:
        registry.unregister("a faulty one")
