"""The commands: what their options become, where runs live, and what they print."""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import l0gate
from l0gate import L0GateError, hookimpl
from l0gate._registry import registry
from l0gate.cli import _app
from l0gate.cli._options import Options
from l0gate.cli._signals import StoppedError
from l0gate.cli._text import steps_per_epoch
from l0gate.cli._training import NotFiniteError
from l0gate.methods import Random


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SimpleNamespace]:
    """The jobs that `l0gate train` begins in this folder; none is run."""
    made: list[SimpleNamespace] = []

    class Job:
        def __init__(self, options: Any, corpus: Any, folder: Any, screen: Any, every: Any) -> None:
            self.all = SimpleNamespace(
                options=options, corpus=corpus, folder=folder, screen=screen, every=every
            )

        def run(self, resume: bool, twins: bool) -> dict[str, Any]:
            made.append(self.all)
            self.all.resume, self.all.twins = resume, twins
            return {"a": "report"}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_app, "Job", Job)
    monkeypatch.setattr(_app, "show_report", lambda console, report: None)
    return made


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(*_: Any) -> None:
        raise error

    monkeypatch.setattr(_app.Job, "run", run)


def test_a_job_without_a_single_option(jobs: list[SimpleNamespace]) -> None:
    assert _app.run(["train"]) == 0
    (job,) = jobs
    options = ("lstm", (256,), 64, "28%", None, "numpy", 2000, 32, 64, 0, 8e-3, 0.06)
    assert job.options == Options(*options)
    assert job.corpus.name == "Python's help topics"
    assert job.corpus.unit == "character"
    assert (job.folder, job.every, job.resume, job.twins) == (Path("runs/1"), 30.0, False, True)


def test_a_job_with_every_option(jobs: list[SimpleNamespace], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words and others " * 100)
    command = (
        "train --text text.txt --words --cell gru --hidden 6 5 --embedding 4 --strength 0.5"
        " --backend torch --steps 9 --batch 2 --length 3 --seed 8 --lr 0.5 --gate-lr 0.25"
        " --out here --no-twins --checkpoint-every 5"
    )
    assert _app.run(command.split()) == 0
    (job,) = jobs
    options = ("gru", (6, 5), 4, None, 0.5, "torch", 9, 2, 3, 8, 0.5, 0.25)
    assert job.options == Options(*options)
    assert (job.corpus.name, job.corpus.unit) == ("text.txt", "word")
    assert (job.folder, job.every, job.resume, job.twins) == (Path("here"), 5.0, False, False)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "test"):
        (data / name).write_text("abc" * 1000)
    assert _app.run(["train", "--data", "data", "--budget", "20%"]) == 0
    assert (jobs[1].corpus.name, jobs[1].options.budget) == ("data", "20%")
    assert jobs[1].corpus.unit == "character"
    for name in ("train", "test"):
        (data / name).write_text("a b c " * 1000)
    assert _app.run(["train", "--data", "data", "--words"]) == 0
    assert jobs[2].corpus.unit == "word"


@pytest.mark.parametrize(("epochs", "steps"), [("2", 2 * 67), ("0.5", 34), ("0.001", 1)])
def test_epochs_are_counted_in_steps(
    epochs: str, steps: int, jobs: list[SimpleNamespace], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("ab" * 900)
    command = f"train --text text.txt --epochs {epochs} --batch 3 --length 8"
    assert steps_per_epoch(1620, 3, 8) == 67
    assert _app.run(command.split()) == 0
    assert jobs[0].options.steps == steps


@pytest.mark.parametrize("epochs", ["0", "-1", "1e6", "nan"])
def test_epochs_that_are_none(
    epochs: str, jobs: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _app.run(["train", f"--epochs={epochs}"]) == 2
    message = f"l0gate: `--epochs` is {float(epochs)}; it must be above 0\n"
    assert capsys.readouterr().err == message
    assert jobs == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--text a --data b", "give `--text` or `--data`, not both"),
        ("--steps 1 --epochs 1", "give `--steps` or `--epochs`, not both"),
        (
            "--hidden 5,x",
            "`--hidden` is '5,x'; it must be whole numbers of at least 1, one per layer, as in"
            " --hidden 256 256",
        ),
        ("--resume", "`--resume` found no run in 'runs'; name its folder with `--out`"),
    ],
)
def test_options_that_do_not_go_together(
    options: str,
    message: str,
    jobs: list[SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _app.run(["train", *options.split()]) == 2
    assert capsys.readouterr().err == f"l0gate: {message}\n"


def test_where_runs_live(jobs: list[SimpleNamespace], tmp_path: Path) -> None:
    for name in ("1", "2", "10", "old", "3.5"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert _app.run(["train"]) == 0
    assert jobs[-1].folder == Path("runs/11")
    # The newest of those that can go on, by number.
    for name in ("1", "2", "10", "old"):
        (tmp_path / "runs" / name / "checkpoint.npz").write_text("")
    assert _app.run(["train", "--resume"]) == 0
    assert jobs[-1].folder == Path("runs/10")
    assert jobs[-1].resume
    assert _app.run(["train", "--resume", "--out", "runs/2"]) == 0
    assert jobs[-1].folder == Path("runs/2")


def test_what_a_job_prints(
    jobs: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(_app, "show_report", lambda console, report: shown.append(report))
    (tmp_path / "here").mkdir()
    for name in ("report.json", "model.npz", ".hidden"):
        (tmp_path / "here" / name).write_text("")
    assert _app.run(["train", "--out", "here"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"l0gate {l0gate.__version__}, backend numpy",
        "",
        "Written to here: model.npz, report.json. Read the small net aloud: l0gate sample here",
    ]
    assert shown == [{"a": "report"}]


def test_how_a_job_ends(
    jobs: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending(monkeypatch, L0GateError("`--budget` is wrong"))
    assert _app.run(["train", "--out", "here"]) == 2
    assert capsys.readouterr().err == "l0gate: `--budget` is wrong\n"
    assert not (tmp_path / "here").exists()  # nothing was written, so nothing stays
    ending(monkeypatch, NotFiniteError("the loss is nan"))
    assert _app.run(["train", "--out", "here"]) == 1
    ending(monkeypatch, StoppedError(signal.SIGTERM, "gated", 7))
    assert _app.run(["train", "--out", "here"]) == 143
    last = capsys.readouterr().out.splitlines()[-1]
    goes_on = "the same command with --resume goes on (here)"
    assert last == f"stopped in the gated net after step 7; {goes_on}"
    ending(monkeypatch, KeyboardInterrupt())
    assert _app.run(["train", "--out", "here"]) == 130
    assert capsys.readouterr().out.splitlines()[-1] == f"stopped; {goes_on}"


def test_warnings_are_one_line(
    jobs: list[SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back at the end
    assert _app.run(["--version"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _app._show_warning
        warnings.warn("the gates stalled", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "l0gate: warning: the gates stalled\n"


def test_arguments_come_from_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["l0gate", "--version"])
    assert _app.run() == 0
    assert capsys.readouterr().out == f"l0gate {l0gate.__version__}\n"
    assert _app.run(["no-such-command"]) == 2
    assert _app.run(["train", "--no-such-option"]) == 2


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        ("--hidden 256 128 --seed 1", ["--hidden", "256,128", "--seed", "1"]),
        ("--hidden 1 2 3 x 4", ["--hidden", "1,2,3", "x", "4"]),
        ("--hidden 1 --hidden 2 3", ["--hidden", "1", "--hidden", "2,3"]),
        ("--hidden=1 2", ["--hidden=1", "2"]),
        ("--hidden a 2", ["--hidden", "a,2"]),
        ("1 2", ["1", "2"]),
    ],
)
def test_numbers_after_an_option_belong_to_it(arguments: str, joined: list[str]) -> None:
    given = arguments.split()
    assert _app.join_sizes(given) == joined
    assert _app.join_sizes([a.replace("hidden", "wide") for a in given], "--wide") == [
        a.replace("hidden", "wide") for a in joined
    ]


def test_sizes() -> None:
    assert _app.parse_sizes([" 7,5 3\t2"]) == (7, 5, 3, 2)
    assert _app.parse_sizes(["1"]) == (1,)
    for wrong in ("0", "-1", "1.5", ""):
        with pytest.raises(L0GateError, match=r"^`--hidden` is"):
            _app.parse_sizes([wrong])


class Good(type(l0gate.get_backend("numpy"))):  # type: ignore[misc]
    name = "good"


class Plugin:
    """A backend that works, one that does not, and one whose framework is not there."""

    @hookimpl
    def l0gate_backends(self) -> list[dict[str, Any]]:
        def explode() -> Any:
            raise RuntimeError("no such device")

        return [
            {"name": "good", "module": "numpy", "factory": Good},
            {"name": "broken", "module": "numpy", "factory": explode},
            {"name": "absent", "module": "no_such_framework", "factory": explode},
        ]


@contextmanager
def registered(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin of "a-dist" beside another that is broken, on a wide screen."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(registry, "problems", [*registry.problems, "plugin x: is [b]wrong[/b]"])
    registry.names()
    registry.register(plugin, "a-dist")
    try:
        yield
    finally:
        registry.unregister("a-dist")


def test_the_list_of_backends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(Plugin(), monkeypatch):
        rows, problems = _app._backends()
        assert _app.run(["backends", "list", "--json"]) == 0
        shown = capsys.readouterr().out
        assert shown == json.dumps({"backends": rows, "problems": problems}, indent=2) + "\n"
        assert _app.run(["backends", "list"]) == 0
        table = capsys.readouterr().out.splitlines()
    by_name = {row["name"]: row for row in rows}
    assert {"numpy", "torch", "good", "broken", "absent"} <= set(by_name)
    capabilities = sorted(l0gate.get_backend("numpy").capabilities)
    good = {"framework": "numpy", "installed": True, "distribution": "a-dist", "problem": None}
    assert by_name["good"] == {"name": "good", **good, "capabilities": capabilities}
    problem = by_name["broken"].pop("problem")
    assert "no such device" in problem
    assert by_name["broken"] == {
        **{"name": "broken", "framework": "numpy", "installed": True},
        **{"distribution": "a-dist", "capabilities": []},
    }
    assert by_name["absent"] == {
        **{"name": "absent", "framework": "no_such_framework", "installed": False},
        **{"distribution": "a-dist", "capabilities": []},
        "problem": "no_such_framework is not installed",
    }
    assert problems[-1] == table[-1] == "plugin x: is [b]wrong[/b]"
    cells = [[c.strip() for c in line.strip("┃│").split("┃│"[line[0] == "│"])] for line in table]
    assert ["name", "framework", "installed", "from", "capabilities", "problem"] in cells
    assert ["good", "numpy", "yes", "a-dist", ", ".join(capabilities), ""] in cells
    assert ["broken", "numpy", "yes", "a-dist", "", problem] in cells
    missing = "no_such_framework is not installed"
    assert ["absent", "no_such_framework", "no", "a-dist", "", missing] in cells


class Methods:
    """A method that works, with and without words, and one that does not."""

    @hookimpl
    def l0gate_methods(self) -> list[dict[str, Any]]:
        def explode() -> Any:
            raise RuntimeError("no such criterion")

        class Silent(Random):
            pass

        class Told(Random):
            """Draws lots.

            In more than one line.
            """

        return [
            {"name": "silent", "factory": Silent},
            {"name": "told", "factory": Told},
            {"name": "broken", "factory": explode},
        ]


def test_the_list_of_methods(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(Methods(), monkeypatch):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows, problems = _app._methods()
        assert _app.run(["methods", "list", "--json"]) == 0
        shown = capsys.readouterr().out
        assert shown == json.dumps({"methods": rows, "problems": problems}, indent=2) + "\n"
        assert _app.run(["methods", "list"]) == 0
        table = capsys.readouterr().out
    assert problems[-1] == "plugin x: is [b]wrong[/b]"
    names = [row["name"] for row in rows]
    assert names == ["l0", *registry.method_names()[1:], "silent", "told", "broken"]
    assert rows[0] == {
        **{"name": "l0", "summary": "Hard-concrete gates, trained with the weights."},
        **{"distribution": "l0gate", "problem": None},
    }
    by_name = {row["name"]: row for row in rows}
    own = {"distribution": "a-dist", "problem": None}
    assert by_name["told"] == {"name": "told", "summary": "Draws lots.", **own}
    assert by_name["silent"] == {"name": "silent", "summary": "Silent(seed=0)", **own}
    assert "no such criterion" in by_name["broken"].pop("problem")
    assert by_name["broken"] == {"name": "broken", "summary": "", "distribution": "a-dist"}
    for row in rows:
        assert f"{row['name']} " in table
        assert row["summary"] in table


def test_listing_backends_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        warnings.warn("plugin x is broken", UserWarning, stacklevel=1)
        return ["numpy"]

    monkeypatch.setattr(registry, "names", names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, _ = _app._backends()
    assert [row["name"] for row in rows] == ["numpy"]
