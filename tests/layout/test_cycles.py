"""Which parameters are recurrent."""

from __future__ import annotations

import pytest

from l0gate import Layout

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
