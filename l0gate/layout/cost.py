"""The cost of a model: a polynomial in the numbers of its open neurons."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0gate._backend import Array, Backend, Parameters, itemsize
from l0gate._errors import check
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension

MEASURES = ("parameters", "bytes", "multiply_adds")
Monomial = tuple[tuple[str, int], ...]  # ((axis, power), ...), sorted; () is the constant


class Cost:
    """The number of parameters, bytes, or multiply-adds per time step, of what `of` names.

    `of` is "layout" (every parameter of the layout), "recurrent" or a sequence of names.

    The size of a parameter is the product of the lengths of its dimensions, so the cost is a
    polynomial in n, the number of open neurons of every axis. `at` is exact. `expected` is exact
    too: gates are independent, each open with its probability p, so E[n^k] follows from the
    cumulants of n, which are sums over the gates. An example is `h <- h`, where
    E[n^2] = (sum p)^2 - sum p^2 + sum p.

    >>> import numpy as np
    >>> layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h"})
    >>> cost = Cost(layout, {"w": np.zeros((8, 3)), "u": np.zeros((8, 2))})
    >>> cost.total, cost.at({"h": 1, "x": 3})
    (40, 16)
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Parameters,
        measure: str = "parameters",
        of: str | Sequence[str] = "layout",
        backend: Backend | None = None,
    ) -> None:
        check(measure in MEASURES, f"`measure` is {measure!r}; it must be one of {MEASURES}")
        names = _named(layout, of)
        terms: dict[Monomial, Any] = defaultdict(int)
        for name, pattern, shape, value in layout.slices(parameters):
            if name not in names:
                continue
            weight: Any = 1
            if measure == "bytes":
                weight = itemsize(backend or Backend(), value)
            elif measure == "multiply_adds":
                weight = layout.uses(name)
            product: dict[Monomial, Any] = {(): weight}
            for dimension, length in zip(pattern.dimensions, shape, strict=True):
                product = _times(product, _count(dimension, length))
            for monomial, coefficient in product.items():
                terms[monomial] += coefficient
        self.terms: dict[Monomial, Any] = {m: c for m, c in terms.items() if c}
        self.sizes = layout.solve(parameters)
        self.total = self.at(self.sizes)
        check(
            self.total > 0,
            f"the {measure} of {of!r} come to 0, so there is nothing to limit",
        )
        #: The highest power of every axis in the polynomial: 0 if the axis has no cost.
        self.powers = {
            axis: max((power for m in self.terms for a, power in m if a == axis), default=0)
            for axis in self.sizes
        }

    def at(self, counts: Mapping[str, int]) -> Any:
        """The exact cost with `counts[axis]` open neurons; an int if the layout's uses are ints."""
        return sum(
            coefficient * math.prod(counts[axis] ** power for axis, power in monomial)
            for monomial, coefficient in self.terms.items()
        )

    def expected(self, probabilities: Mapping[str, Array], backend: Backend) -> Array:
        """The expected cost, a scalar array, given the probability (n,) of each gate to be open."""
        moments = {
            axis: _moments(backend, p, self.powers[axis]) for axis, p in probabilities.items()
        }
        total = 0.0
        for monomial, coefficient in self.terms.items():
            value = float(coefficient)
            for axis, power in monomial:
                value = value * moments[axis][power]
            total = total + value
        return total

    def expected_gradient(
        self, probabilities: Mapping[str, Array], backend: Backend
    ) -> dict[str, Array]:
        """d expected / d probabilities, (n,) for every axis."""
        moments = {
            axis: _moments(backend, p, self.powers[axis]) for axis, p in probabilities.items()
        }
        gradients = {
            axis: _moment_gradients(backend, p, self.powers[axis], moments[axis])
            for axis, p in probabilities.items()
        }
        result = {axis: backend.xp.zeros_like(p) for axis, p in probabilities.items()}
        for monomial, coefficient in self.terms.items():
            for axis, power in monomial:
                value = float(coefficient)
                for other, other_power in monomial:
                    if other != axis:
                        value = value * moments[other][other_power]
                result[axis] = result[axis] + value * gradients[axis][power]
        return result


def _named(layout: Layout, of: str | Sequence[str]) -> frozenset[str]:
    if of == "layout":
        return frozenset(layout.patterns)
    if of == "recurrent":
        check(layout.recurrent, "`of` is 'recurrent', but no parameter reads an axis it writes")
        return frozenset(layout.recurrent)
    names = (of,) if isinstance(of, str) else tuple(of)
    for name in names:
        check(
            name in layout.patterns,
            f"`of` names {name!r}; allowed are 'layout', 'recurrent' and names of parameters in"
            f" the layout: {', '.join(layout.patterns)}",
        )
    check(names, "`of` is empty; it must be 'layout', 'recurrent' or names of parameters")
    return frozenset(names)


def _count(dimension: Dimension, length: int) -> dict[Monomial, int]:
    if not dimension.blocks:
        return {(): length}
    count: dict[Monomial, int] = defaultdict(int)
    for block in dimension.blocks:
        if block.axis is None:
            count[()] += block.outer
        else:
            count[((block.axis, 1),)] += block.outer * block.inner
    return count


def _times(a: Mapping[Monomial, Any], b: Mapping[Monomial, Any]) -> dict[Monomial, Any]:
    product: dict[Monomial, Any] = defaultdict(int)
    for m, x in a.items():
        for n, y in b.items():
            powers: dict[str, int] = defaultdict(int)
            for axis, power in (*m, *n):
                powers[axis] += power
            product[tuple(sorted(powers.items()))] += x * y
    return product


_Polynomial = list[float]  # coefficients, constant first


@functools.cache
def _cumulant_polynomials(highest: int) -> tuple[list[_Polynomial], list[_Polynomial]]:
    """The cumulants k[n] of a gate as polynomials in p, and dk[n]/dp. k[n+1] = p(1-p) dk[n]/dp."""
    cumulant, cumulants, gradients = np.array([0.0, 1.0]), [], []
    for _ in range(highest):
        gradient = np.polynomial.polynomial.polyder(cumulant)
        cumulants.append(cumulant.tolist())
        gradients.append(gradient.tolist())
        cumulant = np.polynomial.polynomial.polymul([0.0, 1.0, -1.0], gradient)
    return cumulants, gradients


def _polynomial(coefficients: _Polynomial, p: Array) -> Array:
    value = 0.0 * p + coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * p + coefficient
    return value


def _moments(backend: Backend, p: Array, highest: int) -> list[Any]:
    """E[n^k] of the number n of open gates, k = 0 to `highest`, from its cumulants."""
    polynomials, _ = _cumulant_polynomials(highest)
    cumulants = [backend.xp.sum(_polynomial(c, p), axis=0) for c in polynomials]
    moments: list[Any] = [1.0]
    for n in range(1, highest + 1):
        moments.append(
            sum(
                math.comb(n - 1, k - 1) * cumulants[k - 1] * moments[n - k] for k in range(1, n + 1)
            )
        )
    return moments


def _moment_gradients(backend: Backend, p: Array, highest: int, moments: list[Any]) -> list[Any]:
    """The derivatives of E[n^k] with respect to each probability p, for k = 0 to `highest`.

    They follow from the recursion in `_moments` by the product rule. `moments` is its result.
    """
    polynomials, gradient_polynomials = _cumulant_polynomials(highest)
    cumulants = [backend.xp.sum(_polynomial(c, p), axis=0) for c in polynomials]
    cumulant_gradients = [_polynomial(c, p) for c in gradient_polynomials]
    gradients: list[Any] = [0.0]
    for n in range(1, highest + 1):
        gradients.append(
            sum(
                math.comb(n - 1, k - 1)
                * (cumulant_gradients[k - 1] * moments[n - k] + cumulants[k - 1] * gradients[n - k])
                for k in range(1, n + 1)
            )
        )
    return gradients
