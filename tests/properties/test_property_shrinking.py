"""Whole models of any architecture: shrinking, sizes, permutations, chunks, purity, seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from cases import arrays_for
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import freeze
from strategies import Architecture, States, architectures, examples, gate_kinds, gates_of, layouts

import l0gate
from l0gate import Budget, L0GateError, Pruner
from l0gate._pruner import State
from l0gate.layout.cost import Cost
from l0gate.layout.fold import fold, gate_gradients, group_norms, keep

NUMPY = l0gate.get_backend("numpy")
# Relative to the largest value, as the certificate is: small outputs are sums of large terms.
BOUNDS = {np.float64: 1e-10, np.float32: 1e-5}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # closed axes, gates that stalled


def pruned(
    case: Architecture, kind: str, dtype: Any = np.float64, budget: Budget | None = None
) -> tuple[Pruner, dict[str, np.ndarray], State]:
    """A pruner with given gates on every axis that the caller does not see."""
    pruner, parameters = Pruner(case.layout, budget, freeze=case.freeze), case.parameters(dtype)
    sizes = {axis: n for axis, n in case.sizes.items() if axis not in case.freeze}
    log_alpha = gates_of(kind, sizes, case.seed)
    return pruner, parameters, pruner.init(parameters, log_alpha=log_alpha)


def reduced(states: States, kept: Mapping[str, np.ndarray]) -> States:
    return [(axis, state[..., kept[axis]]) for axis, state in states]


def assert_same(found: tuple[list, States], expected: tuple[list, States], dtype: Any) -> None:
    """Outputs and states of one dtype and shape, axis by axis, within the bound."""
    assert [axis for axis, _ in found[1]] == [axis for axis, _ in expected[1]]
    pairs = itertools.chain(
        zip(found[0], expected[0], strict=True),
        ((a, b) for (_, a), (_, b) in zip(found[1], expected[1], strict=True)),
    )
    for a, b in pairs:
        assert a.dtype == b.dtype == dtype
        assert a.shape == b.shape
        scale = max(1.0, float(abs(b).max(initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=BOUNDS[dtype] * scale)


def count(parameters: Mapping[str, Any]) -> int:
    return sum(
        part.size
        for value in parameters.values()
        for part in (value if isinstance(value, tuple) else [value])
    )


@examples(4)
@given(
    case=architectures(),
    kind=gate_kinds,
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 3)),
    ragged=st.booleans(),
)
def test_shrinking_preserves_outputs_and_states(
    case: Architecture, kind: str, dtype: Any, shape: tuple[int, int], ragged: bool
) -> None:
    pruner, parameters, state = pruned(case, kind, dtype)
    small, kept = pruner.shrink(parameters, state)
    x, initial = case.input(*shape, dtype), case.initial(shape[1], dtype)
    rng = np.random.default_rng(case.seed)
    lengths = rng.integers(0, shape[0] + 1, shape[1]) if ragged else None
    y, last = case.apply(pruner.gate(parameters, state), x, initial, lengths)
    found = case.apply(small, x, reduced(initial, kept), lengths)
    assert_same(found, (y, reduced(last, kept)), dtype)
    if kind == "open":
        assert {a: len(i) for a, i in kept.items()} == case.sizes
        assert_same(found, case.apply(parameters, x, initial, lengths), dtype)
    if kind == "closed":
        assert all(len(kept[axis]) == 1 for axis in set(case.sizes) - set(case.freeze))
    assert all(len(kept[axis]) == case.sizes[axis] for axis in case.freeze)

    def apply(given: Mapping[str, np.ndarray], x: np.ndarray) -> Any:
        outputs, states = case.apply(given, x, lengths=lengths)
        named: dict[str, list[np.ndarray]] = {}
        for axis, part in states:
            named.setdefault(axis, []).append(part)
        return outputs, named

    if any(part.size for part in y):
        certificate = pruner.certify(apply, parameters, state, small, kept, [x])
        assert certificate.max_abs_difference <= certificate.tolerance
    else:
        with pytest.raises(L0GateError, match="led to no output at all"):
            pruner.certify(apply, parameters, state, small, kept, [x])


@examples(4)
@given(
    case=architectures(),
    kind=gate_kinds,
    fraction=st.none() | st.floats(0.2, 1.0),
    measure=st.sampled_from(["parameters", "bytes", "multiply_adds"]),
    reopen=st.booleans(),
)
def test_the_size_of_a_selection_is_the_size_after_shrinking(
    case: Architecture, kind: str, fraction: float | None, measure: str, reopen: bool
) -> None:
    figure: Any = fraction
    if fraction is None:  # what some selection costs to the last byte
        cost, rng = Cost(case.layout, case.parameters(), measure), np.random.default_rng(case.seed)
        some = {axis: int(rng.integers(1, n + 1)) for axis, n in case.sizes.items()}
        figure = cost.at({**some, **{axis: case.sizes[axis] for axis in case.freeze}})
    try:
        pruner, parameters, state = pruned(case, kind, budget=Budget(**{measure: figure}))
    except L0GateError as error:  # one neuron per axis costs more than that
        assert fraction is not None
        assert "the least is" in str(error)  # noqa: PT017
        return
    selected = pruner.select(state, parameters, reopen=reopen)
    small, kept = pruner.shrink(parameters, selected)
    counts = {axis: len(index) for axis, index in kept.items()}
    assert case.layout.solve(small) == counts
    counted = {
        "parameters": count(small),
        "bytes": 8 * count(small),
        "multiply_adds": sum(
            count({name: small[name]})
            for name, pattern in case.layout.patterns.items()
            if pattern.arrow
        ),
    }[measure]
    assert pruner.size(selected) == pruner.cost.at(counts) == counted <= pruner.limit
    assert pruner.selected(selected)
    # With every neuron decided, nothing is left to chance.
    if all((gate > 0).any() for gate in pruner.gates(selected).values()):
        assert float(pruner.expected_size(selected)) == pruner.size(selected)
    # As many stay as the budget allows, where closed ones may be reopened.
    if reopen:
        for axis in set(counts) - set(case.freeze):
            if counts[axis] < case.sizes[axis] and pruner.cost.powers[axis]:
                more = pruner.cost.at({**counts, axis: counts[axis] + 1})
                assert more > pruner.limit


@given(case=architectures(), kind=gate_kinds)
def test_shrinking_twice_is_shrinking_once(case: Architecture, kind: str) -> None:
    pruner, parameters, state = pruned(case, kind)
    small, kept = pruner.shrink(parameters, state)
    again = Pruner(case.layout)
    twice, all_kept = again.shrink(small, again.init(small))
    assert {axis: len(index) for axis, index in all_kept.items()} == case.layout.solve(small)
    for name, value in small.items():
        np.testing.assert_array_equal(twice[name], value)
    # In two parts: first what some axes lose, then the rest.
    half = {a: kept[a] if i % 2 else np.arange(n) for i, (a, n) in enumerate(case.sizes.items())}
    rest = {a: np.arange(len(kept[a])) if i % 2 else kept[a] for i, a in enumerate(case.sizes)}
    first = keep(case.layout, pruner.gate(parameters, state), half, NUMPY)
    for name, value in keep(case.layout, first, rest, NUMPY).items():
        np.testing.assert_array_equal(value, small[name])


@given(
    case=architectures().filter(lambda case: case.readers > 0),
    kind=gate_kinds,
    seed=st.integers(0, 2**32 - 1),
)
def test_permuting_neurons_changes_nothing(case: Architecture, kind: str, seed: int) -> None:
    pruner, parameters, state = pruned(case, kind)
    rng = np.random.default_rng(seed)
    order = {axis: rng.permutation(size) for axis, size in case.sizes.items()}
    moved = keep(case.layout, parameters, order, NUMPY)
    log_alpha = {a: v[order[a]] for a, v in state["log_alpha"].items()}
    moved_state = pruner.init(moved, log_alpha=log_alpha)
    assert float(pruner.expected_size(moved_state)) == pytest.approx(
        float(pruner.expected_size(state)), rel=1e-12
    )
    x, initial = case.input(3, 2), case.initial(2)
    y, last = case.apply(pruner.gate(parameters, state), x, initial)
    found = case.apply(pruner.gate(moved, moved_state), x, reduced(initial, order))
    assert_same(found, (y, reduced(last, order)), np.float64)
    # The same neurons stay, and their parts of the parameters with them.
    small, kept = pruner.shrink(parameters, state)
    moved_small, moved_kept = pruner.shrink(moved, moved_state)
    for axis, index in moved_kept.items():
        assert sorted(order[axis][index].tolist()) == kept[axis].tolist()
    sort = {axis: np.argsort(order[axis][index]) for axis, index in moved_kept.items()}
    back = keep(case.layout, moved_small, sort, NUMPY)
    for name, value in small.items():
        np.testing.assert_array_equal(back[name], value)
    norms, moved_norms = (group_norms(case.layout, p, NUMPY) for p in (parameters, moved))
    for axis, norm in norms.items():
        np.testing.assert_allclose(moved_norms[axis], norm[order[axis]], rtol=1e-12)


@given(case=architectures(causal=True), kind=gate_kinds, cut=st.integers(0, 4))
def test_chunks_of_the_small_model_equal_the_whole(case: Architecture, kind: str, cut: int) -> None:
    assert case.causal
    pruner, parameters, state = pruned(case, kind)
    small, kept = pruner.shrink(parameters, state)
    x, initial = case.input(4, 2), reduced(case.initial(2), kept)
    ((y,), last) = case.apply(small, x, initial)
    ((head,), middle) = case.apply(small, x[:cut], initial)
    ((tail,), end) = case.apply(small, x[cut:], middle)
    assert_same(([np.concatenate([head, tail])], end), ([y], last), np.float64)


@given(case=architectures(), kind=gate_kinds, by_budget=st.booleans())
def test_nothing_that_is_given_is_modified(case: Architecture, kind: str, by_budget: bool) -> None:
    """Arrays are read-only, dicts keep their entries, and the small model shares no memory."""
    budget = Budget(parameters=1.0) if by_budget else None
    pruner, parameters, state = pruned(case, kind, budget=budget)
    if not by_budget:
        pruner.strength = 0.1
    given_ = freeze({"parameters": parameters, "state": state, "weights": case.parameters()})
    parameters, state, weights = given_["parameters"], given_["state"], given_["weights"]
    before = {key: dict(value) for key, value in given_.items()}
    noise, _ = pruner.noise(state, NUMPY.rng(0))
    noise = freeze(noise)
    gates = freeze(pruner.gates(state, noise))
    pruner.init(parameters, log_alpha={})
    pruner.gate(parameters, state, noise)
    pruner.pullback(parameters, state, noise, weights)
    pruner.penalty_gradient(state, 0.5)
    gate_gradients(case.layout, parameters, gates, weights, NUMPY)
    group_norms(case.layout, parameters, NUMPY)
    pruner.penalty(state, 0.5)
    pruner.expected_size(state)
    updated = freeze(pruner.update(state, 0.5))
    selected = freeze(pruner.select(updated, parameters))
    small, kept = pruner.shrink(parameters, selected)
    pruner.certify(
        lambda p, x: case.apply(p, x)[0],
        parameters,
        selected,
        freeze(small),
        freeze(kept),
        [freeze(case.input(2, 1))],
    )
    for key, value in before.items():
        assert value.keys() == given_[key].keys()
        assert all(given_[key][name] is part for name, part in value.items())
    for ours in small.values():
        assert not any(np.shares_memory(ours, array) for array in parameters.values())


def _arrays(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, (dict, list, tuple)):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [array for part in parts for array in _arrays(part)]
    return [tree] if isinstance(tree, np.ndarray) else []


@given(case=architectures(), seed=st.integers(0, 2**64 - 1))
def test_the_same_seed_gives_the_same_numbers(case: Architecture, seed: int) -> None:
    """Also from a pruner of its own, and with the parameters in another order."""
    parameters, drawn = case.parameters(), []
    for given_, first in (
        (parameters, seed),
        (dict(reversed(parameters.items())), seed),
        (parameters, seed ^ 1),
    ):
        pruner = Pruner(case.layout)
        state = pruner.init(given_, first)
        noise, rng = pruner.noise(state, NUMPY.rng(first))
        more, _ = pruner.noise(state, rng)
        parts = (state["log_alpha"], noise, more)
        drawn.append(np.concatenate([part[axis] for part in parts for axis in case.layout.axes]))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@examples(2)
@given(case=layouts(), seed=st.integers(0, 2**32 - 1))
def test_the_expected_size_is_the_mean_exact_size(case: tuple, seed: int) -> None:
    layout, sizes = case
    parameters = arrays_for(layout, sizes)
    pruner, rng = Pruner(layout), np.random.default_rng(seed)
    state = pruner.init(parameters, log_alpha={a: rng.uniform(-4, 2, n) for a, n in sizes.items()})
    p = pruner.open_probabilities(state)
    mean = 0.0
    for outcome in itertools.product([0, 1], repeat=sum(sizes.values())):
        parts = np.split(np.array(outcome), np.cumsum(list(sizes.values()))[:-1])
        opened = dict(zip(sizes, parts, strict=True))
        chance = np.prod([np.where(opened[a], p[a], 1 - p[a]).prod() for a in sizes])
        kept = {a: np.flatnonzero(part) for a, part in opened.items()}
        # Counted on the arrays: what an axis without neurons leaves is empty.
        size = sum(
            part.size for part in _arrays(list(keep(layout, parameters, kept, NUMPY).values()))
        )
        assert size == pruner.cost.at({a: len(index) for a, index in kept.items()})
        mean += chance * size
    assert float(pruner.expected_size(state)) == pytest.approx(mean, rel=1e-12)


def test_the_expected_size_is_the_mean_over_sampled_gates() -> None:
    layout = l0gate.Layout.lstm(1)
    sizes = {"x": 3, "h0": 4}
    pruner = Pruner(layout)
    log_alpha = {"x": np.array([-3.0, -1, 1]), "h0": np.array([-2.0, -1.5, -1, 0])}
    state = pruner.init(arrays_for(layout, sizes), log_alpha=log_alpha)
    rng, found = NUMPY.rng(0), []
    for _ in range(4000):
        noise, rng = pruner.noise(state, rng)
        gates = pruner.gates(state, noise)
        found.append(pruner.cost.at({a: int((gate > 0).sum()) for a, gate in gates.items()}))
    error = np.std(found) / np.sqrt(len(found))
    # The seed is fixed, so this is no matter of luck: within three standard errors.
    assert abs(np.mean(found) - float(pruner.expected_size(state))) < 3 * error


@examples(2)
@given(case=layouts(), seed=st.integers(0, 2**32 - 1))
def test_layouts_of_any_shape_fold_and_keep_alike(case: tuple, seed: int) -> None:
    """Binary gates fold to zeros exactly where `keep` cuts, and nothing else changes."""
    layout, sizes = case
    parameters = arrays_for(layout, sizes, seed)
    rng = np.random.default_rng(seed)
    kept = {
        a: np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False)) for a, n in sizes.items()
    }
    gates = {a: np.isin(np.arange(n), kept[a]).astype(float) for a, n in sizes.items()}
    assert layout.solve(parameters) == sizes
    small = keep(layout, fold(layout, parameters, gates, NUMPY), kept, NUMPY)
    plain = keep(layout, parameters, kept, NUMPY)
    counts = {axis: len(index) for axis, index in kept.items()}
    assert Cost(layout, small).total == Cost(layout, parameters).at(counts)
    for ours, theirs in zip(_arrays(small), _arrays(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert layout.solve(small) == counts
