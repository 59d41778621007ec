from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner
from l0gate.testing import NotClaimed, backend_checks, check_device

JAX = l0gate.get_backend("jax")
NUMPY = l0gate.get_backend("numpy")
LAYOUTS = {
    "lstm": Layout({"w": "x -> (4 h)", "u": "h -> (4 h)", "b": "(4 h)", "out": "h -> _"}),
    "bidirectional": Layout(
        {"f": "(3 f) <- x", "b": "(3 b) <- x", "out": "_ <- (f + b + 2)", "tied": "f <- f"}
    ),
    "onnx": Layout({"W": ["(4 f) <- x", "(4 b) <- x"], "R": ["(4 f) <- f", "(4 b) <- b"]}),
}
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "lstm": {"w": (5, 24), "u": (6, 24), "b": (24,), "out": (6, 3)},
    "bidirectional": {"f": (12, 5), "b": (9, 5), "out": (2, 9), "tied": (4, 4)},
    "onnx": {"W": (2, 16, 5), "R": (2, 16, 4)},
}
# Relative and absolute; float32 rounds at 6e-8, and rounding errors add up in sums over gates.
TOLERANCES = {"float64": (1e-10, 1e-12), "float32": (1e-4, 1e-6)}

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


def assert_same(found: Any, wanted: Any, dtype: str) -> None:
    """Two trees agree in structure and values, and the JAX one has the dtype."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype.name == dtype
        rtol, atol = TOLERANCES[dtype]
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


class Twins:
    """One model and one gate state in NumPy and in JAX, with the same noise."""

    def __init__(self, name: str, dtype: str, **options: Any) -> None:
        rng = np.random.default_rng(0)
        self.arrays = {n: rng.normal(size=s).astype(dtype) for n, s in SHAPES[name].items()}
        self.weights = {n: rng.normal(size=s).astype(dtype) for n, s in SHAPES[name].items()}
        options = options or {"budget": Budget(parameters=0.5)}
        self.pruners = [Pruner(LAYOUTS[name], **options) for _ in range(2)]
        sizes = LAYOUTS[name].solve(self.arrays)
        start = {a: rng.uniform(-3.5, 3.5, n) for a, n in sizes.items()}
        noise = {a: rng.uniform(0.05, 0.95, n).astype(dtype) for a, n in sizes.items()}
        self.parameters = [self.arrays, jax.tree.map(jnp.asarray, self.arrays)]
        self.noise = [noise, jax.tree.map(jnp.asarray, noise)]
        self.states = [
            {**p.init(given, log_alpha=start), "multipliers": m}
            for p, given, m in zip(
                self.pruners,
                self.parameters,
                (np.array([0.7, 3.0], dtype), jnp.array([0.7, 3.0], dtype)),
                strict=True,
            )
        ]


@pytest.fixture(params=TOLERANCES)
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    with JAX.precision(request.param):
        yield request.param


# The backend ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
def test_the_conformance_kit(check: Any, bits: int) -> None:
    with jax.enable_x64(bits == 64):
        try:
            check(JAX)
        except NotClaimed:
            assert check.__name__ in ("check_nets", "check_models")


def test_the_entry_point_is_found_and_imports_no_jax(tmp_path: Path) -> None:
    code = (
        "import sys, l0gate\n"
        "try: l0gate.get_backend('none')\n"
        "except l0gate.L0GateError as error: assert \"'jax'\" in str(error), error\n"
        "assert 'l0gate_jax' in sys.modules and 'jax' not in sys.modules\n"
        "backend = l0gate.get_backend('jax')\n"
        "import jax.numpy as jnp\n"
        "assert l0gate.get_backend(jnp.zeros(2)) is backend\n"
        "print(backend)"
    )
    # In another folder, because Python looks for modules in its working folder first.
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.strip() == "<l0gate backend jax>", run.stderr


def test_arrays_are_known_while_jax_traces_them() -> None:
    seen = []

    def look(x: jax.Array) -> jax.Array:
        seen.append(l0gate.get_backend(x))
        return x.sum()

    jax.jit(jax.grad(look))(jnp.ones(3))
    jax.vmap(look)(jnp.ones((2, 3)))
    assert seen == [JAX, JAX]


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64:UserWarning")
def test_float64_is_refused_where_jax_computes_in_float32() -> None:
    arrays = {n: np.ones(s) for n, s in SHAPES["lstm"].items()}
    pruner = Pruner(LAYOUTS["lstm"])
    with jax.enable_x64(False):
        with pytest.raises(L0GateError, match=r"64-bit mode is off.*jax\.enable_x64\(True\)"):
            JAX.cast(jnp.ones(2), "float64")
        assert JAX.asarray(np.ones(2)).dtype == "float32"
        with JAX.precision("float64"):
            parameters = {n: JAX.asarray(v) for n, v in arrays.items()}
            state = pruner.init(parameters)
            assert state["log_alpha"]["h"].dtype == "float64"
        assert not jax.config.jax_enable_x64
        for call in (pruner.init, lambda p: pruner.gate(p, state)):
            with pytest.raises(L0GateError, match="64-bit mode is off"):
                call(parameters)


def test_integers_that_jax_would_cut_off_are_refused() -> None:
    with jax.enable_x64(False):
        assert JAX.asarray(np.array([2**31 - 1, -(2**31)])).tolist() == [2**31 - 1, -(2**31)]
        with pytest.raises(L0GateError, match=r"values of 0 to 2147483648; .* fit in 32 bits"):
            JAX.asarray(np.array([0, 2**31]))
    with jax.enable_x64(True):
        assert JAX.asarray(np.array([2**40])).tolist() == [2**40]


def test_random_numbers_are_the_same_under_jit_and_take_any_key() -> None:
    like = jnp.zeros(1)
    draw = lambda key: JAX.uniform(key, (5,), like)  # noqa: E731
    for key in (JAX.rng(3), jax.random.key(3), jax.random.PRNGKey(3)):
        (eager, after), (compiled, then) = draw(key), jax.jit(draw)(key)
        np.testing.assert_array_equal(eager, compiled)
        assert (draw(after)[0] == draw(then)[0]).all()
        assert (draw(after)[0] != eager).all()
    with pytest.raises(L0GateError, match="`rng` is 3; it must be an int, or a key"):
        draw(3)
    with pytest.raises(L0GateError, match="`seed` is -1"):
        JAX.rng(-1)


@pytest.mark.parametrize("bits", [32, 64])
def test_every_bit_of_a_seed_counts(bits: int) -> None:
    with jax.enable_x64(bits == 64):
        seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
        drawn = [np.asarray(JAX.uniform(JAX.rng(s), (2,), jnp.zeros(1))[0]).tolist() for s in seeds]
    assert len(set(map(tuple, drawn))) == len(seeds)


@pytest.mark.parametrize("name", JAX.dtypes)
def test_uniform_stays_inside_for_every_dtype(name: str) -> None:
    with JAX.precision(name):
        u = JAX.uniform(JAX.rng(0), (100_000,), jnp.zeros(1, name))[0]
        assert u.dtype == name
        values = np.asarray(u).astype(float)
    assert 0.0 < values.min() < 0.01
    assert 0.99 < values.max() < 1.0
    # The mean of n uniform numbers is off by 6 / sqrt(12 n) once in 10^9.
    assert abs(values.mean() - 0.5) < 6 / (12 * 100_000) ** 0.5


def test_arrays_go_where_a_bound_array_is() -> None:
    last = jax.devices()[-1]
    like = jax.device_put(jnp.zeros(2), last)
    assert len(jax.devices()) > 1
    check_device(JAX, jax.device_put(jnp.zeros((2, 3)), last))
    for made in (JAX.asarray(np.ones(3), like), JAX.uniform(JAX.rng(0), (3,), like)[0]):
        assert made.devices() == {last}
        assert (made + like[0]).devices() == {last}
    free = JAX.asarray(np.ones(3), jnp.zeros(2))
    assert (free + jax.device_put(jnp.zeros(3), last)).devices() == {last}


def test_values_are_asked_for_only_outside_jit() -> None:
    twins = Twins("lstm", "float32")
    with pytest.raises(L0GateError, match=r"`select`.* outside `jax\.jit`"):
        jax.jit(twins.pruners[1].select)(twins.states[1])


# The algorithm --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_numpy_and_jax_agree(name: str, dtype: str) -> None:
    twins = Twins(name, dtype)
    results = []
    for pruner, parameters, state, noise in zip(
        twins.pruners, twins.parameters, twins.states, twins.noise, strict=True
    ):
        selected = pruner.select(state, parameters)
        small, kept = pruner.shrink(parameters, selected)
        computed = {
            "gates": [pruner.gates(state), pruner.gates(state, noise)],
            "folded": [pruner.gate(parameters, state), pruner.gate(parameters, state, noise)],
            "penalty": pruner.penalty(state, 0.3),
            "penalty gradient": pruner.penalty_gradient(state, 0.3),
            "pullback": pruner.pullback(parameters, state, noise, parameters),
            "updated": pruner.update(state, 0.3),
            "selected": selected,
            "small": small,
        }
        results.append((computed, {axis: index.tolist() for axis, index in kept.items()}))
    (wanted, wanted_kept), (found, kept) = results
    assert_same(found, wanted, dtype)
    assert kept == wanted_kept


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("options", [{"budget": Budget(parameters=0.5)}, {"strength": 1e-3}])
def test_grad_gives_the_closed_forms(name: str, options: dict[str, Any], dtype: str) -> None:
    twins = Twins(name, dtype, **options)
    pruner, state, noise = twins.pruners[1], twins.states[1], twins.noise[1]
    weights = jax.tree.map(jnp.asarray, twins.weights)

    def loss(parameters: Any, log_alpha: Any) -> jax.Array:
        now = {**state, "log_alpha": log_alpha}
        folded = pruner.gate(parameters, now, noise)
        task = sum(jnp.vdot(folded[n], weights[n]) for n in folded)
        return task + pruner.penalty(now, 0.3)

    found = jax.jit(jax.grad(loss, argnums=(0, 1)))(twins.parameters[1], state["log_alpha"])
    of_parameters, of_gates = twins.pruners[0].pullback(
        twins.parameters[0], twins.states[0], twins.noise[0], twins.weights
    )
    of_penalty = twins.pruners[0].penalty_gradient(twins.states[0], 0.3)
    assert_same(found, (of_parameters, {a: of_gates[a] + of_penalty[a] for a in of_gates}), dtype)


@pytest.mark.parametrize("name", LAYOUTS)
def test_jit_changes_nothing(name: str, dtype: str) -> None:
    twins = Twins(name, dtype)
    pruner, parameters, state = twins.pruners[1], twins.parameters[1], twins.states[1]
    key = jax.random.key(0)

    def step(parameters: Any, state: Any, key: Any, progress: Any) -> Any:
        noise, _ = pruner.noise(state, key)
        return {
            "noise": noise,
            "folded": pruner.gate(parameters, state, noise),
            "penalty": pruner.penalty(state, progress),
            "size": pruner.expected_size(state),
            "state": pruner.update(state, progress),
        }

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.jit(step)(parameters, state, key, 0.3)
    assert_same(found, step(parameters, state, key, 0.3), dtype)
    assert_same(found["state"], pruner.update(state, 0.3), dtype)


def test_vmap_over_noise_and_states(dtype: str) -> None:
    twins = Twins("lstm", dtype)
    pruner, parameters, state = twins.pruners[1], twins.parameters[1], twins.states[1]

    def run(key: jax.Array, shift: jax.Array) -> Any:
        moved = {axis: value + shift for axis, value in state["log_alpha"].items()}
        now = {**state, "log_alpha": moved}
        noise, _ = pruner.noise(now, key)
        return pruner.gate(parameters, now, noise), pruner.penalty(now, 0.3)

    keys, shifts = jax.random.split(jax.random.key(1), 3), jnp.arange(3, dtype=dtype)
    together, alone = jax.jit(jax.vmap(run))(keys, shifts), jax.jit(run)
    for i in range(3):
        assert_same(jax.tree.map(lambda x, i=i: x[i], together), alone(keys[i], shifts[i]), dtype)


def test_value_and_grad_passes_arguments_on() -> None:
    given = {"a": {"b": jnp.array([1.0, 2.0])}, "c": jnp.array([3.0])}
    value, gradient = JAX.value_and_grad(lambda p, k, power: (k * p["a"]["b"] ** power).sum())(
        given, 2.0, power=3
    )
    assert float(value) == 18.0
    assert jax.tree.map(lambda x: x.tolist(), gradient) == {"a": {"b": [6.0, 24.0]}, "c": [0.0]}


@pytest.mark.parametrize("host_inputs", [False, True])
def test_a_model_trained_in_float32_is_certified_in_float64(host_inputs: bool) -> None:
    twins = Twins("lstm", "float32")
    pruner, parameters, state = twins.pruners[1], twins.parameters[1], twins.states[1]
    seen: list[str] = []

    def apply(p: Any, x: Any) -> Any:
        hidden = jnp.tanh((x @ p["w"])[:, : p["u"].shape[0]])
        h = jnp.tanh(hidden @ p["u"] + p["b"])[:, : p["u"].shape[0]]
        y = h @ p["out"]
        seen.append(y.dtype.name)
        return y, {"h": h}

    pruner = Pruner(LAYOUTS["lstm"], freeze=["x"])  # the caller's inputs keep their neurons
    state = pruner.init(parameters, log_alpha={"h": [3.0, -4.0, 0.5, -3.0, -0.5, -5.0]})
    small, kept = pruner.shrink(parameters, state)
    x = np.random.default_rng(1).normal(size=(3, 5))
    inputs = [x if host_inputs else jnp.asarray(x, jnp.float32)]
    with jax.enable_x64(False):
        certificate = pruner.certify(apply, parameters, state, small, kept, inputs)
        assert not jax.config.jax_enable_x64
    assert seen == ["float64", "float64", "float32", "float32"]
    assert certificate.max_abs_difference < 1e-14
    assert 0 <= certificate.max_abs_difference_float32 < 1e-5
    wrong = {**small, "out": small["out"] + 1e-7}
    with (
        jax.enable_x64(False),
        pytest.raises(L0GateError, match="does not equal the gated one"),
    ):
        pruner.certify(apply, parameters, state, wrong, kept, inputs)
