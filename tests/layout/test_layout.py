"""Layouts as text and back, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, layouts, pattern_texts

from l0gate import L0GateError, Layout


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


def test_a_list_of_slices_has_at_least_one() -> None:
    layout = Layout({"w": ["_ <- x"]})
    assert layout.solve({"w": (np.ones((2, 3)),)}) == {"x": 3}
    with pytest.raises(L0GateError) as error:
        Layout({"w": []})
    assert "`pattern` is []; it must be a string or a list of strings" in str(error.value)
