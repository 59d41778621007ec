"""Tiny runs from the first option to the last file: their figures, model and picture."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from cli_runs import TINY, report_of

import l0gate
from l0gate.cli._app import run
from l0gate.cli._batches import chunks, streams
from l0gate.cli._text import python_topics
from l0gate.npz import unpack


def test_report_has_every_figure(finished):
    report = report_of(finished)
    for name in ("dense", "gated", "small", "direct"):
        row = report[name]
        assert row["bits_per_character"] > 0
        assert row["bytes"] == 4 * row["parameters"]
    assert report["gated"]["hidden_sizes"] == report["dense"]["hidden_sizes"] == [7, 5]
    assert report["direct"]["hidden_sizes"] == report["small"]["hidden_sizes"]
    assert report["small"]["parameters"] == report["direct"]["parameters"]
    assert report["dense"]["recurrent_parameters"] == 4 * (7 * (6 + 7 + 2) + 5 * (7 + 5 + 2)) - 96
    assert report["speedup"]["latency_step"] > 0
    assert report["speedup"]["sequence"] > 0
    assert report["certificate"]["max_abs_difference"] <= report["certificate"]["tolerance"]


def test_gap_recovered_follows_from_the_figures(finished):
    report = report_of(finished)
    dense, small, direct = (report[n]["bits_per_character"] for n in ("dense", "small", "direct"))
    gap = report["comparison"]["gap_recovered"]
    assert gap is None if direct <= dense else gap == (direct - small) / (direct - dense)


def test_small_net_is_within_budget_and_no_neuron_more_fits(finished):
    report = report_of(finished)
    budget, small = report["budget"], report["small"]
    assert budget["limit"] == int(0.4 * report["dense"]["recurrent_parameters"])
    assert small["recurrent_parameters"] == budget["used"] <= budget["limit"]
    assert budget["with_one_more_neuron"] > budget["limit"]


def test_gated_and_small_net_score_the_same(finished):
    report = report_of(finished)
    small, gated = (report[name]["bits_per_character"] for name in ("small", "gated"))
    assert small == pytest.approx(gated, rel=1e-5)


def test_model_scores_what_the_report_says(finished):
    """The saved net, streamed character by character, on the held-out text itself."""
    net = l0gate.load(finished / "model.npz")
    held_out = python_topics().splits["test"]
    total = count = 0
    state = None
    for x, targets in chunks(streams(held_out, 3), 8):
        for x_t, target in zip(x, targets, strict=True):
            logits, state = net.step(x_t, state)
            likelihood = logits.astype(float) - np.logaddexp.reduce(logits, axis=1)[:, None]
            total -= likelihood[np.arange(3), target].sum()
            count += 3
    expected = report_of(finished)["small"]["bits_per_character"]
    assert total / count / np.log(2) == pytest.approx(expected, rel=1e-4)


def test_model_streams_with_numpy_alone(finished):
    code = (
        "import sys\n"
        "for name in ('numba', 'scipy', 'torch', 'typer', 'rich', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import l0gate\n"
        f"net = l0gate.load({str(finished / 'model.npz')!r})\n"
        "y, state = net.step(3)\n"
        "print(y.shape, net([[3], [4]])[0].shape)\n"
    )
    size = report_of(finished)["text"]["vocabulary"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"({size},) (2, 1, {size})"


def test_picture_is_written(finished):
    assert (finished / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_job_says_what_it_does_from_the_start(text, tmp_path, capsys):
    assert (
        run(["train", "--text", str(text), *TINY, "--no-twins", "--out", str(tmp_path / "r")]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"l0gate {l0gate.__version__}")
    assert lines[1].startswith(f"{text}: 1,800 characters (1,620 train, 180 test), 29 different")
    assert any(line.startswith("gated: 30/30") for line in lines)


ALONE = ("--no-twins", "--teacher", "none")


def test_without_twins(text, tmp_path):
    out = tmp_path / "run"
    assert run(["train", "--text", str(text), *TINY, *ALONE, "--out", str(out)]) == 0
    report = report_of(out)
    assert "bits_per_character" not in report["dense"]
    assert report["direct"]["hidden_sizes"] == report["small"]["hidden_sizes"]
    assert report["comparison"]["gap_recovered"] is None
    assert set(report["seconds"]) == {"set_up", "gated", "this_run"}


def test_words_from_a_folder(tmp_path, capsys):
    for split, words in (("train", "a b c d\n"), ("valid", "a b\n"), ("test", "d c strange\n")):
        (tmp_path / f"my.{split}.txt").write_text(words * 40)
    out = tmp_path / "run"
    command = ["train", "--data", str(tmp_path), "--words", "--cell", "gru", *TINY]
    assert run([*command, "--out", str(out)]) == 0
    report = report_of(out)
    assert report["text"]["train"] == 200
    assert report["text"]["vocabulary"] == 6  # four words, end of sentence, and unknown
    assert report["text"]["unseen"] == 40
    assert report["small"]["perplexity"] > 1
    assert report["small"]["valid_perplexity"] > 1
    assert run(["sample", str(out), "--length", "30", "--prompt", "a b"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()


def test_strength_in_place_of_a_budget(text, tmp_path):
    out = tmp_path / "run"
    options = [o for o in TINY if o not in ("--budget", "40%")]
    command = ["train", "--text", str(text), *options, "--strength", "1e-9", "--no-twins"]
    assert run([*command, "--out", str(out)]) == 0
    report = report_of(out)
    assert report["budget"] is None
    assert report["small"]["hidden_sizes"] == [7, 5]


def test_epochs(text, tmp_path):
    out = tmp_path / "run"
    options = [o for o in TINY if o not in ("--steps", "30")]
    command = ["train", "--text", str(text), *options, "--epochs", "2", "--no-twins"]
    assert run([*command, "--out", str(out)]) == 0
    # 1,620 characters in 3 streams of 540: 67 whole chunks of 8, and the last one's targets.
    assert report_of(out)["options"]["steps"] == 2 * 67


def test_numpy_and_torch_train_alike(text, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny products gain nothing from more
    bits = []
    for backend in ("numpy", "torch"):
        out = tmp_path / backend
        command = ["train", "--text", str(text), *TINY, "--backend", backend, "--out", str(out)]
        assert run(command) == 0
        report = report_of(out)
        bits.append([report[n]["bits_per_character"] for n in ("dense", "small", "direct")])
        sizes = report["small"]["hidden_sizes"]
    torch.set_num_threads(threads)
    np.testing.assert_allclose(bits[0], bits[1], rtol=1e-3)
    assert sizes == report_of(tmp_path / "numpy")["small"]["hidden_sizes"]


def test_a_loss_that_is_not_finite_stops_with_a_good_checkpoint(text, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "--text", str(text), *TINY, "--lr", "1e38", "--checkpoint-every", "0"]
    assert run([*command, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "the loss is nan" in error
    assert "smaller `--lr`" in error
    arrays, _ = unpack(io.BytesIO((out / "checkpoint.npz").read_bytes()))
    assert arrays["dense/losses"].size > 0
    assert all(np.isfinite(array).all() for array in arrays.values())
