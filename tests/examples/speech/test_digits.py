"""Spoken digits are classified by a small net."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import DATA, modules_of, run
from torch.nn.utils.rnn import pack_sequence

import l0gate


@pytest.fixture
def digits() -> Iterator[Any]:
    with modules_of("examples/speech") as load:
        yield load("digits")


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
    run(digits, monkeypatch, *options)
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
