"""What a checkpoint holds, and whose checkpoint is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from l0gate import L0GateError
from l0gate.npz import unpack


def test_a_checkpoint_of_another_run_is_refused(load: Any, corpus: Any, tmp_path: Path) -> None:
    run_of, options = load("run").Run, load("options").Options
    run = run_of(options("tiny"), corpus, tmp_path)
    run.finish(lambda text: None, stop_after=1)
    run.save()
    run.checkpoint.rename(run_of(options("tiny", seed=2), corpus, tmp_path).checkpoint)
    with pytest.raises(L0GateError, match="is the checkpoint of another run"):
        run_of(options("tiny", seed=2), corpus, tmp_path).finish(lambda text: None)


@pytest.mark.filterwarnings("ignore:the gates")
def test_the_format_stays_readable(load: Any, corpus: Any, tmp_path: Path) -> None:
    """The names of arrays and facts, so that runs that wait on some machine can go on."""
    options = load("options").Options("tiny", "l0", 0.5, shrink_early=True)
    run = load("run").Run(options, corpus, tmp_path)
    run.finish(lambda text: None, stop_after=6)
    run.save()
    with run.checkpoint.open("rb") as file:
        arrays, manifest = unpack(file)
    facts = {"format", "job", "step", "seconds", "loss", "history", "cut", "small"}
    assert set(manifest) - {"checksums"} == facts
    assert manifest["small"] is True
    assert set(manifest["job"]) >= {"model", "method", "budget", "seed", "text"}
    names = set(arrays)
    assert {"gated/model.embedding.weight", "small/embedding.weight", "rng"} <= names
    assert {"adam/0/step", "adam/0/exp_avg", "adam/0/exp_avg_sq", "state/0"} <= names
    assert {name.partition("/")[0] for name in names} == {"gated", "small", "adam", "state", "rng"}
