"""Backends and methods are found by name and by object, and a broken plugin hurts no other."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_cases import Box, BoxBackend, Point, descriptor, plugin

import l0gate
from l0gate import L0GateError
from l0gate._registry import Registry, get_backend


@pytest.fixture(autouse=True)
def _entry_points_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("L0GATE_PLUGINS", raising=False)


def test_built_in_backends_come_by_name_and_by_object() -> None:
    assert get_backend("numpy") is get_backend(np.zeros(2)) is get_backend(np.float32(1))
    assert get_backend(get_backend("numpy")) is get_backend("numpy")
    with pytest.raises(L0GateError, match=r"no backend owns builtins.object; registered are 'nu"):
        get_backend(object())


def test_a_registered_backend_is_found(registry: Registry) -> None:
    registry.register(plugin(descriptor()), "box-dist")
    assert registry.names() == ["numpy", "torch", "box"]
    assert registry.by_name("box").name == "box"
    assert registry.by_object(Box()) is registry.by_name("box")
    assert registry.problems == []
    registry.unregister("box-dist")
    with pytest.raises(L0GateError, match="`backend` is 'box'"):
        registry.by_name("box")
    with pytest.raises(L0GateError, match="no backend owns"):
        registry.by_object(Box())


def test_a_backend_is_not_asked_before_its_framework_is_loaded(registry: Registry) -> None:
    registry.register(plugin(descriptor(module="not_imported_yet", factory="none:None")), "lazy")
    with pytest.raises(L0GateError, match="no backend owns"):
        registry.by_object(Box())
    assert registry.problems == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (plugin(descriptor("numpy")), "backend 'numpy' is registered already by l0gate"),
        (plugin(descriptor(interface=99)), "backend 'box' was built for interface 99; this"),
        (plugin({"name": "box"}), "must be a dict with name, module and factory"),
        (plugin(3), "the descriptor 3 must be a dict"),
        (plugin(descriptor(module=["numpy"])), "must be a dict with name, module and factory"),
        (plugin(descriptor(name="")), "must be a dict with name, module and factory"),
        (plugin(descriptor(factory=3)), "must be a dict with name, module and factory"),
        (plugin(descriptor(), hook="l0gate_backend"), "implements 'l0gate_backend', which is no"),
        (types.ModuleType("empty"), "implements no hook"),
    ],
)
def test_a_broken_plugin_is_named_and_hurts_no_other(
    registry: Registry, broken: Any, message: str
) -> None:
    registry.by_name("numpy")
    with pytest.warns(UserWarning, match="l0gate plugin bad-dist: .*"):
        registry.register(broken, "bad-dist")
    assert any(message in problem for problem in registry.problems)
    assert all("bad-dist" in problem for problem in registry.problems)
    registry.register(plugin(descriptor("fine")), "fine-dist")
    assert registry.by_name("fine").name == "fine"
    assert registry.by_name("numpy").name == "numpy"


def test_everything_wrong_with_a_plugin_is_told(registry: Registry) -> None:
    broken = plugin(3, descriptor(interface=99))
    broken.l0gate_backend = l0gate.hookimpl(lambda: [])  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="bad-dist"):
        registry.register(broken, "bad-dist")
    assert registry.problems == [
        f"l0gate plugin bad-dist: {problem}"
        for problem in (
            "implements 'l0gate_backend', which is no hook; hooks are ['l0gate_backends',"
            " 'l0gate_formats', 'l0gate_methods']",
            "the descriptor 3 must be a dict with name, module and factory",
            "backend 'box' was built for interface 99; this l0gate has 1",
        )
    ]


def test_a_plugin_that_raised_may_try_again(registry: Registry) -> None:
    answers: list[Any] = [ZeroDivisionError("not yet"), [descriptor()]]

    def answer() -> Any:
        if isinstance(now := answers.pop(0), Exception):
            raise now
        return now

    module = types.ModuleType("plugin")
    module.l0gate_backends = l0gate.hookimpl(answer)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="bad-dist: ZeroDivisionError: not yet"):
        registry.register(module, "bad-dist")
    registry.register(module, "bad-dist")
    assert registry.names() == ["numpy", "torch", "box"]


def test_a_backend_that_is_not_loaded_hides_no_other(registry: Registry) -> None:
    lazy = descriptor("lazy", module="not_imported_yet", factory="none:None")
    registry.register(plugin(lazy, descriptor()), "box-dist")
    assert registry.by_object(Box()).name == "box"


@pytest.mark.parametrize("returned", [None, 3, "box"])
def test_a_hook_that_returns_no_list(registry: Registry, returned: Any) -> None:
    module = types.ModuleType("plugin")
    module.l0gate_backends = l0gate.hookimpl(lambda: returned)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="bad-dist: l0gate_backends returned .* must return a li"):
        registry.register(module, "bad-dist")
    assert registry.names() == ["numpy", "torch"]


def test_a_hook_that_raises(registry: Registry) -> None:
    module = types.ModuleType("plugin")
    module.l0gate_backends = l0gate.hookimpl(lambda: 1 / 0)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="bad-dist: ZeroDivisionError"):
        registry.register(module, "bad-dist")
    registry.register(plugin(descriptor()), "fine-dist")
    assert registry.names() == ["numpy", "torch", "box"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_module:Thing", "backend 'box' of bad-dist cannot be loaded: ModuleNotFoundError"),
        ("os:nothing", "backend 'box' of bad-dist cannot be loaded: AttributeError"),
        (lambda: None, "backend 'box' of bad-dist is None; it must be a l0gate.Backend"),
    ],
)
def test_a_factory_that_fails(registry: Registry, factory: Any, message: str) -> None:
    registry.register(plugin(descriptor(factory=factory)), "bad-dist")
    with pytest.raises(L0GateError, match=message):
        registry.by_name("box")
    with (
        pytest.warns(UserWarning, match="bad-dist"),
        pytest.raises(L0GateError, match="no backend owns"),
    ):
        registry.by_object(Box())
    assert registry.by_object(np.zeros(1)).name == "numpy"


def test_entry_points_load_one_by_one(points: list[Point]) -> None:
    registry = Registry()
    with warnings.catch_warnings(record=True) as caught:
        names = registry.names()
    assert names == ["numpy", "torch", "one", "two"]
    assert "ImportError: no such framework" in str(caught[0].message)
    assert "second-dist" in str(caught[1].message)
    assert "first-dist" in str(caught[1].message)
    with pytest.raises(L0GateError, match="broken-dist"):
        registry.by_name("three")


@pytest.mark.filterwarnings("ignore:l0gate plugin")
def test_a_name_is_looked_for_in_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"name": "lots", "factory": "l0gate.methods:Random"}
    found = [
        Point("first", plugin(descriptor("box"))),
        Point("second", plugin(method, hook="l0gate_methods")),
    ]
    monkeypatch.setattr("l0gate._registry.entry_points", lambda group: found)
    assert Registry().by_name("box").name == "box"
    assert repr(Registry().method("lots").make()) == "Random(seed=0)"
    with pytest.raises(L0GateError, match=r"registered are 'l0', .*'lots'"):
        Registry().method("more")


def test_warnings_that_are_errors_lose_no_plugin(points: list[Point]) -> None:
    registry = Registry()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="broken-dist"):
            registry.names()
        assert registry.names() == ["numpy", "torch", "one", "two"]
    assert len(registry.problems) == 2


def test_the_environment_limits_which_plugins_load(
    points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L0GATE_PLUGINS", " second,none")
    assert Registry().names() == ["numpy", "torch", "one", "two"]
    monkeypatch.setenv("L0GATE_PLUGINS", "")
    assert Registry().names() == ["numpy", "torch"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"factory": BoxBackend, "name": "bocks"},
            "backend 'bocks' calls itself 'box'; the `name` of the class",
        ),
        (
            {"module": "bocks"},
            "backend 'box' was made without importing 'bocks', the `module` of its descriptor",
        ),
    ],
)
def test_a_backend_that_differs_from_its_descriptor(
    registry: Registry, changes: dict[str, Any], message: str
) -> None:
    given = descriptor(**changes)
    registry.register(plugin(given), "odd-dist")
    assert registry.problems == []
    with pytest.warns(UserWarning, match=f"l0gate plugin odd-dist: {message}"):
        registry.by_name(given["name"])
    assert len(registry.problems) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        registry.by_name(given["name"])


def test_entry_points_are_read_only_on_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(group: str) -> Any:
        raise AssertionError("entry points were read")

    monkeypatch.setattr("l0gate._registry.entry_points", fail)
    registry = Registry()
    assert registry.by_name("numpy") is registry.by_object(np.zeros(1))
    with pytest.raises(AssertionError):
        registry.by_name("other")


def test_a_real_entry_point_is_found(tmp_path: Path) -> None:
    """A distribution on the path, as pip would install it, seen from a fresh interpreter."""
    info = tmp_path / "l0gate_box-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: l0gate-box\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[l0gate]\nbox = l0gate_box\n")
    (tmp_path / "l0gate_box.py").write_text(
        "import l0gate\n"
        "class Box(l0gate.Backend):\n"
        "    name = 'box'\n"
        "@l0gate.hookimpl\n"
        "def l0gate_backends():\n"
        "    return [{'name': 'box', 'module': 'l0gate_box', 'factory': 'l0gate_box:Box'}]\n"
    )
    code = "import l0gate; print(l0gate.get_backend('box'))"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "<l0gate backend box>"
    assert importlib.metadata.version("pluggy")


def test_a_plugin_that_was_removed_can_come_back(registry: Registry) -> None:
    for _ in range(2):
        one = plugin(descriptor("box"))
        registry.register(one, "box-dist")
        assert registry.by_name("box").name == "box"
        registry.unregister("box-dist")
        assert "box" not in registry.entries
        with pytest.raises(L0GateError, match="`backend` is 'box'"):
            registry.by_name("box")
    registry.unregister("nobody")  # is not there, and that is fine
    assert registry.problems == []


def test_an_owner_is_asked_once_per_type(registry: Registry) -> None:
    asked = []

    class Curious(BoxBackend):
        def owns(self, x: object) -> bool:
            asked.append(x)
            return super().owns(x)

    registry.register(plugin({**descriptor("box"), "factory": Curious}), "box-dist")
    first, second = Box(), Box()
    assert registry.by_object(first) is registry.by_object(second)
    assert asked == [first]
    assert registry.by_object(np.zeros(1)).name == "numpy"


def test_an_object_is_found_by_a_plugin_not_yet_loaded(points: list[Point]) -> None:
    registry = Registry()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(registry.by_object(Box()), BoxBackend)


def test_a_plugin_without_a_distribution_is_named_all_the_same(points: list[Point]) -> None:
    points[1].dist = None
    with pytest.warns(
        UserWarning, match=r"l0gate plugin an unknown distribution \(entry point 'brok"
    ):
        Registry().names()
