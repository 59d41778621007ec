"""Gathers the second moments of neurons, at the parameters that read them, while a model runs.

Every torch function that multiplies a named parameter is intercepted. A recurrent layer is run
layer by layer, so that what each of its weights reads is seen; this costs no extra run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from l0gate._backend import Backend
from l0gate._moments import MomentSums
from l0gate.backends._torch.isolation import copied, undisturbed
from l0gate.backends._torch.pytree import Inputs
from l0gate.layout.layout import Layout
from l0gate.layout.stacked import BLOCKS


def gather_moments(
    model: nn.Module,
    given: Mapping[str, Tensor],
    layout: Layout,
    backend: Backend,
    batches: Iterable[Inputs],
) -> dict[tuple[str, str], np.ndarray]:
    """Sums of [h, 1] [h, 1]^T by (axis, parameter), over all batches, in float64.

    The model runs in eval mode with the tensors `given` in place of its own.
    """
    model = copied(model, share_parameters=True).eval()
    sums = MomentSums(layout, layout.solve(given), backend)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers()), **given}
    readers = _Readers({id(named[name]): name for name in layout.patterns}, sums)
    for inputs in batches:
        with undisturbed(), readers:
            torch.func.functional_call(model, dict(given), *inputs)
    return sums.found


class _Readers(TorchFunctionMode):
    """Adds to `sums` what the named parameters read, in every torch function called inside."""

    def __init__(self, names: Mapping[int, str], sums: MomentSums) -> None:
        super().__init__()
        self.names, self.sums = names, sums

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name in BLOCKS:
            return self._recurrent(func, name, *args)
        if name.removesuffix("_cell") in BLOCKS and name.endswith("_cell"):
            x, hx, weight_ih, weight_hh = args[:4]
            self.read(weight_ih, x)
            self.read(weight_hh, hx[0] if isinstance(hx, (tuple, list)) else hx)
        elif name in ("linear", "conv1d"):
            x = kwargs.get("input", args[0] if args else None)
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            self.read(weight, x if name == "linear" else x.transpose(-1, -2))
        elif name in ("matmul", "rmatmul", "mm") and len(args) > 1:
            x, weight = (args[1], args[0]) if name == "rmatmul" else args[:2]
            self.read(weight, x)
        return func(*args, **kwargs)

    def read(self, weight: Any, values: Tensor) -> None:
        """Note that a weight reads the last dimension of `values`."""
        name = self.names.get(id(weight))
        if name is not None:
            self.sums.add(name, values.detach())

    def _recurrent(self, func: Any, kind: str, *args: Any) -> Any:
        """Run a recurrent function layer by layer, and note what its weights read."""
        packed = isinstance(args[3], (list, tuple))
        x, sizes = args[0], args[1] if packed else None
        hx, weights, bias, layers, dropout, train, bidirectional = args[1 + packed : 8 + packed]
        batch_first = bool(args[8]) if not packed and len(args) > 8 else False
        states = hx if isinstance(hx, (tuple, list)) else (hx,)
        directions = 2 if bidirectional else 1
        each = len(weights) // (layers * directions)
        last: list[list[Tensor]] = [[] for _ in states]
        for layer in range(layers):
            rows = slice(layer * directions, (layer + 1) * directions)
            own = weights[rows.start * each : rows.stop * each]
            initial = [state[rows].contiguous() for state in states]
            given = tuple(initial) if len(initial) > 1 else initial[0]
            head = (x, sizes, given) if packed else (x, given)
            tail = (bias, 1, dropout, train, bidirectional)
            out = func(*head, own, *tail, *(() if packed else (batch_first,)))
            for found, state in zip(last, out[1:], strict=True):
                found.append(state)
            for direction, y in enumerate(out[0].chunk(directions, dim=-1)):
                names = own[direction * each : (direction + 1) * each]
                self.read(names[0], x)
                order = _Order(sizes, batch_first and not packed, bool(direction))
                before = order.before(y, initial[0][direction])
                self.read(names[1], before)
                if each in (3, 5):
                    c = initial[1][direction]
                    self.read(names[-1], _unprojected(x, before, c, names, bias, order))
            x = out[0]
        return (x, *(torch.cat(found) for found in last))


class _Order:
    """The steps of a sequence in the order of a scan; `sizes` (T,) are those of a packed one."""

    def __init__(self, sizes: Tensor | None, batch_first: bool, reverse: bool) -> None:
        self.sizes = None if sizes is None else sizes.tolist()
        self.batch_first, self.reverse = batch_first, reverse

    def steps(self, y: Tensor) -> Iterator[tuple[Any, int]]:
        """The index of every step in y, and how many sequences run in it."""
        found: list[tuple[Any, int]] = []
        if self.sizes is None:
            time, batch = (1, 0) if self.batch_first else (0, 1)
            for t in range(y.shape[time]):
                found.append(((slice(None), t) if self.batch_first else t, y.shape[batch]))
        else:
            starts = np.cumsum([0, *self.sizes])
            found = [
                (slice(int(a), int(a) + n), n) for a, n in zip(starts, self.sizes, strict=False)
            ]
        return reversed(found) if self.reverse else iter(found)

    def before(self, y: Tensor, initial: Tensor) -> Tensor:
        """The state that each step starts from, in the shape of y; `initial` is (B, H)."""
        if self.sizes is None:
            time = 1 if self.batch_first else 0
            first, count = initial.unsqueeze(time), y.shape[time]
            if self.reverse:
                return torch.cat([y.narrow(time, 1, count - 1), first], time)
            return torch.cat([first, y.narrow(time, 0, count - 1)], time)
        found, state = torch.empty_like(y), initial.clone()
        for index, running in self.steps(y):
            found[index] = state[:running]
            state[:running] = y[index]
        return found


def _unprojected(
    x: Tensor, before: Tensor, c: Tensor, weights: Any, bias: bool, order: _Order
) -> Tensor:
    """The neurons o * tanh(c) of an LSTM layer that its projection reads; c (B, H) is initial."""
    biases = weights[2:4] if bias else (None, None)
    gates = nn.functional.linear(x, weights[0], biases[0])
    gates = gates + nn.functional.linear(before, weights[1], biases[1])
    i, f, g, o = gates.chunk(4, dim=-1)
    write, forget, show = i.sigmoid() * g.tanh(), f.sigmoid(), o.sigmoid()
    found, c = torch.empty_like(show), c.clone()
    for index, running in order.steps(show):
        c[:running] = forget[index] * c[:running] + write[index]
        found[index] = show[index] * c[:running].tanh()
    return found
