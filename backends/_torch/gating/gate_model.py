"""`gate_model`: makes the gated module from a model.

It derives or checks the layout, groups the axes that must keep equal counts, shrinks the model
once with random gates as a trial, and makes the gated module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from l0gate._budget import Budget
from l0gate._errors import L0GateError, check, warn
from l0gate._hard_concrete import HardConcrete
from l0gate._pruner import Pruner
from l0gate.backends._torch.gating.distill import Teacher
from l0gate.backends._torch.gating.module import GatedModule
from l0gate.backends._torch.gating.study import study
from l0gate.backends._torch.gating.trial import find_unshrinkable, try_random_gates
from l0gate.backends._torch.pytree import named_tensors, returned_tensors
from l0gate.backends._torch.recurrent_axes import equal_groups
from l0gate.backends._torch.tracing.frozen import describe_frozen, warn_about_frozen
from l0gate.layout.layout import Layout

if TYPE_CHECKING:
    from l0gate.methods import Method

_FEW = 0.05  # parameters outside the layout are reported if they are more than this share


def gate_model(
    model: nn.Module,
    *,
    example_inputs: Any = None,
    layout: Layout | None = None,
    budget: Budget | None = None,
    strength: float | None = None,
    gates: HardConcrete | None = None,
    equal: bool = False,
    freeze: Sequence[str] = (),
    gate_learning_rate: float = 0.06,
    seed: int = 0,
    strict: bool = False,
    warm_start: bool = False,
    distill: bool | str = False,
    method: str | Method | None = None,
) -> GatedModule:
    """Gate a torch model: see `l0gate.gate`.

    `example_inputs` is a tuple of arguments, a dict of named ones, or a single tensor. Without a
    `layout`, a copy of the model is run on them to derive one. `equal=True` keeps the same number
    of neurons in all layers and directions of a recurrent module. The axes in `freeze` are not
    pruned. An axis is not pruned either if its neurons cannot be followed to everything that reads
    them: a warning names such axes, and with `strict` they are an error. The result's `frozen` maps
    every frozen axis to the reason.

    `warm_start=True` is for a trained model. Each sampled gate is then exactly 1 with a probability
    of 0.95 at the start, and |gate - 1| is 0.014 on average, against 0.10 for a fresh gate. In
    training mode, the outputs of a trained LSTM of 2 x 48 neurons then differ by 10% from the
    model's own (root mean square, relative to that of the outputs), against 30% with fresh gates.
    In eval mode all gates are 1, and the outputs are the model's own.

    `distill=True` keeps a frozen copy of the model as the teacher of `GatedModule.distill`, which
    compares outputs; `distill="kl"` compares logits. `method` is as in `Pruner`.
    """
    _check_model(model)
    check(
        distill in (False, True, "kl"),
        f"`distill` is {distill!r}; it must be True, False or 'kl' (for logits)",
    )
    check(
        isinstance(seed, int) and not isinstance(seed, bool),
        f"`seed` is {seed!r}; it must be an int",
    )
    rate = isinstance(gate_learning_rate, (int, float)) and gate_learning_rate > 0
    check(rate, f"`gate_learning_rate` is {gate_learning_rate!r}; it must be a number above 0")
    _check_inputs(example_inputs)
    teacher = Teacher(model, logits=distill == "kl") if distill else None
    found = study(model, example_inputs, layout, freeze, strict)
    groups = equal_groups(model, found.state_axes, every=equal)
    tensors = named_tensors(model)

    def pruner_of(frozen: Mapping[str, str], reasons: Mapping[str, str]) -> Pruner:
        """The pruner; an error, such as a budget below the floor, says why axes are frozen."""
        try:
            pruner = Pruner(
                found.layout,
                budget,
                strength,
                gates,
                "torch",
                method=method,
                equal=groups,
                freeze=[axis for axis in found.layout.axes if axis in frozen],
            )
            pruner.bind(tensors)
        except L0GateError as error:
            lines = [describe_frozen(reasons)] if reasons else []
            told = "".join(f"\n{line}" for line in [*lines, *found.derived.ungated])
            raise L0GateError(f"{error}{told}") from None
        return pruner

    reasons = found.derived.reasons
    frozen = _with_groups(reasons, groups)
    pruner = pruner_of(frozen, reasons)
    held = found.held
    if found.examples is not None:
        inputs = list(found.examples.draw(2, found.examples.device))
        options: dict[str, Any] = {"equal": equal, "stateful": found.stateful, "held": held}
        failure = try_random_gates(model, pruner, inputs, **options)
        if failure is not None and held.sizes:  # a number may be more than a size of an axis
            options["held"] = replace(held, sizes={})
            if try_random_gates(model, pruner, inputs, **options) is None:
                failure, held = None, options["held"]
            options["held"] = held
        if failure is not None and layout is None and not strict:
            reasons = {**reasons, **find_unshrinkable(model, pruner, inputs, **options)}
            frozen = _with_groups({**frozen, **reasons}, groups)  # warns of new groups only
            pruner = pruner_of(frozen, reasons)
            failure = try_random_gates(model, pruner, inputs, **options)
        if failure is not None:
            alone = find_unshrinkable(model, pruner, inputs, **options)
            raise L0GateError(
                f"tried on random gates, the model cannot be shrunk by its layout: {failure}\n"
                f"{_what_to_do(alone)}; the layout is\n{pruner.layout.table()}"
            )
        outside = [] if layout else _outside(model, found.layout)
        warn_about_frozen(reasons, [*found.derived.ungated, *outside])
    return GatedModule(
        model,
        pruner,
        seed=seed,
        gate_learning_rate=gate_learning_rate,
        examples=found.examples,
        chain=found.chain,
        stateful=found.stateful,
        held=held,
        equal=equal,
        frozen=frozen,
        warm_start=warm_start,
        teacher=teacher,
    )


def _what_to_do(alone: Mapping[str, str]) -> str:
    """Advice on a failed trial; `alone` maps the axes that fail on their own to their reasons."""
    if alone:
        return f"`freeze={list(alone)}` keeps the neurons that cause it"
    return (
        "No axis or every axis causes it on its own, so `freeze=` does not help: change the code"
        " that is named above, or describe the model in `layout=`"
    )


def _check_model(model: nn.Module) -> None:
    check(not isinstance(model, GatedModule), "`model` is gated already")
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    check(
        not isinstance(model, parallel),
        f"`model` is wrapped in {type(model).__name__}; gate the module inside, `model.module`, and"
        " wrap the result, in DistributedDataParallel",
    )
    check(
        not isinstance(model, torch.jit.ScriptModule),
        "`model` is a TorchScript module, whose code cannot be followed; gate the module that it"
        " was made from",
    )
    lazy = [n for n, p in model.named_parameters() if nn.parameter.is_lazy(p)]
    check(not lazy, f"`model` has parameters without a size yet ({', '.join(lazy)}); run it once")


def _check_inputs(given: Any) -> None:
    """Refuse example inputs without a tensor, such as NumPy arrays and data loaders."""
    kind = type(given).__name__
    check(
        given is None or any(True for _ in returned_tensors(given)),
        f"`example_inputs` is a {kind} without a tensor; give the arguments of one call of the"
        " model: a tuple, a dict or a tensor, such as `next(iter(loader))[0]`; of a NumPy array,"
        " torch.from_numpy(array)",
    )


def _with_groups(frozen: Mapping[str, str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """`frozen`, extended by the axes that share a group with a frozen axis; warns of these."""
    more = dict(frozen)
    for group in groups:
        own = [axis for axis in group if axis in frozen]
        if 0 < len(own) < len(group):
            because = (
                "they must keep equal numbers of neurons (`equal=True`, or a class that cannot be"
                f" taken apart), and {', '.join(own)} {'is' if len(own) == 1 else 'are'} frozen"
            )
            warn(f"the axes {tuple(group)} are not pruned: {because}")
            more |= {axis: because for axis in group if axis not in frozen}
    return more


def _outside(model: nn.Module, layout: Layout) -> list[str]:
    """A message line on the parameters that the budget does not count; none if they are few."""
    named = dict(model.named_parameters())
    outside = [name for name in named if name not in layout.patterns]
    uncounted, total = (sum(named[n].numel() for n in names) for names in (outside, named))
    if uncounted <= _FEW * total:
        return []
    parts = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in outside))
    return [
        f"  {uncounted:,} of the model's {total:,} parameters, which the budget does not count,"
        f" since no gate reaches them: {parts}"
    ]
