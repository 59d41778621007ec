from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from cases import CASES, DESIGN, SIZES, arrays_for
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, layouts, pattern_texts

import l0gate
from l0gate import L0GateError, Layout
from l0gate.layout.fold import fold, gate_gradients, gather, group_norms, keep, positions, spread
from l0gate.layout.notation import parse_pattern

NUMPY = l0gate.get_backend("numpy")


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_solved_from_arrays(name: str) -> None:
    layout = CASES[name]
    sizes = {axis: SIZES[axis] for axis in layout.axes}
    assert layout.solve(arrays_for(layout, sizes)) == sizes


@pytest.mark.parametrize("name", CASES)
def test_repr_evaluates_to_the_same_layout(name: str) -> None:
    layout = CASES[name]
    assert eval(repr(layout), {"Layout": Layout}) == layout
    assert Layout(layout.to_dict()) == layout


def test_repr_keeps_sizes_and_uses() -> None:
    layout = Layout({"w": "_ <- x"}, sizes={"x": 3}, uses={"w": 0.5})
    assert eval(repr(layout), {"Layout": Layout}) == layout
    assert layout != Layout({"w": "_ <- x"})


@examples(4)
@given(layouts())
def test_layouts_survive_every_kind_of_text(case: tuple[Layout, dict[str, int]]) -> None:
    layout, sizes = case
    sized = Layout(layout.to_dict(), sizes=sizes, uses=layout.given_uses)
    for one in (layout, sized):
        options = {"sizes": one.given_sizes, "uses": one.given_uses}
        assert eval(repr(one), {"Layout": Layout}) == one
        assert Layout(json.loads(json.dumps(one.to_dict())), **options) == one
        assert Layout(one.to_dict(), **options).to_dict() == one.to_dict()
        assert list(one.to_dict()) == list(layout.patterns)
    assert layout != sized
    # The structure is that of the patterns: no reader or writer is lost in the text.
    again = Layout(layout.to_dict())
    for axis in layout.axes:
        assert again.readers(axis) == layout.readers(axis)
        assert again.writers(axis) == layout.writers(axis)
    assert again.recurrent == layout.recurrent


_TEXTS = st.text(alphabet="abx_ ()+<->023é", max_size=12) | pattern_texts()


@examples(4)
@given(
    st.dictionaries(
        st.text(max_size=5), _TEXTS | st.lists(_TEXTS, max_size=3) | st.none(), max_size=3
    )
)
def test_any_patterns_make_a_layout_or_fail_cleanly(patterns: Any) -> None:
    try:
        layout = Layout(patterns)
    except L0GateError as error:
        assert str(error).startswith(("`patterns` is", "layout of ", "axis "))  # noqa: PT017
    else:
        assert Layout(layout.to_dict()) == layout
        assert set(layout.to_dict()) == set(patterns)
        assert all(layout.readers(axis) for axis in layout.axes)
        layout.table()


PROJECTED = {"a.w": "(4 h) <- x", "a.u": "(4 h) <- p", "a.v": "p <- h"}
LSTM = {"a.w": "(4 h) <- x", "a.u": "(4 h) <- h"}


@pytest.mark.parametrize(
    ("patterns", "recurrent"),
    [
        ({"in": "x <- f", **PROJECTED, "out": "_ <- p"}, ("a.w", "a.u", "a.v")),
        ({**PROJECTED, "b.w": "(3 q) <- p", "b.u": "(3 q) <- q"}, (*PROJECTED, "b.w", "b.u")),
        ({"a": "q <- p", "b": "r <- q", "c": "p <- r", "out": "_ <- r"}, ("a", "b", "c")),
        ({"in": "x <- f", **LSTM, "add": "x <- h"}, ("a.w", "a.u")),  # a residual sum
        ({"a": "h <- x", "b": "_ <- h"}, ()),
    ],
)
def test_recurrent_parameters(patterns, recurrent) -> None:
    assert Layout(patterns).recurrent == recurrent


def test_readers_writers_and_table() -> None:
    assert DESIGN.writers("x") == ("embedding.weight",)
    assert DESIGN.writers("h0") == ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    assert DESIGN.readers("h0") == ("rnn.weight_hh_l0", "decoder.weight")
    assert DESIGN.recurrent == ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    sizes = {axis: SIZES[axis] for axis in DESIGN.axes}
    rows = [re.split(r"\s{2,}", r) for r in DESIGN.table(arrays_for(DESIGN, sizes)).split("\n")]
    assert rows == [
        ["axis", "size", "written by", "read by"],
        ["x", "5", "embedding.weight", "rnn.weight_ih_l0"],
        ["h0", "3", "rnn.weight_ih_l0, rnn.weight_hh_l0", "rnn.weight_hh_l0, decoder.weight"],
    ]
    assert "input" in CASES["tensorflow"].table()


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


def test_ready_made_layouts_fit_torch_names() -> None:
    layout = Layout.lstm(2, bidirectional=True)
    assert str(layout.patterns["rnn.weight_ih_l1_reverse"]) == "(4 b1) <- (f0 + b0)"
    assert str(layout.patterns["decoder.weight"]) == "_ <- (f1 + b1)"
    assert layout.axes == ("x", "f0", "b0", "f1", "b1")
    gru = Layout.gru(2, bias=False, name="g", embedding=None, decoder=None)
    assert gru.to_dict() == {
        "g.weight_ih_l0": "(3 h0) <- x",
        "g.weight_hh_l0": "(3 h0) <- h0",
        "g.weight_ih_l1": "(3 h1) <- h0",
        "g.weight_hh_l1": "(3 h1) <- h1",
    }
    with pytest.raises(L0GateError, match="`num_layers` is 0"):
        Layout.gru(0)


ERRORS = [
    ({}, {}, "`patterns` is {}"),
    ({"w": "h <- x <"}, {}, "layout of 'w': `pattern` has '<'"),
    ({"w": []}, {}, "must be a string or a list"),
    ({"w": "h <- x"}, {}, "axis 'h' is read by no parameter"),
    ({"w": "_ <- x"}, {"sizes": {"y": 3}}, "`sizes` names the axis 'y'"),
    ({"w": "_ <- x"}, {"sizes": {"x": 0}}, "`sizes['x']` is 0"),
    ({"w": "_ <- x"}, {"uses": {"v": 1}}, "`uses` names 'v'"),
    ({"w": "_ <- x"}, {"uses": {"w": -1}}, "`uses['w']` is -1"),
]


@pytest.mark.parametrize(("patterns", "options", "message"), ERRORS)
def test_bad_layouts(patterns: dict, options: dict, message: str) -> None:
    with pytest.raises(L0GateError, match=re.escape(message)):
        Layout(patterns, **options)


MISFITS = [
    ({"w": (8, 3)}, "the layout names the parameter 'u', which the model does not have"),
    ({"w": (8, 3), "u": (8,)}, "parameter 'u' has shape (8,); its pattern '(4 h) <- h' has 2"),
    ({"w": (9, 3), "u": (8, 2)}, "parameter 'w' has shape (9, 3)"),
    ({"w": (8, 3), "u": (8, 3)}, "dimension 1 is 3, but h is 2 with h = 2"),
    ({"w": (9, 3), "u": (9, 2)}, "parameter 'w' has shape (9, 3)"),
    ({"w": (8, 0), "u": (8, 2)}, "leaves no whole size above 0 for x in x"),
]


@pytest.mark.parametrize(("shapes", "message"), MISFITS)
def test_arrays_that_do_not_fit(shapes: dict, message: str) -> None:
    layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h"})
    with pytest.raises(L0GateError, match=re.escape(message)):
        layout.solve({name: np.zeros(shape) for name, shape in shapes.items()})


def test_an_axis_used_with_two_sizes_is_named() -> None:
    layout = Layout({"a": "_ <- h", "b": "_ <- h"})
    with pytest.raises(L0GateError, match=r"parameter 'b' has shape \(2, 5\).*with h = 4"):
        layout.solve({"a": np.zeros((2, 4)), "b": np.zeros((2, 5))})


def test_open_sizes_must_be_given() -> None:
    patterns = {"w": "_ <- (f + b)"}
    parameters = {"w": np.zeros((2, 5))}
    with pytest.raises(L0GateError, match=r"do not fix the size of 'f', 'b'.*`sizes=`"):
        Layout(patterns).solve(parameters)
    assert Layout(patterns, sizes={"f": 2}).solve(parameters) == {"f": 2, "b": 3}
    with pytest.raises(L0GateError, match="patterns for the slices"):
        Layout({"w": ["_ <- f", "_ <- f"]}).solve(parameters | {"w": np.zeros((3, 2, 2))})


def test_ready_made_layouts_have_the_names_of_a_plain_model() -> None:
    for layout, blocks in ((Layout.lstm(), 4), (Layout.gru(), 3)):
        assert layout.to_dict() == {
            "embedding.weight": "_ -> x",
            "rnn.weight_ih_l0": f"({blocks} h0) <- x",
            "rnn.weight_hh_l0": f"({blocks} h0) <- h0",
            "rnn.bias_ih_l0": f"({blocks} h0)",
            "rnn.bias_hh_l0": f"({blocks} h0)",
            "decoder.weight": "_ <- h0",
            "decoder.bias": "_",
        }
    named = Layout.gru(name="r", embedding="e", decoder="d").to_dict()
    assert {name.partition(".")[0] for name in named} == {"e", "r", "d"}
    bare = Layout.gru(embedding=None, decoder=None, bias=False)
    assert list(bare.to_dict()) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]


def test_the_table_as_it_is_printed() -> None:
    layout = Layout({"w": "hid <- x", "out": "_ <- hid"})
    assert layout.table().splitlines() == [
        "axis  size  written by  read by",
        "x     ?     input       w",
        "hid   ?     w           out",
    ]
    parameters = {"w": np.ones((12, 3)), "out": np.ones((1, 12))}
    assert layout.table(parameters).splitlines()[1:] == [
        "x     3     input       w",
        "hid   12    w           out",
    ]


def test_a_list_of_slices_has_at_least_one() -> None:
    layout = Layout({"w": ["_ <- x"]})
    assert layout.solve({"w": (np.ones((2, 3)),)}) == {"x": 3}
    with pytest.raises(L0GateError) as error:
        Layout({"w": []})
    assert "`pattern` is []; it must be a string or a list of strings" in str(error.value)


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
