"""Moments by reader: streamed sums equal those of all data at once; bad ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import l0gate
from l0gate import L0GateError, Layout, Pruner
from l0gate._moments import (
    MomentSums,
    bias_of,
    check_moments,
    reading_grams,
    what_readers_lose,
)

NUMPY = l0gate.get_backend("numpy")
LINEAR = Layout({"w": "h <- _", "v": "_ <- h"})


@given(seed=st.integers(0, 2**31))
def test_sums_of_parts_are_the_sums_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = Layout({"w": "h <- _", "g": "k <- _", "v": "_ <- (h + 2 + 2 k)"})
    sizes = {"h": 3, "k": 2}
    values = rng.normal(size=(6, 5, 9))
    at_once, streamed = MomentSums(layout, sizes, NUMPY), MomentSums(layout, sizes, NUMPY)
    at_once.add("v", values)
    for part in np.split(values, np.sort(rng.integers(0, 7, 2))):
        streamed.add("v", part)
    assert set(at_once.found) == {("h", "v"), ("k", "v")}
    for key, value in at_once.found.items():
        np.testing.assert_allclose(streamed.found[key], value, rtol=1e-12, atol=1e-12)
    rows = values.reshape(-1, 9)
    h = np.concatenate([rows[:, :3], np.ones((30, 1))], axis=1)
    np.testing.assert_allclose(at_once.found["h", "v"], h.T @ h)
    blocks = np.concatenate([rows[:, 5:7], rows[:, 7:]])
    k = np.concatenate([blocks, np.ones((60, 1))], axis=1)
    np.testing.assert_allclose(at_once.found["k", "v"], k.T @ k)


def test_what_the_layout_does_not_describe_is_left_out() -> None:
    sums = MomentSums(LINEAR, {"h": 2}, NUMPY)
    sums.add("w", np.ones((3, 1)))  # reads no neurons
    sums.add("v", np.ones((3, 4)))  # another width
    assert sums.found == {}


def test_the_bias_of_a_weight() -> None:
    layout = Layout.lstm(1)
    assert bias_of(layout, "rnn.weight_hh_l0") == "rnn.bias_hh_l0"
    assert bias_of(layout, "decoder.weight") == "decoder.bias"
    other = Layout({"a.weight": "h <- _", "a.bias": "_", "b": "_ <- h"})
    assert bias_of(other, "a.weight") is None  # it runs over something else
    assert bias_of(other, "b") is None


def test_readers_without_moments_have_those_of_the_others() -> None:
    layout = Layout({"w": "h <- _", "a": "_ <- h", "b": "_ <- h", "c": "_ <- h"})
    one, other = np.eye(2), 3.0 * np.eye(2)
    found = check_moments({("h", "a"): one, ("h", "b"): other}, layout, {"h": 2})
    np.testing.assert_array_equal(found["h", "c"], 2.0 * np.eye(2))
    found = check_moments({("h", "a"): one, "h": other}, layout, {"h": 2})
    np.testing.assert_array_equal(found["h", "a"], one)
    np.testing.assert_array_equal(found["h", "c"], other)


def test_the_gram_of_the_readers_weighs_what_they_compute() -> None:
    layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h", "v": "_ <- (h + h)"})
    rng = np.random.default_rng(0)
    parameters = {"w": rng.normal(size=(12, 2)), "u": rng.normal(size=(12, 3))}
    parameters["v"] = rng.normal(size=(5, 6))
    gram = reading_grams(layout, parameters, NUMPY)
    u, v = parameters["u"], parameters["v"]
    np.testing.assert_allclose(gram["h", "u"], u.T @ u)
    np.testing.assert_allclose(gram["h", "v"], v[:, :3].T @ v[:, :3] + v[:, 3:].T @ v[:, 3:])
    np.testing.assert_allclose(gram["x", "w"], parameters["w"].T @ parameters["w"])


def test_where_a_bias_takes_the_mean_only_covariances_are_lost() -> None:
    layout = Layout({"w": "h <- _", "weight": "_ <- h", "bias": "_", "u": "_ <- h"})
    parameters = {"w": np.ones((1, 1)), "weight": np.full((1, 1), 2.0), "u": np.ones((1, 1))}
    parameters["bias"] = np.zeros(1)
    h = np.array([[1.0, 1.0], [3.0, 1.0]])  # mean 2, variance 1
    moments = check_moments({"h": h.T @ h}, layout, {"h": 1})
    (s, g), (other, _) = what_readers_lose(layout, parameters, NUMPY, moments)["h"]
    assert (s.item(), g.item(), other.item()) == (1.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (None, "`moments` is None; it must map axes to arrays"),
        ({"z": np.eye(2)}, "`moments` names the axis 'z'"),
        ({"h": np.eye(4)}, "`moments['h']` has shape (4, 4); the axis has 2 neurons"),
        ({("h", "w"): np.eye(2)}, "names the parameter 'w' as a reader of 'h'; its readers are v"),
        ({"h": np.diag([1.0, 1.0, 0.0])}, "counts 0.0 positions in its last corner"),
        ({"h": [["a"]]}, "must be an array of numbers"),
        ({"h": np.full((2, 2), np.nan)}, "`moments['h']` must be finite"),
        ({"h": np.array([[1.0, 2.0], [0.0, 1.0]])}, "`moments['h']` must be symmetric"),
    ],
)
def test_bad_moments(moments: Any, message: str) -> None:
    pruner = Pruner(LINEAR, strength=1.0)
    parameters = {"w": np.ones((2, 3)), "v": np.ones((4, 2))}
    pruner.init(parameters)
    with pytest.raises(L0GateError) as error:
        pruner.reconstruct(parameters, {"h": np.array([0])}, moments)
    assert message in str(error.value)
