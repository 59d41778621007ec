"""Weights in eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from format_cases import amplifier, nets, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import l0gate
from l0gate._quantize import quantized_rows
from l0gate.formats.layers import Layer
from l0gate.formats.proof import example_sequences
from l0gate.formats.runner import run_net

FINITE = st.floats(-1e6, 1e6, width=32)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=FINITE))
def test_every_weight_moves_by_at_most_half_a_step(matrix: np.ndarray) -> None:
    rows, scales = quantized_rows(matrix)
    assert rows.dtype == np.int8
    assert scales.dtype == np.float32
    assert np.abs(rows).max() <= 127
    error = np.abs(rows * scales[:, None].astype(np.float64) - matrix)
    assert (error <= 0.501 * np.maximum(scales, 1e-30)[:, None] + 1e-30).all()


@given(nets(embedding=True, reset_before=True))
@settings(deadline=None, max_examples=25)
def test_a_quantized_net_is_saved_and_loads_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, layers: list[Layer]
) -> None:
    path = tmp_path_factory.mktemp("int8") / "net.npz"
    small = l0gate.quantize(saved(layers))
    l0gate.save(path, small)
    again = l0gate.load(path)
    for x in example_sequences(layers):
        whole = run_net(small.saved, x)
        np.testing.assert_array_equal(run_net(again.saved, x), whole)
        np.testing.assert_allclose(run_net(again.saved, x, stepwise=True), whole, atol=1e-5)
    assert again.saved.deviation == small.saved.deviation
    with np.load(path) as content:  # plain NumPy reads it
        name = next(name for name in small.saved.scales)
        assert content[f"parameters/{name}"].dtype == np.int8
        assert content[f"scales/{name}"].shape == content[f"parameters/{name}"].shape[:1]


def test_the_file_is_small(tmp_path: Path) -> None:
    dense, small = tmp_path / "dense.npz", tmp_path / "small.npz"
    net = saved(amplifier(64))
    l0gate.save(dense, net)
    l0gate.save(small, l0gate.quantize(net))
    assert small.stat().st_size < 0.4 * dense.stat().st_size


def test_the_deviation_is_measured_on_what_is_given() -> None:
    net = saved(amplifier())
    x = np.random.default_rng(1).standard_normal((30, 1)).astype(np.float32)
    found = l0gate.quantize(net, [x]).saved
    expected, y = run_net(net, x).astype(np.float64), run_net(found, x)
    assert found.deviation is not None
    assert found.deviation.max_abs_difference == pytest.approx(np.abs(y - expected).max())
    ratio = ((y - expected) ** 2).sum() / (expected**2).sum()
    assert found.deviation.error_to_signal == pytest.approx(ratio)
    assert "outputs moved" in str(found.deviation)


def test_a_quantized_net_is_trained_again_and_exported(tmp_path: Path) -> None:
    small = l0gate.quantize(saved(amplifier()))
    path = tmp_path / "amp.nam"
    l0gate.export(small, path)
    x = np.ones((5, 1, 1), np.float32)
    np.testing.assert_allclose(l0gate.import_(path)(x)[0], small(x)[0], atol=1e-6)
    assert small.to_torch().rec.weight_hh_l0.dtype.is_floating_point


def test_wrong_arguments() -> None:
    net = saved(amplifier())
    small = l0gate.quantize(net)
    for given_net, sequences, message in (
        (small, None, "int8 weights already"),
        (3, None, "no backend owns"),
        (net, np.ones((3, 1)), "`sequences` is ndarray"),
        (net, [], "`sequences` is list"),
        (net, [np.ones((3, 2))], "`x` has shape"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            l0gate.quantize(given_net, sequences)
