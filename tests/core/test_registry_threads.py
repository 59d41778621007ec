"""A registry that several threads use at once."""

from __future__ import annotations

import importlib
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from registry_cases import FRAMEWORK, Box, BoxBackend, Point, descriptor, plugin

from l0gate import Backend
from l0gate._registry import Registry


@pytest.fixture(autouse=True)
def _entry_points_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("L0GATE_PLUGINS", raising=False)


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


@pytest.mark.parametrize("attempt", range(5))
def test_threads_register_and_look_up_at_once(
    points: list[Point], monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    """Every plugin is found by every thread, once; none is lost, doubled or complained of."""
    del points[1:]  # one that loads
    monkeypatch.setitem(sys.modules, FRAMEWORK, types.ModuleType(FRAMEWORK))
    registry, count = Registry(), 8
    seen: list[dict[str, Backend]] = [{} for _ in range(count)]
    failures: list[BaseException] = []
    start = threading.Barrier(count, timeout=20)
    done = threading.Barrier(count, timeout=20)

    def work(i: int) -> None:
        try:
            start.wait()
            for part in range(3):
                registry.register(plugin(descriptor(f"box{i}.{part}")), f"dist{i}.{part}")
                assert registry.by_name(f"box{i}.{part}").name == f"box{i}.{part}"
                assert isinstance(registry.by_object(Box()), BoxBackend)
                assert registry.by_object(np.zeros(1)) is registry.by_name("numpy")
            done.wait()
            seen[i] = {name: registry.by_name(name) for name in registry.names() if name != "torch"}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    assert registry.problems == []
    names = {"numpy", "one"} | {f"box{i}.{part}" for i in range(count) for part in range(3)}
    for found in seen:
        assert set(found) == names
        assert all(found[name] is seen[0][name] for name in names)


def test_of_two_threads_with_one_name_the_first_stays(registry: Registry) -> None:
    class Slow(str):
        """A name that lets another thread run whenever it is looked up."""

        __slots__ = ()

        def __hash__(self) -> int:
            threading.Event().wait(0.005)
            return super().__hash__()

    registry.by_name("numpy")
    plugins = [plugin(descriptor(Slow("box"))) for _ in range(2)]
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda i=i, one=one: found.append(registry._register(one, f"d{i}")))
        for i, one in enumerate(plugins)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, found)) == [0, 1]
    (problem,) = max(found, key=len)
    assert f"registered already by {registry.entries['box'].distribution}, which st" in problem


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
