"""Checkpoints: a training goes on from them to the same numbers; other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import NUMPY, TINY, make_task, run_all, same

import l0gate
from l0gate import L0GateError
from l0gate.cli import _checkpoint
from l0gate.cli._adam import Adam
from l0gate.cli._app import run
from l0gate.cli._folders import CHECKPOINT
from l0gate.cli._training import (
    start,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 5, 12])
def test_a_training_goes_on_from_its_checkpoint(
    gated: bool, stop_after: int, tmp_path: Path
) -> None:
    net = make_task().net
    sizes = {"embedding": 4, "rnn": 6, "decoder": 5}
    teacher = net.init(np.random.default_rng(9), input_size=5, sizes=sizes)
    task = make_task(gated, teacher=teacher if gated else None)
    whole = run_all(task, start(task))
    part = start(task)
    for _, _ in zip(range(stop_after), train(task, part), strict=False):
        pass
    part.seconds = 2.5
    job = {"steps": 12, "cell": "lstm"}
    _checkpoint.write(tmp_path, job, {"gated": part, "gated2": start(task)}, NUMPY)
    read = _checkpoint.read(tmp_path, job, NUMPY)
    assert list(read) == ["gated", "gated2"]
    assert read["gated"].seconds == 2.5
    assert read["gated"].adam.steps == stop_after
    assert read["gated2"].step == 0
    found = run_all(task, read["gated"])
    for name in ("parameters", "gates", "rng", "carry", "losses", "size_fractions"):
        same(getattr(found, name), getattr(whole, name))
    # A net that is bound to its parameters returns a kind of tuple of its own.
    same(tuple(found.teacher_carry or ()), tuple(whole.teacher_carry or ()))
    assert (whole.teacher_carry is not None) == gated
    for name in ("adam", "gate_adam"):
        one, other = getattr(found, name), getattr(whole, name)
        assert (one is None) == (other is None)
        if one is not None:
            same(vars(one), vars(other))


def test_a_finished_training_keeps_its_result_alone(tmp_path: Path) -> None:
    task = make_task()
    done = run_all(task, start(task))
    done.finish()
    _checkpoint.write(tmp_path, {}, {"gated": done}, NUMPY)
    found = _checkpoint.read(tmp_path, {}, NUMPY)["gated"]
    same(found.parameters, done.parameters)
    same(found.gates, done.gates)
    assert found.adam == Adam({}, {})
    assert found.gate_adam is found.rng is found.carry is None
    assert found.step == 12


def test_a_checkpoint_of_another_job_says_how_they_differ(tmp_path: Path) -> None:
    _checkpoint.write(tmp_path, {"cell": "lstm", "seed": 0}, {}, NUMPY)
    assert _checkpoint.read(tmp_path, {"cell": "lstm", "seed": 0}, NUMPY) == {}
    message = r"another job: cell was 'lstm' and is now 'gru'; new was None and is now 1\. Resume"
    with pytest.raises(L0GateError, match=message):
        _checkpoint.read(tmp_path, {"cell": "gru", "seed": 0, "new": 1}, NUMPY)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    with pytest.raises(L0GateError, match=r"`--resume`: '.*npz' cannot be read: No such file"):
        _checkpoint.read(tmp_path, {}, NUMPY)
    path.write_bytes(b"PK nothing")
    with pytest.raises(L0GateError, match=r"`--resume`: '.*checkpoint.npz' "):
        _checkpoint.read(tmp_path, {}, NUMPY)
    net = NUMPY.net([{"type": "linear", "name": "out"}])
    sizes = {"out": 2}
    l0gate.save(path, net.bind(net.init(np.random.default_rng(0), input_size=3, sizes=sizes)))
    with pytest.raises(L0GateError, match="is no l0gate checkpoint 1"):
        _checkpoint.read(tmp_path, {}, NUMPY)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (["--hidden", "7", "6"], "hidden was [7, 5] and is now [7, 6]"),
        (["--seed", "3"], "seed was 0 and is now 3"),
        (["--cell", "gru"], "cell was 'lstm' and is now 'gru'"),
        (["--words"], "text was "),
    ],
)
def test_checkpoint_of_another_job(finished, change, part, capsys):
    options = TINY[TINY.index("--embedding") :] if change[0] == "--hidden" else TINY
    assert run(["train", *options, *change, "--out", str(finished), "--resume"]) == 2
    assert part in capsys.readouterr().err


def test_damaged_checkpoint(text, tmp_path, capsys):
    (tmp_path / "checkpoint.npz").write_bytes(b"PK not a checkpoint")
    assert run(["train", "--text", str(text), *TINY, "--out", str(tmp_path), "--resume"]) == 2
    assert "is no l0gate file" in capsys.readouterr().err
