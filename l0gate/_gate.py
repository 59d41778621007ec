"""`gate`: adds gates to a model of any framework."""

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
    """Add gates to a model of a framework whose backend offers "models", such as PyTorch.

    Use the returned model in place of `model`, whose parameters it shares. Train it as usual, add
    `gated.penalty(progress)` to the loss, then call `gated.shrink()` for the small model, with its
    `certificate`.

    Give `example_inputs`, a tuple of arguments for the model, to derive the layout from a call, or
    give the `layout`. `budget` or `strength` says how much to prune: see `Pruner`. Further options
    go to the backend. Those of PyTorch are:

    - `equal=True`: all layers and directions of a recurrent module keep the same number of neurons;
    - `freeze`: axes that keep every neuron;
    - `strict=True`: an axis whose neurons cannot be tracked to every reader is an error. Without
      it, such an axis is frozen, with a warning;
    - `gate_learning_rate` (0.06) and `seed` of the gates;
    - `warm_start=True`: for a trained model. The test-time gates start at exactly 1, so that the
      outputs in eval mode are the model's;
    - `distill=True`: keeps a copy of the model as a teacher, for the loss `gated.distill(*inputs)`,
      which needs no labels; `distill="kl"` is for logits;
    - `method`: another way to choose neurons, see `l0gate.methods`.
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
