"""Names of a package that are imported on first access, so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def import_later(
    package: str,
    public: Sequence[str],
    modules: Mapping[str, str],
    submodules: Sequence[str] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package (PEP 562), for names imported late.

    `modules` maps each late name to the module that defines it, relative to the package. The
    `submodules` are imported when they are accessed as attributes. `dir(package)` lists the
    `public` names (its `__all__`), the `submodules` and names such as `__doc__`, nothing else.

    In the `__init__.py` of the package:

        __getattr__, __dir__ = import_later(__name__, __all__, {"load": "_saved_model"})
    """

    def getattr_of_package(name: str) -> Any:
        # Not imported above: the import system calls this function too, for `from package import`.
        from importlib import import_module

        if name in submodules:
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)  # later accesses do not come here again
        return value

    def dir_of_package() -> list[str]:
        special = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted(special.union(public, submodules))

    return getattr_of_package, dir_of_package
