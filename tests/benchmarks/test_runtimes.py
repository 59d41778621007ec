"""The runtimes run the same net, and nothing is timed before they agree."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

NETS = [("lstm", 3, (5,)), ("gru", 3, (5,)), ("lstm", 4, (7, 7)), ("gru", 1, (6, 4))]


@pytest.mark.parametrize(("cell", "inputs", "hidden"), NETS)
@pytest.mark.usefixtures("one_thread")
def test_runtimes_agree_on_sequences_and_streams(
    load: Any, cell: str, inputs: int, hidden: tuple[int, ...]
) -> None:
    runtimes = load("_runtimes")
    spec = load("_nets").Spec(cell, inputs, hidden)
    sides = runtimes.runtimes(spec, threads=1)
    sides["cells"] = runtimes.Torch(spec, spec.parameters(), cells=True)
    sides["handed on"] = runtimes.L0gate(spec, spec.parameters(), handed_on=True)
    x = spec.x(6, 3)
    expected, _ = spec.net().apply(spec.parameters(), x, engine="numpy")
    with runtimes.inference():
        for name in ("l0gate", "onnxruntime", "bound", "torch"):
            y = np.asarray(sides[name].sequence(x)()).reshape(expected.shape)
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
        constant = np.repeat(x[:1, :1], 4, axis=0)
        steps, _ = spec.net().apply(spec.parameters(), constant, engine="numpy")
        for side in sides.values():
            call = side.stream(x[0, 0])
            gc.collect()  # what is bound must be held
            for y_t in steps[:, 0]:
                np.testing.assert_allclose(np.asarray(call()).ravel(), y_t, rtol=1e-4, atol=1e-6)


def test_calls_that_differ_are_not_timed(load: Any) -> None:
    agreeing = load("_runtimes").agreeing
    calls = {"one": lambda: np.zeros(3), "other": lambda: np.array([0, 0, 1e-3])}
    with pytest.raises(AssertionError, match=r"other differs by 0\.001"):
        agreeing(calls)
    calls["other"] = lambda: np.array([0, 0, np.nan])
    with pytest.raises(AssertionError, match="other differs by nan"):
        agreeing(calls)
