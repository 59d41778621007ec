"""A job that is killed goes on to the same numbers as one that never was."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from l0gate.cli._app import run

JOB = shlex.split("--hidden 7 5 --embedding 6 --steps 45 --batch 3 --length 8 --budget 40%")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny products gain nothing from threads, and on a busy machine wait for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    # An epoch of 27 steps: a state is carried over some checkpoints and starts anew at others.
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 16)
    return path


@pytest.fixture(scope="module")
def uninterrupted(text, tmp_path_factory):
    """The figures of a run that nothing disturbed, by backend."""
    found: dict[str, dict] = {}

    def figures_of(backend: str) -> dict:
        if backend not in found:
            folder = tmp_path_factory.mktemp(backend)
            assert run(command(text, folder, backend)) == 0
            found[backend] = figures(folder)
        return found[backend]

    return figures_of


def command(text: Path, folder: Path, backend: str = "numpy") -> list[str]:
    return ["train", "--text", str(text), *JOB, "--backend", backend, "--out", str(folder)]


def begin(text: Path, folder: Path, backend: str = "numpy") -> subprocess.Popen:
    """The job in a process of its own, with a checkpoint after every step."""
    resume = ["--resume"] if (folder / "checkpoint.npz").exists() else []
    arguments = [*command(text, folder, backend), *resume, "--checkpoint-every", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "l0gate", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def checkpoints(process: subprocess.Popen, folder: Path, count: int) -> None:
    """Wait until the process has written so many checkpoints, or has ended."""
    seen: set[int] = set()
    while len(seen) <= count and process.poll() is None:
        path = folder / "checkpoint.npz"
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)


def figures(folder: Path) -> dict:
    """The report without what was timed."""
    report = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in report.items() if name not in ("speedup", "seconds")}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_killed_again_and_again(backend, text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    moments = random.Random(backend)
    kills = 0
    for _ in range(20):
        process = begin(text, folder, backend)
        if kills < 3:
            checkpoints(process, folder, moments.randrange(3, 40))
            process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
        kills += 1
    assert kills == 3
    assert figures(folder) == uninterrupted(backend)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.npz",
        "model.npz",
        "report.json",
        "report.png",
    }


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_stopped_by_a_signal(number, code, text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = begin(text, folder)
    checkpoints(process, folder, 10)
    process.send_signal(number)
    assert process.wait() == code, process.stderr.read()
    assert run([*command(text, folder), "--resume"]) == 0
    assert figures(folder) == uninterrupted("numpy")


def test_finished_phases_are_not_redone(text, tmp_path, uninterrupted, capsys):
    folder = tmp_path / "run"
    assert run([*command(text, folder), "--no-twins"]) == 0
    capsys.readouterr()
    assert run([*command(text, folder), "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "gated: trained already, 45 steps" in shown
    assert "dense: trained already, 45 steps" in shown
    assert "direct: 45/45" in shown
    assert figures(folder) == uninterrupted("numpy")
