"""Folding gates, keeping neurons, and norms by neuron, against dense arrays."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from strategies import pattern_texts

import l0gate
from l0gate import L0GateError, Layout
from l0gate.layout.fold import fold, gate_gradients, gather, group_norms, keep, positions, spread
from l0gate.layout.notation import parse_pattern

NUMPY = l0gate.get_backend("numpy")


@given(st.data())
def test_folding_equals_multiplying_the_dense_gate_of_every_position(data: st.DataObject) -> None:
    layout = CASES[data.draw(st.sampled_from(sorted(CASES)))]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = arrays_for(layout, sizes)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    gates = {axis: rng.uniform(size=n) for axis, n in sizes.items()}
    folded = fold(layout, parameters, gates, NUMPY)
    for (_, pattern, shape, value), (_, _, _, found) in zip(
        layout.slices(parameters), layout.slices(folded), strict=True
    ):
        expected = value.copy()
        for i, d in enumerate(pattern.dimensions):
            if not d.reads:
                continue
            # Position by position, with einops' order: the leftmost factor varies slowest.
            line = []
            for block in d.blocks:
                each = [1.0] if block.axis is None else list(gates[block.axis])
                line += [g for _ in range(block.outer) for g in each for _ in range(block.inner)]
            line = line or [1.0] * shape[i]
            expected *= np.reshape(line, [-1 if j == i else 1 for j in range(len(shape))])
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_keeping_after_folding_binary_gates_loses_only_zeros(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = arrays_for(layout, sizes)
    kept = {axis: np.array([0, n - 1]) for axis, n in sizes.items()}
    gates = {a: np.isin(np.arange(n), kept[a]).astype(float) for a, n in sizes.items()}
    small = keep(layout, fold(layout, parameters, gates, NUMPY), kept, NUMPY)
    assert layout.solve(small) == {axis: len(kept[axis]) for axis in layout.axes}
    for parameter in layout.patterns:
        assert np.isin(small[parameter], parameters[parameter]).all()


def test_positions_of_several_axes_in_a_row() -> None:
    (dimension,) = parse_pattern("(a + (2 b) + 2 + (a 2))").dimensions
    kept = {"a": np.array([1]), "b": np.array([0, 2])}
    found = positions(dimension, {"a": 2, "b": 3}, kept)
    assert found.tolist() == [1, 2, 4, 5, 7, 8, 9, 12, 13]


def test_slices_of_a_leading_dimension_may_become_ragged() -> None:
    layout = CASES["onnx"]
    parameters = arrays_for(layout, {"x": 5, "f": 2, "b": 2})
    kept = {"x": np.arange(5), "f": np.array([1]), "b": np.array([0, 1])}
    small = keep(layout, parameters, kept, NUMPY)
    assert [part.shape for part in small["W"]] == [(4, 5), (8, 5)]
    assert layout.solve(small) == {"f": 1, "x": 5, "b": 2}
    np.testing.assert_array_equal(small["R"][0], parameters["R"][0][1::2, 1:])
    again = keep(layout, small, {"x": np.arange(5), "f": np.array([0]), "b": np.array([1])}, NUMPY)
    assert again["W"].shape == (2, 4, 5)


@given(pattern_texts(), st.integers(0, 99))
def test_gather_is_the_transpose_of_spread(text: str, seed: int) -> None:
    pattern = parse_pattern(text)
    if not pattern.axes:
        return
    rng = np.random.default_rng(seed)
    gates = {axis: rng.normal(size=rng.integers(1, 4)) for axis in pattern.axes}
    layout = Layout({"w": f"_ <- {' '.join(pattern.axes)}"})
    for d in (d for d in pattern.dimensions if d.axes):
        along = spread(d, gates, NUMPY)
        fixed = spread(d, {a: 0 * g for a, g in gates.items()}, NUMPY)
        weights = rng.normal(size=along.shape)
        back = gather(layout, gates, [(d, weights)], NUMPY)
        inner = sum(float(np.vdot(back[a], gates[a])) for a in d.axes)
        assert inner == pytest.approx(float(np.vdot(weights, along - fixed)), abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_group_norms_count_every_entry_of_a_neuron_once(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    parameters = {name: 0.01 * value for name, value in arrays_for(layout, sizes).items()}
    norms = group_norms(layout, parameters, NUMPY)
    for axis, n in sizes.items():
        for j in range(n):
            without = {a: np.arange(m) for a, m in sizes.items()}
            without[axis] = np.delete(without[axis], j)
            rest = keep(layout, parameters, without, NUMPY)
            lost = sum(np.sum(np.square(v)) for v in parameters.values()) - sum(
                np.sum(np.square(part))
                for v in rest.values()
                for part in (v if isinstance(v, tuple) else [v])
            )
            assert norms[axis][j] ** 2 == pytest.approx(lost)


def test_gate_gradients_of_a_parameter_with_two_gated_inputs() -> None:
    layout = Layout({"w": "_ <- (2 x) y"})
    rng = np.random.default_rng(0)
    w, slope = rng.normal(size=(2, 3, 6, 4))
    gates = {"x": np.array([0.5, 1.0, 0.25]), "y": np.array([1.0, 0.5, 0.0, 2.0])}
    found = gate_gradients(layout, {"w": w}, gates, {"w": slope}, NUMPY)
    by_block = (slope * w).reshape(3, 2, 3, 4)
    np.testing.assert_allclose(found["x"], np.einsum("ibxy,y->x", by_block, gates["y"]))
    np.testing.assert_allclose(found["y"], np.einsum("ibxy,x->y", by_block, gates["x"]))
    with pytest.raises(L0GateError) as error:
        gate_gradients(layout, {"w": w}, gates, {"w": slope[:, :, :2]}, NUMPY)
    assert str(error.value) == "the gradient of 'w' has shape (3, 6, 2), the parameter (3, 6, 4)"
