from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import Backend, L0GateError
from l0gate._plugins import Registry, get_backend


class Box:
    """An array type that no built-in backend owns."""


class BoxBackend(Backend):
    name = "box"
    array_type = Box


def plugin(*descriptors: Any, hook: str = "l0gate_backends") -> types.ModuleType:
    module = types.ModuleType("plugin")

    @l0gate.hookimpl
    def implementation() -> Any:
        return list(descriptors)

    setattr(module, hook, implementation)
    return module


def descriptor(name: str = "box", **changes: Any) -> dict[str, Any]:
    return {"name": name, "module": __name__, "factory": BoxBackend, **changes}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of its own, whose entry points are none."""
    monkeypatch.setattr("l0gate._plugins.entry_points", lambda group: [])
    monkeypatch.setitem(sys.modules, __name__, types.ModuleType(__name__))
    return Registry()


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
    assert registry.by_name("fine").name == "box"
    assert registry.by_name("numpy").name == "numpy"


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


class Point:
    """An entry point that loads a plugin, or raises."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self.loaded = name, loaded
        self.dist = types.SimpleNamespace(name=f"{name}-dist")

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Point]]:
    found = [
        Point("first", plugin(descriptor("one"))),
        Point("broken", ImportError("no such framework")),
        Point("second", plugin(descriptor("one"), descriptor("two"))),
    ]
    monkeypatch.setattr("l0gate._plugins.entry_points", lambda group: found)
    return found


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
    monkeypatch.setenv("L0GATE_PLUGINS", " second , none")
    assert Registry().names() == ["numpy", "torch", "one", "two"]
    monkeypatch.setenv("L0GATE_PLUGINS", "")
    assert Registry().names() == ["numpy", "torch"]


def test_entry_points_are_read_only_on_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(group: str) -> Any:
        raise AssertionError("entry points were read")

    monkeypatch.setattr("l0gate._plugins.entry_points", fail)
    registry = Registry()
    assert registry.by_name("numpy") is registry.by_object(np.zeros(1))
    with pytest.raises(AssertionError):
        registry.by_name("other")


def test_the_registry_is_thread_safe(registry: Registry) -> None:
    made = []

    def slow() -> Backend:
        made.append(threading.get_ident())
        threading.Event().wait(0.01)
        return BoxBackend()

    registry.register(plugin(descriptor(factory=slow)), "box-dist")
    found: list[Backend] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.by_object(Box()))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(map(id, found))) == 1
    assert made


def test_a_framework_that_asks_for_a_backend_while_it_loads(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread imports the framework, another asks for its backend: neither may wait forever."""
    (tmp_path / "slow_framework.py").write_text(
        "import time\n"
        "time.sleep(0.2)\n"
        "from tests_registry import registry\n"
        "registry.by_name('numpy')\n"
        "from tests_registry import Backend\n"
    )
    shared = types.ModuleType("tests_registry")
    shared.registry, shared.Backend = registry, BoxBackend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_registry", shared)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.register(plugin(descriptor(factory="slow_framework:Backend")), "slow-dist")
    threads = [
        threading.Thread(target=importlib.import_module, args=("slow_framework",), daemon=True),
        threading.Thread(target=registry.by_name, args=("box",), daemon=True),
    ]
    for thread in threads:
        thread.start()
        threading.Event().wait(0.05)
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    monkeypatch.delitem(sys.modules, "slow_framework")


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
