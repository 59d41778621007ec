"""Weights in the order in which the C code reads them.

The rows of a matrix are taken in blocks of `LANES` neurons. A block holds, column by column, the
weights of these neurons for every gate, so that the innermost loop runs over neighbours in memory
and becomes vector instructions. The last block is filled up with zeros.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LANES", "blocked", "blocked_rows", "blocks_of", "c_array"]

LANES = 8  # neurons of one block: one AVX register, two of NEON


def blocks_of(size: int) -> int:
    """How many blocks `size` neurons take."""
    return -(-size // LANES)


def blocked(matrix: np.ndarray, gates: int) -> np.ndarray:
    """A matrix (gates * H, I) as (blocks, I, gates, LANES).

    >>> blocked(np.arange(6).reshape(6, 1), 2)[0, 0].tolist()
    [[0, 1, 2, 0, 0, 0, 0, 0], [3, 4, 5, 0, 0, 0, 0, 0]]
    """
    rows = blocked_rows(matrix, gates)  # (blocks, gates, LANES, I)
    return np.ascontiguousarray(rows.transpose(0, 3, 1, 2))


def blocked_rows(array: np.ndarray, gates: int) -> np.ndarray:
    """An array of rows (gates * H, ...) as (blocks, gates, LANES, ...)."""
    hidden = len(array) // gates
    whole = np.zeros((gates, blocks_of(hidden) * LANES, *array.shape[1:]), array.dtype)
    whole[:, :hidden] = array.reshape(gates, hidden, *array.shape[1:])
    split = whole.reshape(gates, -1, LANES, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(split, 0, 1))


def c_array(kind: str, name: str, values: np.ndarray) -> str:
    """The definition of a constant array; floats have the digits that give the same float back."""
    flat = values.ravel()
    if values.dtype.kind in "iu":
        texts = [str(int(v)) for v in flat]
    else:
        texts = [_float(v) for v in flat.astype(np.float32)]
    lines, line = [], ""
    for text in texts:
        if len(line) + len(text) > 94:
            lines.append(line)
            line = ""
        line += f"{text}, "
    lines.append(line)
    body = "\n    ".join(part.rstrip() for part in lines)
    return f"static const {kind} {name}[{flat.size}] = {{\n    {body.rstrip(',')}\n}};\n"


def _float(value: np.float32) -> str:
    text = str(value)
    return f"{text}f" if any(mark in text for mark in ".en") else f"{text}.0f"
