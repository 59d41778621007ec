"""`gate`: adds gates to a model of any framework."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isclass
from typing import Any

from l0gate._budget import Budget
from l0gate._errors import check
from l0gate._hard_concrete import HardConcrete
from l0gate._method import Method
from l0gate._registry import get_backend
from l0gate.layout.layout import Layout


def gate(
    model: Any,
    *,
    example_inputs: Any = None,
    layout: Layout | None = None,
    budget: Budget | None = None,
    strength: float | None = None,
    gates: HardConcrete | None = None,
    equal: bool = False,
    freeze: Sequence[str] = (),
    strict: bool = False,
    gate_learning_rate: float | None = None,
    seed: int = 0,
    warm_start: bool = False,
    distill: bool | str = False,
    method: str | Method | None = None,
) -> Any:
    """Add gates to a model of a framework whose backend offers "models", such as PyTorch.

    Use the returned model in place of `model`, whose parameters it shares. Train it as usual, add
    `gated.penalty(progress)` to the loss, then call `gated.shrink()` for the small model, with its
    `certificate`.

    Give `example_inputs`, a tuple of arguments for the model, to derive the layout from a call, or
    give the `layout`. `budget` or `strength` says how much to prune: see `Pruner`. Further options,
    of which a backend may offer some only:

    - `equal=True`: all layers and directions of a recurrent module keep the same number of neurons;
    - `freeze`: axes that keep every neuron;
    - `strict=True`: an axis whose neurons cannot be tracked to every reader is an error. Without
      it, such an axis is frozen, with a warning;
    - `gate_learning_rate` (0.06 in PyTorch) and `seed` of the gates;
    - `warm_start=True`: for a trained model. The test-time gates start at exactly 1, so that the
      outputs in eval mode are the model's;
    - `distill=True`: keeps a copy of the model as a teacher, for the loss `gated.distill(*inputs)`,
      which needs no labels; `distill="kl"` is for logits;
    - `method`: another way to choose neurons, see `l0gate.methods`.
    """
    _check_arguments(model, layout, budget, strength, gates)
    for name, flag in (("equal", equal), ("strict", strict), ("warm_start", warm_start)):
        check(isinstance(flag, bool), f"`{name}` is {flag!r}; it must be True or False")
    valid = isinstance(freeze, Sequence) and not isinstance(freeze, str)
    check(
        valid and all(isinstance(axis, str) for axis in freeze),
        f"`freeze` is {freeze!r}; it must be a list of axes",
    )
    number = isinstance(gate_learning_rate, (int, float)) or gate_learning_rate is None
    check(number, f"`gate_learning_rate` is {gate_learning_rate!r}; it must be a number above 0")
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    check(whole, f"`seed` is {seed!r}; it must be an int")
    check(
        isinstance(distill, (bool, str)),
        f"`distill` is {distill!r}; it must be True, False or 'kl' (for logits)",
    )
    check(
        method is None or isinstance(method, (str, Method)),
        f"`method` is {method!r}; it must be a name or a l0gate.methods.Method",
    )
    # Backends need not take options that were left as they are.
    options: dict[str, tuple[Any, Any]] = {
        "equal": (equal, False),
        "freeze": (freeze, ()),
        "strict": (strict, False),
        "gate_learning_rate": (gate_learning_rate, None),
        "seed": (seed, 0),
        "warm_start": (warm_start, False),
        "distill": (distill, False),
        "method": (method, None),
    }
    changed = {name: value for name, (value, usual) in options.items() if value != usual}
    return get_backend(model).gate_model(
        model,
        example_inputs=example_inputs,
        layout=layout,
        budget=budget,
        strength=strength,
        gates=gates,
        **changed,
    )


def _check_arguments(model: Any, layout: Any, budget: Any, strength: Any, gates: Any) -> None:
    check(
        not isclass(model),
        f"`model` is the class {getattr(model, '__name__', '')}; give a model, an object of it",
    )
    check(
        layout is None or isinstance(layout, Layout),
        f"`layout` is a {type(layout).__name__}; it must be a Layout, such as"
        " l0gate.Layout({'weight': '_ <- h'})",
    )
    check(budget is not None or strength is not None, "give `budget` or `strength`")
    check(
        budget is None or isinstance(budget, Budget),
        f"`budget` is {budget!r}; it must be a Budget, such as l0gate.Budget(parameters=0.2)",
    )
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    check(strength is None or number, f"`strength` is {strength!r}; it must be a number")
    check(
        gates is None or isinstance(gates, HardConcrete),
        f"`gates` is {gates!r}; it must be a HardConcrete",
    )
