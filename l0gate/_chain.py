"""`Chain`: what follows from the description of a chain of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l0gate._layers import ChainPatterns, complete
from l0gate._layout import Layout


@dataclass(frozen=True)
class Chain:
    """What follows from the layers of a chain.

    `state_axes` names the axis of every recurrent layer and direction, in the order of the states
    (l0, l0_reverse, l1, ...). `groups` are the axes of each recurrent module. `frozen` are axes
    whose neurons the caller sees. `input_axis` is the axis of the chain's own input features, if
    those are gated.

    >>> chain = Chain([{"type": "embedding", "name": "e"}, {"type": "gru", "name": "rnn"},
    ...                {"type": "linear", "name": "out"}])
    >>> chain.layout.axes, chain.state_axes, chain.frozen
    (('x', 'h0'), ('h0',), ())
    """

    layers: Sequence[Mapping[str, Any]]
    batch_first: bool = False
    layout: Layout = field(init=False)
    state_axes: tuple[str, ...] = field(init=False)
    groups: tuple[tuple[str, ...], ...] = field(init=False)
    frozen: tuple[str, ...] = field(init=False)
    input_axis: str | None = field(init=False)

    def __post_init__(self) -> None:
        layers = complete(self.layers)
        builder = ChainPatterns(layers)
        for name, value in (
            ("layers", layers),
            ("layout", Layout(builder.patterns, uses=builder.uses)),
            ("state_axes", tuple(a for group in builder.groups for a in group)),
            ("groups", tuple(builder.groups)),
            ("frozen", builder.frozen),
            ("input_axis", builder.input_axis),
        ):
            object.__setattr__(self, name, value)
