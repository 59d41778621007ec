"""The map of the project: every path on it exists, and no module is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from scripts import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("l0gate", "backends", "reference")


def modules() -> list[Path]:
    """Every module, from the root of the checkout."""
    found = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if not path.name.startswith("__"))


def tables() -> dict[str, set[str]]:
    """The names in the first column of each package's table, by the package's folder."""
    found = {}
    for section in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        heading = re.match(r"`([\w/]+)/`\n", section)
        if heading is not None:
            rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
            found[heading.group(1)] = {name for row in rows for name in re.findall("`(.*?)`", row)}
    return found


def test_every_path_on_the_page_exists() -> None:
    paths = re.findall(r"`([\w/]+\.py)`", TEXT)
    assert len(paths) > 50
    assert not [path for path in paths if not (ROOT / path).is_file()]


@pytest.mark.parametrize("path", modules(), ids=str)
def test_every_module_is_on_the_page_or_in_the_docstring_of_its_package(path: Path) -> None:
    tree = ast.parse((ROOT / path.parent / "__init__.py").read_text(encoding="utf-8"))
    named = re.findall(r"[\w/]+", ast.get_docstring(tree) or "")
    assert path.stem in {*tables().get(str(path.parent), ()), *named}


@pytest.mark.parametrize("folder", tables())
def test_a_table_names_what_is_in_its_folder(folder: str) -> None:
    for name in tables()[folder]:
        there = ROOT / folder / name
        assert there.is_dir() if name.endswith("/") else there.with_suffix(".py").is_file(), name


def test_every_package_has_a_table_unless_another_lists_its_modules() -> None:
    packages = {str(path.parent) for path in modules()}
    assert packages - set(tables()) == {"l0gate/cli/commands"}
