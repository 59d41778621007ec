"""`gate_model`: finds the layout of a model, tries it on random gates, and gates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from l0gate._budget import Budget
from l0gate._errors import L0GateError, check, warn
from l0gate._hard_concrete import HardConcrete
from l0gate._pruner import Pruner
from l0gate.backends._torch.examples import (
    Examples,
    Observed,
    conventional_inputs,
    find_chain,
    layers_of,
    observe,
)
from l0gate.backends._torch.gating.distill import Teacher
from l0gate.backends._torch.gating.module import GatedModule
from l0gate.backends._torch.pytree import (
    Inputs,
    kept_inputs,
    tensors,
)
from l0gate.backends._torch.shrinking.resize import (
    equal_groups,
    named_tensors,
)
from l0gate.backends._torch.shrinking.shrink import shrink_model
from l0gate.backends._torch.tracing.derive import Derived, derive
from l0gate.backends._torch.tracing.frozen import (
    REQUESTED,
    check_some_prunable,
    describe_frozen,
    warn_about_frozen,
)
from l0gate.layout.layout import Layout

if TYPE_CHECKING:
    from l0gate.methods import Method

_FEW = 0.05  # the share of all parameters outside the layout that goes without saying


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
    `layout` they are run through a copy of the model to derive one. `equal=True` keeps one number
    of neurons for all layers and directions of a recurrent module; the axes in `freeze` keep all.
    So do, with a warning, those whose neurons cannot be followed to whoever reads them; `strict`
    makes that an error. The result's `frozen` maps every axis that stays whole to the reason.

    `warm_start=True` is for a trained model. It starts with gates that are exactly 1 with a
    probability of 0.95 when sampled; on average |gate - 1| is 0.014, where a fresh gate has 0.10.
    The outputs of a trained LSTM of 2 x 48 neurons are then 10% off in training mode (root mean
    square, relative to that of the outputs), and 30% from fresh gates. At test time all gates are
    1, and eval mode gives the model's own outputs.

    `distill=True` keeps a frozen copy of the model as the teacher of `GatedModule.distill`, which
    compares outputs; `distill="kl"` compares logits.
    """
    _check_model(model)
    check(
        distill in (False, True, "kl"),
        f"`distill` is {distill!r}; it must be True, False or 'kl' (for logits)",
    )
    teacher = Teacher(model, logits=distill == "kl") if distill else None
    derived, inputs, observed = _study(model, example_inputs, layout, freeze, strict)
    groups = equal_groups(model, derived.layout, every=equal)
    chain = examples = None
    if inputs is not None and observed is not None:
        chain = find_chain(model, derived.layers, derived.layout, inputs, observed)
        free = chain is not None and len(list(tensors(inputs))) == 1
        device = named_tensors(model)[next(iter(derived.layout.patterns))].device
        examples = Examples(inputs, observed.tokens, device, free)

    def build(frozen: Mapping[str, str]) -> GatedModule:
        whole = [axis for axis in derived.layout.axes if axis in frozen]
        pruner = Pruner(
            derived.layout,
            budget,
            strength,
            gates,
            "torch",
            method=method,
            equal=groups,
            freeze=whole,
        )
        return GatedModule(
            model,
            pruner,
            seed=seed,
            gate_learning_rate=gate_learning_rate,
            examples=examples,
            chain=chain,
            stateful=None if observed is None else observed.stateful,
            equal=equal,
            frozen=frozen,
            warm_start=warm_start,
            teacher=teacher,
        )

    reasons = derived.reasons
    try:
        gated = build(_whole_with(reasons, groups))
    except L0GateError as error:
        raise L0GateError(
            f"{error}\n{describe_frozen(reasons)}" if reasons else str(error)
        ) from None
    if examples is None:
        return gated
    drawn = list(examples.draw(2, examples.device))
    failure = _try(gated, drawn)
    if failure is not None and layout is None and not strict:
        reasons = {**reasons, **_tried(gated, drawn)}
        gated = build(_whole_with(reasons, groups))
        failure = _try(gated, drawn)
    if failure is not None:
        raise L0GateError(
            f"tried on random gates, the model cannot be shrunk by its layout: {failure}\nEvery"
            " neuron of an axis that the caller sees, or that the layout cannot describe, must"
            f" stay: name it in `freeze=`; the layout is\n{gated.pruner.layout.table()}"
        ) from None
    warn_about_frozen(
        reasons, [*derived.ungated, *([] if layout else _outside(model, derived.layout))]
    )
    return gated


def _study(
    model: nn.Module,
    example_inputs: Any,
    layout: Layout | None,
    freeze: Sequence[str],
    strict: bool,
) -> tuple[Derived, Inputs | None, Observed | None]:
    """The layout, derived or given, and a run on the example inputs or on likely ones."""
    inputs = None if example_inputs is None else kept_inputs(example_inputs)
    if layout is not None:
        _check_names(model, layout)
        given = Derived(layout, tuple(freeze), layers_of(model), dict.fromkeys(freeze, REQUESTED))
        if inputs is not None:
            return given, inputs, observe(model, inputs)
        likely = conventional_inputs(model)
        with suppress(L0GateError):  # nobody said that the model takes these
            return given, likely, None if likely is None else observe(model, likely)
        return given, None, None
    if inputs is None:
        raise L0GateError(
            "give `example_inputs`, a tuple of what the model is called with, so that the layout"
            " can be derived; or give `layout`"
        )
    observed = observe(model, inputs)
    derived = derive(model, inputs, freeze, strict=strict)
    check_some_prunable(derived.layout, derived.reasons)
    return derived, inputs, observed


def _outside(model: nn.Module, layout: Layout) -> list[str]:
    """A line on the parameters that a budget does not see, where they are many."""
    named = dict(model.named_parameters())
    outside = [name for name in named if name not in layout.patterns]
    counts = [sum(named[name].numel() for name in names) for names in (outside, named)]
    if counts[0] <= _FEW * counts[1]:
        return []
    parts = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in outside))
    return [
        f"  {counts[0]:,} of the model's {counts[1]:,} parameters, which the budget does not count,"
        f" since no gate reaches them: {parts}"
    ]


def _whole_with(frozen: Mapping[str, str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """With the axes that stay whole because another of their group does."""
    more = dict(frozen)
    for group in groups:
        whole = [axis for axis in group if axis in frozen]
        if 0 < len(whole) < len(group):
            because = f"`equal=True` keeps one number for all, and {', '.join(whole)} must stay"
            warn(f"the axes {tuple(group)} keep every neuron: {because} whole")
            more |= {axis: f"{because} whole" for axis in group if axis not in frozen}
    return more


def _try(
    gated: GatedModule, inputs: Sequence[Inputs], only: str | None = None
) -> L0GateError | None:
    """Shrink with random gates before any training, so that a wrong layout is found now.

    `only` tries one axis, with all others whole.
    """
    pruner = gated.pruner
    axes = [axis for axis in pruner.sizes if axis not in pruner.freeze and only in (None, axis)]
    trial = Pruner(
        pruner.layout,
        strength=0.0,
        gates=pruner.hard_concrete,
        backend="torch",
        freeze=[axis for axis in pruner.sizes if axis not in axes],
    )
    rng = np.random.default_rng(0)
    hc = pruner.hard_concrete
    log_alpha = {}
    for axis in axes:
        log_alpha[axis] = rng.uniform(hc.lowest, hc.highest, pruner.sizes[axis])
        log_alpha[axis][0] = hc.highest  # every axis keeps a neuron
    with torch.no_grad():
        state = trial.init(gated._tensors(), log_alpha=log_alpha)
        try:
            shrink_model(
                gated.model,
                trial,
                state,
                inputs,
                equal=gated.equal,
                chain=None,
                stateful=gated._stateful,
            )
        except L0GateError as error:
            return error
    return None


def _tried(gated: GatedModule, inputs: Sequence[Inputs]) -> dict[str, str]:
    """The axes that cannot be shrunk for a reason that no call shows, such as a size in the code.

    None, if that would leave nothing to gate.
    """
    found = {}
    free = [axis for axis in gated.pruner.sizes if axis not in gated.pruner.freeze]
    for axis in free:
        failure = _try(gated, inputs, axis)
        if failure is not None:
            found[axis] = f"tried on random gates, it cannot be shrunk: {failure}"
    return found if len(found) < len(free) else {}


def _check_model(model: nn.Module) -> None:
    check(not isinstance(model, GatedModule), "`model` is gated already")
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    check(
        not isinstance(model, parallel),
        f"`model` is wrapped in {type(model).__name__}; gate the module inside, `model.module`, and"
        " wrap what that gives, in DistributedDataParallel",
    )
    check(
        not isinstance(model, torch.jit.ScriptModule),
        "`model` is a TorchScript module, whose code cannot be followed; gate the module that it"
        " was made from",
    )
    lazy = [n for n, p in model.named_parameters() if nn.parameter.is_lazy(p)]
    check(not lazy, f"`model` has parameters without a size yet ({', '.join(lazy)}); run it once")


def _check_names(model: nn.Module, layout: Layout) -> None:
    """Every name of the layout is a tensor of the model, under its first name."""
    named = named_tensors(model)
    aliases = dict(model.named_parameters(remove_duplicate=False))
    for name in layout.patterns:
        if name in named:
            continue
        if name in aliases:
            first = next(n for n, t in named.items() if t is aliases[name])
            raise L0GateError(
                f"the layout names {name!r}, which is the same tensor as {first!r}: name that one"
                " alone, with every dimension that any of its uses reads on the in-side"
            )
        path, _, key = name.rpartition(".")
        module = dict(model.named_modules()).get(path)
        check(
            module is None or not hasattr(module, key),
            f"the layout names {name!r}, which is computed, as by weight_norm or a parametrization,"
            " so gates cannot be folded into it; remove that first",
        )
        raise L0GateError(
            f"the layout names the parameter {name!r}, which the model does not have; it has"
            f" {', '.join(map(repr, named))}"
        )
