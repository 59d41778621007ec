"""What every compiled scan does: memory, order, threads, NaN, padding, saturation."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_cases import CASES, DTYPES, RUNS, assert_close, make

from l0gate.reference.compiled import threads


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
            threads.set_num_threads(count)
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
