"""Running a written file beside the net that it was written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l0gate._errors import L0GateError
from l0gate._saved_model import SavedModel
from l0gate.formats.layers import Embedding, Layer, input_size
from l0gate.formats.runner import Runner, run_net

__all__ = ["Proof", "example_sequences", "prove"]

_TOLERANCE = 1e-5  # times the largest output, or 1 if that is larger: float32 in another order


@dataclass(frozen=True)
class Proof:
    """How far a written file was from the net, run by `runner` on `sequences` random sequences.

    `max_abs_difference` is over whole sequences and, where the file can be run so (`stepwise`), one
    step at a time. `max_abs_output` is the net's largest output, to compare with.
    """

    format: str
    runner: str
    max_abs_difference: float
    max_abs_output: float
    sequences: int
    stepwise: bool
    bytes: int

    @property
    def tolerance(self) -> float:
        return _TOLERANCE * max(1.0, self.max_abs_output)

    def __str__(self) -> str:
        if self.sequences == 0:
            return "the file was not run, since nothing here can run it"
        how = "whole and step by step" if self.stepwise else "as whole sequences"
        return (
            f"largest difference {self.max_abs_difference:.2g} from the net (outputs up to"
            f" {self.max_abs_output:.2g}), run by {self.runner} on {self.sequences} random"
            f" sequences, {how}"
        )


def example_sequences(layers: Sequence[Layer], seed: int = 0) -> list[np.ndarray]:
    """Random sequences that a net takes: one long one, short ones, and one of large values."""
    rng = np.random.default_rng(seed)
    if isinstance(layers[0], Embedding):
        return [rng.integers(0, len(layers[0].weight), length) for length in (1, 7, 60)]
    features = input_size(layers) or 0
    scaled = ((1, 1.0), (7, 1.0), (60, 0.3), (20, 5.0))
    return [
        (scale * rng.standard_normal((length, features))).astype(np.float32)
        for length, scale in scaled
    ]


def prove(
    net: SavedModel, layers: Sequence[Layer], runner: Runner, format: str, size: int
) -> Proof:
    """Run the file and the net on random sequences. Beyond 1e-5 this raises `L0GateError`.

    The bound is relative to the largest output where that is above 1. `size` is the file's, in
    bytes.
    """
    worst, largest, stepwise = 0.0, 0.0, True
    sequences = example_sequences(layers)
    for x in sequences:
        expected = run_net(net, x)
        found = [runner.sequence(x), runner.steps(x)]
        stepwise = stepwise and found[1] is not None
        for y in found:
            if y is None:
                continue
            if y.shape != expected.shape:
                raise L0GateError(
                    f"the written {format} file gives outputs of shape {y.shape} in {runner.name};"
                    f" the net gives {expected.shape}. Nothing was written"
                )
            difference = float(np.abs(y.astype(np.float64) - expected).max())
            worst = difference if not difference <= worst else worst  # keeps NaN
        largest = max(largest, float(np.abs(expected).max()))
    proof = Proof(format, runner.name, worst, largest, len(sequences), stepwise, size)
    if not worst <= proof.tolerance:
        raise L0GateError(
            f"the written {format} file differs from the net by {worst:.3g} in {runner.name}, more"
            f" than {proof.tolerance:.3g}. Nothing was written"
        )
    return proof
