"""Studies a model before it is gated: its layout, its recurrent modules, a run on examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate.backends._torch.chain import find_chain, layers_of
from l0gate.backends._torch.computed_weights import advice
from l0gate.backends._torch.examples import Examples, Observed, conventional_inputs, observe
from l0gate.backends._torch.kept_state import Held
from l0gate.backends._torch.pytree import (
    Inputs,
    copied_inputs,
    named_tensors,
    returned_tensors,
    tensors,
)
from l0gate.backends._torch.recurrent_axes import StateAxes, recurrent_axes
from l0gate.backends._torch.tracing.derive import Derived, derive
from l0gate.backends._torch.tracing.frozen import REQUESTED, check_some_prunable
from l0gate.layout.layout import Layout


@dataclass(frozen=True)
class Study:
    """What is known of a model before it is gated.

    `derived` holds the layout, and the reason for every frozen axis. `state_axes` holds the axes of
    the states of each recurrent module. The other attributes come from a run of the model, and are
    None if no inputs were known: `examples`, `stateful` (as in `Observed`), and `chain` (also None
    if the model is not a chain). `held` is what the model holds beside its parameters.
    """

    derived: Derived
    state_axes: Mapping[str, StateAxes]
    examples: Examples | None = None
    stateful: frozenset[str] | None = None
    chain: Chain | None = None
    held: Held = field(default_factory=Held)

    @property
    def layout(self) -> Layout:
        """The layout, derived or given."""
        return self.derived.layout


def study(
    model: nn.Module,
    example_inputs: Any,
    layout: Layout | None,
    freeze: Sequence[str],
    strict: bool,
) -> Study:
    """Study a model. Without a `layout`, it is derived by running the model on the inputs."""
    derived, inputs, observed = _layout_and_run(model, example_inputs, layout, freeze, strict)
    state_axes = recurrent_axes(model, derived.layout)
    if observed is not None:
        check(
            next(returned_tensors(observed.output), None) is not None,
            f"`model` returns {type(observed.output).__name__} without a tensor in it, so there is"
            " nothing to compare the small model by: gate a model that returns scores or a loss,"
            " and make a list or text of them outside, or give `example_inputs` for which it"
            " returns some",
        )
    if inputs is None or observed is None:
        return Study(derived, state_axes)
    state = observed.kept_state
    held = Held(state, {**dict.fromkeys(state.buffers, ""), **derived.held}, derived.sizes)
    chain = None
    if not state:  # a chain keeps no state
        chain = find_chain(model, derived.layers, derived.layout, state_axes, inputs, observed)
    # That time and batch may have any size is known only of a chain with a single input.
    any_size = chain is not None and len(list(tensors(inputs))) == 1
    device = named_tensors(model)[next(iter(derived.layout.patterns))].device
    examples = Examples(inputs, observed.tokens, device, any_size)
    return Study(derived, state_axes, examples, observed.stateful, chain, held)


def _layout_and_run(
    model: nn.Module,
    example_inputs: Any,
    layout: Layout | None,
    freeze: Sequence[str],
    strict: bool,
) -> tuple[Derived, Inputs | None, Observed | None]:
    """The derived or given layout, the inputs, and what a run of the model on them showed.

    With a given layout and no `example_inputs`, inputs of the usual shapes are made up: tokens for
    an embedding, else (time, batch, features). If the model does not accept these, the returned
    inputs and run are None.
    """
    inputs = None if example_inputs is None else copied_inputs(example_inputs)
    if layout is not None:
        _check_names(model, layout)
        given = Derived(layout, layers_of(model), dict.fromkeys(freeze, REQUESTED))
        if inputs is not None:
            return given, inputs, observe(model, inputs)
        likely = conventional_inputs(model)
        with suppress(L0GateError):  # raised if the model takes other inputs
            return given, likely, None if likely is None else observe(model, likely)
        return given, None, None
    if inputs is None:
        raise L0GateError(
            "give `example_inputs`, a tuple of what the model is called with, so that the layout"
            " can be derived; or give `layout`"
        )
    observed = observe(model, inputs)
    calls = 2 if observed.kept_state else 1
    derived = derive(model, inputs, freeze, strict=strict, calls=calls)
    check_some_prunable(derived.layout, derived.reasons)
    return derived, inputs, observed


def _check_names(model: nn.Module, layout: Layout) -> None:
    """Refuse a layout with a name that is no tensor of the model.

    A tensor that is shared under several names must be called by the first of them."""
    named = named_tensors(model)
    aliases = dict(model.named_parameters(remove_duplicate=False))
    for name in layout.patterns:
        if name in named:
            continue
        if name in aliases:
            first = next(n for n, t in named.items() if t is aliases[name])
            raise L0GateError(
                f"the layout names {name!r}, which is the same tensor as {first!r}: name that one"
                " alone, with every dimension that any of its uses reads on the input side"
            )
        path, _, key = name.rpartition(".")
        module = dict(model.named_modules()).get(path)
        check(
            module is None or not hasattr(module, key),
            f"the layout names {name!r}, which is computed, as by weight_norm or a parametrization,"
            " so gates cannot be folded into it"
            + ("; remove that first" if module is None else advice(path, module)),
        )
        raise L0GateError(
            f"the layout names the parameter {name!r}, which the model does not have; it has"
            f" {', '.join(map(repr, named))}"
        )
