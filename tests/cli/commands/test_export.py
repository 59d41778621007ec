"""`l0gate export` and `l0gate import`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from format_cases import amplifier, saved

import l0gate
from l0gate.cli._app import run


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.npz"
    l0gate.save(path, saved(amplifier(9)))
    return str(path)


def test_there_and_back(tmp_path: Path, net: str, capsys: pytest.CaptureFixture[str]) -> None:
    amp, back = str(tmp_path / "amp.nam"), str(tmp_path / "back.npz")
    assert run(["export", net, amp, "-o", "sample-rate=48000"]) == 0
    assert "proved: largest difference" in capsys.readouterr().out
    assert run(["import", amp, back]) == 0
    assert "lstm, linear" in capsys.readouterr().out
    x = np.ones((4, 1, 1), np.float32)
    np.testing.assert_allclose(l0gate.load(back)(x)[0], l0gate.load(net)(x)[0], atol=1e-6)
    assert run(["import", amp, back, "--int8"]) == 0
    assert "error-to-signal" in capsys.readouterr().out
    assert l0gate.load(back).saved.scales


def test_padding_and_options(tmp_path: Path, net: str) -> None:
    out = str(tmp_path / "amp.json")
    given = ["export", net, out, "--format", "rtneural", "--option", "aida_x=true"]
    assert run(given) == 2
    assert run([*given, "--pad-to", "target"]) == 0
    assert run([*given, "--pad-to", "16"]) == 0
    assert l0gate.import_(out).parameters["lstm_0.weight_hh_l0"].shape == (64, 16)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--pad-to", "x"], "`--pad-to` is 'x'"),
        (["-o", "speed"], "`--option` is 'speed'"),
        (["-o", "speed=1"], "`speed` is no option"),
        (["--format", "tract"], "`format` is 'tract'"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, net: str, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert run(["export", net, str(tmp_path / "amp.nam"), *extra]) == 2
    assert message in capsys.readouterr().err
