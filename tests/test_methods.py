"""Methods choose neurons in other ways than gates; all else is that of the gates."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner, get_backend
from l0gate._method import get_method
from l0gate._registry import registry
from l0gate.layout.fold import group_norms
from l0gate.methods import GeometricMedian, GroupLasso, Magnitude, Method, Random
from l0gate.reference import Net

NAMES = ["magnitude", "gradual_magnitude", "iss", "geometric_median", "random"]
LAYOUT = Layout.lstm(2)
NET = Net(
    [
        {"type": "embedding", "name": "embedding"},
        {"type": "lstm", "name": "rnn", "num_layers": 2},
        {"type": "linear", "name": "decoder"},
    ]
)


def arrays(seed: int = 0, embedding: int = 5, hidden: tuple[int, int] = (6, 4)) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sizes = {"embedding": embedding, "rnn": list(hidden), "decoder": 7}
    found = NET.init(rng, input_size=7, sizes=sizes)
    return {name: value.astype(np.float64) for name, value in found.items()}


def trained(pruner: Pruner, parameters: dict[str, Any], steps: int = 20) -> Any:
    """The state after some updates, without any training."""
    state = pruner.init(parameters)
    for step in range(steps):
        progress = (step + 1) / steps
        state = pruner.update(state, progress, parameters)
        if pruner.budget is not None and progress >= pruner.budget.settle:
            state = pruner.select(state, parameters)
    return state


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


@pytest.mark.parametrize("method", [Magnitude(), GroupLasso()])
def test_magnitude_keeps_the_largest(method: Method) -> None:
    parameters = arrays(3)
    norms = group_norms(LAYOUT, parameters, get_backend("numpy"))
    pruner = Pruner(LAYOUT, Budget(parameters=0.4), method=method)
    kept = pruner.kept(trained(pruner, parameters))
    for axis, index in kept.items():
        order = np.argsort(-norms[axis])
        assert set(index.tolist()) == set(order[: len(index)].tolist())


def test_gradual_magnitude_closes_on_the_way_and_never_opens() -> None:
    parameters = arrays(hidden=(30, 30))
    pruner = Pruner(LAYOUT, Budget(parameters=0.3, settle=0.8), method="gradual_magnitude")
    state, sizes = pruner.init(parameters), []
    for step in range(1, 26):
        rng = np.random.default_rng(step)  # weights that move between the cuts
        moved = {n: v + 0.3 * rng.standard_normal(v.shape) for n, v in parameters.items()}
        before = pruner.gates(state)
        state = pruner.update(state, 0.8 * step / 25, moved)
        now = pruner.gates(state)
        assert all((now[axis] <= before[axis]).all() for axis in now)
        sizes.append(pruner.size(state) / pruner.cost.total)
        wanted = 1 - 0.7 * (1 - (1 - step / 25) ** 3)
        assert sizes[-1] <= wanted + 1e-9
        assert sizes[-1] >= wanted - 0.1
    assert pruner.update(state, 0.5, parameters)["progress"] == state["progress"]  # never back
    assert not pruner.selected(state)
    assert pruner.selected(pruner.select(state, parameters))


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


def test_gradual_magnitude_does_not_cut_below_the_budget_or_before_its_time() -> None:
    parameters = arrays(hidden=(30, 30))
    pruner = Pruner(LAYOUT, Budget(parameters=0.3, settle=0.5), method="gradual_magnitude")
    state = pruner.update(pruner.init(parameters), 0.004, parameters)
    assert pruner.size(state) == pruner.cost.total
    late = pruner.update(state, 0.9, parameters)
    assert 0.29 <= pruner.size(late) / pruner.cost.total <= 0.3
    assert [Magnitude(gradual=True).share(p) for p in (0, 0.5, 1, 2)] == [0, 0.875, 1, 1]
    assert Magnitude().share(0.5) == GeometricMedian().share(0.5) == 0


def test_the_lasso_is_the_sum_of_all_norms() -> None:
    layout = Layout({"w": "(2 h + 3) <- x", "u": "h <- h", "v": "_ <- h"})
    rng = np.random.default_rng(0)
    parameters = {
        "w": rng.standard_normal((11, 5)),
        "u": rng.standard_normal((4, 4)),
        "v": rng.standard_normal((2, 4)),
    }
    norms = []
    for j in range(4):
        own = [*parameters["w"][[j, 4 + j]].ravel(), *parameters["u"][j], *parameters["u"][:, j]]
        norms.append(np.linalg.norm([*own, *parameters["v"][:, j]]))
    lasso, backend = GroupLasso(0.5), get_backend("numpy")
    assert lasso.penalty(layout, parameters, backend, ["h"]) == pytest.approx(0.5 * sum(norms))
    columns = np.linalg.norm(parameters["w"], axis=0)
    both = lasso.penalty(layout, parameters, backend, ["h", "x"])
    assert both == pytest.approx(0.5 * (sum(norms) + columns.sum()))


@pytest.mark.parametrize("axes", [["h"], ["h", "x"]])
def test_the_lasso_has_its_gradient(axes: list[str]) -> None:
    layout = Layout({"w": "(2 h + 3) <- x", "u": "h <- h", "v": "_ <- h", "b": "(2 h + 3)"})
    rng = np.random.default_rng(0)
    shapes = {"w": (11, 5), "u": (4, 4), "v": (2, 4), "b": (11,)}
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    lasso, backend = GroupLasso(0.3), get_backend("numpy")
    slopes = lasso.penalty_gradient(layout, parameters, backend, axes)
    for name, value in parameters.items():
        direction = rng.standard_normal(value.shape)
        ends = [
            float(lasso.penalty(layout, parameters | {name: value + e * direction}, backend, axes))
            for e in (1e-5, -1e-5)
        ]
        assert np.sum(slopes[name] * direction) == pytest.approx((ends[0] - ends[1]) / 2e-5, 1e-7)


def test_the_lasso_ends_with_the_selection() -> None:
    parameters = arrays()
    pruner = Pruner(LAYOUT, Budget(parameters=0.5), method=GroupLasso(), freeze=["x"])
    state = pruner.init(parameters)
    assert float(pruner.penalty(state, 0.1, parameters)) > 0
    assert set(pruner.parameter_gradient(state, parameters)) == set(LAYOUT.patterns)
    state = pruner.select(pruner.update(state, 0.7, parameters), parameters)
    assert float(pruner.penalty(state, 0.7, parameters)) == 0
    assert not pruner.parameter_gradient(state, parameters)


def test_geometric_median_scores_distances() -> None:
    # The block that belongs to no axis stands before one that does.
    layout = Layout({"w": "(3 + 2 h) <- _", "u": ["h <- h", "h <- h"], "v": "_ <- (h 2)"})
    rng = np.random.default_rng(0)
    parameters = {
        "w": rng.standard_normal((11, 3)),
        "u": rng.standard_normal((2, 4, 4)),
        "v": rng.standard_normal((2, 8)),
    }
    vectors = []
    for j in range(4):
        parts = [parameters["w"][[3 + j, 7 + j]], parameters["v"][:, 2 * j : 2 * j + 2]]
        parts += [u[j] for u in parameters["u"]] + [u[:, j] for u in parameters["u"]]
        vectors.append(np.concatenate([part.ravel() for part in parts]))
    expected = [sum(np.linalg.norm(a - b) for b in vectors) for a in vectors]
    found = GeometricMedian().scores(layout, parameters, get_backend("numpy"))["h"]
    np.testing.assert_allclose(found, expected / np.mean(expected), rtol=1e-12)


def test_random_neurons_follow_the_seed() -> None:
    backend, parameters = get_backend("numpy"), arrays()
    first, same, other = (
        Random(seed).scores(LAYOUT, parameters, backend)["h0"] for seed in (1, 1, 2)
    )
    assert (first == same).all()
    assert (first != other).all()


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
        pruner.select(pruner.init(parameters), parameters)
    with pytest.raises(L0GateError, match="`parameters` is None"):
        pruner.select(pruner.init(parameters))


# Plugins --------------------------------------------------------------------------------------


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
