"""Which axes the states of each recurrent module run over, and which must keep equal counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from l0gate._errors import L0GateError, check
from l0gate._selection import pad
from l0gate.backends._torch.shrinking.ragged import CELLS, ends
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Pattern
from l0gate.layout.stacked import BLOCKS

#: The axes of h, and for an LSTM also those of c: for each, one axis per layer and direction.
StateAxes = tuple[tuple[str, ...], ...]


def recurrent_axes(model: nn.Module, layout: Layout) -> dict[str, StateAxes]:
    """For every recurrent module whose hidden neurons the layout names: the axes of its states.

    The h and c of an LSTM run over the same neurons, unless it has a projection. The keys are the
    paths of the modules.
    """
    found: dict[str, StateAxes] = {}
    for path, module in model.named_modules():
        if not isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, nn.RNNCellBase)):
            continue
        prefix = f"{path}." if path else ""
        own = [prefix + name for name, _ in module.named_parameters()]
        suffixes = [""]
        if isinstance(module, nn.RNNBase):
            suffixes = [f"_{end}" for end in ends(module.num_layers, module.bidirectional)]
        hidden = [f"{prefix}weight_hh{suffix}" for suffix in suffixes]
        if not set(hidden) & set(layout.patterns):
            continue
        missing = [name for name in own if name not in layout.patterns]
        check(
            not missing,
            f"the layout names {hidden[0]!r}, so it must name every parameter of module {path!r};"
            f" missing: {', '.join(missing)}",
        )
        pairs = [_axes_of_weight(layout, name, module) for name in hidden]
        h, c = (tuple(axes) for axes in zip(*pairs, strict=True))
        found[path] = (h, c) if isinstance(module, (nn.LSTM, nn.LSTMCell)) else (h,)
    return found


def equal_groups(
    model: nn.Module, state_axes: Mapping[str, StateAxes], *, every: bool = True
) -> tuple[tuple[str, ...], ...]:
    """The axes that must keep one count so that every recurrent module keeps its class.

    Without `every`, only for subclasses of torch's modules, which cannot become a `RaggedRNN`.
    """
    groups: list[tuple[str, ...]] = []
    for path, states in state_axes.items():
        stock = type(model.get_submodule(path)) in CELLS.values()
        for own in states if every or not stock else ():
            shared = [group for group in groups if set(group) & set(own)]
            groups = [group for group in groups if group not in shared]
            groups.append(tuple(dict.fromkeys(axis for group in [*shared, own] for axis in group)))
    return tuple(groups)


def cell_blocks(module: nn.Module) -> int:
    """How many blocks over the hidden neurons the weights of a recurrent module or cell have."""
    if isinstance(module, nn.RNNBase):
        return BLOCKS[module.mode.lower()]
    if isinstance(module, nn.LSTMCell):
        return BLOCKS["lstm"]
    return BLOCKS["gru" if isinstance(module, nn.GRUCell) else "rnn_tanh"]


def _axes_of_weight(layout: Layout, name: str, module: nn.Module) -> tuple[str, str]:
    """The axes of a `weight_hh`: the one that it reads (h), and the one that it writes (c)."""
    pattern = layout.patterns[name]
    blocks = cell_blocks(module)
    projected = getattr(module, "proj_size", 0) > 0
    if isinstance(pattern, Pattern) and pattern.arrow == "<-":
        written, read = (dimension.blocks for dimension in pattern.dimensions)
        h = read[0].axis if len(read) == 1 else None
        c = written[0].axis if len(written) == 1 else None
        if (
            h
            and c
            and (projected or h == c)
            and (written, read) == ((Block(c, blocks),), (Block(h),))
        ):
            return h, c
    kind = getattr(module, "mode", type(module).__name__)
    needed = f"({blocks} h)" if blocks > 1 else "h"
    raise L0GateError(
        f"the layout of {name!r} is {layout.to_dict()[name]!r}; torch's {kind} needs"
        f" '{needed} <- {'p' if projected else 'h'}', with an axis in place of"
        f" {'h and p' if projected else 'h'}"
    )


def widen_projected(
    state_axes: Mapping[str, StateAxes],
    kept: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    groups: Sequence[Sequence[str]],
) -> dict[str, np.ndarray]:
    """`kept`, with closed neurons added where an LSTM would project to as many as it has.

    PyTorch's LSTM has a projection only if `proj_size` is below `hidden_size`. The axes of a group
    get the same number of neurons.
    """
    kept = dict(kept)
    pairs = [
        (h, c)
        for states in state_axes.values()
        for h, c in zip(states[0], states[-1], strict=True)
        if h != c
    ]
    # Closed neurons contribute nothing, so any will do: the first.
    order = {axis: np.zeros(size) for axis, size in sizes.items()}
    while narrow := [(h, c) for h, c in pairs if len(kept[c]) <= len(kept[h])]:
        for h, c in narrow:
            group = {c}.union(*(group for group in groups if c in group))
            kept = pad(kept, [sorted(group)], order, least=len(kept[h]) + 1)
    return kept
