"""Recurrent modules whose layers and directions have unequal sizes, and states of the dense size.

`nn.LSTM`, `nn.GRU` and `nn.RNN` have one `hidden_size` for all layers; after pruning there may be
several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from l0gate._errors import check
from l0gate.backends._torch.pytree import eager

Stock = type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]
CELLS: dict[str, Stock] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN_TANH": nn.RNN,
    "RNN_RELU": nn.RNN,
}
Kept = Sequence[tuple[np.ndarray, int]]  # per layer and direction: the neurons, of how many


class RaggedRNN(nn.Module):
    """A stacked LSTM, GRU or RNN whose layers and directions each have their own hidden size.

    It is called as the stock module of the same `num_layers`, `bidirectional`, `batch_first` and
    `dropout`: `y, state = rnn(input, state)` with a padded, unbatched or packed input. It consists
    of stock modules of one layer and one direction (`cells`, in the order l0, l0_reverse, l1...).

    A state is a tuple with one (B, H_i) tensor per layer and direction, where a stock module has
    one stacked tensor: h for a GRU or RNN, (h, c) with a tuple each for an LSTM. So `h[-1]` is the
    last layer's state either way. `kept` gives, per cell, the neurons that stayed of the
    `hidden_size` of the dense module; states of the dense size, stacked or in tuples, are then
    accepted and reduced. An LSTM with projections has `proj_sizes`, to which `kept` refers then,
    and `kept_cells` for the neurons of c.

    >>> rnn = RaggedRNN("GRU", [3, 5], 2, num_layers=2)
    >>> y, h = rnn(torch.zeros(7, 4, 2))
    >>> y.shape, [tuple(part.shape) for part in h]
    (torch.Size([7, 4, 5]), [(4, 3), (4, 5)])
    """

    def __init__(
        self,
        mode: str,
        hidden_sizes: Sequence[int],
        input_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        kept: Kept | None = None,
        kept_cells: Kept | None = None,
        proj_sizes: Sequence[int] | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check(mode in CELLS, f"`mode` is {mode!r}; it must be one of {', '.join(CELLS)}")
        directions = 2 if bidirectional else 1
        check(
            len(hidden_sizes) == num_layers * directions,
            f"`hidden_sizes` has {len(hidden_sizes)} entries; {num_layers} layers of {directions}"
            f" directions need {num_layers * directions}",
        )
        self.mode = mode
        self.hidden_sizes = tuple(int(size) for size in hidden_sizes)
        # What is returned and fed back.
        self.output_sizes = self.hidden_sizes if proj_sizes is None else tuple(proj_sizes)
        self.input_size = input_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.cells = nn.ModuleList()
        options: dict[str, Any] = {"bias": bias, "batch_first": batch_first}
        options |= {"device": device, "dtype": dtype}
        if mode.startswith("RNN"):
            options["nonlinearity"] = mode.removeprefix("RNN_").lower()
        width = input_size
        for layer in range(num_layers):
            own = range(layer * directions, (layer + 1) * directions)
            for i in own:
                if proj_sizes is not None:
                    options["proj_size"] = proj_sizes[i]
                self.cells.append(CELLS[mode](width, self.hidden_sizes[i], **options))
            width = sum(self.output_sizes[i] for i in own)
        self.reduce: list[ReduceStates] = []  # one for every time that neurons went
        if kept is not None:
            self.reduce.append(ReduceStates(kept, kept if kept_cells is None else kept_cells))

    @property
    def hidden_size(self) -> int | tuple[int, ...]:
        """The dense hidden size, which initial states may have; without one, the sizes."""
        return self.reduce[0].kept[-1][0][1] if self.reduce else self.hidden_sizes

    def extra_repr(self) -> str:
        options = f"{self.mode}, {self.input_size}, {list(self.hidden_sizes)}"
        for name, default in (
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != default:
                options += f", {name}={getattr(self, name)}"
        return options

    def flatten_parameters(self) -> None:
        """As the stock modules' method: weights in one chunk of memory, where that is faster."""
        for cell in self.cells:
            cell.flatten_parameters()  # type: ignore[operator]

    def lose(self, kept: Kept, kept_cells: Kept) -> None:
        """Take note that the cells have become smaller: of h, and of c, what has stayed."""
        cells: list[Any] = list(self.cells)
        self.input_size = cells[0].input_size
        self.hidden_sizes = tuple(cell.hidden_size for cell in cells)
        self.output_sizes = tuple(cell.proj_size or cell.hidden_size for cell in cells)
        self.reduce.append(ReduceStates(kept, kept_cells))

    def stock_names(self) -> dict[str, str]:
        """Own parameter names by the names that the stock module would have.

        >>> RaggedRNN("GRU", [3, 5], 2, bidirectional=True).stock_names()["weight_hh_l0_reverse"]
        'cells.1.weight_hh_l0'
        """
        return {
            name.removesuffix("_l0") + "_" + end: f"cells.{i}.{name}"
            for i, end in enumerate(ends(self.num_layers, self.bidirectional))
            for name, _ in self.cells[i].named_parameters()
        }

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx)
        return self._run(input, hx)

    @eager  # `torch.compile` does not know the sequences that are packed in between
    def _run_packed(self, input: Any, hx: Any) -> tuple[Any, Any]:
        return self._run(input, hx)

    def _run(self, input: Any, hx: Any) -> tuple[Any, Any]:
        states = self._initial(hx)
        last: list[Any] = []
        directions = 2 if self.bidirectional else 1
        reverse = self._reversal(input) if self.bidirectional else None
        for layer in range(self.num_layers):
            outputs = []
            for i in range(layer * directions, (layer + 1) * directions):
                backward = reverse if i % directions == 1 else None
                y, state = self.cells[i](input if backward is None else backward(input), states[i])
                outputs.append(y if backward is None else backward(y))
                last.append(state)
            input = outputs[0] if directions == 1 else _concat(*outputs)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                input = _with_data(input, F.dropout(_data(input), self.dropout))
        if self.mode != "LSTM":
            return input, tuple(h[0] for h in last)
        return input, (tuple(h[0] for h, _ in last), tuple(c[0] for _, c in last))

    def _initial(self, hx: Any) -> list[Any]:
        """Per cell, the state in the shape that its stock module takes."""
        if hx is None:
            return [None] * len(self.cells)
        for reduce in self.reduce:
            hx = reduce.states(hx, self.mode, self._state_sizes)
        parts = hx if self.mode == "LSTM" else (hx,)
        check(
            len(parts) == (2 if self.mode == "LSTM" else 1)
            and all(len(part) == len(self.cells) for part in parts),
            f"`hx` must hold {len(self.cells)} states, one per layer and direction"
            + (", in each of (h, c)" if self.mode == "LSTM" else ""),
        )
        for k, (part, sizes) in enumerate(zip(parts, self._state_sizes, strict=False)):
            for entry, size in zip(part, sizes, strict=True):
                check(
                    entry.shape[-1] == size,
                    f"`hx` has a state of {entry.shape[-1]} neurons; its layer and direction has"
                    f" {size}" + self._dense_hint(k),
                )
        cells = zip(*([entry[None] for entry in part] for part in parts), strict=True)
        return [cell if self.mode == "LSTM" else cell[0] for cell in cells]

    @property
    def _state_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of h and of c."""
        return self.output_sizes, self.hidden_sizes

    def _dense_hint(self, kind: int) -> str:
        if not self.reduce:
            return ""
        return f" (or {self.reduce[0].kept[kind][0][1]}, the dense size)"

    def _reversal(self, sequence: Any) -> Callable[[Any], Any]:
        """What turns every sequence round, from its own last step to its first."""
        if not isinstance(sequence, PackedSequence):
            time = 1 if self.batch_first and sequence.dim() == 3 else 0
            return lambda y: y.flip(time)
        sizes = sequence.batch_sizes
        if sizes[0] == sizes[-1]:  # of one length, as is every single sequence
            shape = (len(sizes), int(sizes[0]))
            return lambda y: _with_data(y, y.data.unflatten(0, shape).flip(0).flatten(0, 1))
        index = _mirrored(sizes).to(sequence.data.device)
        return lambda y: _with_data(y, y.data.index_select(0, index))


class ReduceStates:
    """Takes states of the dense module's size to the neurons that stayed.

    As a forward pre-hook it lets a stock recurrent module or cell that was pruned be called with
    the initial states of its dense twin. `kept` holds, for h and then for c, per layer and
    direction, the sorted indices of the neurons that stayed and the number there were.
    """

    def __init__(self, *kept: Kept) -> None:
        self.kept = [[(np.asarray(i, np.int64), int(dense)) for i, dense in own] for own in kept]

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        if hx is None:
            return args, kwargs
        if isinstance(module, nn.RNNCellBase):
            hx = self._of_cell(module, hx)
        else:
            c = [module.hidden_size] * len(self.kept[0])
            h = [module.proj_size] * len(c) if module.proj_size else c
            states = self.states(hx, module.mode, (h, c))
            parts = states if module.mode == "LSTM" else (states,)
            stacked = [part if isinstance(part, Tensor) else torch.stack(part) for part in parts]
            hx = tuple(stacked) if module.mode == "LSTM" else stacked[0]
        if len(args) > 1:
            return (args[0], hx, *args[2:]), kwargs
        return args, {**kwargs, "hx": hx}

    def _of_cell(self, cell: Any, hx: Any) -> Any:
        size = [cell.hidden_size]
        parts = hx if isinstance(hx, (tuple, list)) else (hx,)
        taken = zip(parts, self.kept, strict=False)
        reduced = [self._part([part], own, size)[0] for part, own in taken]
        return tuple(reduced) if isinstance(hx, (tuple, list)) else reduced[0]

    def states(self, hx: Any, mode: str, sizes: Sequence[Sequence[int]]) -> Any:
        """The states with every part of the dense size reduced; all else as it is."""
        if mode == "LSTM":
            kinds = zip(hx, self.kept, sizes, strict=False)
            return tuple(self._part(part, kept, own) for part, kept, own in kinds)
        return self._part(hx, self.kept[0], sizes[0])

    @staticmethod
    def _part(part: Any, kept: Sequence[tuple[np.ndarray, int]], sizes: Sequence[int]) -> Any:
        if len(part) != len(kept):
            return part  # the module says what it expects
        if isinstance(part, Tensor) and set(sizes) == {part.shape[-1]}:
            return part
        reduced = list(part)
        for i, (index, dense) in enumerate(kept):
            if part[i].shape[-1] == dense != sizes[i]:
                reduced[i] = part[i].index_select(-1, torch.as_tensor(index, device=part[i].device))
        unchanged = all(new is old for new, old in zip(reduced, part, strict=True))
        return part if unchanged else tuple(reduced)


class ReduceInput:
    """A forward pre-hook: features of the dense model's input become those still read.

    They stand in dimension `dim` of the input, from its end.
    """

    def __init__(self, index: np.ndarray, dense: int, dim: int = -1) -> None:
        self.index, self.dense, self.dim = np.asarray(index, np.int64), int(dense), dim

    def __call__(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        data = _data(args[0])
        if data.shape[self.dim] != self.dense:
            return args
        index = torch.as_tensor(self.index, device=data.device)
        return (_with_data(args[0], data.index_select(self.dim, index)), *args[1:])


def ends(num_layers: int, bidirectional: bool) -> list[str]:
    """The endings of a stock module's parameter names, in the order of its states.

    >>> ends(2, True)
    ['l0', 'l0_reverse', 'l1', 'l1_reverse']
    """
    suffixes = ("", "_reverse") if bidirectional else ("",)
    return [f"l{layer}{suffix}" for layer in range(num_layers) for suffix in suffixes]


def state_parts(module: nn.Module, out: Any) -> tuple[Sequence[Tensor], ...]:
    """The states that a recurrent module or cell returned: h, and c of an LSTM, one per layer."""
    if isinstance(module, nn.RNNCellBase):
        return tuple((state,) for state in (out if isinstance(out, tuple) else (out,)))
    last = out[1]
    lstm = isinstance(module, (nn.RNNBase, RaggedRNN)) and module.mode == "LSTM"
    return tuple(last) if lstm else (last,)


def stock_names(module: nn.Module, ragged: Iterable[str]) -> Mapping[str, str]:
    """Own names of all parameters and buffers by those of the module with stock RNNs inside.

    `ragged` are the paths where these have become a `RaggedRNN`.
    """
    names = {name: name for name in module.state_dict()}
    for path in ragged:
        part = module.get_submodule(path)
        if isinstance(part, RaggedRNN):
            prefix = f"{path}." if path else ""
            for stock, own in part.stock_names().items():
                del names[prefix + own]
                names[prefix + stock] = prefix + own
    return names


def _data(sequence: Any) -> Tensor:
    data: Tensor = sequence.data if isinstance(sequence, PackedSequence) else sequence
    return data


def _with_data(sequence: Any, data: Tensor) -> Any:
    return sequence._replace(data=data) if isinstance(sequence, PackedSequence) else data


def _concat(forward: Any, backward: Any) -> Any:
    return _with_data(forward, torch.concat([_data(forward), _data(backward)], dim=-1))


def _mirrored(batch_sizes: Iterable[int]) -> Tensor:
    """Where each step of a packed batch comes from when every sequence runs backwards.

    Step t of sequence b is stored at sum(batch_sizes[:t]) + b.
    """
    sizes = torch.as_tensor(batch_sizes)
    start = torch.cumsum(sizes, 0) - sizes
    sequence = torch.arange(int(sizes[0]))
    inside = sequence < sizes[:, None]  # (steps, sequences)
    time = torch.arange(len(sizes))[:, None]
    mirrored = (inside.sum(0) - 1 - time).clamp(min=0)
    return (start[mirrored] + sequence)[inside]
