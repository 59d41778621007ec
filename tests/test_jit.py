"""The compiled scans against plain loops over single sequences and against the NumPy scans."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l0gate import L0GateError
from l0gate.reference import _cells
from l0gate.reference.compiled import compile, scans, threads
from l0gate.reference.compiled.training import parts

DTYPES = [np.float32, np.float64]
RESET = [True, False]
TOLERANCE: dict[Any, dict[str, float]] = {
    np.dtype(np.float32): {"rtol": 1e-4, "atol": 1e-6},
    np.dtype(np.float64): {"rtol": 1e-10, "atol": 1e-12},
}


def assert_close(found, expected, dtype):
    """Rounding goes with the terms of a sum, so with the array, not with what cancels."""
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        rtol, atol = TOLERANCE[np.dtype(dtype)].values()
        np.testing.assert_allclose(a, b, rtol, atol * np.abs(b).max(initial=1.0))


# name: (blocks, states, T, B, H, lengths, reverse)
CASES = {
    "plain": (5, 3, 7, None, False),
    "reverse": (4, 2, 16, None, True),
    "lengths": (6, 12, 9, "random", False),
    "reverse lengths": (6, 12, 9, "random", True),
    "all lengths 0": (3, 2, 4, "zero", True),
    "one step": (1, 1, 1, None, False),
    "no steps": (0, 2, 3, None, False),
    "no sequences": (3, 0, 3, None, True),
    "wide": (3, 17, 70, "random", False),
}


def make(case, blocks, dtype, seed=0):
    """gx, weight_hh, states and gradients of a case, and the options of its scan."""
    T, B, H, lengths, reverse = case
    rng = np.random.default_rng(seed)

    def random(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(dtype)

    if lengths is not None:
        lengths = rng.integers(0, T + 1, B) if lengths == "random" else np.zeros(B, np.int64)
    return {
        "gx": random(T, B, blocks * H),
        "weight_hh": random(blocks * H, H, scale=H**-0.5),
        "h0": random(B, H),
        "c0": random(B, H),
        "bias_hn": random(H),
        "dy": random(T, B, H),
        "dh": random(B, H),
        "dc": random(B, H),
    }, {"lengths": lengths, "reverse": reverse}


def lstm(scans, arrays, options):
    """y, h, c and the gradients of gx, h0, c0."""
    a = arrays
    y, h, c, tape = scans.lstm_scan(a["gx"], a["weight_hh"], a["h0"], a["c0"], **options)
    gradients = scans.lstm_scan_backward(
        a["dy"], a["dh"], a["dc"], a["weight_hh"], y, a["h0"], a["c0"], tape, **options
    )
    return y, h, c, *gradients


def gru(scans, arrays, options, reset_after):
    """y, h and the gradients of gx, h0, weight_hh and (with reset_after) bias_hn."""
    a, H = arrays, arrays["h0"].shape[1]
    y, h, tape = scans.gru_scan(
        a["gx"], a["weight_hh"], a["bias_hn"], a["h0"], reset_after, **options
    )
    dgx, dgh, dh0 = scans.gru_scan_backward(
        a["dy"], a["dh"], a["weight_hh"], a["bias_hn"], y, a["h0"], tape, reset_after, **options
    )
    h_prev = _cells.previous_states(y, a["h0"], options["lengths"], options["reverse"])
    read_n = h_prev if reset_after else tape[0][..., :H] * h_prev
    dweight_rz = np.einsum("tbi,tbj->ij", dgh[..., : 2 * H], h_prev)
    dweight_n = np.einsum("tbi,tbj->ij", dgh[..., 2 * H :], read_n)
    dweight = np.concatenate([dweight_rz, dweight_n])
    dbias = dgh[..., 2 * H :].sum((0, 1), dtype=dgh.dtype) if reset_after else 0 * a["bias_hn"]
    return y, h, dgx, dh0, dweight, dbias


def naive(arrays, options, step, parameters, states):
    """Every sequence on its own, step by step; gradients by autograd. All in float64."""
    tensors = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for name, array in arrays.items()
    }
    gx = tensors["gx"]
    T, B, H = arrays["dy"].shape
    y = [[torch.zeros(H, dtype=torch.float64)] * B for _ in range(T)]
    last = []
    for b in range(B):
        steps = range(T if options["lengths"] is None else options["lengths"][b])
        state = [tensors[name][b] for name in states]
        for t in reversed(steps) if options["reverse"] else steps:
            state = step(gx[t, b], tensors, *state)
            y[t][b] = state[0]
        last.append(state)
    out = torch.stack([torch.stack(row) for row in y]) if T and B else torch.zeros(T, B, H)
    final = [
        torch.stack([state[k] for state in last]) if B else torch.zeros(0, H)
        for k in range(len(states))
    ]
    total = (out * tensors["dy"].detach()).sum()
    for array, name in zip(final, ("dh", "dc"), strict=False):
        total = total + (array * tensors[name].detach()).sum()
    wanted = [tensors[name] for name in parameters]
    total = total + 0 * sum(x.sum() for x in wanted)  # so that each has a gradient
    gradients = torch.autograd.grad(total, wanted)
    return [x.detach().numpy() for x in (out, *final, *gradients)]


def lstm_step(gx, p, h, c):
    i, f, g, o = (gx + p["weight_hh"] @ h).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(reset_after):
    def step(gx, p, h):
        H = len(h)
        r, z = (gx[: 2 * H] + p["weight_hh"][: 2 * H] @ h).sigmoid().chunk(2)
        weight = p["weight_hh"][2 * H :]
        recurrent = r * (weight @ h + p["bias_hn"]) if reset_after else weight @ (r * h)
        n = (gx[2 * H :] + recurrent).tanh()
        return ((1 - z) * n + z * h,)

    return step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lstm_equals_loops_over_sequences(case, dtype):
    arrays, options = make(case, 4, dtype)
    expected = naive(arrays, options, lstm_step, ("gx", "h0", "c0"), ("h0", "c0"))
    assert_close(lstm(scans, arrays, options), expected, dtype)


@pytest.mark.parametrize("reset_after", RESET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gru_equals_loops_over_sequences(case, dtype, reset_after):
    arrays, options = make(case, 3, dtype)
    parameters = ("gx", "h0", "weight_hh", "bias_hn")
    expected = naive(arrays, options, gru_step(reset_after), parameters, ("h0",))
    assert_close(gru(scans, arrays, options, reset_after), expected, dtype)


shapes = st.tuples(
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 50),
    st.sampled_from([None, "random"]),
    st.booleans(),
)


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_any_shape_equals_the_numpy_scans(shape, seed, dtype):
    arrays, options = make(shape, 4, dtype, seed)
    assert_close(lstm(scans, arrays, options), lstm(_cells, arrays, options), dtype)
    arrays, options = make(shape, 3, dtype, seed)
    for reset_after in RESET:
        found = gru(scans, arrays, options, reset_after)
        assert_close(found, gru(_cells, arrays, options, reset_after), dtype)


# Every scan, forward and backward, as a function of arrays and options.
RUNS = {
    "lstm": (4, lambda arrays, options: lstm(scans, arrays, options)),
    "gru": (3, lambda arrays, options: gru(scans, arrays, options, True)),
    "gru, reset before": (3, lambda arrays, options: gru(scans, arrays, options, False)),
}


@pytest.mark.parametrize(("blocks", "run"), RUNS.values(), ids=RUNS)
class TestEveryScan:
    def test_inputs_may_be_read_only_and_are_not_shared(self, blocks, run):
        arrays, options = make(CASES["lengths"], blocks, np.float32)
        expected = run(arrays, options)
        before = {name: array.copy() for name, array in arrays.items()}
        for array in (*arrays.values(), options["lengths"]):
            array.flags.writeable = False
        found = run(arrays, options)
        assert_close(found, expected, np.float32)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, before[name])
            for out in found[:4]:
                assert out.flags.writeable
                assert not np.shares_memory(out, array)

    def test_inputs_may_lie_in_any_order(self, blocks, run):
        arrays, options = make(CASES["lengths"], blocks, np.float32)
        strided = {
            name: np.repeat(np.asfortranarray(array), 2, axis=-1)[..., ::2]
            for name, array in arrays.items()
        }
        assert not strided["gx"].flags.c_contiguous
        assert_close(run(strided, options), run(arrays, options), np.float32)

    def test_threads_change_nothing(self, blocks, run, monkeypatch):
        arrays, options = make(CASES["wide"], blocks, np.float32)
        monkeypatch.setattr(threads, "_threads", 1)
        expected = run(arrays, options)
        monkeypatch.setattr(threads, "LEAST_WORK", 0)
        for count in (2, 5, 40):
            scans.set_num_threads(count)
            assert_close(run(arrays, options), expected, np.float32)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan_stays_in_its_sequence_and_is_not_lost(self, blocks, run, dtype):
        arrays, options = make((4, 3, 5, None, False), blocks, dtype)
        for block in range(blocks):
            arrays["gx"][2, 1, block * 5] = np.nan
            y, dgx = run(arrays, options)[0], run(arrays, options)[-4 if blocks == 3 else -3]
            arrays["gx"][2, 1, block * 5] = 0
            assert np.isnan(y[2, 1, 0])
            assert np.isnan(y[3, 1]).all()
            assert np.isfinite(y[:2]).all()
            assert np.isfinite(y[:, [0, 2]]).all()
            assert np.isnan(dgx[:2, 1]).any()
            assert np.isfinite(dgx[:, [0, 2]]).all()
        arrays["weight_hh"][0, 0] = np.nan
        assert np.isnan(run(arrays, options)[0]).any(axis=(0, 2)).all()

    def test_padding_is_not_read(self, blocks, run):
        arrays, options = make(CASES["lengths"], blocks, np.float32)
        expected = run(arrays, options)
        for b, length in enumerate(options["lengths"]):
            arrays["gx"][length:, b] = np.nan
            arrays["dy"][length:, b] = np.nan
        assert_close(run(arrays, options), expected, np.float32)

    def test_saturated_gates_are_exact(self, blocks, run):
        arrays, options = make((2, 2, 3, None, False), blocks, np.float32)
        arrays["gx"][...] = np.float32([np.inf, -np.inf])[:, None, None]
        y, *_, last = run(arrays, options)
        assert np.isfinite(y).all()
        assert np.isfinite(last).all()


def error_in_units(function, exact, x):
    y = np.empty_like(x)
    function(y, x)
    expected = exact(x.astype(np.float64))
    return np.abs(y - expected) / np.spacing(np.abs(expected).astype(np.float32))


@pytest.mark.parametrize(
    ("function", "exact"),
    [(parts.set_sigmoid, lambda x: 1 / (1 + np.exp(-x))), (parts.set_tanh, np.tanh)],
    ids=["sigmoid", "tanh"],
)
def test_float32_activations_are_within_4_units_in_the_last_place(function, exact):
    small = np.geomspace(1e-30, 20, 100_000)
    x = np.concatenate([np.linspace(-20, 20, 1_000_001), small, -small]).astype(np.float32)
    assert error_in_units(function, exact, x).max() <= 4
    ends = np.float32([-np.inf, -1e38, -100, 100, 1e38, np.inf, np.nan])
    found = np.empty_like(ends)
    function(found, ends)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, exact(ends.astype(np.float64)), rtol=0, atol=1e-30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gx": np.zeros((2, 3, 8), np.float16)}, "`gx` has dtype float16"),
        ({"gx": np.zeros((2, 3, 9), np.float32)}, r"`gx` has shape \(2, 3, 9\)"),
        ({"weight_hh": np.zeros((8, 2))}, "`weight_hh` has dtype float64; expected float32"),
        ({"h0": np.zeros((1, 2), np.float32)}, r"`h0` has shape \(1, 2\); expected \(3, 2\)"),
        ({"c0": np.zeros((3, 1), np.float32)}, r"`c0` has shape \(3, 1\); expected \(3, 2\)"),
        ({"lengths": [1, 2]}, r"`lengths` has shape \(2,\); expected \(3,\)"),
        ({"lengths": [1, 2, 3]}, r"`lengths` is \[1 2 3\]; each must be within 0..2"),
        ({"lengths": [1, 2, -1]}, r"each must be within 0..2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    zeros = {"gx": (2, 3, 8), "weight_hh": (8, 2), "h0": (3, 2), "c0": (3, 2)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    with pytest.raises(L0GateError, match=message):
        scans.lstm_scan(**arrays | change)


def test_the_number_of_threads_is_checked():
    with pytest.raises(L0GateError, match="`threads` is 0"):
        scans.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_makes_its_own_threads(monkeypatch):
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    monkeypatch.setattr(threads, "_threads", 2)
    arrays, options = make(CASES["wide"], 4, np.float32)
    expected = lstm(scans, arrays, options)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for its parent's threads would wait for ever
        status = 1
        try:
            assert_close(lstm(scans, arrays, options), expected, np.float32)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_compiles_where_nothing_can_be_cached():
    scope: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", scope)  # without a file there is no cache
    assert compile.compiled(scope["double"])(21) == 42


def triple(x):
    return 3 * x


def test_a_full_disk_is_no_error(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    assert compile.compiled(triple)(14) == 42


def test_a_kernel_is_compiled_anew_when_any_kernel_file_changes(monkeypatch):
    kernel = compile.compiled(triple)
    codegen = kernel.targetctx.codegen()
    key = kernel._cache._index_key((numba.int64,), codegen)
    assert kernel._cache._index_key((numba.int64,), codegen) == key
    monkeypatch.setattr(compile, "_sources", lambda: "changed")
    assert kernel._cache._index_key((numba.int64,), codegen) != key


def test_every_file_with_kernels_counts():
    """Otherwise a change of it would go unseen where kernels are kept on disk."""
    folder = Path(compile.__file__).parent
    found = {
        str(path.relative_to(folder).with_suffix(""))
        for path in folder.rglob("*.py")
        if "@inlined" in path.read_text() or "intrinsic" in path.read_text()
    }
    assert found == set(compile._KERNELS) - {"compile"}


def test_a_kernel_file_that_was_renamed_is_an_error(tmp_path, monkeypatch):
    """A digest without it would let numba serve what was compiled before an edit."""
    copy = tmp_path / "copied_kernels"
    shutil.copytree(Path(compile.__file__).parent, copy)
    (copy / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = compile._sources.__wrapped__("copied_kernels")
    kernels = copy / f"{compile._KERNELS[-1]}.py"
    kernels.write_text(kernels.read_text() + "# edited")
    assert compile._sources.__wrapped__("copied_kernels") != before
    kernels.rename(kernels.with_name("renamed.py"))
    message = f"{compile._KERNELS[-1]}.py' of copied_kernels cannot be read"
    with pytest.raises(L0GateError, match=message):
        compile._sources.__wrapped__("copied_kernels")
