"""Runs the gated and the small model on the same inputs, for the certificate."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate._certificate import Certificate
from l0gate._errors import L0GateError
from l0gate._pruner import Pruner
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.kept_state import change_held
from l0gate.backends._torch.pytree import (
    Inputs,
    map_tensors,
    named_tensors,
    returned_tensors,
    storage_of,
)
from l0gate.backends._torch.recurrent_axes import StateAxes
from l0gate.backends._torch.shrinking.ragged import RaggedRNN


def certify_module(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    small: nn.Module,
    pruner: Pruner,
    state: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    state_axes: Mapping[str, StateAxes],
    inputs: Sequence[Inputs],
    *,
    calls: int = 1,
    equal: bool = False,
) -> Certificate:
    """The certificate of `small`, from running it and the gated `model` on `inputs`.

    On each input they are called `calls` times in a row, each on the state that the last one kept.
    `state` is the gate state, `kept` maps each axis to the indices of the neurons kept, and
    `state_axes` are those of `recurrent_axes`.
    """
    run = Runner(model, state_axes, calls=calls)
    run_small = Runner(small, state_axes, _hint(kept, equal), calls=calls)
    backend = pruner.backend

    def apply_small(given: Mapping[str, Tensor], i: int, dtype: str) -> Any:
        cast = {n: backend.cast(t, dtype) if t.is_floating_point() else t for n, t in given.items()}
        return run_small(cast, inputs[i])

    return pruner.certify(
        lambda given, i: run(given, inputs[i]),
        parameters,
        dict(state),
        named_tensors(small),
        kept,
        range(len(inputs)),
        apply_small=apply_small,
    )


class Runner:
    """Runs a copy of a model with given tensors; returns its outputs and its recurrent states.

    `state_axes` are those of `recurrent_axes`. Hooks collect the states of the recurrent modules.
    An output that is one of these states is left out of the outputs, unless all of them are.
    `hint` is added to the error message if the model fails. With `calls`, the model is called that
    often in a row, and the outputs of all calls are returned.
    """

    def __init__(
        self,
        model: nn.Module,
        state_axes: Mapping[str, StateAxes],
        hint: str = "",
        calls: int = 1,
    ) -> None:
        self.calls = calls
        self.model = copied(model, share_parameters=True).eval()
        self.state_axes = state_axes
        self.hint = hint

    def __call__(self, given: Mapping[str, Tensor], inputs: Inputs) -> tuple[list[Tensor], Any]:
        """All outputs as floating point tensors, and by axis a list of states (B, H)."""
        states: dict[str, list[Tensor]] = {}
        dtype = next(t.dtype for t in given.values() if t.is_floating_point())
        # A copy for every run: no run may see what an earlier one left in buffers or attributes.
        model = copied(self.model, share_parameters=True)
        # The hooks do not refer to `self`: the reference cycle would delay freeing the model.
        for path, own in self.state_axes.items():
            model.get_submodule(path).register_forward_hook(_collect(states, own))
        change_held(model, lambda _, t: t.to(dtype) if t.is_floating_point() else t)
        buffers = dict(model.named_buffers())
        given = {name: t.clone() if name in buffers else t for name, t in given.items()}
        with undisturbed(dtype), InOneDtype(dtype):
            args, kwargs = map_tensors(
                lambda t: t.to(dtype, copy=True) if t.is_floating_point() else t.clone(), inputs
            )
            try:
                given = {f"model.{name}": tensor for name, tensor in given.items()}
                out = torch.func.functional_call(_Calls(model, self.calls), given, args, kwargs)
            except L0GateError:
                raise
            except Exception as error:  # whatever the model raises
                raise L0GateError(
                    f"the model {type(self.model).__name__} fails in {dtype}{self.hint}:"
                    f" {type(error).__name__}: {error}{_line_of(error)}"
                ) from error
        found = {storage_of(state) for group in states.values() for state in group}
        returned = [_comparable(t, dtype) for t in returned_tensors(out)]
        outputs = [t for t in returned if storage_of(t) not in found] or returned
        return outputs, states


def _line_of(error: BaseException) -> str:
    """Where in the user's code an error was raised: the innermost line outside of torch and us."""
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), "<")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if not frame.filename.startswith(own)]
    if not lines:
        return ""
    last = lines[-1]
    return f", in line {last.lineno} of {Path(last.filename).name}: {last.line}"


class _Calls(nn.Module):
    """Calls a model several times in a row, on the same inputs."""

    def __init__(self, model: nn.Module, calls: int) -> None:
        super().__init__()
        self.model, self.calls = model, calls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outs = [self.model(*args, **kwargs) for _ in range(self.calls)]
        return outs[0] if self.calls == 1 else outs


class InOneDtype(TorchFunctionMode):
    """Replaces each floating point dtype in torch calls, as in `x.float()`, by a single one."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("float", "double", "half", "bfloat16"):
            return args[0].to(self.dtype)
        args = tuple(self._own(value) for value in args)
        return func(*args, **{key: self._own(value) for key, value in (kwargs or {}).items()})

    def _own(self, value: Any) -> Any:
        floating = isinstance(value, torch.dtype) and value.is_floating_point
        return self.dtype if floating else value


def _collect(states: dict[str, list[Tensor]], axes: StateAxes) -> Callable[..., None]:
    """A forward hook that adds the states of a recurrent module to `states`, by axis."""

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        if not _returns_states(module, out):
            return
        for own, part in zip(axes, _state_parts(module, out), strict=True):
            for axis, state in zip(own, part, strict=True):
                states.setdefault(axis, []).append(state)

    return hook


def _returns_states(module: nn.Module, out: Any) -> bool:
    """Whether an output is that of torch's own class: a subclass may return something else."""
    if isinstance(module, nn.RNNCellBase):
        count = 2 if isinstance(module, nn.LSTMCell) else 1
        return isinstance(out, Tensor) if count == 1 else isinstance(out, tuple) and len(out) == 2
    if not isinstance(out, tuple) or len(out) != 2:
        return False
    lstm = isinstance(module, (nn.RNNBase, RaggedRNN)) and module.mode == "LSTM"
    return not lstm or (isinstance(out[1], (tuple, list)) and len(out[1]) == 2)


def _state_parts(module: nn.Module, out: Any) -> tuple[Sequence[Tensor], ...]:
    """(h,), or (h, c) of an LSTM, from the output of a recurrent module or cell.

    Each part is a sequence of tensors (B, H), one per layer and direction.
    """
    if isinstance(module, nn.RNNCellBase):
        return tuple((state,) for state in (out if isinstance(out, tuple) else (out,)))
    last = out[1]
    lstm = isinstance(module, (nn.RNNBase, RaggedRNN)) and module.mode == "LSTM"
    return tuple(last) if lstm else (last,)


def _comparable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """An output as a floating point tensor: complex numbers as pairs, integers as floats.

    Integers and booleans are compared in float64 only. In float32 they are replaced by zeros, since
    rounding may change the argmax of nearly equal values, for example.
    """
    if tensor.is_floating_point():
        return tensor
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return (
        tensor.to(dtype) if dtype == torch.float64 else tensor.new_zeros(tensor.shape, dtype=dtype)
    )


def _hint(kept: Mapping[str, np.ndarray], equal: bool) -> str:
    sizes = ", ".join(f"{axis} = {len(index)}" for axis, index in kept.items())
    hint = (
        f" once it is small ({sizes}). Code that fixes a hidden size fails then: let it read sizes"
        " from a module, as in `self.rnn.hidden_size`, or from a tensor"
    )
    if equal or len({len(index) for index in kept.values()}) == 1:
        return hint
    return (
        f"{hint}. So does code that needs the states of layers with unequal sizes as one tensor,"
        " for which `equal=True` helps"
    )
