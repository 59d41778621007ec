"""Running a net whole and step by step."""

from __future__ import annotations

import numpy as np
from format_cases import nets, saved
from hypothesis import given, settings

from l0gate.formats.layers import Layer
from l0gate.formats.proof import example_sequences
from l0gate.formats.runner import ReadBack, run_net


@given(nets(embedding=True))
@settings(deadline=None, max_examples=20)
def test_steps_give_the_whole(layers: list[Layer]) -> None:
    net = saved(layers)
    for x in example_sequences(layers):
        whole = run_net(net, x)
        found = ReadBack(net, "x").steps(x)
        assert found is not None
        np.testing.assert_allclose(found, whole, atol=1e-5)
