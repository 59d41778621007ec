"""The table of propagation rules."""

from __future__ import annotations

from l0gate.backends._torch.tracing.rules import RULES
from l0gate.backends._torch.tracing.rules.elementwise import ELEMENTWISE, elementwise


def test_every_channel_wise_operation_has_the_rule() -> None:
    assert {"add", "mul", "tanh", "relu", "dropout", "where"} <= ELEMENTWISE
    assert all(RULES.calls[name] is elementwise for name in ELEMENTWISE)


def test_a_function_stands_in_one_table() -> None:
    assert not set(RULES.layers) & set(RULES.calls)
    assert not RULES.queries & (set(RULES.layers) | set(RULES.calls))
    assert set(RULES.calls) >= RULES.activations
