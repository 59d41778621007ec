"""`GatedModule`: a torch model with gates, trained, saved and moved like any other module."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from l0gate._chain import Chain
from l0gate._errors import L0GateError, check, warn
from l0gate._pruner import Pruner
from l0gate.backends._torch.examples import Examples, observe
from l0gate.backends._torch.gating.calibration import calibrate_module
from l0gate.backends._torch.gating.distill import Teacher
from l0gate.backends._torch.gating.linear import gate_inputs
from l0gate.backends._torch.gating.state import WORD, GateState, warm
from l0gate.backends._torch.isolation import copied, eager, no_advice_to_flatten, no_checkpoints
from l0gate.backends._torch.kept_state import Held
from l0gate.backends._torch.pytree import copied_inputs, named_tensors
from l0gate.backends._torch.shrinking.shrink import shrink_model
from l0gate.layout.fold import fold
from l0gate.layout.layout import Layout

SEQUENCES = 3  # inputs on which a certificate compares the models: the example, two random ones


class GatedModule(nn.Module):
    """A drop-in for `model` whose neurons have gates: what `l0gate.gate` returns.

    For annotations and `isinstance`, import it with `from l0gate.backends import GatedModule`.

    Calling it runs the unchanged `model` with gated parameters. In training mode gates are sampled,
    once per optimizer step. In eval mode they have their test-time values, which `shrink` folds
    into the weights. Add `penalty(progress)` to the loss, and give `param_groups(lr)` to the
    optimizer.

    Calling `gated.model` runs the dense model without gates.

    A gated module may be compiled, copied, pickled and saved by `state_dict`; training resumed from
    that gives the same numbers. To accumulate gradients over n batches, add the penalty to each
    loss and scale both alike, as in `(loss + penalty) / n`; the budget's multipliers are updated
    once per step. Under `DistributedDataParallel` call `ddp.module.penalty(progress)` in every
    process: each draws its own noise, and gates and multipliers stay the same in all.

    >>> import l0gate
    >>> from l0gate import Budget
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

    _held_by_model = Held()  # for pickles of 0.1.0

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
        held: Held | None = None,
        equal: bool = False,
        frozen: Mapping[str, str] | None = None,
        warm_start: bool = False,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.frozen = dict(frozen or {})  # the axes that are not pruned, and why
        self.model = model
        self.pruner = pruner
        self.gate_learning_rate = gate_learning_rate
        state = pruner.init(self._tensors(), seed)
        if warm_start:
            state = warm(state, pruner.hard_concrete)
        self.gates = GateState(state, seed)
        self._first_log_alpha = _values(self).clone()
        self.equal = equal
        self._examples = examples
        self._chain = chain
        self._stateful = stateful
        self._held_by_model = Held() if held is None else held
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
        """The layout, given or derived: which axes the dimensions of the parameters run over."""
        return self.pruner.layout

    @property
    def log_alpha(self) -> Mapping[str, nn.Parameter]:
        """The trained gate parameters by axis."""
        return MappingProxyType(self.gates.log_alpha())

    def gate_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The gate state and the model's parameters, for `l0gate.report`."""
        return self.gates.read(), {**self._tensors(), **dict(self.model.named_parameters())}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tensors, gates = self._tensors(), self._gates()
        if torch.compiler.is_compiling():
            own = self._folded(tensors, gates, {})
            return torch.func.functional_call(self.model, own, args, kwargs)
        at_input = gate_inputs(self.model, self.layout, tensors, gates, self.pruner.backend)
        own = self._folded(tensors, gates, at_input) | at_input
        with ExitStack() as stack:
            if self.training:
                stack.enter_context(no_checkpoints())
            if next(iter(tensors.values())).is_cuda:
                stack.enter_context(no_advice_to_flatten())
            return torch.func.functional_call(self.model, own, args, kwargs)

    def _folded(
        self, tensors: dict[str, Tensor], gates: dict[str, Tensor], skip: Container[str]
    ) -> dict[str, Tensor]:
        """The tensors that have gates, by name, multiplied by them; those in `skip` are left out.

        Tensors without gates are not returned: the call then uses the module's own, so that a
        buffer that `forward` assigns is kept.
        """
        folded = fold(self.layout, tensors, gates, self.pruner.backend, skip=skip)
        return {name: folded[name] for name in tensors if folded[name] is not tensors[name]}

    @eager  # noise is drawn on the host, and the controller writes to log_alpha
    def _gates(self) -> dict[str, Tensor]:
        """The gate values by axis: sampled in training mode, those of test time in eval mode."""
        noise = self._sample() if self.training else None
        return self.pruner.gates(self.gates.read(), noise)

    @eager
    def penalty(self, progress: float) -> Tensor:
        """The penalty to add to the loss at `progress`, the fraction of training done: a scalar.

        If `progress` has advanced since the last call, this also updates the budget's multipliers
        and clamps log_alpha: let it advance once per optimizer step. Once `progress` reaches
        `Budget.settle`, it selects the neurons to keep, and gates are fixed from then on. The
        penalty is computed in float32 (in float64 for a float64 model), under autocast too.
        """
        number = isinstance(progress, (int, float, Tensor)) or hasattr(progress, "__float__")
        check(
            number and not isinstance(progress, bool),
            f"`progress` is {progress!r}; it must be a number from 0 to 1",
        )
        gates = self.gates
        with torch.autocast(gates.progress.device.type, enabled=False):
            now = torch.as_tensor(progress).to(gates.progress)
            if bool(now > gates.progress):
                self._advance(progress)
            elif bool(now < gates.progress):
                warn(
                    f"`progress` is {float(now):.4g} after {float(gates.progress):.4g}; it must not"
                    " go back: it is the fraction of the whole training, all epochs together"
                )
            penalty: Tensor = self.pruner.penalty(gates.read(), progress, self._tensors())
            return penalty

    @torch.no_grad()
    def _advance(self, progress: float) -> None:
        pruner, budget = self.pruner, self.pruner.budget
        current = self._is_current()
        state = pruner.update(self.gates.read(), progress, self._tensors())
        if budget is not None and progress >= budget.settle and not pruner.selected(state):
            untrained = torch.equal(_values(self), self._first_log_alpha.to(self._device))
            if untrained and pruner.trains_gates:
                warn(
                    "log_alpha has not changed since the model was gated, so the selection knows"
                    " nothing of the neurons: does an optimizer have it? Make one with"
                    " `gated.param_groups(lr)`"
                )
            state = pruner.select(state, self._tensors())
        self.gates.write(state)
        if current:  # the write above is not an optimizer step, so the noise stays
            self._drawn = _Drawn(self)

    def distill(self, *args: Any, outputs: Any = None, **kwargs: Any) -> Tensor:
        """A loss without labels, for a model gated with `distill=True` or `distill="kl"`: a scalar.

        It runs the gated model and the original one, frozen and in eval mode, on the same inputs,
        and compares all floating point outputs. An output contributes its mean squared error
        divided by the variance of the original's output (1 is as good as predicting the mean), or
        with "kl" the Kullback-Leibler divergence of logits over the last dimension, in nats. The
        loss is the mean over outputs. Final states of recurrent modules count only if the model
        returns nothing else. The loss is computed in float32 or float64.

        `outputs` is what the gated model has already returned on these inputs, for wrappers that
        must run it themselves: `ddp.module.distill(x, outputs=ddp(x))`.

        The original is not part of `state_dict`, and wrappers do not synchronise it. In every
        process, and before resuming, gate the same original model, then load the state.

        >>> import l0gate
        >>> from l0gate import Budget, Layout
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
        """Use one sample of the gates for all calls inside, even if the parameters change.

        It is drawn at the first call. This is for optimizers such as LBFGS, whose step calls the
        model several times and moves the parameters in between:
        `with gated.one_sample(): optimizer.step(closure)`.
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

        `options`, such as weight_decay, are for the weights. Gates have no weight decay. Their
        learning rate is `gate_lr`, by default the `gate_learning_rate` of `l0gate.gate`: it must be
        high enough for the gates to follow the budget.
        """
        weights = [p for p in self.model.parameters() if p.requires_grad]
        gate_lr = self.gate_learning_rate if gate_lr is None else gate_lr
        return [
            {"params": weights, "lr": lr, **options},
            {"params": list(self.log_alpha.values()), "lr": gate_lr, "weight_decay": 0.0},
        ]

    def shrink(
        self,
        *,
        equal: bool = False,
        example_inputs: Any = None,
        reconstruct: Iterable[Any] | None = None,
    ) -> nn.Module:
        """The small model: of the same class, with plain modules, without the closed neurons.

        Its outputs are compared with those of the gated model in eval mode, on the example input
        and on two random ones like it. Its attribute `certificate` holds the result. The gated
        module is not changed. State that the model keeps from call to call, in buffers or other
        attributes, is in the small model what it was when the model was gated.

        `equal=True` keeps the same number of neurons in all layers and directions of a recurrent
        module, so that it stays an `nn.LSTM` or `nn.GRU`; otherwise a module with unequal numbers
        becomes a `RaggedRNN`. `example_inputs` replaces the inputs given to `l0gate.gate`.

        `reconstruct` are batches of calibration data, without labels, for a trained model that is
        made small without any training: what reads the kept neurons takes over what the others
        contributed (see `l0gate.calibrate`). Each is what the model is called with, like
        `example_inputs`. All cuts that come into question are run on the batches, and the one whose
        outputs differ least from the model's is taken. The attribute `calibration` of the small
        model says which, and the errors of all. Outputs are compared as in `distill`.
        """
        examples = self._examples
        if example_inputs is not None:
            inputs = copied_inputs(example_inputs)
            model = copied(self.model, share_parameters=True)
            self._held_by_model.state.restore(model)
            examples = Examples(inputs, observe(model, inputs).tokens, self._device)
        if examples is None:
            raise L0GateError(
                "the certificate needs to run the model: give `shrink(example_inputs=...)`, a tuple"
                " of what the model is called with"
            )
        # Parameters made in inference mode could not be trained.
        with torch.inference_mode(False), torch.no_grad():
            state, parameters = self.gates.read(), self._tensors()
            calibration = None
            if reconstruct is None:
                state = self.pruner.settle(state, parameters)
            else:
                logits = self._teacher is not None and self._teacher.logits
                calibration = calibrate_module(
                    self._fresh(), self.pruner, state, parameters, reconstruct, logits=logits
                )
                state = calibration.state
            small = shrink_model(
                self.model,
                self.pruner,
                state,
                list(examples.draw(SEQUENCES, self._device)),
                equal=equal or self.equal,
                chain=self._chain,
                stateful=self._stateful,
                held=self._held_by_model,
                parameters=None if calibration is None else calibration.parameters,
            )
            if calibration is not None:
                object.__setattr__(small, "calibration", calibration)
            return small

    def _fresh(self) -> nn.Module:
        """A copy of the model that shares its parameters and holds no state of earlier calls."""
        model = copied(self.model, share_parameters=True)
        self._held_by_model.state.restore(model)
        return model

    @property
    def _device(self) -> torch.device:
        return next(iter(self._tensors().values())).device

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles do not hold the present noise: they draw their own.
        return {**self.__dict__, "_noise": {}, "_drawn": None, "_held": False}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GatedModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._teacher is not None:
            self._teacher.apply(fn)
        return self

    def _replicate_for_data_parallel(self) -> GatedModule:
        raise L0GateError(
            "a gated model cannot be copied to several devices in every call, as nn.DataParallel"
            " does; use DistributedDataParallel"
        )

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that the layout names."""
        named = named_tensors(self.model)
        return {name: named[name] for name in self.layout.patterns}

    def _is_current(self) -> bool:
        """Whether the noise is still valid: no optimizer has taken a step since it was drawn."""
        device = self.gates.progress.device
        if self._drawn is None or any(u.device != device for u in self._noise.values()):
            return False
        return self._held or self._drawn.unchanged(self)

    def _sample(self) -> dict[str, Tensor]:
        """The noise of this optimizer step, by axis: drawn again once the parameters have changed.

        All calls in one step, such as those on the chunks of a long sequence, use the same noise.
        """
        if not self._is_current():
            seed, drawn = self.gates.rng
            # The saved generator is the same in all processes, so that one checkpoint serves all.
            # To draw its own noise, each process adds rank * 2**64 to the seed.
            rng = (seed + _rank() * WORD, drawn)
            self._noise, (_, drawn) = self.pruner.noise(self.gates.read(), rng)
            self.gates.rng = (seed, drawn)
            self._drawn = _Drawn(self)
        return self._noise


class _Drawn:
    """Remembers the parameters when noise is drawn, to detect the optimizer's next step."""

    def __init__(self, gated: GatedModule) -> None:
        self.versions = _versions(gated)
        self.log_alpha = _values(gated)

    def unchanged(self, gated: GatedModule) -> bool:
        # Versions miss optimizers that write through `.data` or with their own kernels, so values
        # of log_alpha are compared too.
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
