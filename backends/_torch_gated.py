"""`GatedModule`: a torch model with gates, trained, saved and moved like any other module."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from l0gate._budget import Budget
from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._fold import fold, keep
from l0gate._hard_concrete import HardConcrete
from l0gate._layout import Layout
from l0gate._pruner import _JITTER, Pruner
from l0gate.backends._torch_distill import Teacher
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
    room_for_projections,
)
from l0gate.backends._torch_trace import (
    ASKED,
    Derived,
    check_some_free,
    derive,
    warn_of_whole,
)
from l0gate.backends._torch_tree import Inputs, as_inputs, copied, eager, map_tensors, tensors

_CONTROLLER = ("multipliers", "progress", "forced")
_WORD = 2**64  # seeds are below it
_WARM = 0.95  # the probability that a gate sampled at a warm start is exactly 1
_NOT_FLAT = "RNN module weights are not part of single contiguous chunk of memory"
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
        self.rng = (int(seed), 0)

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

    def get_extra_state(self) -> Tensor:
        seed, drawn = self.rng
        signed = seed - _WORD if 2 * seed >= _WORD else seed
        return torch.tensor((signed, drawn), dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        seed, drawn = state.tolist()
        self.rng = (seed % _WORD, drawn)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GateState:
        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return new.to(tensor.dtype) if tensor.is_meta else tensor.to(new.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


class GatedModule(nn.Module):
    """A drop-in for `model` whose neurons have gates: what `l0gate.gate` returns.

    Calling it runs the untouched `model` with gated parameters: in training mode with sampled
    gates, one sample per optimizer step; in eval mode with the test-time gates, which are what
    `shrink` folds. Add `penalty(progress)` to the loss, and give `param_groups(lr)` to the
    optimizer.

    Only calls of the module itself are gated; `gated.model` is the dense model.

    It may be compiled, copied, pickled and saved by `state_dict`, from which training goes on with
    the same numbers. Add the penalty to every loss of an accumulated step, in the same proportion;
    the multipliers move once. Under `DistributedDataParallel` call `ddp.module.penalty(progress)`
    in every process: each draws noise of its own, and gates and multipliers stay the same in all.

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
        frozen: Mapping[str, str] | None = None,
        warm_start: bool = False,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.frozen = dict(frozen or {})  # the axes without free gates, and why
        self.model = model
        self.pruner = pruner
        self.gate_learning_rate = gate_learning_rate
        state = pruner.init(self._tensors(), seed)
        if warm_start:
            state = _warm(state, pruner.hard_concrete)
        self.gates = GateState(state, seed)
        self.equal = equal
        self._examples = examples
        self._chain = chain
        self._stateful = stateful
        self._teacher = teacher
        self._noise: dict[str, Tensor] = {}
        self._drawn: _Drawn | None = None
        self._held = False
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

    def gate_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The gate state and the model's parameters, for `l0gate.report`."""
        return self.gates.read(), {**self._tensors(), **dict(self.model.named_parameters())}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        pruner = self.pruner
        folded = fold(self.layout, self._tensors(), self._gates(), pruner.backend)
        own = {name: folded[name] for name in self.layout.patterns}
        return torch.func.functional_call(self.model, own, args, kwargs)

    @eager  # noise is drawn on the host, and the controller writes to log_alpha
    def _gates(self) -> dict[str, Tensor]:
        """The value of every gate: sampled in training mode, at test time in eval mode."""
        if self._device.type == "cuda":
            _expect_weights_in_pieces()
        noise = self._sample() if self.training else None
        return self.pruner.gates(self.gates.read(), noise)

    @eager
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
        current = self._is_current()
        state = pruner.update(self.gates.read(), progress)
        if budget is not None and progress >= budget.settle and not pruner.selected(state):
            state = pruner.select(state, self._tensors())
        self.gates.write(state)
        if current:  # it was not an optimizer that wrote
            self._drawn = _Drawn(self)

    def distill(self, *args: Any, outputs: Any = None, **kwargs: Any) -> Tensor:
        """A loss without labels, for a model gated with `distill=True` or `distill="kl"`: a scalar.

        It runs the gated model and the original one, frozen and in eval mode, on the same inputs,
        and compares all floating point outputs, each with the same weight: by mean squared error
        over the variance of the original's output (1 is no better than its mean), or for logits
        over the last dimension by the Kullback-Leibler divergence in nats. The final states of
        LSTMs and GRUs count only where nothing else is returned. Computed in float32 at least.

        `outputs` is what the gated model has already returned on these inputs, for wrappers that
        must run it themselves: `ddp.module.distill(x, outputs=ddp(x))`.

        The original is not in `state_dict`, nor does a wrapper synchronise it: in every process,
        and to resume, gate the same original model, then load.

        >>> import l0gate
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x = torch.randn(16, 3)
        >>> layout = Layout({"0.weight": "h <- _", "0.bias": "h", "2.weight": "_ <- h"})
        >>> gated = l0gate.gate(model, example_inputs=x, layout=layout,
        ...                     budget=Budget(parameters=0.5), distill=True, warm_start=True)
        >>> loss = gated.distill(x) + gated.penalty(0.1)
        >>> gated.eval().distill(x).item()
        0.0
        """
        if self._teacher is None:
            raise L0GateError(
                "there is no teacher: gate the model with `distill=True`, or 'kl' for logits"
            )
        found = self(*args, **kwargs) if outputs is None else outputs
        return self._teacher.loss(found, args, kwargs)

    @contextmanager
    def one_sample(self) -> Iterator[None]:
        """Keep one sample of the gates, drawn at the first call inside, whatever is written.

        For optimizers whose step calls the model several times and moves the parameters between:
        `with gated.one_sample(): optimizer.step(closure)` for LBFGS.
        """
        held, self._held, self._drawn = self._held, True, None
        try:
            yield
        finally:
            self._held = held

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
        return {**self.__dict__, "_noise": {}, "_drawn": None, "_held": False}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GatedModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._teacher is not None:
            self._teacher.apply(fn)
        return self

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that the layout names."""
        named = named_tensors(self.model)
        return {name: named[name] for name in self.layout.patterns}

    def _is_current(self) -> bool:
        """Whether the noise still serves: no optimizer has taken a step since it was drawn."""
        device = self.gates.progress.device
        if self._drawn is None or any(u.device != device for u in self._noise.values()):
            return False
        return self._held or self._drawn.unchanged(self)

    def _sample(self) -> dict[str, Tensor]:
        """The noise of this optimizer step: drawn anew once the parameters have changed.

        So it is the same in every call of one step, such as the chunks of a long sequence.
        """
        if not self._is_current():
            seed, drawn = self.gates.rng
            # The generator is the same on all processes, so that one checkpoint serves them all;
            # what each draws from it is its own.
            rng = (seed + _rank() * _WORD, drawn)
            self._noise, (_, drawn) = self.pruner.noise(self.gates.read(), rng)
            self.gates.rng = (seed, drawn)
            self._drawn = _Drawn(self)
        return self._noise


class _Drawn:
    """The parameters when noise was drawn, to tell whether an optimizer has written since."""

    def __init__(self, gated: GatedModule) -> None:
        self.versions = _versions(gated)
        self.log_alpha = _values(gated)

    def unchanged(self, gated: GatedModule) -> bool:
        # Writing through `.data`, or by kernels of their own, leaves versions as they are.
        same = self.versions == _versions(gated)
        return same and torch.equal(self.log_alpha, _values(gated))


def _versions(gated: GatedModule) -> list[int]:
    return [parameter._version for parameter in gated.parameters()]


def _values(gated: GatedModule) -> Tensor:
    return torch.concat([values.detach() for values in gated.log_alpha.values()])


def _rank() -> int:
    distributed = torch.distributed
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if ready else 0


def _expect_weights_in_pieces() -> None:
    """Ignore cuDNN's advice to call `flatten_parameters` at every call of a recurrent module.

    Folded weights are new tensors in every step, so there is nothing to flatten once and for all.
    """
    if not any(entry[1] and entry[1].pattern == _NOT_FLAT for entry in warnings.filters):
        warnings.filterwarnings("ignore", message=_NOT_FLAT)


def _warm(state: dict[str, Any], gates: HardConcrete) -> dict[str, Any]:
    """A fresh state with its gates further open: sampled ones are mostly 1, test-time ones all."""
    full = gates.initial_log_alpha(1.0)
    room = gates.highest - _JITTER
    check(
        room > full,
        f"`warm_start` needs gates that can be 1: `highest` is {gates.highest}; it must be above"
        f" {full + _JITTER:.3f}",
    )
    # P(gate = 1) = sigmoid(log_alpha - beta logit(s)), s being what is stretched to 1.
    stretched = math.log((1.0 - gates.gamma) / (gates.zeta - 1.0))
    mostly = gates.beta * stretched + math.log(_WARM / (1.0 - _WARM))
    shift = min(max(mostly, full), room) - gates.initial_log_alpha(gates.initial)
    log_alpha = {axis: gates.clamp(values + shift) for axis, values in state["log_alpha"].items()}
    return {**state, "log_alpha": log_alpha}


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
            derived.layout, budget, strength, gates, "torch", equal=groups, freeze=whole
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
    gated = build(_whole_with(reasons, groups))
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
    warn_of_whole(reasons, derived.ungated)
    return gated


def _study(
    model: nn.Module,
    example_inputs: Any,
    layout: Layout | None,
    freeze: Sequence[str],
    strict: bool,
) -> tuple[Derived, Inputs | None, Observed | None]:
    """The layout, derived or given, and a run on the example inputs or on likely ones."""
    inputs = None if example_inputs is None else _kept_inputs(example_inputs)
    if layout is not None:
        _check_names(model, layout)
        given = Derived(layout, tuple(freeze), layers_of(model), dict.fromkeys(freeze, ASKED))
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
    check_some_free(derived)
    return derived, inputs, observed


def _whole_with(frozen: Mapping[str, str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """With the axes that stay whole because another of their group does."""
    more = dict(frozen)
    for group in groups:
        whole = [axis for axis in group if axis in frozen]
        if 0 < len(whole) < len(group):
            because = f"`equal=True` keeps one number for all, and {', '.join(whole)} must stay"
            warnings.warn(
                f"the axes {tuple(group)} keep every neuron: {because} whole", stacklevel=5
            )
            more |= {axis: f"{because} whole" for axis in group if axis not in frozen}
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
    groups = equal_groups(model, pruner.layout, every=equal)
    arrays, found = pruner.shrink(dense, dict(state), equal=groups)
    together = [*groups, *pruner.equal]
    kept = room_for_projections(model, pruner.layout, found, pruner.sizes, together)
    if any(len(kept[axis]) > len(found[axis]) for axis in kept):
        folded = pruner.gate(dense, dict(state))
        arrays = keep(pruner.layout, folded, kept, pruner.backend)
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
