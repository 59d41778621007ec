"""`Method`: how the neurons that stay are chosen. The default is `L0Gates`, hard-concrete gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from l0gate._backend import Array, Backend, Parameters
from l0gate._checks import check_scores
from l0gate._errors import L0GateError
from l0gate._hard_concrete import HardConcrete
from l0gate._registry import L0, registry
from l0gate.layout.layout import Layout


class Method:
    """A way to choose neurons. Subclasses score them; they may also penalize or remove gradually.

    The gate of a neuron is 1 until the neuron is removed for good.

    >>> from l0gate import Budget, Layout, Pruner
    >>> class First(Method):
    ...     name = "first"
    ...     def scores(self, layout, parameters, backend):
    ...         return {a: -np.arange(n) for a, n in layout.solve(parameters).items()}
    >>> layout = Layout({"w": "h <- _", "v": "_ <- h"})
    >>> parameters = {"w": np.ones((4, 3)), "v": np.ones((2, 4))}
    >>> pruner = Pruner(layout, Budget(parameters=0.5), method=First())
    >>> state = pruner.select(pruner.init(parameters), parameters)
    >>> pruner.kept(state)["h"]
    array([0, 1])
    """

    name = ""
    #: Whether log_alpha is trained by gradient. False: gates are 1 until a neuron is closed.
    trains_gates: ClassVar[bool] = False
    #: Whether neurons can be scored only where their moments are known, by `scores_from_moments`.
    needs_moments: ClassVar[bool] = False

    def scores(
        self, layout: Layout, parameters: Parameters, backend: Backend
    ) -> Mapping[str, np.ndarray]:
        """For every axis, a NumPy array (n,) of scores. The neurons with the highest are kept.

        Neurons of different axes compete for one budget, so scores should be on one scale.
        """
        raise NotImplementedError

    def scores_from_moments(
        self,
        layout: Layout,
        parameters: Parameters,
        backend: Backend,
        moments: Mapping[Any, Any],
    ) -> Mapping[str, np.ndarray]:
        """`scores` where calibration data are at hand; `moments` as in `Pruner.reconstruct`."""
        return self.scores(layout, parameters, backend)

    def penalty(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> Array | None:
        """What to add to the task loss until the neurons are chosen: a scalar, or None.

        `axes` are the prunable ones, without the frozen.
        """
        return None

    def penalty_gradient(
        self, layout: Layout, parameters: Parameters, backend: Backend, axes: Sequence[str]
    ) -> dict[str, Array]:
        """The gradient of `penalty`, by parameter name, for frameworks without autodiff."""
        return {}

    def share(self, progress: float) -> float:
        """How much of the reduction to the budget should be done at `progress`, from 0 to 1.

        `progress` is 0 at the start of training and 1 at `Budget.settle`.
        """
        return 0.0

    # The gates of undecided neurons. Here they are 1, with gradient 0. Arguments and results are
    # arrays (n,) of one axis; `noise` is None at test time.

    def gate(self, log_alpha: Array, noise: Array | None, backend: Backend) -> Array:
        """The value of every gate."""
        return backend.xp.ones_like(log_alpha)

    def gate_gradient(self, log_alpha: Array, noise: Array | None, backend: Backend) -> Array:
        """d gate / d log_alpha."""
        return 0.0 * log_alpha

    def open_probability(self, log_alpha: Array, backend: Backend) -> Array:
        """The probability that a gate is not 0."""
        return backend.xp.ones_like(log_alpha)

    def open_probability_gradient(self, log_alpha: Array, backend: Backend) -> Array:
        """d open_probability / d log_alpha."""
        return 0.0 * log_alpha

    def clamp(self, log_alpha: Array, backend: Backend) -> Array:
        """log_alpha limited to its allowed range; called after every optimizer step."""
        return log_alpha

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class L0Gates(Method):
    """Hard-concrete gates, trained with the weights.

    The paper's method: a penalty on the expected size closes gates. Neurons are ranked by
    log_alpha, which the gate state holds, so there are no `scores`.
    """

    name = L0
    trains_gates: ClassVar[bool] = True

    def __init__(self, gates: HardConcrete) -> None:
        self.gates = gates

    def gate(self, log_alpha: Array, noise: Array | None, backend: Backend) -> Array:
        if noise is None:
            return self.gates.test_gate(log_alpha, backend)
        return self.gates.sample(log_alpha, noise, backend)

    def gate_gradient(self, log_alpha: Array, noise: Array | None, backend: Backend) -> Array:
        if noise is None:
            return self.gates.test_gate_gradient(log_alpha, backend)
        return self.gates.sample_gradient(log_alpha, noise, backend)

    def open_probability(self, log_alpha: Array, backend: Backend) -> Array:
        return self.gates.open_probability(log_alpha, backend)

    def open_probability_gradient(self, log_alpha: Array, backend: Backend) -> Array:
        return self.gates.open_probability_gradient(log_alpha, backend)

    def clamp(self, log_alpha: Array, backend: Backend) -> Array:
        return self.gates.clamp(log_alpha, backend)


def scores_of(
    method: Method,
    layout: Layout,
    parameters: Parameters,
    backend: Backend,
    sizes: Mapping[str, int],
    moments: Mapping[Any, Any] | None = None,
) -> dict[str, np.ndarray]:
    """The scores (n,) per axis that a method gives; an error names the method."""
    given = layout, parameters, backend
    try:
        if moments is None:
            scores = method.scores(*given)
        else:
            scores = method.scores_from_moments(*given, moments)
    except L0GateError:
        raise
    except Exception as error:  # code of a plugin may fail in any way
        raise L0GateError(
            f"`method` {method.name!r} ({type(method).__module__}.{type(method).__qualname__})"
            f" cannot score the neurons: {type(error).__name__}: {error};"
            " `l0gate.methods.neuron_norms` finds the weights of every neuron in any layout"
        ) from error
    return check_scores(repr(method), scores, sizes)


def get_method(which: object, gates: HardConcrete | None = None) -> Method:
    """The method of that name with its default options; a `Method` is returned as it is.

    None and "l0" give hard-concrete gates, with the distribution `gates`.
    """
    if which is None or (isinstance(which, str) and which == L0):
        return L0Gates(HardConcrete() if gates is None else gates)
    if isinstance(which, str):
        entry = registry.method(which)
        made = entry.make()
        if not isinstance(made, Method):
            raise L0GateError(f"{entry} is {made!r}; it must be a l0gate.methods.Method")
        return made
    if isinstance(which, Method):
        return which
    raise L0GateError(f"`method` is {which!r}; it must be a name or a l0gate.methods.Method")
