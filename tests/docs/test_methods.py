"""The code on the page on methods."""

from __future__ import annotations

import re

import numpy as np
from scripts import ROOT

import l0gate


def test_the_code_on_methods_runs() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    pruner = names["pruner"]
    assert isinstance(pruner, l0gate.Pruner)
    rng = np.random.default_rng(0)
    shapes = {"embedding.weight": (9, 3), "rnn.weight_ih_l0": (24, 3), "rnn.weight_hh_l0": (24, 6)}
    shapes |= {"rnn.bias_ih_l0": (24,), "rnn.bias_hh_l0": (24,)}
    shapes |= {"decoder.weight": (9, 6), "decoder.bias": (9,)}
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    parameters["rnn.weight_ih_l0"][:, 1] = parameters["rnn.weight_hh_l0"][:, 2] = 0
    parameters["decoder.weight"][:, 2] = 0
    kept = pruner.kept(pruner.select(pruner.init(parameters), parameters))
    assert 1 not in kept["x"]
    assert 2 not in kept["h0"]
