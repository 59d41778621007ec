"""The conformance kit: our own backends pass it, and every kind of fault fails it."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import l0gate
import l0gate.testing
from l0gate import L0GateError, hookimpl
from l0gate._plugins import registry
from l0gate.backends._numpy import NumpyBackend
from l0gate.cli._app import run
from l0gate.testing import (
    Outcome,
    _arrays,
    _compare,
    _random,
    backend_checks,
    run_check,
    run_checks,
)
from l0gate.testing.__main__ import main, table


def read_only(value: Any) -> Any:
    """The same values, where changing them raises."""
    array = np.asarray(value)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


class _ReadOnlyNamespace:
    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        return lambda *args, **kwargs: read_only(function(*args, **kwargs))


class ReadOnlyNumpy(NumpyBackend):
    """NumPy whose arrays can never be changed, as those of most other frameworks."""

    name: ClassVar[str] = "read-only"
    xp: Any = _ReadOnlyNamespace()

    def asarray(self, array: Any, like: Any = None) -> Any:
        return read_only(np.array(array))

    def cast(self, x: Any, dtype: str) -> Any:
        return read_only(super().cast(x, dtype))


OWN = {
    "numpy": NumpyBackend(),
    "read-only": ReadOnlyNumpy(),
}


@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OWN)
def test_our_own_backends_conform(name: str, check: Callable[..., None]) -> None:
    outcome = run_check(check, OWN[name])
    outcome.raise_if_failed()
    not_claimed = {"check_gradients", "check_gradient_structure", "check_gradients_of_gating"}
    not_claimed |= {"check_models"}
    assert outcome.result == ("not claimed" if outcome.name in not_claimed else "passed")


# Faults: each is one method or function of a backend gone wrong, and the check that says so.


class UniformReachesTheEnds(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return np.round(u, 3), rng  # 0 and 1 among them


class UniformRepeats(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        return super().uniform(rng, shape, like)[0], rng


class UniformIsUneven(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u**1.2, rng


class UniformHasASecretState(NumpyBackend):
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u = self.generator.uniform(1e-6, 1 - 1e-6, shape)
        return np.asarray(u, like.dtype), (rng[0], rng[1] + 1)


class UniformIgnoresTheSeed(NumpyBackend):
    def rng(self, seed: int) -> Any:
        return super().rng(0)


class _OneStream(NumpyBackend):
    """Draws read one long stream of numbers, from the place that the generator tells."""

    stream: ClassVar[Any] = np.random.default_rng(0).integers(1, 2**23, 100_000) * 2.0**-23

    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 50_000

    def after(self, start: int, count: int) -> int:
        return start + count

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        seed, start = rng
        count = int(np.prod(shape, dtype=int))
        first = self.place(seed, start)
        u = self.stream[first : first + count].reshape(shape).astype(like.dtype)
        return u, (seed, self.after(start, count))


class NextDrawStartsOneLater(_OneStream):
    def after(self, start: int, count: int) -> int:
        return start + 1


class NextDrawStartsAtTheLastNumber(_OneStream):
    def after(self, start: int, count: int) -> int:
        return start + count - 1


class NextDrawStartsAtTheLastTwo(_OneStream):
    def after(self, start: int, count: int) -> int:
        return start + count - 2


class LongDrawsOverlap(_OneStream):
    def after(self, start: int, count: int) -> int:
        return start + 256


class SeedsFollowOneAnother(_OneStream):
    """Neighbouring seeds share their numbers."""

    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 7


class SeedsShareTheEnd(_OneStream):
    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 24_000


class UniformOfBits(NumpyBackend):
    """Random bits made numbers between 0 and 1, in the dtype asked for."""

    def convert(self, bits: Any, dtype: str) -> Any:
        return (bits >> 8).astype(dtype) * np.asarray(2.0**-24, dtype)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        generator = np.random.Generator(np.random.Philox(key=rng))
        bits = generator.integers(0, 2**32, shape, dtype=np.uint32)
        return self.convert(bits, str(like.dtype)), (rng[0], rng[1] + 1)


class UniformIsRarely0(UniformOfBits):
    """Once in 2^24 numbers."""


class UniformIsRarely1(UniformOfBits):
    """Once in 2^25 numbers, by rounding, and in float32 alone."""

    def convert(self, bits: Any, dtype: str) -> Any:
        return (bits.astype(dtype) + np.asarray(0.5, dtype)) * np.asarray(2.0**-32, dtype)


class UniformAvoidsTheEnds(UniformOfBits):
    def convert(self, bits: Any, dtype: str) -> Any:
        return np.maximum(super().convert(bits, dtype), np.asarray(2.0**-24, dtype))


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


class UniformHasAnotherShape(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.reshape(-1), rng


class UniformHasAnotherDtype(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.astype("float64"), rng


class UniformGivesAList(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.tolist(), rng


class UniformChangesItsGenerator(NumpyBackend):
    def rng(self, seed: int) -> Any:
        return np.random.default_rng(seed)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        return (rng.integers(0, 2**23, shape) + 0.5).astype(like.dtype) * 2.0**-23, rng


class UniformIsWavy(NumpyBackend):
    """Even as a whole; but a number tells the next."""

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        flat = u.reshape(-1)
        flat[1::2] = (flat[: len(flat) // 2 * 2 : 2] + 0.1 * flat[1::2]) % 1.0
        return flat.reshape(shape), rng


class DrawsFollowOneAnother(NumpyBackend):
    """Each draw is the one before, moved a little."""

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        seed, drawn = rng
        u, _ = super().uniform((seed, 0), shape, like)
        return ((u + 0.003 * drawn) % 1.0).astype(like.dtype), (seed, drawn + 1)


class SeedsAreAlike(_OneStream):
    """Neighbouring seeds give nearly the same numbers, at the same places."""

    def place(self, seed: int, start: int) -> int:
        return start

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, after = super().uniform(rng, shape, like)
        return ((u + 0.05 * np.random.default_rng(rng).random(shape)) % 1.0).astype(u.dtype), after


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
    OffLog1p: r"\[sample, sample_slope\] of HardConcrete\[0\]\[\d+\] = ",
    OffLogaddexp: r"\[sample, sample_slope\] of HardConcrete\[0\]\[\d+\] = ",
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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    named = run_check(getattr(l0gate.testing, FAULTS[fault]), fault())
    assert named.result == "failed", named
    if fault in MESSAGES:
        assert re.search(MESSAGES[fault], named.reason), named.reason
    with pytest.raises(AssertionError, match=named.name):
        named.raise_if_failed()


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        (OffLog1p, "check_gating", r"^the folded parameters\['sampled'\]\['\w+'\]"),
        (OffLogaddexp, "check_penalty", r"^Pruner\['penalty'\]\[0\]"),
        (ConstantsMatter, "check_penalty", r"^Pruner\['"),
        (OffLog1p, "check_pullback", r"^Pruner.pullback\[0\]\['\w+'\]"),
        (TakeReversesFloat64, "check_selection", r"small after `select`\['\w+'\]"),
        (CastForgetsTheDtype, "check_gating", "has dtype float32, but should have float64"),
    ],
)
def test_a_fault_is_seen_in_the_algorithm_too(
    fault: type[l0gate.Backend], check: str, message: str
) -> None:
    named = run_check(getattr(l0gate.testing, check), fault())
    assert named.result == "failed"
    assert re.search(message, named.reason), named.reason


def test_what_is_within_the_tolerance_passes() -> None:
    run_check(l0gate.testing.check_extreme_values, RoughLog1p()).raise_if_failed()


@pytest.mark.parametrize("backend", [UniformAvoidsTheEnds(), _OneStream()])
def test_generators_that_do_otherwise_and_are_right(
    backend: NumpyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(backend, UniformAvoidsTheEnds):
        monkeypatch.setattr("l0gate.testing._random._SEARCHED", 2**24)
        run_check(l0gate.testing.check_uniform_range, backend).raise_if_failed()
        run_check(l0gate.testing.check_uniform_seed, backend).raise_if_failed()
    run_check(l0gate.testing.check_uniform_independence, backend).raise_if_failed()


def test_a_wrong_certificate_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit notices where the certificate itself compares nothing."""
    monkeypatch.setattr("l0gate._certificate.TOLERANCE", 1e9)
    monkeypatch.setattr("l0gate._certificate.TOLERANCE_FLOAT32", 1e9)
    outcome = run_check(l0gate.testing.check_certificate, NumpyBackend())
    assert outcome.reason == "a small model that differs from the gated one was certified"


def test_every_check_says_what_it_promises() -> None:
    checks = backend_checks()
    assert len({check.__name__ for check in checks}) == len(checks)
    listed = {name for name in l0gate.testing.__all__ if name.startswith("check_")}
    assert {check.__name__ for check in checks} == listed
    for check in checks:
        assert (check.__doc__ or "").partition("\n")[0].endswith("."), check.__name__
    assert run_check(l0gate.testing.check_device, NumpyBackend()).promise == (
        "Arrays made beside another one are on its device."
    )


def test_run_checks_needs_a_backend() -> None:
    with pytest.raises(L0GateError, match=r"`backend` is 'numpy'; it must be a l0gate.Backend"):
        run_checks("numpy")  # type: ignore[arg-type]


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "l0gate.testing", "numpy"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "22 passed, 0 failed, 4 not claimed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: python -m l0gate.testing .* NAME\n.* required: NAME"),
        (["numpy", "torch"], "usage: .* NAME\n.* unrecognized arguments: torch"),
        (["nunpy"], "`backend` is 'nunpy'"),
        (["numpy", "--only", "take"], "`only` names 'take'; the checks are check_description, "),
    ],
)
def test_arguments_of_the_module(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        sys.exit(main(arguments))
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert re.match(said, printed.err, re.DOTALL)
    assert not printed.out


def test_help_of_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m l0gate.testing [-h] [--only CHECK] [--traceback]")
    for said in (
        "Print the table; 0 if nothing failed",
        "as in `l0gate backends list`",
        "run this check (repeatable)",
        "show where a check failed",
    ):
        assert said in " ".join(printed.split())


def test_chosen_checks() -> None:
    outcomes = run_checks(NumpyBackend(), only=["check_take", "check_gradients"])
    assert [(o.name, o.result) for o in outcomes] == [
        ("check_take", "passed"),
        ("check_gradients", "not claimed"),
    ]
    with pytest.raises(L0GateError, match=r"`only` names 'x'; the checks are check_description, "):
        run_checks(NumpyBackend(), only=["check_take", "x"])


def test_the_table_of_the_module() -> None:
    outcomes = [
        Outcome("check_short", "It is.", "passed"),
        Outcome("check_longer", "It does.", "failed", "one line\nand another"),
        Outcome("check_none", "It can.", "not claimed"),
    ]
    assert table(outcomes).splitlines() == [
        "check_short   passed       It is.",
        "check_longer  failed       It does.",
        "              one line",
        "              and another",
        "check_none    not claimed  It can.",
        "1 passed, 1 failed, 1 not claimed",
    ]


@pytest.fixture
def faulty() -> Iterator[str]:
    class Faulty(UniformReachesTheEnds):
        name = "faulty"

    class Plugin:
        @hookimpl
        def l0gate_backends(self) -> list[dict[str, Any]]:
            return [{"name": "faulty", "module": "numpy", "factory": Faulty}]

    registry.register(Plugin(), "a faulty one")
    yield "faulty"
    registry.unregister("a faulty one")


def test_the_tables_show_the_reason(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([faulty]) == 1
    printed = capsys.readouterr().out
    assert "uniform returns 0.0; it must stay above 0" in printed
    assert printed.splitlines()[-1] == "21 passed, 1 failed, 4 not claimed"
    assert run(["backends", "check", faulty]) == 1
    printed = capsys.readouterr().out
    assert "it must stay above 0" in " ".join(printed.replace("│", " ").split())
    assert "21 passed, 1 failed, 4 not claimed" in printed
    assert run(["backends", "check", "numpy"]) == 0
    assert "22 passed, 0 failed, 4 not claimed" in capsys.readouterr().out
    assert run(["backends", "check", "nunpy"]) == 2
    assert "`backend` is 'nunpy'" in capsys.readouterr().err


def test_one_check_and_its_traceback(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--only", "check_take", "--only", "check_uniform_range"]
    assert main([faulty, "--only", "check_take"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 not claimed"
    assert main([faulty, *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == "1 passed, 1 failed, 0 not claimed"
    assert main([faulty, *chosen, "--traceback"]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "Traceback (most recent call last):" in lines
    assert any("_random.py" in line for line in lines)
    assert lines[-2] == "AssertionError: uniform returns 0.0; it must stay above 0"
    assert run(["backends", "check", faulty, *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert "check_values" not in printed
    assert run(["backends", "check", faulty, *chosen, "--traceback"]) == 1
    printed = capsys.readouterr().out
    assert "\nTraceback (most recent call last):\n" in printed
    assert "\nAssertionError: uniform returns 0.0; it must stay above 0\n1 passed" in printed
    assert run(["backends", "check", faulty, "--only", "take"]) == 2
    assert "`only` names 'take'; the checks are" in capsys.readouterr().err


def test_an_outcome_keeps_the_error() -> None:
    class Explodes(NumpyBackend):
        def take(self, x: Any, index: Any, axis: int) -> Any:
            raise KeyError("axis")

    outcome = run_check(l0gate.testing.check_take, Explodes())
    assert outcome.reason == "KeyError: 'axis'"
    assert isinstance(outcome.error, KeyError)
    assert outcome.traceback().endswith("KeyError: 'axis'\n")
    assert "in take" in outcome.traceback()
    with pytest.raises(AssertionError, match="KeyError: 'axis'") as raised:
        outcome.raise_if_failed()
    assert raised.value.__cause__ is outcome.error
    passed = run_check(l0gate.testing.check_take, NumpyBackend())
    assert passed.error is None
    assert passed.traceback() == ""
    passed.raise_if_failed()


@pytest.mark.parametrize(
    "method", ["take", "asarray", "to_numpy", "stop_gradient", "dtype", "owns"]
)
def test_each_call_that_changes_its_argument_is_named(method: str) -> None:
    def changing(self: Any, x: Any, *args: Any) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x += 1.0
        return getattr(NumpyBackend, method)(self, x, *args)

    backend = type("Changing", (NumpyBackend,), {method: changing})()
    with pytest.raises(AssertionError, match=f"{method} changed an array that it was given"):
        l0gate.testing.check_purity(backend)


def test_a_framework_without_devices() -> None:
    class Nowhere(np.ndarray):
        @property
        def device(self) -> Any:
            raise AttributeError("device")

    class NowhereBackend(NumpyBackend):
        def asarray(self, array: Any, like: Any = None) -> Any:
            return np.array(array).view(Nowhere)

        def cast(self, x: Any, dtype: str) -> Any:
            return x.astype(dtype)

    assert not hasattr(NowhereBackend().asarray([1.0]), "device")
    l0gate.testing.check_device(NowhereBackend())


def test_extreme_values_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        l0gate.testing.check_extreme_values(NumpyBackend())


def test_only_coarse_grids_are_searched_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fine(UniformOfBits):
        def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
            u = np.random.default_rng(rng).random(shape)
            coarse = np.maximum(np.floor(u * 2.0**24), 1.0) * 2.0**-24
            return (coarse if like.dtype == "float32" else u).astype(like.dtype), (*rng, 1)

    searched = []
    monkeypatch.setattr(
        _random, "_search_the_ends", lambda backend, rng, like: searched.append(str(like.dtype))
    )
    l0gate.testing.check_uniform_range(Fine())
    assert searched == ["float32"]
    l0gate.testing.check_uniform_range(NumpyBackend())
    assert searched == ["float32"]
    grids = [np.array([0.25 + 2.0**-32, 0.5 + 2.0**-n]) for n in (29, 30, 31)]
    assert [_random._on_a_coarse_grid(u) for u in grids] == [True, True, False]
    middles = [np.array([0.125, 0.875]), np.array([0.5]), np.array([0.5, 0.25]), np.array([1.0])]
    assert [_random._are_middles(u) for u in middles] == [True, True, False, False]
    assert _random._are_middles(np.array([2.0**-53, 1 - 2.0**-53]))


def test_a_copy_on_a_cache_line() -> None:
    for size in (1, 6, 1000):
        values = np.arange(size, dtype=np.float32)
        copy = _arrays._aligned(values)
        assert copy.ctypes.data % 64 == 0
        assert copy.flags.writeable
        assert not np.shares_memory(copy, values)
        np.testing.assert_array_equal(copy, values, strict=True)


NUMPY = NumpyBackend()
COMPARED: list[tuple[Any, Any, str]] = [
    ({"a": np.ones(1)}, {"b": np.ones(1)}, "x has ['a'], but should have ['b']"),
    (np.ones(1), {"b": np.ones(1)}, "x has ndarray, but should have ['b']"),
    (
        {"b": {"c": np.zeros(2)}},
        {"b": {"c": np.ones(2)}},
        "x['b']['c'][0] = 0.0, but should be 1.0",
    ),
    ([np.ones(1)], (np.ones(1), np.ones(1)), "x has 1 entries, not 2"),
    ([np.ones(1), np.zeros(1)], [np.ones(1), np.ones(1)], "x[1][0] = 0.0, but should be 1.0 (1 of"),
    (1.0, 1.0, "x is float, which the backend does not own"),
    (np.ones(2), np.ones(3), "x has shape (2,), but should have (3,)"),
    (np.ones(2, "float32"), np.ones(2), "x has dtype float32, but should have float64"),
    (
        np.array([[1.0, 2.0], [3.0, 5.0]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        "x[1, 1] = 5.0, but sh",
    ),
    (np.array(1.0), np.array(2.0), "x = 1.0, but should be 2.0 (1 of 1 values differ)"),
    (np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]), "x[0] = 1.0, but should be 2.0 (2 of 3"),
    (np.array([1.0 + 3e-10]), np.ones(1), "x[0] = 1.0000000003, but should be 1.0"),
    (np.array([3e-12]), np.zeros(1), "x[0] = 3e-12, but should be 0.0"),
]


@pytest.mark.parametrize(("found", "wanted", "said"), COMPARED)
def test_what_a_comparison_says(found: Any, wanted: Any, said: str) -> None:
    with pytest.raises(AssertionError) as raised:
        _compare.expect(NUMPY, found, wanted, "x", "float64")
    assert str(raised.value).startswith(said)


def test_what_a_comparison_lets_pass() -> None:
    wanted = np.array([1.0, 0.0, np.nan, np.inf])
    near = wanted + np.array([5e-11, 5e-13, 0.0, 0.0])
    _compare.expect(NUMPY, near, wanted, "x", "float64")
    _compare.expect(NUMPY, near, wanted, "x")
    _compare.expect(NUMPY, 1e6 * (near + 1e-9), 1e6 * wanted, "x", "float64", (0.0, 2e-3))
    near = wanted + np.array([5e-5, 5e-7, 0.0, 0.0])
    _compare.expect(NUMPY, near.astype("float32"), wanted, "x", "float32")
    nested = {"a": [np.ones(1), {"b": np.zeros(1)}]}
    close = {"a": (np.ones(1) + 1e-3, {"b": np.zeros(1) + 1e-3})}
    _compare.expect(NUMPY, close, nested, "x", "float64", (0.0, 2e-3))
    for dtype in ("int64", "bool"):
        with pytest.raises(AssertionError, match=r"x\[0\] = "):  # exactly, whatever the tolerance
            _compare.expect(
                NUMPY, np.array([2]).astype(dtype), np.array([0]).astype(dtype), "x", dtype, (9, 9)
            )


def test_to_numpy_must_give_an_array() -> None:
    class GivesLists(NumpyBackend):
        def to_numpy(self, x: Any) -> Any:
            return x.tolist()

    with pytest.raises(AssertionError, match="`to_numpy` of x gives list"):
        _compare.expect(GivesLists(), np.ones(2), np.ones(2), "x")


def test_a_snapshot_tells_what_changed() -> None:
    class Box:
        pass

    class BoxBackend(NumpyBackend):
        def owns(self, x: object) -> bool:
            return isinstance(x, Box)

        def to_numpy(self, x: Any) -> Any:
            return x.values

    box, tree = Box(), {"a": [np.ones(2), (np.zeros(1), "text")], "b": {"c": np.full(2, np.nan)}}
    box.values = np.arange(3.0)  # type: ignore[attr-defined]
    tree["d"] = [box]
    backend = BoxBackend()
    before = _compare.snapshot(backend, tree)
    _compare.unchanged(backend, tree, before, "it")
    changes: list[tuple[np.ndarray, float]] = [
        (tree["a"][0], 2.0),  # type: ignore[index]
        (tree["a"][1][0], 2.0),  # type: ignore[index]
        (tree["b"]["c"], 2.0),  # type: ignore[call-overload]
        (box.values, 2.5),  # type: ignore[attr-defined]
    ]
    for array, value in changes:
        kept, array[0] = array[0], value
        with pytest.raises(AssertionError, match="it changed an array that it was given"):
            _compare.unchanged(backend, tree, before, "it")
        array[0] = kept
    _compare.unchanged(backend, tree, before, "it")
    box.values = box.values.astype(np.float32)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="it changed an array that it was given"):
        _compare.unchanged(backend, tree, before, "it")
