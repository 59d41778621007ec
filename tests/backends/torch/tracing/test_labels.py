"""Axes that become one, labels and uses."""

from __future__ import annotations

from l0gate.backends._torch.tracing.labels import (
    Axis,
    Features,
    StackedStates,
    Use,
    axes_in,
    axes_of,
    root,
    unite,
    unpruned,
    width,
)


def test_united_axes_are_represented_by_the_named_one_then_the_older() -> None:
    old, new, named = Axis(4), Axis(4), Axis(4, "h0")
    assert unite(new, old) is old
    assert unite(old, named) is named
    assert root(new) is root(old) is named
    assert unite(named, new) is named


def test_what_is_known_of_either_axis_holds_for_both() -> None:
    a = Axis(4, "h0", depth=2, reasons=["one"])
    b = Axis(4, depth=1, returned=True, reasons=["other"])
    both = unite(a, b)
    assert (both.returned, both.depth, both.reasons) == (True, 1, ["one", "other"])
    unite(a, b)
    assert both.reasons == ["one", "other"]


def test_axes_and_sizes_of_labels() -> None:
    a, b = Axis(4), Axis(3)
    parts = ((a, 4), (None, 2), (b, 3))
    assert width(parts) == 9
    assert axes_in(parts) == axes_of(Features(-1, parts)) == [a, b]
    assert axes_of(StackedStates((((a, 4),), ((b, 3),)))) == [a, b]
    assert (width(unpruned(5)), axes_in(unpruned(5))) == (5, [])


def test_the_dimension_that_a_use_reads() -> None:
    left, right = ((Axis(4), 4),), ((Axis(3), 3),)
    assert Use("{0} <- {1}", (left, right)).read == right
    assert Use("{0} -> {1}", (left, right)).read == left
    assert Use("{0} -> {1}", (left, right), lookup=True).read == ()
    assert Use("{0}", (left,)).read == ()
