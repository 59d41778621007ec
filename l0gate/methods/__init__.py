"""Other ways to choose the neurons that stay, for comparison with hard-concrete gates.

A `Method` scores neurons. The cut to the budget, shrinking, certificate and report are the same as
with gates. Give one, or its name, to `Pruner(method=...)`, `l0gate.gate(method=...)` or
`l0gate train --method`. Every neuron is open until its method closes it.

- `magnitude`: `Magnitude`, the norm of a neuron's weights; also the gradual version
- `group_lasso`: `GroupLasso`, known as ISS, which adds a penalty to the loss
- `geometric_median`: `GeometricMedian`, the distance from the other neurons
- `spectral`: `Spectral`, what the readers of a neuron would lose, on calibration data
- `random_choice`: `Random`, the baseline

`neuron_norms(layout, parameters, backend, reads=None)` gives the norms of the weights of every
neuron, whatever the layout: all, only those that read it (`reads=True`) or that write it (False).

The base class and the hard-concrete gates themselves are in `l0gate._method`. A distribution adds
methods through an entry point in the group `l0gate` whose module implements

    @l0gate.hookimpl
    def l0gate_methods():
        return [{"name": "saliency", "factory": "my_package:Saliency"}]
"""

from __future__ import annotations

from typing import Any

from l0gate._hooks import hookimpl
from l0gate._method import Method
from l0gate.layout.fold import group_norms as neuron_norms
from l0gate.methods.geometric_median import GeometricMedian
from l0gate.methods.group_lasso import GroupLasso
from l0gate.methods.magnitude import Magnitude
from l0gate.methods.random_choice import Random
from l0gate.methods.spectral import Spectral

__all__ = [
    "GeometricMedian",
    "GroupLasso",
    "Magnitude",
    "Method",
    "Random",
    "Spectral",
    "neuron_norms",
]


@hookimpl
def l0gate_methods() -> list[dict[str, Any]]:
    """Descriptors of the built-in methods."""
    methods = (Magnitude, GroupLasso, GeometricMedian, Spectral, Random)
    found = [{"name": m.name, "factory": f"{__name__}:{m.__name__}"} for m in methods]
    return [*found, {"name": "gradual_magnitude", "factory": lambda: Magnitude(gradual=True)}]
