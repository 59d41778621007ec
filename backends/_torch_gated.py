"""`GatedModule`: a torch model with gates, trained, saved and moved like any other module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0gate._budget import Budget
from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._hard_concrete import HardConcrete
from l0gate._layout import Layout
from l0gate._pruner import Pruner
from l0gate.backends._torch_examples import (
    Examples,
    Observed,
    Runner,
    conventional_inputs,
    find_chain,
    layers_of,
    observe,
)
from l0gate.backends._torch_small import (
    Origin,
    attach,
    equal_groups,
    named_tensors,
    recurrent_axes,
    resize,
)
from l0gate.backends._torch_trace import Derived, derive
from l0gate.backends._torch_tree import Inputs, as_inputs, copied, map_tensors, tensors

_CONTROLLER = ("multipliers", "progress", "forced")
SEQUENCES = 3  # inputs that a certificate compares on


class GateState(nn.Module):
    """The gate state of a `Pruner` as parameters (log_alpha) and buffers (all else).

    `.half()`, `.double()` and `.to(dtype)` leave it as it is, since gates and penalty need
    float32; `.to(device)` moves it. The generator of the noise travels in `state_dict` too.
    """

    progress: Tensor

    def __init__(self, state: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.axes = tuple(state["log_alpha"])
        for axis in self.axes:
            # A prefix keeps the names of axes apart from those of a module's own attributes.
            self.register_parameter(f"log_alpha_{axis}", nn.Parameter(state["log_alpha"][axis]))
            self.register_buffer(f"mask_{axis}", state["mask"][axis])
        for name in _CONTROLLER:
            self.register_buffer(name, state[name])
        self.rng = (seed, 0)

    def log_alpha(self) -> dict[str, nn.Parameter]:
        return {axis: self.get_parameter(f"log_alpha_{axis}") for axis in self.axes}

    def read(self) -> dict[str, Any]:
        """The state as `Pruner` takes it."""
        return {
            "log_alpha": self.log_alpha(),
            "mask": {axis: self.get_buffer(f"mask_{axis}") for axis in self.axes},
            # Copies: `write` changes the buffers, and a penalty's graph may still need these.
            **{name: self.get_buffer(name).clone() for name in _CONTROLLER},
        }

    @torch.no_grad()
    def write(self, state: Mapping[str, Any]) -> None:
        """Take over a state, in place."""
        for axis, values in self.log_alpha().items():
            values.copy_(state["log_alpha"][axis])
            self.get_buffer(f"mask_{axis}").copy_(state["mask"][axis])
        for name in _CONTROLLER:
            self.get_buffer(name).copy_(state[name])

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever an optimizer, or the controller, has written to log_alpha."""
        return tuple(values._version for values in self.log_alpha().values())

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.rng, dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        seed, drawn = state.tolist()
        self.rng = (seed, drawn)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GateState:
        super()._apply(lambda t: t.to(fn(t).device), recurse)  # type: ignore[no-untyped-call]
        return self


class GatedModule(nn.Module):
    """A drop-in for `model` whose neurons have gates: what `l0gate.gate` returns.

    Calling it runs the untouched `model` with gated parameters: in training mode with sampled
    gates, one sample per optimizer step; in eval mode with the test-time gates, which are what
    `shrink` folds. Add `penalty(progress)` to the loss, and give `param_groups(lr)` to the
    optimizer.

    Only calls of the module itself are gated; `gated.model` is the dense model.

    >>> import l0gate
    >>> gated = l0gate.gate(nn.GRU(3, 8, num_layers=2), example_inputs=torch.zeros(5, 2, 3),
    ...                     budget=Budget(parameters=0.5))
    >>> optimizer = torch.optim.Adam(gated.param_groups(lr=1e-3))
    >>> for step in range(50):
    ...     y, _ = gated(torch.randn(5, 2, 3))
    ...     loss = y.square().mean() + gated.penalty(step / 50)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> small = gated.shrink()
    >>> type(small).__name__, small.certificate.max_abs_difference < 1e-10
    ('RaggedRNN', True)
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner,
        *,
        seed: int = 0,
        gate_learning_rate: float = 0.06,
        examples: Examples | None = None,
        chain: Chain | None = None,
        stateful: frozenset[str] | None = None,
        equal: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.pruner = pruner
        self.gate_learning_rate = gate_learning_rate
        self.gates = GateState(pruner.init(self._tensors(), seed), seed)
        self.equal = equal
        self._examples = examples
        self._chain = chain
        self._stateful = stateful
        self._noise: dict[str, Tensor] = {}
        self._drawn: tuple[int, ...] | None = None
        self.training = model.training

    def extra_repr(self) -> str:
        frozen = f", frozen={list(self.pruner.freeze)}" if self.pruner.freeze else ""
        return f"axes={self.pruner.sizes}{frozen}"

    @property
    def layout(self) -> Layout:
        """Which axes the parameters run over, given or derived."""
        return self.pruner.layout

    @property
    def log_alpha(self) -> Mapping[str, nn.Parameter]:
        """The trained gate parameters by axis."""
        return MappingProxyType(self.gates.log_alpha())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        noise = self._sample() if self.training else None
        folded = self.pruner.gate(self._tensors(), self.gates.read(), noise)
        own = {name: folded[name] for name in self.layout.patterns}
        return torch.func.functional_call(self.model, own, args, kwargs)

    def penalty(self, progress: float) -> Tensor:
        """What to add to the loss, at `progress` (the fraction of training done): a scalar.

        Once per optimizer step, when `progress` has advanced, it also moves the budget's
        multipliers and clamps log_alpha; where progress reaches `Budget.settle` it selects the
        neurons that stay, whose gates are fixed from then on. Computed in float32 (in float64
        for a float64 model), under autocast too.
        """
        gates = self.gates
        with torch.autocast(gates.progress.device.type, enabled=False):
            now = torch.as_tensor(progress).to(gates.progress)
            if bool(now > gates.progress):
                self._advance(progress)
            penalty: Tensor = self.pruner.penalty(gates.read(), progress)
            return penalty

    @torch.no_grad()
    def _advance(self, progress: float) -> None:
        pruner, budget = self.pruner, self.pruner.budget
        state = pruner.update(self.gates.read(), progress)
        if budget is not None and progress >= budget.settle and not pruner.selected(state):
            state = pruner.select(state, self._tensors())
        self.gates.write(state)

    def param_groups(
        self, lr: float, gate_lr: float | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer: the trained weights, and log_alpha.

        `options` (weight_decay, say) are those of the weights. Gates have a learning rate of their
        own, by default `gate_learning_rate` of `l0gate.gate`: they must be able to follow the
        budget, and never decay.
        """
        weights = [p for p in self.model.parameters() if p.requires_grad]
        gate_lr = self.gate_learning_rate if gate_lr is None else gate_lr
        return [
            {"params": weights, "lr": lr, **options},
            {"params": list(self.log_alpha.values()), "lr": gate_lr, "weight_decay": 0.0},
        ]

    def shrink(self, *, equal: bool = False, example_inputs: Any = None) -> nn.Module:
        """The small model: the same kind, plain modules, without the neurons whose gate is closed.

        It carries its `certificate`: the proof, on random inputs like the example inputs, that it
        computes what the gated model computes in eval mode. The gated module stays as it is.

        `equal=True` keeps one number of neurons for all layers and directions of a recurrent
        module, so that it stays an `nn.LSTM` or `nn.GRU`; otherwise one with unequal numbers
        becomes a `RaggedRNN`. `example_inputs` replaces those given to `l0gate.gate`.
        """
        examples = self._examples
        if example_inputs is not None:
            inputs = _kept_inputs(example_inputs)
            examples = Examples(inputs, observe(self.model, inputs).tokens, self._device)
        if examples is None:
            raise L0GateError(
                "the certificate needs to run the model: give `shrink(example_inputs=...)`, a tuple"
                " of what the model is called with"
            )
        with torch.no_grad():
            state = self.pruner.settle(self.gates.read(), self._tensors())
            return _shrink(
                self.model,
                self.pruner,
                state,
                list(examples.draw(SEQUENCES, self._device)),
                equal=equal or self.equal,
                chain=self._chain,
                stateful=self._stateful,
            )

    @property
    def _device(self) -> torch.device:
        return next(iter(self._tensors().values())).device

    def __getstate__(self) -> dict[str, Any]:
        # A copy draws noise of its own: whether its gates changed is counted anew.
        return {**self.__dict__, "_noise": {}, "_drawn": None}

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that the layout names."""
        named = named_tensors(self.model)
        return {name: named[name] for name in self.layout.patterns}

    def _sample(self) -> dict[str, Tensor]:
        """The noise of this optimizer step: drawn anew once log_alpha has changed.

        So it is the same in every call of one step, such as the chunks of a long sequence.
        """
        state = self.gates.read()
        stale = self._drawn != self.gates.stamp()
        if stale or any(v.device != state["mask"][a].device for a, v in self._noise.items()):
            self._noise, self.gates.rng = self.pruner.noise(state, self.gates.rng)
            self._drawn = self.gates.stamp()
        return self._noise


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
) -> GatedModule:
    """Gate a torch model: see `l0gate.gate`.

    `example_inputs` is a tuple of arguments, a dict of named ones, or a single tensor. Without a
    `layout` they are run through a copy of the model to derive one. `equal=True` keeps one number
    of neurons for all layers and directions of a recurrent module; the axes in `freeze` keep all.
    """
    _check_model(model)
    derived, inputs, observed = _study(model, example_inputs, layout, freeze)
    layout = derived.layout
    groups = equal_groups(model, layout) if equal else ()
    frozen = (*derived.frozen, *_whole_with(derived.frozen, groups))
    pruner = Pruner(layout, budget, strength, gates, "torch", equal=groups, freeze=frozen)
    chain = examples = None
    if inputs is not None and observed is not None:
        chain = find_chain(model, derived.layers, layout, inputs, observed)
        free = chain is not None and len(list(tensors(inputs))) == 1
        device = named_tensors(model)[next(iter(layout.patterns))].device
        examples = Examples(inputs, observed.tokens, device, free)
    gated = GatedModule(
        model,
        pruner,
        seed=seed,
        gate_learning_rate=gate_learning_rate,
        examples=examples,
        chain=chain,
        stateful=None if observed is None else observed.stateful,
        equal=equal,
    )
    if examples is not None:
        _try(gated, list(examples.draw(2, examples.device)))
    return gated


def _study(
    model: nn.Module, example_inputs: Any, layout: Layout | None, freeze: Sequence[str]
) -> tuple[Derived, Inputs | None, Observed | None]:
    """The layout, derived or given, and a run on the example inputs or on likely ones."""
    inputs = None if example_inputs is None else _kept_inputs(example_inputs)
    if layout is not None:
        _check_names(model, layout)
        given = Derived(layout, tuple(freeze), layers_of(model))
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
    return derive(model, inputs, freeze), inputs, observed


def _whole_with(frozen: Sequence[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """The axes that stay whole because another of their group does."""
    more: list[str] = []
    for group in groups:
        whole = [axis for axis in group if axis in frozen]
        if 0 < len(whole) < len(group):
            warnings.warn(
                f"the axes {group} keep every neuron: `equal=True` keeps one number for all, and"
                f" {', '.join(whole)} must stay whole",
                stacklevel=5,
            )
            more += [axis for axis in group if axis not in frozen]
    return more


def _shrink(
    model: nn.Module,
    pruner: Pruner,
    state: Mapping[str, Any],
    inputs: Sequence[Inputs],
    *,
    equal: bool,
    chain: Chain | None,
    stateful: frozenset[str] | None,
) -> nn.Module:
    """The small model of a gate state, with its certificate."""
    dense = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
    axes = recurrent_axes(model, pruner.layout)
    groups = equal_groups(model, pruner.layout) if equal else ()
    arrays, kept = pruner.shrink(dense, dict(state), equal=groups)
    small = resize(
        copied(model),
        {name: arrays[name] for name in pruner.layout.patterns},
        Origin(pruner.layout, kept, pruner.sizes, chain),
        reduces=lambda path: stateful is None or path in stateful,
    )
    run = Runner(model, axes)
    run_small = Runner(small, axes, _hint(kept))
    backend = pruner.backend

    def apply_small(given: Mapping[str, Tensor], i: int, dtype: str) -> Any:
        cast = {n: backend.cast(t, dtype) if t.is_floating_point() else t for n, t in given.items()}
        return run_small(cast, inputs[i])

    certificate = pruner.certify(
        lambda given, i: run(given, inputs[i]),
        dense,
        dict(state),
        named_tensors(small),
        kept,
        range(len(inputs)),
        apply_small=apply_small,
    )
    attach(small, certificate)
    return small


def _hint(kept: Mapping[str, np.ndarray]) -> str:
    sizes = ", ".join(f"{axis} = {len(index)}" for axis, index in kept.items())
    return (
        f" once it is small ({sizes}). Code that fixes a hidden size fails then, and so does code"
        " that needs the states of layers with unequal sizes as one tensor, for which `equal=True`"
        " helps"
    )


def _try(gated: GatedModule, inputs: Sequence[Inputs]) -> None:
    """Shrink with random gates before any training, so that a wrong layout is found now."""
    pruner = gated.pruner
    trial = Pruner(
        pruner.layout,
        strength=0.0,
        gates=pruner.hard_concrete,
        backend="torch",
        freeze=pruner.freeze,
    )
    rng = np.random.default_rng(0)
    hc = pruner.hard_concrete
    log_alpha = {}
    for axis, size in pruner.sizes.items():
        if axis not in pruner.freeze:
            log_alpha[axis] = rng.uniform(hc.lowest, hc.highest, size)
            log_alpha[axis][0] = hc.highest  # every axis keeps a neuron
    with torch.no_grad():
        state = trial.init(gated._tensors(), log_alpha=log_alpha)
        try:
            _shrink(
                gated.model,
                trial,
                state,
                inputs,
                equal=gated.equal,
                chain=None,
                stateful=gated._stateful,
            )
        except L0GateError as error:
            raise L0GateError(
                f"tried on random gates, the model cannot be shrunk by its layout: {error}\nEvery"
                " neuron of an axis that the caller sees, or that the layout cannot describe, must"
                f" stay: name it in `freeze=`; the layout is\n{pruner.layout.table()}"
            ) from None


def _kept_inputs(example_inputs: Any) -> Inputs:
    args, kwargs = as_inputs(example_inputs)
    inputs: Inputs = map_tensors(lambda t: t.detach().clone(), (args, kwargs))
    return inputs


def _check_model(model: nn.Module) -> None:
    check(not isinstance(model, GatedModule), "`model` is gated already")
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
