"""The public names, what `import l0gate` loads, and every example in a docstring."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
import types
import warnings

import pytest

import l0gate
import l0gate.backends
import l0gate.reference
import l0gate.testing

HEAVY = ("numba", "scipy", "torch", "jax", "pytest", "matplotlib", "rich", "typer")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_public_names() -> None:
    assert sorted(l0gate.__all__) == l0gate.__all__
    public = {
        name
        for name in dir(l0gate)
        if not name.startswith("_") and not isinstance(getattr(l0gate, name), types.ModuleType)
    }
    assert public == set(l0gate.__all__)
    with pytest.raises(AttributeError, match="module 'l0gate' has no attribute 'prune'"):
        l0gate.prune  # noqa: B018
    assert len(l0gate.__all__) <= 20
    for name in l0gate.__all__:
        assert getattr(l0gate, name).__doc__, name


def test_import_loads_numpy_and_nothing_heavy() -> None:
    loaded = python(f"import sys, l0gate; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"
    inside = python(
        "import sys, l0gate; print([m for m in sys.modules if m.startswith('l0gate.')"
        " and m.split('.')[1] in ('backends', 'reference', 'cli')])"
    )
    assert inside == "[]"
    later = ("pluggy", "l0gate.reports", "l0gate.methods")
    assert python(f"import sys, l0gate; print([m for m in {later} if m in sys.modules])") == "[]"


def test_finding_a_backend_loads_no_format() -> None:
    code = (
        "import sys, l0gate; l0gate.get_backend('numpy');"
        " print([m for m in sys.modules if m.startswith('l0gate.formats.')"
        " and m != 'l0gate.formats._builtin'])"
    )
    assert python(code) == "[]"


def test_loading_a_net_needs_neither_torch_nor_plugins(tmp_path: object) -> None:
    path = f"{tmp_path}/net.npz"
    code = (
        "import sys, numpy as np, l0gate\n"
        "net = l0gate.get_backend('numpy').net([{'type': 'lstm', 'name': 'rnn'}])\n"
        "p = net.init(np.random.default_rng(0), input_size=3, sizes={'rnn': 4})\n"
        f"l0gate.save({path!r}, net.bind(p))\n"
    )
    python(code)
    use = (
        "import sys, numpy as np, l0gate\n"
        "net = l0gate.load({!r}, engine={!r})\n"
        "net(np.zeros((2, 1, 3), np.float32)), net.step(np.zeros(3, np.float32))\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert python(use.format(path, "numpy")) == "[]"
    assert python(use.replace(", engine={!r}", "").format(path)) == "[]"
    assert "numba" in python(use.format(path, "numba"))


def modules() -> list[str]:
    found = ["l0gate", "l0gate.testing"]
    for package in (l0gate, l0gate.backends, l0gate.reference, l0gate.testing):
        found += [
            name
            for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not name.endswith("__main__")
        ]
    return sorted(set(found))


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
