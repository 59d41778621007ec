"""Backends whose random numbers are wrong; `faulty_backends` says which check finds each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from l0gate.backends._numpy import NumpyBackend


class UniformReachesTheEnds(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return np.round(u, 3), rng  # 0 and 1 among them


class UniformRepeats(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        return super().uniform(rng, shape, like)[0], rng


class UniformIsUneven(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u**1.2, rng


class UniformHasASecretState(NumpyBackend):
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u = self.generator.uniform(1e-6, 1 - 1e-6, shape)
        return np.asarray(u, like.dtype), (rng[0], rng[1] + 1)


class UniformIgnoresTheSeed(NumpyBackend):
    def rng(self, seed: int) -> Any:
        return super().rng(0)


class OneStream(NumpyBackend):
    """Draws read one long stream of numbers, from the place that the generator tells."""

    stream: ClassVar[Any] = np.random.default_rng(0).integers(1, 2**23, 100_000) * 2.0**-23

    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 50_000

    def after(self, start: int, count: int) -> int:
        return start + count

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        seed, start = rng
        count = int(np.prod(shape, dtype=int))
        first = self.place(seed, start)
        u = self.stream[first : first + count].reshape(shape).astype(like.dtype)
        return u, (seed, self.after(start, count))


class NextDrawStartsOneLater(OneStream):
    def after(self, start: int, count: int) -> int:
        return start + 1


class NextDrawStartsAtTheLastNumber(OneStream):
    def after(self, start: int, count: int) -> int:
        return start + count - 1


class NextDrawStartsAtTheLastTwo(OneStream):
    def after(self, start: int, count: int) -> int:
        return start + count - 2


class LongDrawsOverlap(OneStream):
    def after(self, start: int, count: int) -> int:
        return start + 256


class SeedsFollowOneAnother(OneStream):
    """Neighbouring seeds share their numbers."""

    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 7


class SeedsShareTheEnd(OneStream):
    def place(self, seed: int, start: int) -> int:
        return start + (seed - 7) * 24_000


class UniformOfBits(NumpyBackend):
    """Random bits made numbers between 0 and 1, in the dtype asked for."""

    def convert(self, bits: Any, dtype: str) -> Any:
        return (bits >> 8).astype(dtype) * np.asarray(2.0**-24, dtype)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        generator = np.random.Generator(np.random.Philox(key=rng))
        bits = generator.integers(0, 2**32, shape, dtype=np.uint32)
        return self.convert(bits, str(like.dtype)), (rng[0], rng[1] + 1)


class UniformIsRarely0(UniformOfBits):
    """Once in 2^24 numbers."""


class UniformIsRarely1(UniformOfBits):
    """Once in 2^25 numbers, by rounding, and in float32 alone."""

    def convert(self, bits: Any, dtype: str) -> Any:
        return (bits.astype(dtype) + np.asarray(0.5, dtype)) * np.asarray(2.0**-32, dtype)


class UniformAvoidsTheEnds(UniformOfBits):
    def convert(self, bits: Any, dtype: str) -> Any:
        return np.maximum(super().convert(bits, dtype), np.asarray(2.0**-24, dtype))


class UniformHasAnotherShape(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.reshape(-1), rng


class UniformHasAnotherDtype(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.astype("float64"), rng


class UniformGivesAList(NumpyBackend):
    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        return u.tolist(), rng


class UniformChangesItsGenerator(NumpyBackend):
    def rng(self, seed: int) -> Any:
        return np.random.default_rng(seed)

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        return (rng.integers(0, 2**23, shape) + 0.5).astype(like.dtype) * 2.0**-23, rng


class UniformIsWavy(NumpyBackend):
    """Even as a whole; but a number tells the next."""

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, rng = super().uniform(rng, shape, like)
        flat = u.reshape(-1)
        flat[1::2] = (flat[: len(flat) // 2 * 2 : 2] + 0.1 * flat[1::2]) % 1.0
        return flat.reshape(shape), rng


class DrawsFollowOneAnother(NumpyBackend):
    """Each draw is the one before, moved a little."""

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        seed, drawn = rng
        u, _ = super().uniform((seed, 0), shape, like)
        return ((u + 0.003 * drawn) % 1.0).astype(like.dtype), (seed, drawn + 1)


class SeedsAreAlike(OneStream):
    """Neighbouring seeds give nearly the same numbers, at the same places."""

    def place(self, seed: int, start: int) -> int:
        return start

    def uniform(self, rng: Any, shape: Any, like: Any) -> Any:
        u, after = super().uniform(rng, shape, like)
        return ((u + 0.05 * np.random.default_rng(rng).random(shape)) % 1.0).astype(u.dtype), after
