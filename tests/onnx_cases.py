"""Small ONNX graphs for tests of the reader, built by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

RNG = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32) * np.float32(0.5)


LSTM: dict[str, np.ndarray] = {"W": random(1, 12, 2), "R": random(1, 12, 3), "B": random(1, 24)}
GRU: dict[str, np.ndarray] = {"W": random(1, 9, 2), "R": random(1, 9, 3), "B": random(1, 18)}
RNN: dict[str, np.ndarray] = {"W": random(1, 3, 2), "R": random(1, 3, 3), "B": random(1, 6)}


def graph(
    nodes: Sequence[Any],
    arrays: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[Any]] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    tokens: bool = False,
) -> bytes:
    """A model whose nodes read `inputs` (x of shape (T, B, 2) if none are given)."""
    shapes = {"x": ["T", "B", 2]} if inputs is None else inputs
    kind = TensorProto.INT64 if tokens else TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node; names are separated by spaces, "-" stands for an input that is absent.

    The hidden size of a recurrent node is 3 if none is given.
    """
    if operator in ("LSTM", "GRU", "RNN"):
        attributes = {"hidden_size": 3, **attributes}
    names = ["" if name == "-" else name for name in inputs.split()]
    written = outputs.split()
    return helper.make_node(operator, names, written, f"/m/{operator}_{written[0]}", **attributes)
