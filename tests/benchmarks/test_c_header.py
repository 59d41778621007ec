"""The benchmark of C headers: what it compiles computes the net, and what it claims of its rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0gate


def row(cell: str, hidden: int, fastest: float) -> dict[str, Any]:
    us = {"l0gate": 1.0, "gcc": 2.0, "fastest": fastest}
    ratios = {"gcc": 2.0, "fastest": fastest}
    return {"cell": cell, "hidden": hidden, "us": us, "faster": ratios, "bytes": {"gcc": 9}}


@pytest.mark.usefixtures("one_thread")
def test_a_compiled_header_is_run(load: Any, tmp_path: Path) -> None:
    script = load("c_header")
    net = script.amplifier("gru", 5)
    l0gate.export(net, tmp_path / "net.h", selftest=False)
    header = (tmp_path / "net.h").read_bytes()
    x = np.random.default_rng(0).standard_normal((30, 1, 1)).astype(np.float32)
    calls = {"l0gate": lambda: net(x)[0]}
    for name, command in script.compilers().items():
        objects = script.compiled(header, command, script.FLAGS, tmp_path / name)
        calls[name] = script.runner(script.loaded(objects, command), x)
    assert len(calls) > 1
    script.agree(calls)
    assert np.float32(1e-45) * np.float32(1) > 0  # -ffast-math has not reached the process
    with pytest.raises(AssertionError, match="off differs"):
        script.agree({**calls, "off": lambda: np.asarray(net(x)[0]) + 1e-3})


def test_the_limit_is_the_slowest_of_16_to_128_neurons(load: Any) -> None:
    script = load("c_header")
    rows = [row("lstm", 8, 9.0), row("lstm", 16, 0.5), row("gru", 128, 0.8)]
    (limit,) = script.limits({"rows": rows})
    assert (limit.value, limit.met) == (1.25, True)
    (limit,) = script.limits({"rows": [*rows, row("gru", 64, 1.25)]})
    assert (limit.value, limit.met) == (0.8, False)
    assert math.isnan(script.limits({"rows": []})[0].value)


def test_tables_have_all_compilers(load: Any) -> None:
    speed, sizes = load("c_header").tables({"rows": [row("lstm", 16, 0.5)]})
    assert list(speed.columns) == ["cell", "hidden", "l0gate", "gcc", "faster"]
    assert speed.rows == [["lstm", 16, 1000.0, 2000.0, 2.0]]
    assert sizes.rows == [["lstm", 16, 9]]
