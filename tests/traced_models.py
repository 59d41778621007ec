"""Models with a `forward` given as a function, and what is expected of them when they are gated."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import assert_close, set_gates, tokens

import l0gate
from l0gate import L0GateError

Run = Callable[..., Any]


class Model(nn.Module):
    """Parts for `run(model, *inputs)`: an embedding, a recurrent module, linear layers, a norm."""

    def __init__(self, run: Run, cell: Any = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.run = run
        self.table = nn.Embedding(11, 6)
        self.rnn = cell(6, 8, **{"num_layers": 2, **options})
        self.out = nn.Linear(8 * (1 + bool(options.get("bidirectional"))), 3)
        self.norm = nn.LayerNorm(8)
        self.pick = nn.Linear(3, 3)

    def forward(self, *args: Any) -> Any:
        return self.run(self, *args)


def hidden(m: Any, x: Tensor) -> Tensor:
    """The outputs of the recurrent module, (time, batch, 8)."""
    y: Tensor = m.rnn(m.table(x))[0]
    return y


def gated_model(model: nn.Module, inputs: Any = None, **options: Any) -> Any:
    inputs = tokens() if inputs is None else inputs
    return l0gate.gate(model, example_inputs=inputs, strength=1e-3, **options)


def assert_shrinks(gated: Any, *inputs: Any) -> Any:
    """Random gates close some neurons of every axis, and the small model computes the same."""
    set_gates(gated)
    small = gated.eval().shrink()
    assert small.certificate.max_abs_difference < 1e-12
    if inputs:
        assert_close(small(*inputs), gated(*inputs))
    return small


def assert_followed(run: Run, equal: bool = False, **options: Any) -> None:
    """All neurons of the model have gates, and none of its axes is frozen."""
    gated = gated_model(Model(run, **options), equal=equal)
    letters = "fb" if options.get("bidirectional") else "h"
    depth = options.get("num_layers", 2)
    assert set(gated.layout.axes) == {"x"} | {f"{c}{i}" for i in range(depth) for c in letters}
    assert gated.pruner.freeze == ()
    assert gated.frozen == {}
    assert_shrinks(gated)


def assert_frozen(run: Run, axis: str, message: str, **options: Any) -> None:
    """The axis is frozen: a warning, or an error if `strict`, says why and what to do.

    The axes of other layers are pruned.
    """
    where = rf"axis '{axis}': [^\n]*{message}[^\n]*\n"
    with pytest.raises(L0GateError, match=rf"{where}give `freeze="):
        gated_model(Model(run, **options), strict=True)
    with pytest.warns(UserWarning, match=rf"{where}`freeze=\['{axis}'\]` accepts that"):
        warned = gated_model(Model(run, **options))
    assert re.search(message, warned.frozen[axis])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".* did not run on `example_inputs` in eval")
        warnings.filterwarnings("ignore", message=".*To copy construct from a tensor")
        asked = gated_model(Model(run, **options), freeze=[axis], strict=True)
    assert asked.frozen == {axis: "named in `freeze`"}
    for gated in (warned, asked):
        kept = assert_shrinks(gated, tokens()).certificate.kept
        assert len(kept[axis]) == gated.pruner.sizes[axis]
        others = [other for other in gated.pruner.sizes if other != axis]
        assert all(len(kept[other]) < gated.pruner.sizes[other] for other in others)


def ones_of(x: Tensor, *sizes: int) -> Tensor:
    """Ones of the batch size of x, for what has no neurons."""
    return torch.ones(x.shape[1], *sizes)
