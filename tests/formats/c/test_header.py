"""The whole header, compiled as people compile it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from format_cases import direction, linear

import l0gate
from l0gate.formats import Content
from l0gate.formats._c.header import c_header, check_name
from l0gate.formats.layers import Activation, Layer, Recurrent, Selection

RNG = np.random.default_rng(0)
NET: list[Layer] = [
    Selection(np.array([0, 2]), 3),
    Recurrent("a", "lstm", (direction(RNG, "lstm", 2, 13),)),
    Activation("relu"),
    Recurrent("b", "gru", (direction(RNG, "gru", 13, 9),)),
    Recurrent("d", "gru", (direction(RNG, "gru", 9, 5),), False),
    linear(RNG, 5, 3),
    Activation("softmax"),
]
COMPILERS = {
    "gcc": ["gcc", "-std=c99"],
    "g++": ["g++", "-x", "c++"],
    "clang": ["clang", "-std=c99"],
    "zig": [sys.executable, "-m", "ziglang", "cc", "-std=c99"],
}


def found(name: str) -> bool:
    return find_spec("ziglang") is not None if name == "zig" else shutil.which(name) is not None


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("compiler", [name for name in COMPILERS if found(name)])
def test_no_warning_and_the_self_test_passes(tmp_path: Path, compiler: str, int8: bool) -> None:
    (tmp_path / "amp.h").write_bytes(c_header(Content(NET), "amp", int8, True))
    (tmp_path / "main.c").write_text('#include "amp.h"\n')
    for flags in (["-O2"], ["-O3", "-ffast-math"], ["-O2", "-DAMP_LIBM"]):
        command = [*COMPILERS[compiler], "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror"]
        command += [*flags, "-DAMP_SELFTEST", "main.c", "-o", "test", "-lm"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        run = subprocess.run([tmp_path / "test"], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout
        assert "largest difference" in run.stdout


def test_a_self_test_notices_a_wrong_weight(tmp_path: Path) -> None:
    text = c_header(Content(NET), "amp", False, True).decode()
    start = text.index("amp_5_b[8] = {") + len("amp_5_b[8] = {")
    (tmp_path / "amp.h").write_text(f"{text[:start]} 1.5f +{text[start:]}")
    (tmp_path / "main.c").write_text('#include "amp.h"\n')
    command = ["cc", "-std=c99", "-DAMP_SELFTEST", "main.c", "-o", "test", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "test"], capture_output=True).returncode == 1


@pytest.mark.parametrize("name", ["", "1a", "a-b", "int", "class", "a b", "ä", 3, None, "a" * 99])
def test_names_that_c_cannot_have(name: object) -> None:
    with pytest.raises(l0gate.L0GateError, match="`name` is"):
        check_name(name)
