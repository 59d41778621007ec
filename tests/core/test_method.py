"""Methods: what all of them share, a method of a plugin, and scores that are refused."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import LAYOUT, NET, arrays, trained

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner, get_backend
from l0gate._method import get_method
from l0gate._registry import registry
from l0gate.methods import GroupLasso, Magnitude, Method, Random, neuron_norms

NAMES = ["magnitude", "gradual_magnitude", "iss", "geometric_median", "random"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("equal", [(), (["h0", "h1"],)])
@settings(max_examples=min(8, settings().max_examples))
@given(seed=st.integers(0, 99), share=st.floats(0.3, 0.95))
def test_the_cut_meets_the_budget_and_changes_no_output(
    name: str, equal: Any, seed: int, share: float
) -> None:
    parameters = arrays(seed, hidden=(5, 5))
    pruner = Pruner(LAYOUT, Budget(parameters=share), method=name, equal=equal, freeze=["x"])
    state = trained(pruner, parameters)
    assert pruner.selected(state)
    small, kept = pruner.shrink(parameters, state)
    assert pruner.limit is not None
    assert pruner.size(state) <= pruner.limit
    assert len(kept["x"]) == 5
    assert not equal or len(kept["h0"]) == len(kept["h1"])
    one_more = {a: len(i) for a, i in kept.items()}
    # What was closed on the way stays closed, so that a gradual cut may leave room.
    for axis in [] if equal or name.startswith("gradual") else ["h0", "h1"]:
        more = one_more | {axis: one_more[axis] + 1}
        assert len(kept[axis]) == 5 or pruner.cost.at(more) > pruner.limit
    x = np.random.default_rng(seed).integers(0, 7, (4, 2))
    y, _ = NET.apply(pruner.gate(parameters, state), x)
    np.testing.assert_allclose(NET.apply(small, x)[0], y, rtol=0, atol=1e-12)
    # Gates are 0 or 1: nothing is scaled.
    np.testing.assert_array_equal(small["decoder.bias"], parameters["decoder.bias"])
    gates = pruner.gates(state)
    assert {float(g) for values in gates.values() for g in values} <= {0.0, 1.0}
    assert state["forced"].tolist() == [0, 0]


def test_until_the_cut_every_neuron_is_open() -> None:
    parameters = arrays()
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method="magnitude")
    state = pruner.init(parameters)
    noise, _ = pruner.noise(state, pruner.backend.rng(0))
    for name, value in pruner.gate(parameters, state, noise).items():
        np.testing.assert_array_equal(value, parameters[name])
    assert pruner.expected_size(state) == pruner.cost.total
    assert float(pruner.penalty(state, 0.3, parameters)) == 0.0
    assert not pruner.parameter_gradient(state, parameters)
    slopes, of_gates = pruner.pullback(parameters, state, noise, parameters)
    assert not any(values.any() for values in of_gates.values())
    assert all((slopes[name] == parameters[name]).all() for name in parameters)
    assert not any(values.any() for values in pruner.penalty_gradient(state, 0.3).values())
    assert pruner.update(state, 0.5, parameters)["progress"] == 0.5
    assert not pruner.selected(pruner.update(state, 0.59, parameters))


@pytest.mark.filterwarnings("ignore:.*open neurons were cut")
def test_methods_cut_a_state_that_was_not_selected() -> None:
    """`shrink`, `certify` and `report` settle it, for which a method needs the parameters."""
    parameters = arrays()
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method="magnitude")
    state = pruner.init(parameters)
    small, kept = pruner.shrink(parameters, state)
    x = np.random.default_rng(0).integers(0, 7, (4, 2))
    certificate = pruner.certify(
        lambda p, given: NET.apply(p, given)[0], parameters, state, small, kept, [x]
    )
    assert certificate.forced_open == certificate.forced_closed == 0
    told = l0gate.report(pruner, state, parameters)
    assert {row.axis: row.after for row in told.axes} == {a: len(i) for a, i in kept.items()}


def test_a_method_has_no_gates_to_train() -> None:
    parameters = arrays()
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method="magnitude")
    zeros = {axis: np.zeros(n) for axis, n in (("x", 5), ("h0", 6), ("h1", 4))}
    state = pruner.update(pruner.init(parameters, log_alpha=zeros), 0.25, parameters)
    assert float(pruner.penalty(state, 0.25, parameters)) == 0.0
    slopes = (
        pruner.penalty_gradient(state, 0.25),
        pruner.pullback(parameters, state, None, arrays())[1],
    )
    for axis, values in pruner.open_probabilities(state).items():
        assert values.dtype == pruner.gates(state)[axis].dtype == "float64"
        assert (values == 1.0).all()
        for slope in slopes:
            assert slope[axis].tolist() == zeros[axis].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magnitude"}, "needs a `budget`"),
        ({"method": "magnitude", "strength": 1.0}, "needs a `budget`"),
        ({"method": "magnitud", "budget": Budget(parameters=0.5)}, "registered are 'l0', 'magni"),
        ({"method": 3, "budget": Budget(parameters=0.5)}, r"`method` is 3; it must be a name"),
        (
            {"method": Random(), "budget": Budget(parameters=0.5), "gates": l0gate.HardConcrete()},
            "not both",
        ),
    ],
)
def test_wrong_methods_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        Pruner(LAYOUT, **options)


def test_options_of_methods() -> None:
    assert repr(GroupLasso(0.5)) == "GroupLasso(gradual=False, strength=0.5)"
    assert GroupLasso(0).strength == 0
    for make, message in (
        (lambda: Magnitude(gradual=1), "`gradual` is 1"),  # type: ignore[arg-type]
        (lambda: GroupLasso(-1.0), "`strength` is -1.0"),
        (lambda: GroupLasso(float("nan")), "`strength` is nan"),
        (lambda: GroupLasso(float("inf")), "`strength` is inf"),
        (lambda: Random(-1), "`seed` is -1"),
    ):
        with pytest.raises(L0GateError, match=message):
            make()


class Wrong(Method):
    name = "wrong"

    def __init__(self, scores: Any) -> None:
        self.found = scores

    def scores(self, layout: Any, parameters: Any, backend: Any) -> Any:
        return self.found


@pytest.mark.parametrize("found", [{}, {"h": [1.0]}, {"h": np.full(4, np.nan)}])
def test_scores_that_do_not_fit_are_refused(found: Any) -> None:
    layout = Layout({"w": "h <- _", "v": "_ <- h"})
    parameters = {"w": np.ones((4, 3)), "v": np.ones((2, 4))}
    pruner = Pruner(layout, Budget(parameters=0.5), method=Wrong(found))
    with pytest.raises(L0GateError, match=r"scored axis 'h'.* must give 4 finite numbers"):
        pruner.init(parameters)
    pruner = Pruner(layout, Budget(parameters=0.5), method=Magnitude())
    with pytest.raises(L0GateError, match="`parameters` is None"):
        pruner.select(pruner.init(parameters))


@pytest.fixture
def plugin() -> Iterator[Any]:
    """Register a module whose hook returns the given descriptors."""

    def register(descriptors: Any) -> list[str]:
        module = types.ModuleType("outside")
        module.l0gate_methods = l0gate.hookimpl(lambda: descriptors)  # type: ignore[attr-defined]
        before = len(registry.problems)
        registry.register(module, "outside")
        return registry.problems[before:]

    yield register
    registry.unregister("outside")
    registry.problems[:] = [p for p in registry.problems if "outside" not in p]


def test_a_method_from_outside(plugin: Any) -> None:
    assert plugin([{"name": "mine", "factory": lambda: Random(7)}]) == []
    assert registry.method_names() == ["l0", "magnitude", "iss", *registry.method_names()[3:]]
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method="mine")
    assert isinstance(pruner.method, Random)
    registry.unregister("outside")
    with pytest.raises(L0GateError, match="`method` is 'mine'; registered are"):
        Pruner(LAYOUT, Budget(parameters=0.5), method="mine")


@pytest.mark.filterwarnings("ignore:l0gate plugin outside")
@pytest.mark.parametrize(
    ("descriptors", "problem"),
    [
        (None, "l0gate_methods returned None; it must return a list"),
        ([{"name": "a"}], "must be a dict with name and factory"),
        (["a"], "must be a dict with name and factory"),
        ([{"name": "random", "factory": Random}], "'random' is registered already by l0gate"),
        ([{"name": "l0", "factory": Random}], "'l0' is the name of hard-concrete gates"),
    ],
)
def test_a_broken_plugin_is_named(plugin: Any, descriptors: Any, problem: str) -> None:
    (found,) = plugin(descriptors)
    assert found.startswith("l0gate plugin outside: ")
    assert problem in found
    assert isinstance(get_method("random"), Random)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: 1 / 0, "method 'mine' of outside cannot be loaded: ZeroDivisionError"),
        ("nowhere:Method", "cannot be loaded: ModuleNotFoundError"),
        (lambda: 3, "is 3; it must be a l0gate.methods.Method"),
    ],
)
def test_a_method_that_cannot_be_made(plugin: Any, factory: Any, message: str) -> None:
    assert plugin([{"name": "mine", "factory": factory}]) == []
    with pytest.raises(L0GateError, match=message):
        Pruner(LAYOUT, Budget(parameters=0.5), method="mine")


class Outgoing(Method):
    """Norms over the first two dimensions: wrong where two directions are concatenated."""

    name = "outgoing"

    def scores(self, layout: Any, parameters: Any, backend: Any) -> Any:
        return {a: sum(parameters[n].sum(axis=0) for n in layout.readers(a)) for a in layout.axes}


def test_a_method_that_cannot_score_fails_at_once_and_is_named() -> None:
    layout = Layout({"f": "f <- f", "b": "b <- b", "out": "_ <- (f + b)"})
    parameters = {"f": np.ones((3, 3)), "b": np.ones((4, 4)), "out": np.ones((2, 7))}
    pruner = Pruner(layout, Budget(parameters=0.6), method=Outgoing())
    with pytest.raises(L0GateError, match=r"'outgoing' \(.*Outgoing\) cannot score .*: Value"):
        pruner.init(parameters)


def test_norms_of_the_weights_of_a_neuron() -> None:
    layout = Layout({"w": "h <- _", "u": "h <- h", "v": "_ <- h"})
    u = np.array([[1.0, 2.0], [3.0, 4.0]])
    parameters = {"w": np.array([[2.0], [0.0]]), "u": u, "v": np.array([[5.0, 0.0]])}
    numpy = get_backend("numpy")
    reading = neuron_norms(layout, parameters, numpy, reads=True)["h"] ** 2
    np.testing.assert_allclose(reading, [1 + 9 + 25, 4 + 16])
    writing = neuron_norms(layout, parameters, numpy, reads=False)["h"] ** 2
    np.testing.assert_allclose(writing, [4 + 1 + 4, 9 + 16])
    every = neuron_norms(layout, parameters, numpy)["h"] ** 2
    np.testing.assert_allclose(every, [4 + 1 + 4 + 9 + 25, 4 + 9 + 16])
