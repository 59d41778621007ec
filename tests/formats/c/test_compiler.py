"""Compiling and running a written header."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import numpy as np
import pytest
from format_cases import amplifier, saved

import l0gate
from l0gate.formats import Content
from l0gate.formats._c.compiler import CompiledHeader, find_compiler
from l0gate.formats._c.header import c_header
from l0gate.formats.layers import input_size
from l0gate.formats.runner import run_net

SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def test_the_compiler_is_found_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "my-cc -m32")
    assert find_compiler() == ["my-cc", "-m32"]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert find_compiler() is None


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, compiler, message in (
        (b"nonsense", find_compiler(), "refuses the written header"),
        (b"", ["no-such-cc"], "cannot be run"),
        (b"#error no\n", [*shlex.split(f"{sys.executable} -c pass")], "ended with|cannot be run"),
    ):
        assert compiler is not None
        with pytest.raises(
            (l0gate.L0GateError, FileNotFoundError), match=message + "|No such file"
        ):
            CompiledHeader(content, "net", False, compiler).sequence(np.ones((1, 1), "f4"))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("int8", [False, True])
def test_a_million_samples_under_sanitizers(cell: str, int8: bool) -> None:
    compiler = find_compiler()
    assert compiler is not None
    layers: Any = amplifier(11, cell)
    written = c_header(Content(layers), "net", int8, False)
    runner = CompiledHeader(written, "net", False, compiler, SANITIZED)
    x = np.random.default_rng(0).standard_normal((1_000_000, input_size(layers) or 1))
    y = runner.steps(x.astype(np.float32))
    runner.close()
    assert y is not None
    net = saved(layers)
    if int8:
        net = l0gate.quantize(net).saved
    expected = run_net(net, x[:5000].astype(np.float32))
    np.testing.assert_allclose(y[:5000], expected, atol=1e-5)
    assert np.isfinite(y).all()
