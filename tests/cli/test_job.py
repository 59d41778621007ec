"""A whole job in this process, on a clock that ticks once a look: what it does and says."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import itertools
import math
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_runs import OPTIONS, trained
from rich.console import Console

import l0gate
from l0gate import L0GateError
from l0gate.cli import _checkpoint, _job
from l0gate.cli._job import Job
from l0gate.cli._report_data import versions
from l0gate.cli._screen import Screen
from l0gate.cli._signals import StoppedError
from l0gate.cli._text import Corpus
from l0gate.cli._training import NotFiniteError, evaluate

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


SPEED = {"latency_step": 2.0}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What goes to the parts tested elsewhere: checkpoints, speed, report; and a clock."""
    seen = SimpleNamespace(checkpoints=[], speed=None, report=None, ticks=itertools.count(100))
    write = _checkpoint.write

    def checkpoint(folder: Path, job: Any, phases: Any, backend: Any) -> None:
        seen.checkpoints.append({phase: training.step for phase, training in phases.items()})
        write(folder, job, phases, backend)

    def speedup(*given: Any) -> dict[str, Any]:
        seen.speed = given
        return SPEED

    def report(*given: Any) -> None:
        seen.report = given

    monkeypatch.setattr(_checkpoint, "write", checkpoint)
    monkeypatch.setattr(_job, "speedup", speedup)
    monkeypatch.setattr(_job, "write_report", report)
    clock = SimpleNamespace(perf_counter=lambda: float(next(seen.ticks)))
    monkeypatch.setattr(_job, "time", clock)
    return seen


def make(
    corpus: Corpus, folder: Path, every: float = math.inf, **changes: Any
) -> tuple[Job, io.StringIO]:
    out = io.StringIO()
    folder.mkdir(exist_ok=True)
    screen = Screen(Console(file=out, width=200, soft_wrap=True))
    return Job(replace(OPTIONS, **changes), corpus, folder, screen, every), out


@pytest.fixture
def done(corpus: Corpus, tmp_path: Path, seen: SimpleNamespace) -> SimpleNamespace:
    """A finished job with its report and what it said; its four nets, made anew; and `seen`."""
    job, out = make(corpus, tmp_path / "run")
    report = job.run(resume=False, twins=True)
    pruner = OPTIONS.pruner()
    dense = trained(OPTIONS.task(corpus)).parameters
    task = replace(OPTIONS.task(corpus, pruner), teacher=dense)
    gated = trained(task)
    small, kept = pruner.shrink(gated.parameters, gated.gates)
    sizes = {axis: len(index) for axis, index in kept.items()}
    assert sizes != pruner.sizes
    nets = {
        "dense": dense,
        "gated": pruner.gate(gated.parameters, gated.gates),
        "small": small,
        "direct": trained(OPTIONS.task(corpus, sizes=sizes)).parameters,
    }
    return SimpleNamespace(
        job=job,
        report=report,
        out=out.getvalue(),
        pruner=pruner,
        task=task,
        gated=gated,
        kept={axis: list(index) for axis, index in kept.items()},
        nets=nets,
        seen=seen,
        folder=tmp_path / "run",
    )


def test_the_nets_of_a_report(corpus: Corpus, done: SimpleNamespace) -> None:
    """Sizes and scores are those of four nets, trained and shrunk apart from the job."""
    small_sizes = [len(done.kept[axis]) for axis in ("x", "h0", "h1")]
    bits = {}
    for name, parameters in done.nets.items():
        x, *hidden = [4, 5, 4] if name in ("dense", "gated") else small_sizes
        recurrent = sum(a.size for n, a in parameters.items() if n.startswith("rnn.weight"))
        entries = sum(a.size for a in parameters.values())
        nats = evaluate(done.task.net, parameters, corpus.splits["test"], 2, 6)
        bits[name] = nats / math.log(2)
        assert done.report[name] == {
            "parameters": entries,
            "recurrent_parameters": recurrent,
            "bytes": 4 * entries,
            "input_size": x,
            "hidden_sizes": hidden,
            "bits_per_character": bits[name],
        }
    gap = (bits["direct"] - bits["small"]) / (bits["direct"] - bits["dense"])
    assert done.report["comparison"] == {
        "gap_recovered": gap if bits["direct"] > bits["dense"] else None
    }


def test_what_a_report_says_of_the_job(corpus: Corpus, done: SimpleNamespace) -> None:
    report = done.report
    assert report["metric"] == "bits_per_character"
    assert report["versions"] == versions()
    assert report["options"] == asdict(OPTIONS)
    assert report["text"] == {
        **{"name": corpus.name, "unit": "character", "vocabulary": 29, "unseen": 0},
        **{"train": 324, "test": 36},
    }
    folder, written, phases, kept, sizes = done.seen.report
    assert (folder, written, sizes) == (done.folder, report, done.pruner.sizes)
    assert list(phases) == ["dense", "gated", "direct"]
    assert {axis: list(index) for axis, index in kept.items()} == done.kept


def test_what_a_report_says_of_the_budget(done: SimpleNamespace) -> None:
    cost, sizes = done.pruner.cost, {axis: len(index) for axis, index in done.kept.items()}
    assert done.report["budget"] == {
        "of": "recurrent parameters",
        "dense": cost.total,
        "limit": cost.total // 2,
        "used": done.report["small"]["recurrent_parameters"],
        "with_one_more_neuron": min(
            cost.at({**sizes, axis: sizes[axis] + 1})
            for axis in sizes
            if sizes[axis] < done.pruner.sizes[axis]
        ),
    }


def test_the_speed_is_measured_of_the_dense_and_the_small_net(
    corpus: Corpus, done: SimpleNamespace
) -> None:
    assert done.report["speedup"] is SPEED
    layers, dense, small, tokens = done.seen.speed
    assert [layer["type"] for layer in layers] == ["embedding", "lstm", "linear"]
    for given, wanted in ((dense, done.gated.parameters), (small, done.nets["small"])):
        assert list(given) == list(wanted)
        assert all(np.array_equal(given[name], wanted[name]) for name in wanted)
    assert tokens is corpus.splits["test"]


def test_the_seconds_of_a_job(done: SimpleNamespace) -> None:
    # A look at the clock before and after the warm-up; then one a step, and one at its start.
    assert done.report["seconds"] == {
        "set_up": 1.0,
        **{"gated": 12.0, "dense": 12.0, "direct": 12.0},
        "this_run": 2.0 + 3 * 13 + 1,
    }


def test_the_model_of_a_job(corpus: Corpus, done: SimpleNamespace) -> None:
    saved = l0gate.load(done.folder / "model.npz").saved
    assert saved.metadata == {"vocabulary": list(corpus.vocabulary), "unit": "character"}
    assert saved.dense_sizes == done.pruner.sizes
    assert {axis: list(index) for axis, index in saved.kept.items()} == done.kept
    small = done.nets["small"]
    assert all(np.array_equal(saved.parameters[name], small[name]) for name in small)
    assert saved.chain.layout == saved.layout == OPTIONS.chain.layout
    certificate = saved.certificate
    assert done.report["certificate"] == {
        **{"max_abs_difference": certificate.max_abs_difference},
        **{"tolerance": certificate.tolerance},
        **{"max_abs_difference_float32": certificate.max_abs_difference_float32},
        **{"tolerance_float32": certificate.tolerance_float32, "sequences": 4},
        **{"forced_open": certificate.forced_open, "forced_closed": certificate.forced_closed},
    }


def test_checkpoints_where_phases_begin_and_end(done: SimpleNamespace) -> None:
    # No interval has passed.
    assert done.seen.checkpoints == [
        *({"dense": 0}, {"dense": 12}),
        *({"dense": 12, "gated": 0}, {"dense": 12, "gated": 12}),
        *({"dense": 12, "gated": 12, "direct": k} for k in (0, 12)),
    ]
    assert done.job.phases["gated"].rng is None  # nothing is kept that only training needs


def test_what_a_job_says(corpus: Corpus, done: SimpleNamespace) -> None:
    lines = re.sub(r"\d\.\d{3} bits(, size \d+%)?  0 s", "... bits  0 s", done.out)
    certificate = l0gate.load(done.folder / "model.npz").saved.certificate
    recurrent = done.report["dense"]["recurrent_parameters"]
    entries = done.report["dense"]["parameters"]
    assert lines.splitlines() == [
        f"{corpus.name}: 360 characters (324 train, 36 test), 29 different ones",
        f"LSTM 4 -> 5 -> 4: {entries} parameters, {recurrent} of them recurrent, at most"
        f" {done.pruner.cost.total // 2} may stay; 12 steps of 2 x 6 characters",
        "preparing the engine"
        + (
            " (numba compiles once, and keeps the result) ..."
            if importlib.util.find_spec("numba")
            else " ..."
        ),
        "dense: 12 steps",
        "dense: 12/12  ... bits  0 s left",
        "gated: three quarters of its loss are the divergence from dense",
        "gated: 12 steps",
        "gated: 12/12  ... bits  0 s left",
        *str(certificate).splitlines(),
        "direct: 12 steps",
        "direct: 12/12  ... bits  0 s left",
        "measuring the speed ...",
    ]


def test_a_job_without_twins_or_budget(
    corpus: Corpus, tmp_path: Path, seen: SimpleNamespace
) -> None:
    job, out = make(
        corpus, tmp_path / "run", cell="gru", budget=None, strength=1e-9, teacher="none"
    )
    report = job.run(resume=False, twins=False)
    assert report["budget"] is None
    assert report["comparison"] == {"gap_recovered": None}
    assert list(report["seconds"]) == ["set_up", "gated", "this_run"]
    assert seen.checkpoints == [{"gated": 0}, {"gated": 12}]
    sized = {k: v for k, v in report["gated"].items() if k != "bits_per_character"}
    assert report["dense"] == report["direct"] == sized
    assert report["small"]["hidden_sizes"] == [5, 4]
    shown = out.getvalue()
    assert "GRU 4 -> 5 -> 4:" in shown
    assert "recurrent, strength 1e-09; 12 steps" in shown
    assert "dense" not in shown


def test_a_job_without_a_teacher(corpus: Corpus, tmp_path: Path, done: SimpleNamespace) -> None:
    """The gated net comes first, and learns from the text alone; the others are the same."""
    job, out = make(corpus, tmp_path / "alone", teacher="none")
    report = job.run(resume=False, twins=True)
    assert list(job.phases) == ["gated", "dense", "direct"]
    assert report["options"]["teacher"] == "none"
    assert report["dense"] == done.report["dense"]
    alone = trained(OPTIONS.task(corpus, OPTIONS.pruner()))
    assert job.phases["gated"].losses == alone.losses
    assert done.job.phases["gated"].losses == done.gated.losses != alone.losses
    assert "gated: three quarters" not in out.getvalue()


def test_a_teacher_without_twins(
    corpus: Corpus, tmp_path: Path, done: SimpleNamespace, seen: SimpleNamespace
) -> None:
    job, _ = make(corpus, tmp_path / "alone")
    report = job.run(resume=False, twins=False)
    assert list(report["seconds"]) == ["set_up", "dense", "gated", "this_run"]
    for name in ("dense", "gated", "small"):
        assert report[name] == done.report[name]
    assert "bits_per_character" not in report["direct"]
    assert report["comparison"] == {"gap_recovered": None}


def test_only_an_engine_that_compiles_says_so(
    corpus: Corpus, tmp_path: Path, seen: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("json")
    for backend, found, note in (
        ("numpy", spec, " (numba compiles once, and keeps the result)"),
        ("numpy", None, ""),
        ("torch", spec, ""),
    ):
        pytest.importorskip(backend)
        monkeypatch.setattr(_job, "find_spec", {"numba": found}.get)
        job, out = make(corpus, tmp_path / f"{backend}{note}", backend=backend, steps=2)
        report = job.run(resume=False, twins=False)
        assert f"preparing the engine{note} ..." in out.getvalue().splitlines()
        certificate = report["certificate"]
        assert certificate["max_abs_difference"] <= certificate["tolerance"]


def test_checkpoints_by_the_clock(corpus: Corpus, tmp_path: Path, seen: SimpleNamespace) -> None:
    job, _ = make(corpus, tmp_path / "run", every=5.0, teacher="none")
    job.run(resume=False, twins=False)
    # The fifth step ends 5 s after the start, at which the clock is looked at once more.
    assert [c["gated"] for c in seen.checkpoints] == [0, 5, 10, 12]


@pytest.mark.parametrize(("number", "where"), [(signal.SIGINT, "dense"), (signal.SIGTERM, "gated")])
def test_a_stopped_job_goes_on(
    number: int, where: str, corpus: Corpus, tmp_path: Path, seen: SimpleNamespace
) -> None:
    straight, _ = make(corpus, tmp_path / "straight")
    wanted = straight.run(resume=False, twins=True)
    job, _ = make(corpus, tmp_path / "run")
    follow = job.screen.follow

    @contextmanager
    def killing(phase: str, steps: int) -> Iterator[Any]:
        with follow(phase, steps) as show:

            def kill(training: Any) -> None:
                show(training)
                if phase == where and training.step == 7:
                    os.kill(os.getpid(), number)

            yield kill

    job.screen.follow = killing  # type: ignore[method-assign]
    with pytest.raises(StoppedError) as stopped:
        job.run(resume=False, twins=True)
    assert str(stopped.value) == f"stopped in the {where} net after step 7"
    assert stopped.value.exit_code == 128 + number
    assert seen.checkpoints[-1] == ({"dense": 12} if where == "gated" else {}) | {where: 7}
    again, out = make(corpus, tmp_path / "run")
    report = again.run(resume=True, twins=True)
    timed = ("seconds", "speedup")
    assert {k: v for k, v in report.items() if k not in timed} == {
        k: v for k, v in wanted.items() if k not in timed
    }
    shown = out.getvalue().splitlines()
    assert ("dense: trained already, 12 steps" in shown) == (where == "gated")
    assert f"{where}: 12 steps, from 7" in shown
    assert report["seconds"][where] == 12.0  # both runs together


def test_a_loss_that_is_not_finite(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(task: Any, training: Any) -> Any:
        training.losses += [1.0, 1.0]
        training.size_fractions += [1.0, 1.0]
        yield
        raise NotFiniteError("the loss is nan")

    monkeypatch.setattr(_job, "train", diverging)
    job, _ = make(corpus, tmp_path / "run")
    with pytest.raises(NotFiniteError) as error:
        job.run(resume=False, twins=False)
    assert str(error.value) == (
        f"the loss is nan at step 3 of the dense net; the checkpoint in '{tmp_path / 'run'}' is the"
        " last good one. Start again with a smaller `--lr`"
    )


def test_a_budget_below_the_floor_is_named(corpus: Corpus, tmp_path: Path) -> None:
    job, _ = make(corpus, tmp_path / "run", budget="3")
    with pytest.raises(L0GateError, match=r"^`--budget`: .*with one neuron left per axis"):
        job.run(resume=False, twins=False)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_certificate_of_a_job(
    corpus: Corpus, tmp_path: Path, seen: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random tokens, the same for the same seed, in plain NumPy; states by their axes."""
    job, _ = make(corpus, tmp_path / "run")
    given = []
    certify = job.pruner.certify

    def watch(*arguments: Any) -> Any:
        given.append(arguments)
        return certify(*arguments)

    monkeypatch.setattr(job.pruner, "certify", watch)
    job.run(resume=False, twins=False)
    ((apply, parameters, state, small, kept, inputs),) = given
    wanted = np.random.default_rng(3).integers(0, 29, (4, 50, 8))
    assert isinstance(inputs, list)
    np.testing.assert_array_equal(inputs, wanted)
    y, states = apply(small, inputs[0])
    assert y.shape == (50, 8, 29)
    assert {axis: [a.shape for a in pair] for axis, pair in states.items()} == {
        axis: [(8, len(kept[axis]))] * 2 for axis in ("h0", "h1")
    }
    net = job.options.task(corpus).net
    np.testing.assert_array_equal(y, net.apply(small, inputs[0], engine="numpy")[0])
    assert parameters is job.phases["gated"].parameters
    assert state is job.phases["gated"].gates
