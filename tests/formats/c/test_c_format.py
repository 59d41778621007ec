"""C headers of random nets, compiled and compared with the net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import amplifier, nets, saved
from hypothesis import given, settings
from hypothesis import strategies as st

import l0gate
from l0gate.formats import Content
from l0gate.formats._c.c_format import C
from l0gate.formats.layers import Layer
from l0gate.formats.proof import prove

KINDS: dict[str, Any] = {
    "embedding": True,
    "reset_before": True,
    "linear_bias": False,
    "functions": ("tanh", "relu", "sigmoid"),
    "skip": True,
}


@given(nets(**KINDS), st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_compiled_header_computes_the_same(layers: list[Layer], int8: bool) -> None:
    net = C().reference(saved(layers), int8=int8)
    written = C().write(Content(layers), int8=int8)
    runner = C().runner(written)
    assert runner is not None
    try:
        assert prove(net, layers, runner, "c", 0).stepwise
    finally:
        runner.close()


def test_int8_is_a_quarter(tmp_path: Path) -> None:
    net = saved(amplifier(16))
    proof = l0gate.export(net, tmp_path / "amp.h", name="amp", int8=True)
    assert "compiled by" in proof.runner
    text = (tmp_path / "amp.h").read_text()
    assert "static const int8_t amp_0_w" in text
    assert "static const float amp_0_w[" not in text


def test_without_a_compiler_the_proof_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="no C compiler was found"):
        proof = l0gate.export(saved(amplifier()), tmp_path / "net.h")
    assert proof.sequences == 0
    assert "was not run" in str(proof)


def test_a_header_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "net.h").write_bytes(C().write(Content(amplifier())))
    with pytest.raises(l0gate.L0GateError, match="`format` is 'c', which l0gate writes but never"):
        l0gate.import_(tmp_path / "net.h", "c")


@pytest.mark.parametrize("selftest", [False, True])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, value: float, int8: bool, selftest: bool
) -> None:
    net = saved(amplifier())
    net.parameters["out.weight"][0, 0] = value  # type: ignore[index]
    with pytest.raises(l0gate.L0GateError, match="not finite"):
        l0gate.export(net, tmp_path / "net.h", int8=int8, selftest=selftest)
    assert list(tmp_path.iterdir()) == []
