"""`Pruner.shrink` and `certify` on whole models: what is preserved, and what is not certified."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import chains

import l0gate
from l0gate import Backend, Budget, L0GateError, Layout, Pruner
from l0gate._certificate import _cast
from l0gate._chain import Chain

NUMPY = l0gate.get_backend("numpy")


def random_log_alpha(kind: str, sizes: dict[str, int], rng: np.random.Generator) -> dict:
    spread = {"random": (-6, 4), "soft": (-2, 2), "open": (2.5, 5), "closed": (-8, -3)}[kind]
    return {axis: rng.uniform(*spread, n) for axis, n in sizes.items()}


def run(net: Any, chain: Chain) -> Any:
    """`apply` for `certify`: outputs, and states by axis."""

    def apply(parameters: dict, x: Any) -> Any:
        y, states = net.apply(parameters, x, engine="numpy")
        named = {
            axis: list(state) if isinstance(state, tuple) else [state]
            for axis, state in zip(chain.state_axes, states, strict=True)
        }
        return y, named

    return apply


@given(chains())
def test_shrinking_preserves_outputs_and_states(case: dict) -> None:
    chain = Chain(case["layers"], case["batch_first"])
    net = NUMPY.net(case["layers"], case["batch_first"])
    rng = np.random.default_rng(case["seed"])
    embedded = case["layers"][0]["type"] == "embedding"
    named = {layer["name"]: case["hidden_size"] for layer in case["layers"]}
    if embedded:
        named["embedding"] = case["input_size"]
    parameters = net.init(
        rng, input_size=7 if embedded else case["input_size"], sizes=named, dtype="float64"
    )
    # A raw input stays whole here: a net of fewer features needs fewer features given.
    freeze = [*chain.frozen, *([chain.input_axis] if chain.input_axis else [])]
    pruner = Pruner(chain.layout, freeze=freeze)
    state = pruner.init(parameters)
    values = random_log_alpha(case["gates"], pruner.sizes, rng)
    state = pruner.init(parameters, log_alpha={a: v for a, v in values.items() if a not in freeze})
    steps, batch = case["length"], case["batch"]
    shape = (batch, steps) if case["batch_first"] else (steps, batch)
    x = rng.integers(0, 7, shape) if embedded else rng.normal(size=(*shape, case["input_size"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        small, kept = pruner.shrink(parameters, state)
        certificate = pruner.certify(run(net, chain), parameters, state, small, kept, [x])
    assert certificate.max_abs_difference <= certificate.tolerance
    assert certificate.sequences == 1
    if case["gates"] == "open":
        assert all(len(index) == pruner.sizes[axis] for axis, index in kept.items())
    # Shrinking twice is shrinking once.
    again = Pruner(chain.layout)
    twice, _ = again.shrink(small, again.init(small))
    for name, value in small.items():
        np.testing.assert_array_equal(twice[name], value)


def test_each_half_of_a_certificate_runs_in_its_precision() -> None:
    """A framework whose float64 must be switched on is never asked for it outside `precision`."""

    class Switched(type(NUMPY)):  # type: ignore[misc]
        on = False

        @contextmanager
        def precision(self, dtype: str) -> Iterator[None]:
            before, self.on = self.on, dtype == "float64"
            yield
            self.on = before

        def cast(self, x: Any, dtype: str) -> Any:
            assert self.on or dtype != "float64" or x.dtype == dtype
            return super().cast(x, dtype)

    backend, seen = Switched(), []
    layout = Layout({"w": "h <- _", "v": "_ <- h"})
    rng = np.random.default_rng(0)
    parameters = {
        "w": rng.normal(size=(4, 3)).astype("float32"),
        "v": rng.normal(size=(2, 4)).astype("float32"),
    }
    pruner = Pruner(layout, Budget(parameters=0.8), backend=backend)
    state = pruner.init(parameters, log_alpha={"h": [3.0, -5.0, 0.5, 3.0]})

    def apply(p: dict, x: Any) -> Any:
        seen.append((backend.on, p["w"].dtype.name, x.dtype.name))
        return np.tanh(x @ p["w"].T) @ p["v"].T

    state = pruner.select(state, parameters)
    small, kept = pruner.shrink(parameters, state)
    pruner.certify(apply, parameters, state, small, kept, [rng.normal(size=(5, 3))])
    assert seen == 2 * [(True, "float64", "float64")] + 2 * [(False, "float32", "float32")]


def test_a_certificate_counts_what_the_selection_forced() -> None:
    layout = Layout({"w": "h <- _", "v": "_ <- h"})
    parameters = {"w": np.ones((4, 3)), "v": np.ones((2, 4))}
    pruner = Pruner(layout, Budget(parameters=1.0))
    state = pruner.init(parameters, log_alpha={"h": [3.0, -5.0, 0.5, 3.0]})
    state = pruner.select(state, parameters)
    small, kept = pruner.shrink(parameters, state)
    x = [np.ones((5, 3))]

    def apply(p: dict, x: Any) -> Any:
        return np.tanh(x @ p["w"].T) @ p["v"].T

    certificate = pruner.certify(apply, parameters, state, small, kept, x)
    assert (certificate.forced_open, certificate.forced_closed) == (1, 0)

    def apply_small(given: Any, x: Any, dtype: str) -> Any:
        return apply({name: value.astype(dtype) for name, value in given.items()}, x) + 1.0

    with pytest.raises(L0GateError, match="does not equal the gated one"):
        pruner.certify(apply, parameters, state, small, kept, x, apply_small=apply_small)


def test_inputs_from_the_host_follow_the_precision() -> None:
    class Other(Backend):
        """Owns no NumPy array, as the backends of other frameworks."""

    given = {"x": np.zeros(2), "tokens": np.arange(3), "more": [np.zeros(1, "float32")]}
    for dtype in ("float32", "float64"):
        cast = _cast(Other(), given, dtype)
        assert (cast["x"].dtype, cast["more"][0].dtype) == (dtype, dtype)
        assert cast["tokens"] is given["tokens"]


def test_a_layout_that_misses_a_reader_is_not_certified() -> None:
    layers = [{"type": "embedding", "name": "e"}, {"type": "lstm", "name": "rnn"}]
    layers.append({"type": "linear", "name": "out"})
    chain, net = Chain(layers), NUMPY.net(layers)
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=7, sizes={"e": 4, "rnn": 5, "out": 3}, dtype="float64")
    pruner = Pruner(chain.layout)
    state = pruner.init(parameters, log_alpha={"h0": np.array([3.0, -5, 0.5, -5, 0.5])})
    small, kept = pruner.shrink(parameters, state)
    x = [rng.integers(0, 7, (4, 2))]
    apply = run(net, chain)
    assert pruner.certify(apply, parameters, state, small, kept, x).max_abs_difference < 1e-12
    wrong = {**small, "out.weight": small["out.weight"] * 1.001}
    with pytest.raises(L0GateError, match="does not equal the gated one: they differ by"):
        pruner.certify(apply, parameters, state, wrong, kept, x)
    broken = {**small, "out.weight": small["out.weight"] * np.nan}
    with pytest.raises(L0GateError, match="differ by nan"):
        pruner.certify(apply, parameters, state, broken, kept, x)
    with pytest.raises(L0GateError, match="`inputs` is empty"):
        pruner.certify(apply, parameters, state, small, kept, [])
    with pytest.raises(L0GateError, match="nothing was compared"):
        pruner.certify(apply, parameters, state, small, kept, [np.zeros((0, 2), int)])
    for lie, message in (
        ({**kept, "h0": kept["h0"][1:]}, r"`kept\['h0'\]` leaves out neurons whose gates are open"),
        ({**kept, "h0": np.arange(5)}, "`small` has axes of the sizes"),
        ({**kept, "h0": kept["h0"][::-1]}, "must be sorted indices of the axis's 5 neurons"),
        ({**kept, "h0": np.array([0, 2, 4, 9])}, "must be sorted indices"),
        ({}, "`kept` must give the indices of the axes"),
    ):
        with pytest.raises(L0GateError, match=message):
            pruner.certify(apply, parameters, state, small, lie, x)
    with pytest.raises(L0GateError, match="`small` has axes of the sizes"):
        pruner.certify(apply, parameters, state, pruner.gate(parameters, state), kept, x)


def linear(columns: Any) -> tuple[Any, ...]:
    """A layer of ten neurons whose outputs get further columns, pruned, with inputs."""
    layout = Layout({"w": "h <- _", "v": "_ <- h"})
    rng = np.random.default_rng(0)
    parameters = {"w": rng.normal(size=(10, 3)), "v": rng.normal(size=(2, 10))}
    pruner = Pruner(layout)
    state = pruner.init(parameters, log_alpha={"h": np.linspace(-5, 5, 10)})
    small, kept = pruner.shrink(parameters, state)

    def apply(given: dict, x: np.ndarray) -> Any:
        y = np.tanh(x @ given["w"].T) @ given["v"].T
        return np.concatenate([y, columns(given, y)], axis=1)

    return pruner, apply, parameters, state, small, kept, [rng.normal(size=(4, 3))]


def test_a_large_or_infinite_channel_excuses_no_other() -> None:
    for value in (-1e10, -np.inf):
        pruner, apply, parameters, state, small, kept, x = linear(
            lambda given, y, value=value: np.full_like(y, value)
        )
        assert pruner.certify(apply, parameters, state, small, kept, x).max_abs_difference < 1e-12
        wrong = {**small, "v": small["v"] + 0.01}
        with pytest.raises(L0GateError, match="does not equal the gated one"):
            pruner.certify(apply, parameters, state, wrong, kept, x)


def test_infinite_values_must_agree() -> None:
    def columns(given: dict, y: np.ndarray) -> np.ndarray:
        return np.full_like(y, np.inf if len(given["w"]) == 10 else 0.0)

    pruner, apply, parameters, state, small, kept, x = linear(columns)
    with pytest.raises(L0GateError, match="does not equal the gated one: they differ by nan"):
        pruner.certify(apply, parameters, state, small, kept, x)


def test_rounding_that_the_model_magnifies_is_told_apart() -> None:
    pruner, apply, parameters, state, small, kept, x = linear(
        lambda given, y: np.float64(y.dtype == np.float32) * len(given["w"]) * np.ones_like(y)
    )
    with pytest.raises(L0GateError, match="equals the gated one in float64, but not in float32"):
        pruner.certify(apply, parameters, state, small, kept, x)


@pytest.mark.parametrize("result", [None, {}, ("y", "h"), (np.zeros(2), np.zeros(2)), (1, 2, 3)])
def test_what_apply_may_return(result: Any) -> None:
    pruner, _, parameters, state, small, kept, x = linear(lambda given, y: y)
    with pytest.raises(L0GateError, match=r"`apply` returned .*; it must return an array, or an"):
        pruner.certify(lambda given, x: result, parameters, state, small, kept, x)


def test_states_alone_are_compared() -> None:
    layout = Layout({"k": "_ -> h", "r": "h -> h", "o": "h -> _"})
    rng = np.random.default_rng(0)
    arrays = {"k": rng.random((3, 4)), "r": rng.random((4, 4)), "o": rng.random((4, 2))}
    pruner = Pruner(layout, Budget(parameters=0.9))
    state = pruner.init(arrays, 0)
    small, kept = pruner.shrink(arrays, state)
    inputs = [np.ones((2, 3))]

    def apply(parameters: Any, x: Any) -> Any:
        return [], {"h": x @ parameters["k"]}

    assert pruner.certify(apply, arrays, state, small, kept, inputs).sequences == 1
    wrong = {**small, "k": small["k"] + 1}
    with pytest.raises(L0GateError, match="does not equal"):
        pruner.certify(apply, arrays, state, wrong, kept, inputs)
