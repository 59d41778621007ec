"""`gate`: one call from the user's own model to its gated twin."""

from __future__ import annotations

from typing import Any

from l0gate._budget import Budget
from l0gate._errors import check
from l0gate._hard_concrete import HardConcrete
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
    **options: Any,
) -> Any:
    """Gate a model of any framework whose backend adapts models; PyTorch's does.

    Returns a drop-in model that trains the parameters of `model` itself. Train it as usual, add
    `gated.penalty(progress)` to the loss, then call `gated.shrink()` for the small model, with its
    `certificate`.

    `example_inputs` (a tuple of what the model is called with) lets the backend derive the
    layout; `layout` gives it. `budget` or `strength` says how much to prune: see `Pruner`.
    Further options go to the backend. PyTorch's: `equal=True` keeps one number of neurons for all
    layers and directions of a recurrent module, within the budget; `freeze` lists axes that keep
    every neuron; `strict=True` makes neurons that cannot be followed to all who read them an
    error, where they would stay whole with a warning; `gate_learning_rate` (0.06) and `seed` are
    those of the gates; `warm_start=True` starts near an already trained model, whose outputs eval
    mode gives exactly; `distill=True` keeps a copy of it as the teacher of
    `gated.distill(*inputs)`, a loss without labels, and `distill="kl"` does so for logits;
    `method` chooses neurons in another way than by gates, for comparison: see `l0gate.methods`.
    """
    check(budget is not None or strength is not None, "give `budget` or `strength`")
    return get_backend(model).gate_model(
        model,
        example_inputs=example_inputs,
        layout=layout,
        budget=budget,
        strength=strength,
        gates=gates,
        **options,
    )
