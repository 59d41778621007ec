"""The checks of arrays: every kind of fault fails at one of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from faults import assert_found, found_in
from faulty_backends import (
    RoughLog1p,
)
from faulty_torch_backends import IgnoresLike

import l0gate
import l0gate.testing
from l0gate.backends._numpy import NumpyBackend
from l0gate.backends._torch.backend import TorchBackend
from l0gate.testing import (
    _arrays,
    run_check,
)


@pytest.mark.parametrize("fault", found_in(_arrays), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)


def test_what_is_within_the_tolerance_passes() -> None:
    run_check(l0gate.testing.check_extreme_values, RoughLog1p()).raise_if_failed()


@pytest.mark.parametrize(
    "method", ["take", "asarray", "to_numpy", "stop_gradient", "dtype", "owns"]
)
def test_each_call_that_changes_its_argument_is_named(method: str) -> None:
    def changing(self: Any, x: Any, *args: Any) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x += 1.0
        return getattr(NumpyBackend, method)(self, x, *args)

    backend = type("Changing", (NumpyBackend,), {method: changing})()
    with pytest.raises(AssertionError, match=f"{method} changed an array that it was given"):
        l0gate.testing.check_purity(backend)


def test_a_framework_without_devices() -> None:
    class Nowhere(np.ndarray):
        @property
        def device(self) -> Any:
            raise AttributeError("device")

    class NowhereBackend(NumpyBackend):
        def asarray(self, array: Any, like: Any = None) -> Any:
            return np.array(array).view(Nowhere)

        def cast(self, x: Any, dtype: str) -> Any:
            return x.astype(dtype)

    assert not hasattr(NowhereBackend().asarray([1.0]), "device")
    l0gate.testing.check_device(NowhereBackend())


def test_extreme_values_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        l0gate.testing.check_extreme_values(NumpyBackend())


def test_a_copy_on_a_cache_line() -> None:
    for size in (1, 6, 1000):
        values = np.arange(size, dtype=np.float32)
        copy = _arrays._aligned(values)
        assert copy.ctypes.data % 64 == 0
        assert copy.flags.writeable
        assert not np.shares_memory(copy, values)
        np.testing.assert_array_equal(copy, values, strict=True)


@pytest.mark.parametrize("method", ["uniform", "take", "stop_gradient"])
def test_a_call_that_leaves_the_device_is_named(method: str) -> None:
    def elsewhere(self: Any, *args: Any) -> Any:
        made = getattr(TorchBackend, method)(self, *args)
        return (made[0].to("meta"), made[1]) if method == "uniform" else made.to("meta")

    backend = type("Elsewhere", (TorchBackend,), {method: elsewhere})()
    with pytest.raises(AssertionError, match=f"{method} gives an array on meta, but should on cpu"):
        l0gate.testing.check_device(backend)


def test_an_own_array_is_moved_to_the_device_too() -> None:
    class LeavesItsOwn(TorchBackend):
        def asarray(self, array: Any, like: Any = None) -> Any:
            return array if isinstance(array, torch.Tensor) else super().asarray(array, like)

    other = torch.zeros(2, 3, device="meta")
    with pytest.raises(AssertionError, match="asarray gives an array on cpu, but should on meta"):
        l0gate.testing.check_device(LeavesItsOwn(), other)


def test_a_second_device_is_tried_where_one_is_given() -> None:
    other = torch.zeros(2, 3, device="meta")
    l0gate.testing.check_device(TorchBackend(), other)
    l0gate.testing.check_device(IgnoresLike())
    with pytest.raises(AssertionError, match="asarray gives an array on cpu, but should on meta"):
        l0gate.testing.check_device(IgnoresLike(), other)
