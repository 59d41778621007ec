# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""Compiles kernels: once per dtype, cached on disk, and again when their source changes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from l0gate._errors import L0GateError

# The files with kernels, and with constants that are compiled into them.
_KERNELS = (
    "compile",
    "lengths",
    "simd/lanes",
    "simd/memory",
    "simd/activations",
    "simd/cells",
    "simd/tiles",
    "inference/plan",
    "inference/feedforward_kernels",
    "inference/step_kernels",
    "inference/net_kernels",
    "training/loops",
    "training/panels",
    "training/lstm",
    "training/gru",
)


@functools.cache
def _sources(package: str = str(__package__)) -> str:
    """A digest of all files that hold kernels.

    Kernels in different files call each other, so a change of any file changes the digest of all.
    A file that cannot be read raises `L0GateError`: with an incomplete digest, kernels that were
    compiled from older sources would be used.
    """
    digest = hashlib.sha256()
    for name in _KERNELS:
        try:
            source = pkgutil.get_data(package, f"{name}.py")  # in a folder or in a zip file
        except OSError as error:
            raise L0GateError(
                f"the kernel file '{name}.py' of {package} cannot be read: {error}"
            ) from None
        digest.update(source or b"")
    return digest.hexdigest()


# Of the fast-math flags, only `contract` is on (fused multiply-add). With `nnan` and `ninf` a NaN
# could vanish before it reaches the loss; `reassoc` would undo the argument reduction of expm1.
# `error_model="numpy"` leaves out tests for division by zero, which would prevent vectorisation.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function for calls from kernels; it is cached on disk as a part of them."""
    return njit(**_OPTIONS)(function)


def compiled(function: Callable[..., Any], nogil: bool = True) -> Any:
    """Compile on first use; cache the result on disk, or in memory if no folder can be written."""
    options = {**_OPTIONS, "nogil": nogil}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to
        return njit(**options)(function)
    cache = dispatcher._cache
    save, key = cache.save_overload, cache._index_key

    def save_if_possible(*arguments: Any) -> None:
        with contextlib.suppress(OSError):  # no space left, or no longer writable
            save(*arguments)

    cache.save_overload = save_if_possible
    cache._index_key = lambda *arguments: (*key(*arguments), nogil, _sources())
    return dispatcher


def entry(dispatcher: Any) -> Callable[..., Any]:
    """The compiled function of a kernel, called without the search for a matching signature.

    That search takes as long as a step of a small net. Without it only item sizes are checked: the
    caller must check the dtypes, and the kernel the order in memory.
    """
    (overload,) = dispatcher.overloads.values()
    function: Callable[..., Any] = overload.entry_point
    return function


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for one signature per dtype, on first use: kernel(dtype)(*arguments).

    A kernel releases Python's global interpreter lock, so that other threads can run. If it is
    compiled as kernel(dtype, nogil=False), it keeps the lock; that saves a tenth of the time of the
    smallest step.

    `signature` has a code for each argument: i is an integer, b a bool, l an integer array (1-d);
    rn and wn are arrays of the dtype with n dimensions, of which wn are written to and rn may be
    read-only. Otherwise numba would compile again for each combination of read-only and writable
    arrays. After an arrow comes the code of the result, if there is one.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.cache
        def build(dtype: np.dtype[Any], nogil: bool = True) -> Any:
            number = types.float64 if dtype == np.float64 else types.float32
            codes: dict[str, Any] = {"i": types.int64, "b": types.boolean}
            codes |= {"l": types.Array(types.int64, 1, "C", readonly=True)}
            for n in (1, 2, 3):
                codes[f"r{n}"] = types.Array(number, n, "C", readonly=True)
                codes[f"w{n}"] = types.Array(number, n, "C")
            given, _, result = signature.partition("->")
            returned = codes[result.strip()] if result else types.void
            dispatcher = compiled(function, nogil)
            dispatcher.compile(returned(*(codes[code] for code in given.split())))
            dispatcher.disable_compile()
            return dispatcher

        return build

    return decorate
