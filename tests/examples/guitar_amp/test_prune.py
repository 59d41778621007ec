"""Amplifiers are distilled, shrunk, compared and timed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import DATA, modules_of, run

import l0gate


@pytest.fixture
def amplifier() -> Iterator[Any]:
    with modules_of("examples/guitar_amp") as load:
        yield load("prune")


def test_error_to_signal_ratio(amplifier: Any) -> None:
    target = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None]
    assert float(amplifier.esr(target, target)) == 0
    assert float(amplifier.esr(0.9 * target, target)) == pytest.approx(0.01)
    # A constant error is low in pitch, and the target high: pre-emphasis forgives it.
    error = amplifier.esr(target + 0.1, target, 0.85)
    assert float(error) == pytest.approx((0.1 * 0.15) ** 2 / 1.85**2, rel=1e-4)


def _write_amplifier(amplifier: Any, folder: Path, unit: str, hidden: int, **changes: Any) -> Path:
    torch.manual_seed(0)
    model = amplifier.Amplifier(unit, hidden)
    facts = {"input_size": 1, "output_size": 1, "num_layers": 1, "skip": 1}
    facts |= {"unit_type": unit, "hidden_size": hidden, **changes}
    state = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    path = folder / f"{unit}.json"
    path.write_text(json.dumps({"model_data": facts, "state_dict": state}))
    return path


def test_another_build_of_amplifier_is_refused(amplifier: Any, tmp_path: Path) -> None:
    path = _write_amplifier(amplifier, tmp_path, "LSTM", 4, num_layers=2)
    with pytest.raises(ValueError, match=r"LSTM\.json.*num_layers"):
        amplifier.read_model(path)


@pytest.mark.parametrize("unit", ["LSTM", "GRU"])
def test_an_amplifier_is_halved_and_streams(
    amplifier: Any, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amplifier, "CHUNK", 16)
    teacher = amplifier.read_model(_write_amplifier(amplifier, tmp_path, unit, 6))
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    x = amplifier.streams(amplifier.guitar.signal(0.02, 0), 4)
    small = amplifier.distil(teacher, x, steps=40).eval().shrink()
    assert 1 <= small.rec.hidden_size <= 3
    assert all(torch.equal(before[n], tensor) for n, tensor in teacher.state_dict().items())

    l0gate.save(tmp_path / "small.npz", small)
    net = l0gate.load(tmp_path / "small.npz")
    state, found = None, []
    for sample in x[:, 0].numpy():
        y, state = net.step(sample, state)
        found.append(y + sample)
    with torch.no_grad():
        expected = amplifier.play(small, x[:, :1])[0][:, 0]
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-4, atol=1e-6)


def test_the_amplifier_program(
    amplifier: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "models").mkdir()
    _write_amplifier(amplifier, tmp_path / "models", "GRU", 4)
    options = [
        "--data",
        tmp_path / "models",
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "rows.json",
    ]
    options += ["--steps", 10, "--train-seconds", 0.5, "--test-seconds", 0.1]
    timed: list[float] = []

    def compare(dense: Any, small: Any, seconds: float, rounds: int) -> dict[str, float]:
        dense(), small()
        timed.append(seconds)
        return {"dense": 1.0, "small": 2.0, "ratio": 2.0}

    monkeypatch.setattr(amplifier, "compare", compare)
    monkeypatch.setattr(amplifier, "TIMED", 0.01)
    run(amplifier, monkeypatch, *options)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["hidden"][1] <= 2
    assert row["certificate"]["float64"] < 1e-10
    assert 0 < row["esr"] < 10
    assert len(timed) == len(row["times_real_time"]) == 8
    assert "| GRU | GRU | 10 | 4 -> " in capsys.readouterr().out

    run(amplifier, monkeypatch, *options, "--measure")
    (again,) = json.loads((tmp_path / "rows.json").read_text())
    assert len(timed) == 16
    assert again.pop("esr") == pytest.approx(row.pop("esr"), rel=1e-5)
    assert again.pop("esr_pre") == pytest.approx(row.pop("esr_pre"), rel=1e-5)
    assert again == row


@pytest.mark.skipif(
    not (DATA / "models" / "guitar_amp").is_dir(),
    reason=f"looked for the amplifiers in {DATA / 'models'}; set L0GATE_DATA to the folder of data",
)
def test_real_amplifiers_distort(amplifier: Any) -> None:
    x = amplifier.streams(amplifier.guitar.signal(0.5, 0), 2)
    paths = sorted((DATA / "models" / "guitar_amp").glob("*.json"))
    assert len(paths) == 8
    for path in paths:
        model = amplifier.read_model(path)
        with torch.no_grad():
            loud, soft = (float(amplifier.play(model, level * x)[0].std()) for level in (1, 0.05))
        assert 0 < loud < 0.5 * soft / 0.05, path.stem  # what is 20 times as loud saturates
