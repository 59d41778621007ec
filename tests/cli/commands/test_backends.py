"""`l0gate backends`: the list, and the conformance kit's table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from cli_runs import registered
from faulty_backends import installed

import l0gate
from l0gate import hookimpl
from l0gate._registry import registry
from l0gate.cli._app import run
from l0gate.cli.commands.backends import installed_backends


def test_backends_list(capsys):
    assert run(["backends", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["backends"]
    by_name = {row["name"]: row for row in listed}
    assert by_name["numpy"]["installed"]
    assert "nets" in by_name["numpy"]["capabilities"]
    assert by_name["torch"]["distribution"] == "l0gate"
    assert run(["backends", "list"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_backends_list_survives_a_broken_backend(capsys):
    from l0gate import hookimpl
    from l0gate._registry import registry

    class Plugin:
        @hookimpl
        def l0gate_backends(self):
            def explode():
                raise RuntimeError("no such device")

            return [{"name": "broken", "module": "numpy", "factory": explode}]

    registry.names()
    registry.register(Plugin(), "a-plugin")
    try:
        assert run(["backends", "list", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["backends"]}
        assert "no such device" in rows["broken"]["problem"]
        assert rows["broken"]["distribution"] == "a-plugin"
        assert rows["numpy"]["problem"] is None
    finally:
        registry.unregister("a-plugin")


def test_backends_list_tells_what_a_descriptor_gets_wrong(capsys):
    from l0gate import hookimpl
    from l0gate._registry import registry
    from l0gate.backends._numpy import NumpyBackend

    class Plugin:
        @hookimpl
        def l0gate_backends(self):
            return [{"name": "nunpy", "module": "numpy", "factory": NumpyBackend}]

    registry.register(Plugin(), "a-plugin")
    try:
        assert run(["backends", "list"]) == 0
        printed = capsys.readouterr()
        assert "l0gate plugin a-plugin: backend 'nunpy' calls itself 'numpy'" in printed.out
        assert not printed.err
    finally:
        registry.unregister("a-plugin")
        registry.problems.clear()


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


def test_the_list_of_backends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(Plugin(), monkeypatch):
        rows, problems = installed_backends()
        assert run(["backends", "list", "--json"]) == 0
        shown = capsys.readouterr().out
        assert shown == json.dumps({"backends": rows, "problems": problems}, indent=2) + "\n"
        assert run(["backends", "list"]) == 0
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


def test_listing_backends_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        warnings.warn("plugin x is broken", UserWarning, stacklevel=1)
        return ["numpy"]

    monkeypatch.setattr(registry, "names", names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, _ = installed_backends()
    assert [row["name"] for row in rows] == ["numpy"]


@pytest.fixture
def faulty() -> Iterator[str]:
    with installed() as name:
        yield name


def test_the_table_of_checks_shows_the_reason(
    faulty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["backends", "check", faulty]) == 1
    printed = capsys.readouterr().out
    assert "it must stay above 0" in " ".join(printed.replace("│", " ").split())
    assert "21 passed, 1 failed, 4 not claimed" in printed
    assert run(["backends", "check", "numpy"]) == 0
    assert "22 passed, 0 failed, 4 not claimed" in capsys.readouterr().out
    assert run(["backends", "check", "nunpy"]) == 2
    assert "`backend` is 'nunpy'" in capsys.readouterr().err


def test_one_check_and_its_traceback(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--only", "check_take", "--only", "check_uniform_range"]
    assert run(["backends", "check", faulty, *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert "check_values" not in printed
    assert run(["backends", "check", faulty, *chosen, "--traceback"]) == 1
    printed = capsys.readouterr().out
    assert "\nTraceback (most recent call last):\n" in printed
    assert "\nAssertionError: uniform returns 0.0; it must stay above 0\n1 passed" in printed
    assert run(["backends", "check", faulty, "--only", "take"]) == 2
    assert "`only` names 'take'; the checks are" in capsys.readouterr().err
