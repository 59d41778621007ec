"""`calibrate`: the best cut without any training, by errors measured on calibration data.

Reconstruction minimizes the error at every reader as long as the neurons that it reads are right.
In a recurrent net they are not: errors come back through the states. So a cut is not chosen by its
moments alone. Every candidate is run as a whole, and the one with the smallest error is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0gate._backend import Array, Parameters
from l0gate._errors import L0GateError, check
from l0gate._method import get_method
from l0gate._pruner import Pruner
from l0gate._state import State, to_device, to_host

_RIDGES = (1e-3, 1e-1)  # less ridge gains nothing, and makes weights that magnify rounding


@dataclass(frozen=True)
class Calibration:
    """The cut that `calibrate` chose, and the errors of all that it tried.

    Give `parameters` and `state` to `Pruner.shrink` and `certify`. `errors` maps every candidate to
    its error on the calibration data, `chosen` is the one with the smallest.
    """

    parameters: Mapping[str, Array]
    state: State
    chosen: str
    errors: Mapping[str, float]

    def __str__(self) -> str:
        best = self.errors[self.chosen]
        rows = []
        for name, error in sorted(self.errors.items(), key=lambda item: item[1]):
            against = "chosen" if name == self.chosen else f"{error / best:.2f} times"
            rows.append((name, f"{error:.4g}", against if best > 0 else ""))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"  {name:<{width}}  {error:>10}  {against}" for name, error, against in rows]
        return "error on calibration data, without training:\n" + "\n".join(lines)


def calibrate(
    pruner: Pruner,
    parameters: Parameters,
    moments: Mapping[Any, Any],
    errors: Callable[[Sequence[dict[str, Array]]], Sequence[float]],
    state: State | None = None,
    *,
    ridges: Sequence[float] = _RIDGES,
) -> Calibration:
    """Cut a trained net to the pruner's budget, without training, in the way that loses least.

    Candidates are the neurons that the pruner's method chooses, with and without reconstruction
    (see `Pruner.reconstruct`, once per ridge). For a method that chooses on calibration data, such
    as "spectral", those of "magnitude" are candidates too. `errors` takes the parameters of all
    candidates and returns a number for each, such as the loss or the squared difference of the
    outputs; the smallest wins. `moments` are those of the net that is cut: with gates that are not
    all 1, of the gated one. `state` is a gate state whose neurons are not yet selected; by default
    a new one.

    >>> import numpy as np
    >>> from l0gate import Budget, Layout, Pruner, calibrate
    >>> rng = np.random.default_rng(0)
    >>> h = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 6))  # three of six neurons are enough
    >>> layout = Layout({"w": "h <- _", "v": "_ <- h"})
    >>> dense = {"w": np.ones((6, 2)), "v": rng.normal(size=(4, 6))}
    >>> def errors(candidates):
    ...     return [np.square(h @ (c["v"] - dense["v"]).T).mean() for c in candidates]
    >>> pruner = Pruner(layout, Budget(parameters=0.5), method="spectral")
    >>> found = calibrate(pruner, dense, {"h": h.T @ h / 50}, errors, ridges=(0.0,))
    >>> found.chosen, found.errors[found.chosen] < 1e-20
    ('spectral, reconstructed', True)
    >>> small, kept = pruner.shrink(found.parameters, found.state)
    >>> small["v"].shape
    (4, 3)
    """
    pruner.bind(parameters)
    state = pruner.init(parameters) if state is None else state
    check(
        not pruner.selected(state),
        "the neurons that stay are selected already, and what reads the others is lost: reconstruct"
        " before `select`, or before progress reaches `Budget.settle`",
    )
    base = pruner.gate(parameters, state)
    tried: dict[str, tuple[dict[str, Array], State]] = {}
    for name, selected in _selections(pruner, parameters, state, moments).items():
        kept = pruner.kept(selected)
        final = {**selected, "mask": _ones(pruner, kept, selected)}
        tried[name] = (base, final)
        for ridge in ridges:
            suffix = f" (ridge {ridge:g})" if len(ridges) > 1 else ""
            reconstructed = pruner.reconstruct(base, kept, moments, ridge=ridge)
            tried[f"{name}, reconstructed{suffix}"] = (reconstructed, final)
    found = [float(e) for e in errors([pruner.gate(*candidate) for candidate in tried.values()])]
    if len(found) != len(tried):
        raise L0GateError(f"`errors` gave {len(found)} numbers for {len(tried)} candidates")
    measured = dict(zip(tried, (e if np.isfinite(e) else float("inf") for e in found), strict=True))
    chosen = min(measured, key=measured.__getitem__)
    check(
        measured[chosen] < float("inf"),
        f"`errors` gave {found}; at least one of them must be finite",
    )
    parameters, state = tried[chosen]
    return Calibration(parameters, state, chosen, measured)


def _selections(
    pruner: Pruner, parameters: Parameters, state: State, moments: Mapping[Any, Any]
) -> dict[str, State]:
    """The states in which neurons are selected: by the pruner's method, and by its rival."""
    found = {pruner.method.name: pruner.select(state, parameters, reopen=False, moments=moments)}
    if pruner.method.needs_moments:
        rival = get_method("magnitude")
        other = Pruner(
            pruner.layout,
            pruner.budget,
            backend=pruner.backend,
            method=rival,
            equal=pruner.equal,
            freeze=pruner.freeze,
        )
        other.bind(parameters)
        found[rival.name] = other.select(state, parameters, reopen=False)
    return found


def _ones(pruner: Pruner, kept: Mapping[str, np.ndarray], state: State) -> dict[str, Array]:
    """Masks with gates of 1: the values of the gates are already in the parameters."""
    masks = {}
    for axis, mask in to_host(pruner.backend, state["mask"]).items():
        value = np.zeros_like(mask)
        value[kept[axis]] = 1.0
        masks[axis] = to_device(pruner.backend, value, state["mask"][axis])
    return masks
