"""`RaggedRNN`: a recurrent module whose layers and directions have unequal hidden sizes.

`nn.LSTM`, `nn.GRU` and `nn.RNN` have one `hidden_size` for all layers and directions; after pruning
these may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from l0gate._errors import L0GateError, check
from l0gate.backends._torch.isolation import eager
from l0gate.backends._torch.pytree import data_of, with_data
from l0gate.backends._torch.shrinking.dense_adapters import KeptPerLayer, ReduceStates

Stock = type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]
#: Torch's own recurrent modules, by their `mode`.
CELLS: dict[str, Stock] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN_TANH": nn.RNN,
    "RNN_RELU": nn.RNN,
}


class RaggedRNN(nn.Module):
    """A stacked LSTM, GRU or RNN whose layers and directions each have their own hidden size.

    Import it with `from l0gate.backends import RaggedRNN`.

    It is called like torch's module with the same `num_layers`, `bidirectional`, `batch_first` and
    `dropout`: `y, state = rnn(input, state)` with a padded, unbatched or packed input. It consists
    of torch's modules of one layer and one direction each (`cells`, in the order l0, l0_reverse,
    l1...).

    Where torch's module has one stacked tensor of states, this one has a tuple with one (B, H_i)
    tensor per layer and direction: h for a GRU or RNN, a pair of such tuples (h, c) for an LSTM.
    So `h[-1]` is the last layer's state in both.

    `kept` holds, for every cell, the indices of the neurons kept and the `hidden_size` of the dense
    module. If it is given, initial states of the dense size are accepted too, stacked or in tuples,
    and reduced. An LSTM with projections has `proj_sizes`; then `kept` is about h, and `kept_cells`
    about c.

    >>> from l0gate.backends import RaggedRNN
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
        kept: KeptPerLayer | None = None,
        kept_cells: KeptPerLayer | None = None,
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
        # The sizes of h, which is returned and fed back.
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
        self.reduce: list[ReduceStates] = []  # one for every time that neurons were removed
        if kept is not None:
            self.reduce.append(ReduceStates(kept, kept if kept_cells is None else kept_cells))

    @property
    def hidden_size(self) -> int | tuple[int, ...]:
        """The dense module's hidden size if it is known, else the hidden sizes of all cells."""
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
        """Call `flatten_parameters` of every cell: one chunk of memory for cuDNN."""
        for cell in self.cells:
            cell.flatten_parameters()  # type: ignore[operator]

    def note_shrunk_cells(self, kept: KeptPerLayer, kept_cells: KeptPerLayer) -> None:
        """Update the sizes after cells were pruned again: `kept` is about h, `kept_cells` about c.

        Both hold, for every cell, the indices kept and the size before.
        """
        cells: list[Any] = list(self.cells)
        self.input_size = cells[0].input_size
        self.hidden_sizes = tuple(cell.hidden_size for cell in cells)
        self.output_sizes = tuple(cell.proj_size or cell.hidden_size for cell in cells)
        self.reduce.append(ReduceStates(kept, kept_cells))

    def stock_names(self) -> dict[str, str]:
        """Maps the parameter names that torch's module would have to the names here.

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

    @eager  # `torch.compile` does not know packed sequences
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
                input = with_data(input, F.dropout(data_of(input), self.dropout))
        if self.mode != "LSTM":
            return input, tuple(h[0] for h in last)
        return input, (tuple(h[0] for h, _ in last), tuple(c[0] for _, c in last))

    def _initial(self, hx: Any) -> list[Any]:
        """For every cell, its initial state as torch's module takes it: (1, B, H_i) for h and c."""
        if hx is None:
            return [None] * len(self.cells)
        for reduce in self.reduce:
            hx = reduce.states(hx, self.mode, self._state_sizes)
        parts = hx if self.mode == "LSTM" else (hx,)
        count = len(self.cells)
        if len(parts) != (2 if self.mode == "LSTM" else 1) or any(len(p) != count for p in parts):
            raise L0GateError(
                f"`hx` must hold {count} states, one per layer and direction"
                + (", in each of (h, c)" if self.mode == "LSTM" else "")
            )
        for k, (part, sizes) in enumerate(zip(parts, self._state_sizes, strict=False)):
            for entry, size in zip(part, sizes, strict=True):
                if entry.shape[-1] != size:
                    raise L0GateError(
                        f"`hx` has a state of {entry.shape[-1]} neurons; its layer and direction"
                        f" has {size}" + self._dense_hint(k)
                    )
        cells = zip(*([entry[None] for entry in part] for part in parts), strict=True)
        return [cell if self.mode == "LSTM" else cell[0] for cell in cells]

    @property
    def _state_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes of h and of c, for every layer and direction."""
        return self.output_sizes, self.hidden_sizes

    def _dense_hint(self, kind: int) -> str:
        if not self.reduce:
            return ""
        return f" (or {self.reduce[0].kept[kind][0][1]}, the dense size)"

    def _reversal(self, sequence: Any) -> Callable[[Any], Any]:
        """A function that reverses every sequence of the batch in time, over its own length."""
        if not isinstance(sequence, PackedSequence):
            time = 1 if self.batch_first and sequence.dim() == 3 else 0
            return lambda y: y.flip(time)
        sizes = sequence.batch_sizes
        if sizes[0] == sizes[-1]:  # all have the same length
            shape = (len(sizes), int(sizes[0]))
            return lambda y: with_data(y, y.data.unflatten(0, shape).flip(0).flatten(0, 1))
        index = _mirrored(sizes).to(sequence.data.device)
        return lambda y: with_data(y, y.data.index_select(0, index))


def ends(num_layers: int, bidirectional: bool) -> list[str]:
    """The endings of the parameter names of torch's modules, in the order of their states.

    >>> ends(2, True)
    ['l0', 'l0_reverse', 'l1', 'l1_reverse']
    """
    suffixes = ("", "_reverse") if bidirectional else ("",)
    return [f"l{layer}{suffix}" for layer in range(num_layers) for suffix in suffixes]


def _concat(forward: Any, backward: Any) -> Any:
    return with_data(forward, torch.concat([data_of(forward), data_of(backward)], dim=-1))


def _mirrored(batch_sizes: Iterable[int]) -> Tensor:
    """The index with which `data[index]` reverses every sequence of a packed batch in time.

    `data` is that of a `PackedSequence`: step t of sequence b is at sum(batch_sizes[:t]) + b.
    """
    sizes = torch.as_tensor(batch_sizes)
    start = torch.cumsum(sizes, 0) - sizes
    sequence = torch.arange(int(sizes[0]))
    inside = sequence < sizes[:, None]  # (steps, sequences)
    time = torch.arange(len(sizes))[:, None]
    mirrored = (inside.sum(0) - 1 - time).clamp(min=0)
    return (start[mirrored] + sequence)[inside]
