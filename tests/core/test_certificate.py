"""What a certificate says, and what it refuses, word by word."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import L0GateError
from l0gate._certificate import (
    TOLERANCE,
    TOLERANCE_FLOAT32,
    Certificate,
    _cast,
    _Difference,
    compare_models,
)

NUMPY = l0gate.get_backend("numpy")


KEPT = {"h": np.array([0, 2])}


FOLDED = {"v": np.array([1.0, 0.0, 3.0])}


SMALL = {"v": np.array([1.0, 3.0])}


INPUTS = [np.array([[2.0], [-4.0]])]


def run(apply: Any, inputs: Any = INPUTS, **options: Any) -> Certificate:
    return compare_models(NUMPY, apply, FOLDED, SMALL, KEPT, {"h": 3}, inputs, **options)


def summed(given: Any, x: Any) -> Any:
    """An output of one channel; the neurons as the state."""
    return (x * given["v"]).sum(axis=1, keepdims=True), {"h": x * given["v"]}


def test_a_certificate_in_words() -> None:
    sizes = {"kept": {"x": np.arange(2), "h": np.arange(30)}, "dense_sizes": {"x": 4, "h": 100}}
    certificate = Certificate(1.25e-12, 3e-7, 0.5, 1, **sizes)
    assert str(certificate) == (
        "certified on 1 input: outputs and states differ by at most 1.2e-12 in float64 (allowed"
        " 1.0e-10) and 3.0e-07 in float32; x 4 -> 2, h 100 -> 30"
    )
    assert (certificate.forced_open, certificate.forced_closed) == (0, 0)
    assert (certificate.tolerance, certificate.tolerance_float32) == (1e-10, 1e-5)
    large = Certificate(0.0, 0.0, 20.0, 12, **sizes, forced_open=3)
    assert str(large) == (
        "certified on 12 inputs: outputs and states differ by at most 0.0e+00 in float64 (allowed"
        " 2.0e-09) and 0.0e+00 in float32; x 4 -> 2, h 100 -> 30; 3 neurons forced open, 0 closed"
    )
    assert large.tolerance_float32 == pytest.approx(2e-4)
    closed = Certificate(0.0, 0.0, 20.0, 12, **sizes, forced_closed=4)
    assert str(closed).endswith("; 0 neurons forced open, 4 closed")
    assert "kept" not in repr(large)
    assert "dense_sizes" not in repr(large)


def test_everything_is_compared_in_both_precisions() -> None:
    seen = []

    def apply(given: Any, x: Any) -> Any:
        seen.append((len(given["v"]), str(given["v"].dtype), str(x.dtype)))
        error = {"float64": 3e-11, "float32": 2**-17}[str(x.dtype)] * (len(given["v"]) == 2)
        y, states = summed(given, x)
        return y, {"h": states["h"] - x.dtype.type(error)}

    certificate = run(apply, [*INPUTS, *INPUTS, -3 * INPUTS[0]], forced=(1, 2))
    assert seen == [(n, d, d) for d in ("float64", "float32") for n in (3, 2)] * 3
    assert certificate.max_abs_difference == pytest.approx(3e-11, rel=1e-3)
    assert certificate.max_abs_difference_float32 == 2**-17
    assert certificate.max_abs_output == 48.0  # an output: 4 (1 + 3), three times as large
    assert (certificate.forced_open, certificate.forced_closed) == (1, 2)
    assert certificate.sequences == 3
    assert certificate.dense_sizes == {"h": 3}
    assert certificate.kept["h"].tolist() == [0, 2]
    plain = run(lambda given, x: summed(given, x)[0])
    assert (plain.max_abs_difference, plain.forced_open, plain.forced_closed) == (0.0, 0, 0)


def test_a_small_model_of_its_own_kind() -> None:
    given = []

    def apply_small(small: Any, x: Any, dtype: str) -> Any:
        given.append((small, str(x.dtype), dtype))
        return summed({"v": SMALL["v"].astype(dtype)}, x)

    small = object()
    compare_models(NUMPY, summed, FOLDED, small, KEPT, {"h": 3}, INPUTS, apply_small=apply_small)
    assert given == [(small, dtype, dtype) for dtype in ("float64", "float32")]


def test_a_channel_is_held_to_its_own_largest_value() -> None:
    y = np.array([[0.5, -100.0], [0.25, 10.0]])
    for size, passes in ((0.99e-10, True), (1.01e-10, False)):
        for channel, scale in ((0, 1.0), (1, 100.0)):
            difference = _Difference(TOLERANCE)
            other = y.copy()
            other[1, channel] -= size * scale
            difference.add(y, other)
            assert difference.passed == passes
            assert difference.largest == pytest.approx(size * scale, rel=1e-4)
            assert difference.output == 100.0
    allowed = _Difference(0.5)
    allowed.add(np.ones(1), np.array([1.5]))
    assert allowed.passed
    # What was seen once stays; a smaller one later changes nothing.
    difference.add(np.ones(3), np.ones(3))
    assert not difference.passed
    assert difference.largest == pytest.approx(1.01e-8, rel=1e-4)
    assert difference.output == 100.0
    scalar = _Difference(TOLERANCE_FLOAT32)
    scalar.add(np.float64(2.0), np.float64(2.0 + 1.9e-5))
    assert scalar.passed
    scalar.add(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (scalar.passed, scalar.output) == (True, 2.0)


def test_infinite_values_agree_exactly_or_not_at_all() -> None:
    y = np.array([np.inf, -np.inf, 1.0])
    difference = _Difference(TOLERANCE)
    difference.add(y, y.copy())
    assert (difference.passed, difference.largest, difference.output) == (True, 0.0, 1.0)
    small = _Difference(TOLERANCE)
    small.add(np.array([np.inf, 0.5]), np.array([np.inf, 0.5]))
    assert small.output == 0.5
    for other in (np.array([np.inf, np.inf, 1.0]), np.array([np.inf, 0.0, 1.0])):
        difference = _Difference(TOLERANCE)
        difference.add(y, other)
        assert not difference.passed
        assert np.isnan(difference.largest)
    difference.add(np.ones(1), np.ones(1))
    assert np.isnan(difference.largest)


def differing(size: float, only: str = "") -> Any:
    """The small model's output is off, in one precision or in both."""

    def apply(given: Any, x: Any) -> Any:
        y, states = summed(given, x)
        off = len(given["v"]) == 2 and only in ("", str(x.dtype))
        return y + x.dtype.type(size * off), states

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            differing(0.5),
            "the small model does not equal the gated one: they differ by 5.000e-01 in float64"
            " (allowed 1.600e-09) and by 5.000e-01 in float32 (allowed 1.600e-04); the layout"
            " misses a reader, or the model does more with a pruned axis than the layout says",
        ),
        (
            differing(0.5, "float64"),
            "the small model does not equal the gated one: they differ by 5.000e-01 in float64"
            " (allowed 1.600e-09) and by 0.000e+00 in float32 (allowed 1.600e-04); the layout"
            " misses a reader, or the model does more with a pruned axis than the layout says",
        ),
        (
            differing(0.5, "float32"),
            "the small model equals the gated one in float64, but not in float32: they differ by"
            " 0.000e+00 in float64 (allowed 1.600e-09) and by 5.000e-01 in float32 (allowed"
            " 1.600e-04); the model itself magnifies rounding, so try shorter sequences",
        ),
        (
            lambda given, x: x * given["v"],
            "the small model returns shape (2, 2) where the gated one, with its neurons mapped,"
            " returns (2, 3)",
        ),
        (
            lambda given, x: [x] * len(given["v"]),
            "the gated model returns 3 outputs, the small one 2",
        ),
        (
            lambda given, x: (x, {"h": [x * given["v"]] * len(given["v"])}),
            "the models return 3 and 2 states of the axis 'h'",
        ),
        (
            lambda given, x: (x, {"h": x} if len(given["v"]) == 3 else {}),
            "the models return states of the axes ['h'] and []; the layout has ['h']",
        ),
        (
            lambda given, x: (x, {"z": x, "h": x}),
            "the models return states of the axes ['h', 'z'] and ['h', 'z']; the layout has ['h']",
        ),
        (
            lambda given, x: "outputs",
            "`apply` returned str; it must return an array, or an array and a dict of states by"
            " axis; a list of arrays may take the place of the array",
        ),
        (
            lambda given, x: x[:0],
            "`inputs` led to no output at all, so nothing was compared",
        ),
    ],
)
def test_what_is_not_certified(apply: Any, message: str) -> None:
    with pytest.raises(L0GateError) as error:
        run(apply)
    assert str(error.value) == message


def test_no_input_is_no_proof() -> None:
    with pytest.raises(L0GateError) as error:
        run(summed, [])
    assert str(error.value) == "`inputs` is empty; a certificate needs at least one input"
    empty = np.zeros((0, 1))
    with pytest.raises(L0GateError, match="led to no output at all"):
        run(summed, [empty])
    assert run(summed, [np.ones((1, 1)), empty]).sequences == 2


@pytest.mark.parametrize("wrap", [list, tuple])
def test_outputs_and_states_may_be_several(wrap: Any) -> None:
    def apply(given: Any, x: Any) -> Any:
        state = x * given["v"]
        return [x, 2 * x], {"h": wrap([state, 2 * state])}

    assert run(apply).max_abs_difference == 0.0

    def wrong(given: Any, x: Any) -> Any:
        state = x * given["v"]
        return [x, x], {"h": wrap([state, state + (len(given["v"]) == 2)])}

    with pytest.raises(L0GateError, match="does not equal the gated one"):
        run(wrong)


def test_casting_keeps_what_it_looks_into() -> None:
    Pair = namedtuple("Pair", "x y")
    given = {"a": [np.ones(2, np.float32), (np.arange(2), Pair(np.ones(1), "text"))]}
    cast = _cast(NUMPY, given, "float64")
    (ones, (numbers, pair)) = cast["a"]
    assert (type(cast["a"]), type(cast["a"][1]), type(pair)) == (list, tuple, Pair)
    assert (ones.dtype, pair.x.dtype, pair.y) == ("float64", "float64", "text")
    assert numbers is given["a"][1][0]
    assert _cast(NUMPY, given, "float32")["a"][1][1].x.dtype == "float32"
