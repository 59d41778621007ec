"""The table of axes, as it is printed."""

from __future__ import annotations

import re

import numpy as np
from cases import CASES, DESIGN, SIZES, arrays_for

from l0gate import Layout


def test_readers_writers_and_table() -> None:
    assert DESIGN.writers("x") == ("embedding.weight",)
    assert DESIGN.writers("h0") == ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    assert DESIGN.readers("h0") == ("rnn.weight_hh_l0", "decoder.weight")
    assert DESIGN.recurrent == ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    sizes = {axis: SIZES[axis] for axis in DESIGN.axes}
    rows = [re.split(r"\s{2,}", r) for r in DESIGN.table(arrays_for(DESIGN, sizes)).split("\n")]
    assert rows == [
        ["axis", "size", "written by", "read by"],
        ["x", "5", "embedding.weight", "rnn.weight_ih_l0"],
        ["h0", "3", "rnn.weight_ih_l0, rnn.weight_hh_l0", "rnn.weight_hh_l0, decoder.weight"],
    ]
    assert "input" in CASES["tensorflow"].table()


def test_the_table_as_it_is_printed() -> None:
    layout = Layout({"w": "hid <- x", "out": "_ <- hid"})
    assert layout.table().splitlines() == [
        "axis  size  written by  read by",
        "x     ?     input       w",
        "hid   ?     w           out",
    ]
    parameters = {"w": np.ones((12, 3)), "out": np.ones((1, 12))}
    assert layout.table(parameters).splitlines()[1:] == [
        "x     3     input       w",
        "hid   12    w           out",
    ]
