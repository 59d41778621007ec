"""The examples on real models and real data, in pieces and on tiny data."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import l0gate

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("L0GATE_DATA") or ROOT.parent / "shared" / "data")
CLAIM = "gated_torch_step_costs_little_more_than_dense"


def _script(monkeypatch: pytest.MonkeyPatch, folder: str, name: str) -> Any:
    """A script as a module, which finds its siblings as it does when it is run."""
    monkeypatch.syspath_prepend(ROOT / folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    return module


@pytest.fixture
def amplifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    return _script(monkeypatch, "examples/guitar_amp", "prune")


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Any:
    return _script(monkeypatch, "examples/speech", "digits")


@pytest.fixture
def claim(monkeypatch: pytest.MonkeyPatch) -> Any:
    return _script(monkeypatch, "benchmarks", CLAIM)


@pytest.fixture(autouse=True)
def _keeps_threads() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _main(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    module.main()


# --- Guitar amplifiers ----------------------------------------------------------------------------


def test_signals_repeat_and_vary(amplifier: Any) -> None:
    first, again, other = (amplifier.guitar.signal(1.0, seed) for seed in (5, 5, 6))
    assert first.dtype == np.float32
    assert first.shape == (44_100,)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert 0.01 < np.abs(first).max() <= 1


def test_a_plucked_string_has_its_pitch(amplifier: Any) -> None:
    note = amplifier.guitar.pluck(np.random.default_rng(0), 220.0, 44_100)
    spectrum = np.abs(np.fft.rfft(note))
    # The filter of the loop adds half a sample to a period that is rounded to whole samples.
    expected = 44_100 / (round(44_100 / 220) + 0.5)
    harmonics = np.argmax(spectrum) / expected
    assert abs(harmonics - round(harmonics)) < 0.02
    assert np.abs(note[-1000:]).max() < np.abs(note[:1000]).max()


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
    _main(amplifier, monkeypatch, *options)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["hidden"][1] <= 2
    assert row["certificate"]["float64"] < 1e-10
    assert 0 < row["esr"] < 10
    assert len(timed) == len(row["times_real_time"]) == 8
    assert "| GRU | GRU | 10 | 4 -> " in capsys.readouterr().out

    _main(amplifier, monkeypatch, *options, "--measure")
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


# --- Spoken digits --------------------------------------------------------------------------------


def _write_digits(folder: Path, recordings: int = 7) -> None:
    """Clips in which a digit lights up a band of its own."""
    rng = np.random.default_rng(0)
    label, index = (a.ravel() for a in np.mgrid[:10, :recordings])
    lengths = rng.integers(3, 9, len(label))
    feats = rng.normal(size=(lengths.sum(), 20)) * 0.3
    feats[np.arange(len(feats)), 2 * np.repeat(label, lengths)] += 3
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    np.savez(
        folder / "fsdd_logmel20.npz",
        feats=feats.astype(np.float16),
        offsets=offsets,
        label=label.astype(np.int8),
        index=index.astype(np.int8),
    )


def test_the_official_parts(digits: Any, tmp_path: Path) -> None:
    _write_digits(tmp_path)
    known, test = digits.read(tmp_path)
    assert (len(known), len(test)) == (20, 50)
    assert test.labels.bincount().tolist() == [5] * 10
    frames = torch.cat(list(known.features))
    torch.testing.assert_close(frames.mean(0), torch.zeros(20), rtol=0, atol=1e-5)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(20), rtol=1e-4, atol=0)


def test_packed_clips_are_pooled_over_their_own_frames(digits: Any) -> None:
    torch.manual_seed(0)
    model = digits.Digits("GRU", 20, 5)
    clips = [torch.randn(length, 20) for length in (4, 7, 1)]
    found = digits.pooled(model(pack_sequence(clips, enforce_sorted=False)))
    for scores, clip in zip(found, clips, strict=True):
        torch.testing.assert_close(scores, model(clip[:, None]).mean((0, 1)))


def test_augmentation_leaves_the_clip_alone(digits: Any) -> None:
    clip = torch.randn(30, 20)
    before, generator = clip.clone(), torch.Generator().manual_seed(0)
    varied = [digits._varied(clip, generator) for _ in range(5)]
    assert torch.equal(clip, before)
    assert not any(torch.equal(v, clip) for v in varied)


@pytest.mark.parametrize("unit", ["LSTM", "GRU"])
def test_the_digits_program(
    digits: Any, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_digits(tmp_path, recordings=10)
    monkeypatch.setattr(digits, "BATCH", 4)

    def compare(dense: Any, small: Any, frames: int) -> dict[str, float]:
        dense(), small()
        return {"dense": 2.0, "small": 1.0, "ratio": 2.0}

    monkeypatch.setattr(digits, "compare", compare)
    options = ["--data", tmp_path, "--out", tmp_path, "--json", tmp_path / "rows.json"]
    options += ["--unit", unit, "--hidden", 24, "--epochs", 12, "--seeds", 3]
    _main(digits, monkeypatch, *options)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    dense, small = row["sizes"]
    assert small["recurrent"] <= 0.15 * dense["recurrent"]
    assert row["accuracy"][0] > 0.8  # chance is 0.1
    assert row["accuracy"][1] > 0.25  # some five neurons
    assert len(row["microseconds_per_frame"]) == 5

    # The file answers like the model: a running mean of its scores, frame by frame.
    net = l0gate.load(tmp_path / f"{unit.lower()}_3.npz")
    model = l0gate.load(tmp_path / f"{unit.lower()}_3.npz", into=digits.Digits(unit, 20, 24))
    clip = digits.read(tmp_path)[1].features[0]
    state, total = None, np.zeros(10, np.float32)
    for frame in clip.numpy():
        scores, state = net.step(frame, state)
        total += scores
    with torch.no_grad():
        expected = digits.pooled(model(pack_sequence([clip])))[0]
    np.testing.assert_allclose(total / len(clip), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    not (DATA / "fsdd").is_dir(),
    reason=f"looked for the digits in {DATA / 'fsdd'}; set L0GATE_DATA to the folder of data",
)
def test_real_digits(digits: Any) -> None:
    known, test = digits.read(DATA / "fsdd")
    assert (len(known), len(test)) == (2700, 300)
    assert sum(map(len, (*known.features, *test.features))) == 125_237


# --- The benchmark of the training step -----------------------------------------------------------


def test_the_loop_is_the_same_model(claim: Any) -> None:
    torch.manual_seed(0)
    loop, dense = claim.Loop(6), claim.Language(6)
    dense.load_state_dict(loop.state_dict(), strict=False)
    tokens = torch.randint(claim.VOCABULARY, (5, 3))
    with torch.no_grad():
        loop.log_alpha.fill_(50.0)  # every gate is 1
        torch.testing.assert_close(loop(tokens), dense(tokens), rtol=1e-4, atol=1e-6)
        loop.log_alpha.fill_(-50.0)  # every gate is 0
        torch.testing.assert_close(loop(tokens), loop.decoder.bias.expand(5, 3, -1))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("name", ["dense", "gated", "loop"])
def test_a_step_of_the_benchmark_trains(
    claim: Any, name: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "VOCABULARY", 20)
    losses: list[float] = []
    whole = torch.nn.functional.cross_entropy

    def noted(*args: Any) -> torch.Tensor:
        losses.append(float(whole(*args).detach()))
        return whole(*args)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    run = claim.step(name, 16, optimizer, "cpu")
    for _ in range(60):
        run()
    assert losses[0] == pytest.approx(math.log(20), rel=0.1)
    assert losses[-1] < losses[0]
