"""A written file is run beside the net."""

from __future__ import annotations

import numpy as np
import pytest
from format_cases import amplifier, saved

import l0gate
from l0gate.formats.layers import Embedding
from l0gate.formats.proof import example_sequences, prove
from l0gate.formats.runner import ReadBack, Runner, run_net

NET = saved(amplifier())


class Off(Runner):
    """A program that gives the net's outputs and an error."""

    name = "a broken program"

    def __init__(self, error: float, stepwise: float | None = None) -> None:
        self.error, self.stepwise = error, stepwise

    def sequence(self, x: np.ndarray) -> np.ndarray:
        return run_net(NET, x) + np.float32(self.error)

    def steps(self, x: np.ndarray) -> np.ndarray | None:
        return None if self.stepwise is None else run_net(NET, x) + np.float32(self.stepwise)


def test_an_equal_file_is_proved() -> None:
    proof = prove(NET, amplifier(), ReadBack(NET, "x"), "x", 100)
    assert proof.max_abs_difference < 1e-6
    assert proof.stepwise
    assert "step by step" in str(proof)


@pytest.mark.parametrize("runner", [Off(1e-3), Off(0, 1e-3), Off(np.nan), Off(0, np.nan)])
def test_a_difference_is_an_error(runner: Runner) -> None:
    with pytest.raises(l0gate.L0GateError, match=r"differs.*a broken program.*Nothing was written"):
        prove(NET, amplifier(), runner, "x", 100)


def test_without_steps_the_proof_says_so() -> None:
    proof = prove(NET, amplifier(), Off(0), "x", 100)
    assert not proof.stepwise
    assert "as whole sequences" in str(proof)


def test_outputs_of_another_shape_are_an_error() -> None:
    class Wide(Off):
        def sequence(self, x: np.ndarray) -> np.ndarray:
            return np.zeros((len(x), 7), np.float32)

    with pytest.raises(l0gate.L0GateError, match="shape"):
        prove(NET, amplifier(), Wide(0), "x", 100)


def test_examples_are_tokens_for_an_embedding() -> None:
    found = example_sequences([Embedding("e", np.ones((3, 2), np.float32))])
    assert all(x.ndim == 1 and x.dtype.kind == "i" and x.max() < 3 for x in found)
