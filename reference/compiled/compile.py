# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""How kernels are compiled: once for each dtype, kept on disk, anew when their source changes."""

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

# The files, which call each other.
_KERNELS = (
    "compile",
    "simd/lanes",
    "inference/layers",
    "inference/nets",
    "training/parts",
    "training/lstm",
    "training/gru",
)


@functools.cache
def _sources(package: str = str(__package__)) -> str:
    """A digest of all files that hold kernels.

    One that cannot be read raises `L0GateError`: with an incomplete digest, kernels that were
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


# The one liberty given to the compiler is `contract` (fused multiply-add). `nnan` and `ninf` would
# let it lose a NaN, which must reach the loss; `reassoc` would undo the argument reduction of
# expm1. `error_model="numpy"`: tests for a division by zero would keep loops scalar.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a part of a kernel, which is kept on disk with the kernel."""
    return njit(**_OPTIONS)(function)


def compiled(function: Callable[..., Any], nogil: bool = True) -> Any:
    """Compile lazily and keep the result on disk; where nothing can be kept, compile each time."""
    options = {**_OPTIONS, "nogil": nogil}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # there is no place to write to
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
    """A kernel's only compiled function, without the search for a signature that fits.

    That search takes as long as a small step. Without it item sizes are checked and nothing else:
    the caller must see to the dtypes, and the kernel to the order in memory.
    """
    (overload,) = dispatcher.overloads.values()
    function: Callable[..., Any] = overload.entry_point
    return function


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for one signature per dtype, on first use: kernel(dtype)(*arguments).

    While it runs, other threads of Python do too; kernel(dtype, nogil=False) saves what that costs,
    a tenth of the smallest step.

    `signature` has a code for each argument: i integer, b bool, l integer array (1-d), L (2-d), and
    arrays of the dtype with n dimensions: rn, which may be read-only, and wn, which are written to.
    One signature takes both kinds of array; without it, numba would compile for each combination.
    After an arrow stands what is returned, if anything is.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.cache
        def build(dtype: np.dtype[Any], nogil: bool = True) -> Any:
            number = types.float64 if dtype == np.float64 else types.float32
            codes: dict[str, Any] = {"i": types.int64, "b": types.boolean}
            codes |= {"l": types.Array(types.int64, 1, "C", readonly=True)}
            codes |= {"L": types.Array(types.int64, 2, "C", readonly=True)}
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
