"""Arrays and files of strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

import l0gate
from l0gate.formats._onnx.tensors import array_of, exact_float32, parsed


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "?"])
@pytest.mark.parametrize("raw", [True, False])
def test_arrays_of_every_type(dtype: str, raw: bool) -> None:
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    tensor = numpy_helper.from_array(array, "a")
    if not raw:
        values = array.view(np.uint16) if dtype == "f2" else array
        kind = tensor.data_type
        tensor = TensorProto(dims=[2, 3], data_type=kind, name="a")
        fields = {"f4": "float_data", "f8": "double_data", "i8": "int64_data"}
        getattr(tensor, fields.get(dtype, "int32_data")).extend((values + 0).ravel().tolist())
    found = array_of(tensor)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [2**20, 2**20]}, "data for 4 numbers"),
        ({"dims": [-2, -2]}, "shape"),
        ({"dims": [1] * 9}, "shape"),
        ({"raw_data": b"123"}, "data for 0.75 numbers"),
        ({"data_type": TensorProto.STRING}, "type 8"),
        ({"data_location": TensorProto.EXTERNAL}, "in another file, which is never opened"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "a")
    for key, value in changes.items():
        tensor.ClearField(key)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(tensor, key).extend(value)
        else:
            setattr(tensor, key, value)
    with pytest.raises(l0gate.L0GateError, match=message):
        array_of(tensor)


def test_float32_must_hold_the_numbers() -> None:
    assert exact_float32(np.array([0.5]), "W").dtype == np.float32
    for wrong in (np.array([0.1]), np.array([1e300]), np.array([1])):
        with pytest.raises(l0gate.L0GateError, match="holds W of type"):
            exact_float32(wrong, "W")


@pytest.mark.parametrize("content", [b"", b"\0" * 9, b"no protobuf at all", bytes(range(256))])
def test_no_onnx_file(content: bytes) -> None:
    with pytest.raises(l0gate.L0GateError, match="is no ONNX file"):
        parsed(content)
