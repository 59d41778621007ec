"""Weights in eight bits: `quantize`, and how far the outputs move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate._saved_model import Deviation, SavedModel, saved_model_of
from l0gate.formats.layers import layers_of
from l0gate.formats.proof import example_sequences
from l0gate.formats.runner import run_net

__all__ = ["quantize", "quantized", "quantized_rows"]


def quantize(net: Any, sequences: Sequence[Any] | None = None) -> Any:
    """The same net with its matrices stored in int8, a quarter of the bytes.

    Every row of a matrix has a scale of its own, max|row| / 127. Biases, activations and states
    stay float32, so the result is deterministic and steps give what whole sequences give. `net` is
    what `l0gate.load`, `import_` or `shrink()` returned.

    The outputs move. `quantize` runs both nets on `sequences`, each (T, features) or tokens (T,),
    by default random ones, and says how far: `net.saved.deviation` has the largest difference and
    the error-to-signal ratio, and `l0gate.save` keeps them in the file.

    >>> import l0gate
    >>> net = l0gate.get_backend("numpy").net([{"type": "gru", "name": "rnn"}])
    >>> dense = net.bind(net.init(np.random.default_rng(0), input_size=4, sizes={"rnn": 8}))
    >>> saved = l0gate.quantize(dense).saved
    >>> saved.parameters["rnn.weight_hh_l0"].dtype, saved.deviation.error_to_signal < 1e-3
    (dtype('int8'), True)
    """
    saved = saved_model_of(net, "net")
    check(not saved.scales, "`net` has int8 weights already")
    small = quantized(saved)
    return replace(small, deviation=_deviation(saved, small, sequences)).net()


def quantized(saved: SavedModel) -> SavedModel:
    """A saved model with its matrices in int8, without the deviation; one in int8 as it is."""
    if saved.scales:
        return saved
    parameters: dict[str, Any] = {}
    scales: dict[str, np.ndarray] = {}
    for name, array in saved.parameters.items():
        values = np.asarray(array, np.float32)
        if values.ndim < 2:
            parameters[name] = values
            continue
        if not np.isfinite(values).all():
            raise L0GateError(f"parameter `{name}` holds numbers that are not finite")
        parameters[name], scales[name] = quantized_rows(values)
    check(bool(scales), "`net` has no matrix")
    return replace(saved, parameters=parameters, scales=scales, certificate=None)


def quantized_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (O, ...) as int8, and the scale of every row, (O,) in float32.

    >>> rows, scales = quantized_rows(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32))
    >>> rows.tolist(), scales.tolist()
    ([[127, -64], [0, 0]], [0.007874015718698502, 1.0])
    """
    rows = matrix.reshape(len(matrix), -1)
    largest = np.abs(rows).max(axis=1)
    # A row whose scale would be 0 or too small for a float32 is stored as zeros.
    scales = np.where(largest > 1e-30, largest / np.float32(127), np.float32(1)).astype(np.float32)
    found = np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int8)
    return found.reshape(matrix.shape), scales


def _deviation(dense: SavedModel, small: SavedModel, sequences: Any) -> Deviation:
    if sequences is None:
        given = example_sequences(layers_of(dense))
    else:
        check(
            isinstance(sequences, (list, tuple)) and len(sequences) > 0,
            f"`sequences` is {type(sequences).__name__}; it must be a list of sequences, each"
            " (T, features) or tokens (T,)",
        )
        given = [np.asarray(x) for x in sequences]
    worst = error = signal = 0.0
    for x in given:
        expected, found = run_net(dense, x), run_net(small, x)
        difference = found.astype(np.float64) - expected
        worst = max(worst, float(np.abs(difference).max(initial=0.0)))
        error += float((difference**2).sum())
        signal += float((expected.astype(np.float64) ** 2).sum())
    ratio = error / signal if signal else 0.0
    return Deviation(worst, ratio, len(given))
