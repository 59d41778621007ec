"""The plan: every number of it has a place of its own."""

from __future__ import annotations

from l0gate.reference.compiled.inference import plan


def test_the_columns_are_different_and_none_is_left_over():
    head = plan.ROWS, plan.WIDEST, plan.WIDEST_STATE, plan.EXACT, plan.FAR, plan.PARAMETERS
    assert sorted(head) == list(range(plan.HEAD))
    row = plan.KIND, plan.INPUTS, plan.OUTPUTS, plan.START, plan.REVERSE
    row += plan.COLUMN, plan.WIDTH, plan.LAST, plan.FINAL
    assert sorted(row) == list(range(plan.COLUMNS))


def test_recurrent_kinds_come_first():
    recurrent = plan.LSTM, plan.GRU, plan.GRU_RESET_BEFORE
    others = plan.LINEAR, plan.TANH, plan.SIGMOID, plan.RELU
    assert max(recurrent) < min(others)
    assert len({*recurrent, *others}) == 7
