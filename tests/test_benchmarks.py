"""What the benchmarks compare is the same, and what they say of it is right. Nothing is timed."""

from __future__ import annotations

import argparse
import doctest
import gc
import importlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PAGES = (
    "faster_than_onnxruntime_and_torch",
    "streaming_keeps_up_with_a_c_loop",
    "pruned_nets_are_faster_in_every_engine",
    "training_steps_keep_up_with_torch",
    "cost_stays_near_the_roofline",
    "import_costs_little_more_than_numpy",
)
NETS = [("lstm", 3, (5,)), ("gru", 3, (5,)), ("lstm", 4, (7, 7)), ("gru", 1, (6, 4))]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Modules of the folder, which find each other as they do when one is run."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["_measure", "_rivals", "guard", "pages", *PAGES])
def test_examples_run(load: Any, name: str) -> None:
    assert doctest.testmod(load(name)).failed == 0


# What is compared ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "inputs", "hidden"), NETS)
@pytest.mark.usefixtures("one_thread")
def test_runtimes_agree_on_sequences_and_streams(
    load: Any, cell: str, inputs: int, hidden: tuple[int, ...]
) -> None:
    rivals = load("_rivals")
    spec = rivals.Spec(cell, inputs, hidden)
    sides = rivals.runtimes(spec, threads=1)
    sides["cells"] = rivals.Torch(spec, spec.parameters(), cells=True)
    sides["handed on"] = rivals.L0gate(spec, spec.parameters(), handed_on=True)
    x = spec.x(6, 3)
    expected, _ = spec.net().apply(spec.parameters(), x, engine="numpy")
    with rivals.inference():
        for name in ("l0gate", "onnxruntime", "bound", "torch"):
            y = np.asarray(sides[name].sequence(x)()).reshape(expected.shape)
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
        constant = np.repeat(x[:1, :1], 4, axis=0)
        steps, _ = spec.net().apply(spec.parameters(), constant, engine="numpy")
        for side in sides.values():
            call = side.stream(x[0, 0])
            gc.collect()  # what is bound must be held
            for y_t in steps[:, 0]:
                np.testing.assert_allclose(np.asarray(call()).ravel(), y_t, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_the_loop_in_c_agrees(load: Any, tmp_path: Path) -> None:
    if not os.environ.get("CI") and not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("there is no C compiler")
    rivals, streaming = load("_rivals"), load("streaming_keeps_up_with_a_c_loop")
    library = streaming.compiled(str(tmp_path))
    smallest = np.float32(1e-45)
    assert smallest * np.float32(1) > 0  # -ffast-math has not reached the rest of the process
    for cell in ("lstm", "gru"):
        spec = rivals.Spec(cell, 3, (5,))
        loop = streaming.CLoop(library, spec, spec.parameters())
        x = spec.x(6, 1)
        expected, _ = spec.net().apply(spec.parameters(), x, engine="numpy")
        y = np.zeros((6, 5), np.float32)
        loop.run(6, x[:, 0], y)()
        np.testing.assert_allclose(y, expected[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_training_steps_agree(load: Any) -> None:
    training = load("training_steps_keep_up_with_torch")
    for cell in ("lstm", "gru"):
        calls = training.steps(cell, 4, 2, threads=1)
        training.check(calls)
        calls["gates"]()


def test_calls_that_differ_are_not_timed(load: Any) -> None:
    agreeing = load("_rivals").agreeing
    calls = {"one": lambda: np.zeros(3), "other": lambda: np.array([0, 0, 1e-3])}
    with pytest.raises(AssertionError, match=r"other differs by 0\.001"):
        agreeing(calls)
    calls["other"] = lambda: np.array([0, 0, np.nan])
    with pytest.raises(AssertionError, match="other differs by nan"):
        agreeing(calls)


def test_the_grid_leaves_out_by_arithmetic_alone(load: Any) -> None:
    grid = load("faster_than_onnxruntime_and_torch")
    spec = load("_rivals").Spec
    full, quick = list(grid.shapes(False, {})), list(grid.shapes(True, {}))
    assert all(point in full for point in quick)
    costs = [
        spec(p["cell"], p["input"], (p["hidden"],)).multiply_adds * p["batch"] * p["length"]
        for p in full
    ]
    assert max(costs) <= grid.MULTIPLY_ADDS
    every = math.prod(len(values) for values in grid.GRID.values())
    assert len(full) < every
    only = list(grid.shapes(False, {"hidden": ("8", "20"), "batch": ("1",)}))
    assert {(point["hidden"], point["batch"]) for point in only} == {(8, 1), (20, 1)}


# What is said of it -------------------------------------------------------------------------------


def test_calls_take_turns_and_ratios_hold_when_all_slow_down(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = load("_measure")
    now, order = [0.0], []

    def call(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            now[0] += seconds * (1 + now[0])  # the machine gets slower and slower

        return run

    clock = SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(measure, "time", clock)
    times = measure.in_turns({"a": call("a", 1e-4), "b": call("b", 3e-4)}, rounds=(4, 4))
    assert len(times["a"]) == len(times["b"]) == 4
    assert measure.times_faster(times, "a", "b") == pytest.approx(3, rel=0.05)
    turns = [name for name, before in zip(order, ["", *order], strict=False) if name != before]
    assert turns[-4:] == ["b", "a", "b", "a"] or turns[-4:] == ["a", "b", "a", "b"]
    assert measure.summary(times, "a")["faster"].keys() == {"b"}


def test_short_calls_are_repeated(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = load("_measure")
    now = [0.0]

    def call() -> None:
        now[0] += 1e-6

    clock = SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(measure, "time", clock)
    count, took = measure._count(call)
    assert count * took >= measure.SAMPLE
    assert took == pytest.approx(1e-6)


def test_results_are_taken_up_again_unless_the_machine_differs(load: Any, tmp_path: Path) -> None:
    measure = load("_measure")
    path = tmp_path / "results" / "rows.json"
    results = measure.Results(path, ("cell", "threads"), seconds=1)
    results.add({"cell": "lstm", "threads": 1, "us": {"l0gate": 1.5}})
    again = measure.Results(path, ("cell", "threads"), seconds=1)
    assert again.rows == results.rows
    assert again.has(cell="lstm", threads=1)
    assert not again.has(cell="lstm", threads=2)
    again.add({"cell": "gru", "threads": 1, "us": {"l0gate": 2.5}})
    assert [row["cell"] for row in measure.read(path)["rows"]] == ["lstm", "gru"]
    assert [file.name for file in path.parent.iterdir()] == ["rows.json"]
    assert measure.Results(path, ("cell", "threads"), seconds=2).rows == []


def test_what_was_not_measured_does_not_hold(load: Any) -> None:
    measure = load("_measure")
    assert measure.Limit("", 1.0, at_least=1.0).holds == "yes"
    assert measure.Limit("", 0.9, at_least=1.0).holds == "no"
    assert measure.Limit("", 1.4, at_most=1.3).holds == "no"
    assert measure.Limit("", math.nan, at_most=1.3).holds == "not measured"
    assert not measure.Limit("", math.nan, at_most=1.3).met


def test_the_guard_measures_again_before_it_fails(load: Any) -> None:
    guard = load("guard")
    tries = iter([1.0, 1.0, 2.5])
    measures = {"slow": lambda: 1.0, "noisy": lambda: next(tries), "fine": lambda: 2.9}
    table, failed = guard.guard(measures, dict.fromkeys(measures, 3.0))
    assert failed == ["slow"]
    assert [row[1] for row in table.rows] == [1.0, 2.5, 2.9]
    with pytest.raises(SystemExit, match="no ratio for 'new'"):
        guard.guard({"new": lambda: 1.0}, {})


@pytest.mark.parametrize("name", PAGES)
def test_limits_without_results_are_not_met(load: Any, name: str) -> None:
    script = load(name)
    limits = script.limits({"rows": []})
    assert limits
    assert not any(limit.met for limit in limits)


def test_a_page_is_filled_from_results(load: Any, tmp_path: Path) -> None:
    pages = load("pages")
    name = "training_steps_keep_up_with_torch"
    row = {"cell": "lstm", "hidden": 64, "batch": 16, "threads": 1, "gates": 0.02}
    row |= {"us": {"l0gate": 1e3, "numpy": 3e3, "torch": 2e3}, "faster": {"torch": 2.0}}
    report = {"machine": {"processor": "a processor"}, "settings": {}, "rows": [row]}
    (tmp_path / f"{name}.json").write_text(json.dumps(report))
    blocks = "<!-- results: claims -->\n<!-- end -->\n## How we train\n"
    blocks += f"<!-- results: {name} -->\nstale\n<!-- end -->\nkept"
    page = pages.filled(blocks, tmp_path)
    assert (
        "| [training, 1 thread, beside torch](#how-we-train) | 2.00 | at least 0.9 | yes |" in page
    )
    assert "| lstm | 64 | 16 | 1 | 1.00 | 3.00 | 2.00 | 2.00 | 2.00 |" in page
    assert "a processor" in page
    assert "stale" not in page
    assert page.endswith("kept")
    assert pages.filled(page, tmp_path) == page
    load(name).plot(tmp_path / "picture.png", report)
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_page_on_speed_is_what_the_results_say(load: Any) -> None:
    pages = load("pages")
    text = pages.PAGE.read_text(encoding="utf-8")
    assert pages.filled(text, pages.RESULTS) == text
    assert all(f"<!-- results: {name} -->" in text for name in PAGES)


def test_parts_of_the_grid_are_named(load: Any) -> None:
    only = load("faster_than_onnxruntime_and_torch")._only
    assert only("hidden=8,20") == ("hidden", ("8", "20"))
    for wrong in ("hidden", "depth=2", "batch="):
        with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=VALUE"):
            only(wrong)
