"""The axes of the states of each recurrent module, and which axes must keep equal counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from l0gate._errors import L0GateError, check
from l0gate._selection import merged_groups, pad
from l0gate.backends._torch.computed_weights import advice
from l0gate.backends._torch.shrinking.ragged import CELLS, ends
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Block, Pattern
from l0gate.layout.stacked import BLOCKS

#: (axes of h,), or (axes of h, axes of c) for an LSTM; each has one axis per layer and direction.
StateAxes = tuple[tuple[str, ...], ...]


def recurrent_axes(model: nn.Module, layout: Layout) -> dict[str, StateAxes]:
    """The axes of the states of every recurrent module that the layout describes, by module path.

    The h and c of an LSTM have the same axes, unless it has a projection.
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
        computed = sorted(set(hidden) - set(own))
        check(
            not computed or not set(own) & set(layout.patterns),
            f"the layout names parameters of module {path!r}, whose {', '.join(computed)} is"
            f" computed, so gates cannot be folded into it{advice(path, module)}",
        )
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
    """Groups of axes that must keep equal counts, so that recurrent modules keep their class.

    With `every`, each recurrent module keeps its class. Without, only subclasses of `nn.LSTM`,
    `nn.GRU` and `nn.RNN` and cells do: these cannot become a `RaggedRNN`. Groups that share an axis
    are merged.
    """
    groups = [
        own
        for path, states in state_axes.items()
        if every or type(model.get_submodule(path)) not in CELLS.values()
        for own in states
    ]
    return tuple(merged_groups(groups))


def cell_blocks(module: nn.Module) -> int:
    """The number of gates stacked in the weights of a module or cell: LSTM 4, GRU 3, RNN 1."""
    if isinstance(module, nn.RNNBase):
        return BLOCKS[module.mode.lower()]
    if isinstance(module, nn.LSTMCell):
        return BLOCKS["lstm"]
    return BLOCKS["gru" if isinstance(module, nn.GRUCell) else "rnn_tanh"]


def _axes_of_weight(layout: Layout, name: str, module: nn.Module) -> tuple[str, str]:
    """The axes (h, c) of a `weight_hh`: it reads the neurons of h and writes those of c."""
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
    """`kept`, with closed neurons added until each projected LSTM has `proj_size < hidden_size`.

    `nn.LSTM` has a projection only in that case. `kept` maps axes to the indices of the neurons
    kept, `sizes` to the dense sizes. Axes of a group get the same number of neurons.
    """
    kept = dict(kept)
    pairs = [
        (h, c)
        for states in state_axes.values()
        for h, c in zip(states[0], states[-1], strict=True)
        if h != c
    ]
    # Closed neurons contribute nothing, so it does not matter which are added. With equal scores
    # `pad` adds the first ones.
    order = {axis: np.zeros(size) for axis, size in sizes.items()}
    while narrow := [(h, c) for h, c in pairs if len(kept[c]) <= len(kept[h])]:
        for h, c in narrow:
            group = {c}.union(*(group for group in groups if c in group))
            kept = pad(kept, [sorted(group)], order, least=len(kept[h]) + 1)
    return kept
