"""`JaxBackend`: the operations that l0gate needs from a framework, in JAX."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from l0gate import Backend, L0GateError


class JaxBackend(Backend):
    """The backend for JAX arrays; it also works inside `jit`, `grad` and `vmap`.

    Random generators are JAX keys: both `jax.random.key(0)` and `backend.rng(0)` can be used.

    float64 needs JAX's 64-bit mode (`jax.enable_x64`). `precision("float64")` switches it on, as
    `Pruner.certify` does for its comparison in float64. Outside that mode JAX silently computes in
    float32. So a cast to float64 raises there, and so does gating float64 parameters. Other arrays
    given to `asarray` become float32, as in `jax.numpy.asarray`.

    >>> import jax, l0gate
    >>> backend = l0gate.get_backend("jax")
    >>> u, key = backend.uniform(jax.random.key(0), (3,), jax.numpy.zeros(1))
    >>> u.shape, str(u.dtype)
    ((3,), 'float32')
    """

    name: ClassVar[str] = "jax"
    capabilities: ClassVar[frozenset[str]] = frozenset({"autodiff"})
    dtypes: ClassVar[tuple[str, ...]] = ("float16", "bfloat16", "float32", "float64")
    xp: Any = jnp
    array_type = jax.Array

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if dtype == "float64" else nullcontext()

    # Arrays -----------------------------------------------------------------------------------

    def dtype(self, x: Any) -> str:
        name = super().dtype(x)
        _check_dtype(name)
        return name

    def asarray(self, array: Any, like: Any = None) -> Any:
        if not isinstance(array, jax.Array):
            array = np.asarray(array)
            if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and not _x64():
                _check_fits(array)
        return _beside(jnp.asarray(array), like)

    def to_numpy(self, x: Any) -> np.ndarray:
        x = jax.lax.stop_gradient(x)
        if isinstance(x, jax.core.Tracer):
            raise L0GateError(
                "an array has no values while JAX traces a function; call `init`, `select`,"
                " `kept`, `shrink` and `certify` outside `jax.jit`"
            )
        return np.asarray(x)

    def cast(self, x: Any, dtype: str) -> Any:
        _check_dtype(dtype)
        return x.astype(dtype)

    def stop_gradient(self, x: Any) -> Any:
        return jax.lax.stop_gradient(x)

    # Random numbers ---------------------------------------------------------------------------

    def rng(self, seed: int) -> Any:
        low, high = super().rng(seed)[0] % 2**32, int(seed) >> 32
        # Without 64-bit mode a key keeps only the lower half of its seed.
        return jax.random.fold_in(jax.random.key(low), np.uint32(high))

    def uniform(self, rng: Any, shape: tuple[int, ...], like: Any) -> tuple[Any, Any]:
        if not isinstance(rng, jax.Array):
            raise L0GateError(
                f"`rng` is {rng!r}; it must be an int, or a key: jax.random.key(0), what the"
                " backend's `rng(seed)` returned, or the last draw"
            )
        rng, key = jax.random.split(rng)
        dtype = self.dtype(like)
        # The midpoints of 2^n equal parts of (0, 1), which the dtype can represent exactly.
        n = min(jnp.finfo(dtype).nmant, 32)  # type: ignore[no-untyped-call]
        parts = jax.random.bits(key, shape, "uint32") >> (32 - n)
        return _beside((parts.astype(dtype) + 0.5) * 2.0**-n, like), rng

    # Derivatives ------------------------------------------------------------------------------

    def value_and_grad(self, function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        return jax.value_and_grad(function)


def _x64() -> bool:
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def _check_dtype(dtype: str) -> None:
    if dtype == "float64" and not _x64():
        raise L0GateError(
            "an array in float64, while JAX's 64-bit mode is off, so that it computes in float32;"
            " work inside `with jax.enable_x64(True):`, or set JAX_ENABLE_X64=1"
        )


def _check_fits(integers: np.ndarray) -> None:
    if integers.size and not -(2**31) <= integers.min() <= integers.max() < 2**31:
        raise L0GateError(
            f"`array` holds {integers.dtype} values of {integers.min()} to {integers.max()}; while"
            " JAX's 64-bit mode (jax.enable_x64) is off, they must fit in 32 bits"
        )


def _beside(x: Any, like: Any) -> Any:
    """`x` on the device to which `like` is bound, if it is bound to one."""
    if like is None or isinstance(like, jax.core.Tracer) or not like.committed:
        return x
    return jax.device_put(x, like.device) if isinstance(like.device, jax.Device) else x
