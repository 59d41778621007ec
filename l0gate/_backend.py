"""The abstract tensor interface: all that the algorithm asks of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from l0gate._errors import L0GateError, check

Array = Any  # an array of whichever framework the backend drives
Parameters = Mapping[str, Array]
INTERFACE = 1  # version of `Backend`; it changes when existing backends would no longer work


class Backend:
    """Drives one framework through its array namespace `xp`. Subclass it to add a framework.

    The algorithm uses arithmetic, comparisons, `&` between booleans and basic indexing; constants
    are Python floats. From `xp` it uses reshape, concat(axis=), stack(axis=), sum(axis=), exp, log,
    log1p, tanh, logaddexp, clip, where, sqrt, isfinite, ones_like and zeros_like. The default
    methods below also use asarray and take. So where `xp` has NumPy's names, a subclass needs only
    `name`, `array_type`, `xp`, and those methods below whose default does not fit.

    Functions are pure: they return new arrays and never change the ones they were given.

    >>> import l0gate, numpy as np
    >>> backend = l0gate.get_backend("numpy")
    >>> backend.owns(np.zeros(3)), backend.dtype(np.zeros(3))
    (True, 'float64')
    """

    name: ClassVar[str] = ""
    #: What the backend offers beside arrays: "autodiff" (value_and_grad), "models" (gate_model,
    #: describe, rebuild, example_models) and "nets" (net).
    capabilities: ClassVar[frozenset[str]] = frozenset()
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    xp: Any = None
    array_type: type | tuple[type, ...] = ()

    def __repr__(self) -> str:
        return f"<l0gate backend {self.name}>"

    # Arrays -----------------------------------------------------------------------------------

    def owns(self, x: object) -> bool:
        """Whether `x` is an array of this framework."""
        return isinstance(x, self.array_type)

    def dtype(self, x: Array) -> str:
        """Name of the array's dtype, such as "float32"."""
        return str(x.dtype).rpartition(".")[2]

    def asarray(self, array: Any, like: Array | None = None) -> Array:
        """Convert a NumPy array or nested list to an array on the device of `like`; dtype is kept.

        The result must be a copy, so that later changes of the NumPy array do not change it. An
        array of the framework is moved to the device of `like`, and need not be copied.
        """
        return self.xp.asarray(array if self.owns(array) else np.array(array))

    def to_numpy(self, x: Array) -> np.ndarray:
        """The values as a NumPy array on the host, detached from any gradient computation."""
        return np.asarray(x)

    def cast(self, x: Array, dtype: str) -> Array:
        """The array in another dtype, given by name; gradients pass through."""
        return x.astype(dtype)

    def take(self, x: Array, index: np.ndarray, axis: int) -> Array:
        """The slices at the positions `index` (NumPy integers) along `axis`, as a new array."""
        return self.xp.take(x, index, axis=axis)

    def stop_gradient(self, x: Array) -> Array:
        """The same values, treated as constants by differentiation."""
        return x

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        """A context in which `asarray`, `cast` and all computations support that dtype.

        For frameworks in which float64 is off by default (JAX): certificates need it, whatever
        dtype the model trains in. Outside the context, arrays of other dtypes are not cast to it.
        """
        return nullcontext()

    # Random numbers: a generator is a value, so that a run can be repeated from any point -----

    def rng(self, seed: int) -> Any:
        """A generator, for `uniform`. It is never changed; `uniform` returns the next one."""
        check(
            isinstance(seed, (int, np.integer)) and 0 <= seed < 2**64,
            f"`seed` is {seed!r}; it must be an int of at least 0 and below 2**64",
        )
        return (int(seed), 0)

    def uniform(self, rng: Any, shape: tuple[int, ...], like: Array) -> tuple[Array, Any]:
        """Uniform numbers strictly inside (0, 1), in the dtype and on the device of `like`.

        By default they come from a counter-based generator on the host, so that every backend
        draws the same numbers from the same seed.
        """
        check(
            isinstance(rng, tuple) and len(rng) == 2,
            f"`rng` is {rng!r}; it must be an int, or a generator of the"
            " backend: what its `rng(seed)`, or the last draw, returned",
        )
        seed, drawn = rng
        bits = np.random.Generator(np.random.Philox(key=seed, counter=drawn))
        # (k + 1/2) / 2^23 is the finest such grid whose largest value float32 does not round to 1.
        u = (bits.integers(0, 2**23, size=shape, dtype=np.uint32) + 0.5) * 2.0**-23
        count = int(np.prod(shape, dtype=np.int64))
        return self.cast(self.asarray(u, like), self.dtype(like)), (seed, drawn + count + 1)

    # Optional: "autodiff" ---------------------------------------------------------------------

    def value_and_grad(self, function: Callable[..., Array]) -> Callable[..., tuple[Array, Any]]:
        """A function that returns the value of `function` and its gradient in the first argument.

        The first argument is a dict of arrays, possibly nested; the gradient has the same nesting.
        """
        raise self._lacks("autodiff")

    # Optional: "models" -----------------------------------------------------------------------

    def owns_model(self, model: object) -> bool:
        """Whether `model` is a model of this framework, which `gate_model` and `describe` take."""
        return False

    def gate_model(self, model: Any, **options: Any) -> Any:
        """A drop-in model with gates: see `l0gate.gate`."""
        raise self._lacks("models")

    def describe(self, model: Any) -> Any:
        """What `l0gate.save` writes for a small model: a `SavedModel`."""
        raise self._lacks("models")

    def rebuild(self, into: Any, saved: Any) -> Any:
        """The small model from a `SavedModel` and a class, factory or dense model."""
        raise self._lacks("models")

    def chain_model(self, saved: Any) -> Any:
        """A trainable model of the chain of layers that a `SavedModel` holds."""
        raise self._lacks("models")

    def example_models(self) -> list[tuple[Any, tuple[Any, ...]]]:
        """Small models with the arguments they are called with, for `l0gate.testing` to prune."""
        raise self._lacks("models")

    # Optional: "nets" -------------------------------------------------------------------------

    def net(self, layers: list[dict[str, Any]], batch_first: bool = False) -> Any:
        """A trainable chain of layers with the methods of `l0gate.reference.Net`."""
        raise self._lacks("nets")

    def _lacks(self, capability: str) -> L0GateError:
        have = ", ".join(sorted(self.capabilities)) or "none"
        return L0GateError(
            f"backend {self.name!r} does not offer {capability!r} (its capabilities: {have})"
        )


def sigmoid(backend: Backend, x: Array) -> Array:
    """1 / (1 + exp(-x)) with a finite value and derivative for every finite x."""
    xp = backend.xp
    return xp.exp(-xp.logaddexp(0.0 * x, -x))


def zeros(backend: Backend, shape: tuple[int, ...], like: Array, fill: float = 0.0) -> Array:
    """An array filled with `fill`, in the dtype and on the device of `like`."""
    return backend.cast(backend.asarray(np.full(shape, fill), like), backend.dtype(like))


def itemsize(backend: Backend, x: Array) -> int:
    """The number of bytes of one element of the array."""
    name = backend.dtype(x)
    return 2 if name == "bfloat16" else np.dtype(name).itemsize  # NumPy has no bfloat16
