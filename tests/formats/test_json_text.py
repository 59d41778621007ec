"""Reading JSON of strangers, and writing numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import l0gate
from l0gate.formats.json_text import array, integer, numbers, parse, section, text


@given(
    arrays.arrays(
        np.float32,
        st.integers(0, 20),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_numbers_give_the_same_float32_back(values: np.ndarray) -> None:
    back = np.array(json.loads(json.dumps(numbers(values))), np.float32)
    np.testing.assert_array_equal(back.reshape(values.shape), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, "nested too deeply"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": [1, 2', "truncated"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[1]", "expected a JSON object"),
        (b"", "no JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(l0gate.L0GateError, match=message):
        parse(content)


@pytest.mark.parametrize(
    "values", [[[1, 2], [3]], ["1"], [None], {"a": 1}, [], [[[]]], [1, 10**40], [True, False], 5]
)
def test_what_is_no_array_is_refused(values: object) -> None:
    with pytest.raises(l0gate.L0GateError, match="the kernel"):
        array(values, (None,), "the kernel")


def test_keys_are_checked() -> None:
    assert section({"a": []}, "a", list) == []
    assert integer({"a": 3}, "a") == 3
    for holder in ({}, {"a": "x"}, {"a": True}, {"a": 2**40}, {"a": 0}, []):
        with pytest.raises(l0gate.L0GateError, match="`a`"):
            integer(holder, "a")
    with pytest.raises(l0gate.L0GateError, match="plain JSON"):
        text({"a": {1}})
