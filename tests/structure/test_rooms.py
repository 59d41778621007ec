"""The structure of the project: small files, no cycles, a map of every package, a test file for
every module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"l0gate": "l0gate", "backends": "l0gate.backends", "reference": "l0gate.reference"}
TESTS = {  # folder of a package: the folder of its tests
    "l0gate": "core",
    "l0gate/cli": "cli",
    "l0gate/formats": "formats",
    "l0gate/formats/_c": "formats/c",
    "l0gate/formats/_keras": "formats/keras",
    "l0gate/formats/_onnx": "formats/onnx",
    "l0gate/layout": "layout",
    "l0gate/methods": "methods",
    "l0gate/reports": "reports",
    "l0gate/testing": "testing",
    "backends": "backends",
    "backends/_torch": "backends/torch",
    "reference": "reference",
}
MOST_LINES = 450


def files() -> list[Path]:
    """Every module of the package, from the root of the checkout."""
    found = [p.relative_to(ROOT) for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def module(path: Path) -> str:
    parts = [FOLDERS[path.parts[0]], *path.with_suffix("").parts[1:]]
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module(path): path for path in files()}


@cache
def imported(name: str) -> frozenset[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / MODULES[name]).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return frozenset(found & set(MODULES) - {name})


@pytest.mark.parametrize("path", files(), ids=str)
def test_no_file_is_two_rooms(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= MOST_LINES


def test_no_import_leads_back() -> None:
    """Imports inside functions count too. What a package re-exports is looked for in its parts."""
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in imported(name):
                visit(other, (*way, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def at_import(name: str) -> Iterator[str]:
    """The modules of the package that are imported when this one is."""
    tree = ast.parse((ROOT / MODULES[name]).read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_algorithm_imports_neither_backends_nor_the_reference() -> None:
    for name, path in MODULES.items():
        if path.parts[0] == "l0gate" and path.parts[1] != "cli":
            for other in at_import(name):
                assert not other.startswith(("l0gate.backends", "l0gate.reference")), name


def test_the_reference_imports_little_of_the_algorithm() -> None:
    allowed = {"l0gate._errors", "l0gate._later", "l0gate._vocabulary", "l0gate.layout.stacked"}
    for name, path in MODULES.items():
        if path.parts[0] == "reference":
            own = {other for other in imported(name) if not other.startswith("l0gate.reference")}
            assert own <= allowed, (name, own - allowed)


def test_no_module_imports_a_private_name_of_another() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                private = [
                    alias.name
                    for alias in node.names
                    if alias.name.startswith("_")
                    and f"{node.module}.{alias.name}" not in MODULES
                    and not alias.name.startswith("__")
                ]
                assert not private, f"{name} imports {private} from {node.module}"


PACKAGES = [path for path in files() if path.name == "__init__.py" and path.parts != ("backends",)]


@pytest.mark.parametrize("path", PACKAGES, ids=str)
def test_a_package_says_what_is_in_it(path: Path) -> None:
    """Its docstring names every module and package in it."""
    doc = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    folder = (ROOT / path).parent
    inside = {p.stem for p in folder.glob("*.py") if not p.name.startswith("__")}
    inside |= {p.parent.name for p in folder.glob("*/__init__.py")}
    if path.parts[:-1] == ("l0gate",):
        inside |= {"backends", "reference"}
    missing = {name for name in inside if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", doc)}
    assert not missing


def test_file(path: Path) -> Path:
    """Where the tests of a module are looked for first."""
    folder = path.parent
    rest: tuple[str, ...] = ()
    while str(folder) not in TESTS:
        rest = (folder.name, *rest)
        folder = folder.parent
    return Path("tests", TESTS[str(folder)], *rest, f"test_{path.stem.lstrip('_')}.py")


test_file.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path", [path for path in files() if not path.name.startswith("__")], ids=str
)
def test_every_module_has_an_obvious_test_file(path: Path) -> None:
    assert (ROOT / test_file(path)).exists(), f"{path} is tested in no {test_file(path)}"


def test_every_package_is_in_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = set(re.findall(r'"([\w.]+)"', listed.group(1)))
    assert names == {module(path) for path in files() if path.name == "__init__.py"}
