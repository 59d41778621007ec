"""The format "c"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from l0gate._errors import warn
from l0gate._quantize import quantized
from l0gate._saved_model import SavedModel
from l0gate.formats._c.compiler import CompiledHeader, find_compiler
from l0gate.formats._c.header import c_header, check_name
from l0gate.formats.format import Content, Format
from l0gate.formats.runner import Runner

__all__ = ["C"]


class C(Format):
    """One header in C99: no allocation, the state owned by the caller, weights in it."""

    name = "c"
    suffixes = (".h",)
    summary = "a C99 header without dependencies, with float or int8 weights"
    reader = "any compiler of C99 or C++"
    holds: ClassVar[Mapping[str, Any]] = {
        "cells": "LSTM, GRU, RNN",
        "unequal": True,
        "bidirectional": False,
        "embedding": True,
        "selection": True,
    }
    options: ClassVar[Mapping[str, Any]] = {"name": "net", "int8": False, "selftest": True}
    reads = False

    def reference(self, saved: SavedModel, *, int8: bool = False, **options: Any) -> SavedModel:
        return quantized(saved) if int8 else saved

    def write(
        self,
        content: Content,
        *,
        name: Any = "net",
        int8: bool = False,
        selftest: bool = True,
        **options: Any,
    ) -> bytes:
        return c_header(content, check_name(name), int8, selftest)

    def runner(self, content: bytes, *, name: str = "net", **options: Any) -> Runner | None:
        compiler = find_compiler()
        if compiler is None:
            warn(
                "no C compiler was found (CC, cc, gcc, clang), so the header was not run here;"
                f" compile it with -D{name.upper()}_SELFTEST and run it to check it"
            )
            return None
        tokens = b"_step(&s, token" in content
        return CompiledHeader(content, name, tokens, compiler)
