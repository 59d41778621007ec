"""The table of models in docs/pytorch.md is what l0gate does with these models.

`python tests/docs/test_pytorch_models.py` writes it again.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))

from torch_cells import STEPS, Own, Simple  # noqa: E402
from torch_shapes import SHAPES  # noqa: E402

import l0gate  # noqa: E402
from l0gate import L0GateError  # noqa: E402

PAGE = ROOT / "docs/pytorch.md"
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->\n"
X, H = 5, 8
Build = Callable[[], tuple[nn.Module, Any]]


class Front(nn.Module):
    """A spectrogram (B, 1, T, F) through 2-d convolutions into a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d((1, 2))
        self.rnn = nn.GRU(6 * 4, H, batch_first=True)
        self.out = nn.Linear(H, 3)

    def forward(self, x: Any) -> Any:
        y = self.pool(self.norm(self.conv(x)).relu())
        return self.out(self.rnn(y.transpose(1, 2).flatten(2))[0])


class Stream(nn.Module):
    """A recurrent layer whose state is kept in an attribute or a buffer."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(X, H), nn.Linear(H, 3)
        if buffer:
            self.register_buffer("state", torch.zeros(1, 2, H))
        else:
            self.state = None

    def forward(self, x: Any) -> Any:
        y, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.out(y)


class Loop(nn.Module):
    """A cell in a loop that starts with zeros, and keeps the state of shorter sequences."""

    def __init__(self, learned: bool = False) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(X, H), nn.Linear(H, 3)
        self.first = nn.Parameter(torch.zeros(1, H)) if learned else None

    def forward(self, x: Any) -> Any:
        h = x.new_zeros(2, H if self.first is not None else self.cell.hidden_size)
        h = h if self.first is None else self.first.expand(2, -1)
        for t, x_t in enumerate(x):
            h = torch.where((t < torch.tensor([4, 2]))[:, None], self.cell(x_t, h), h)
        return self.out(h)


class Output(nn.LSTM):
    def forward(self, *args: Any) -> Any:  # type: ignore[override]
        return super().forward(*args)[0]


def models() -> dict[str, Build]:
    """Every model of the page, by name, with what it is called with."""

    def of_shape(name: str) -> Build:
        build, inputs, _ = SHAPES[name]
        return lambda: (build(), inputs)

    def of_cell(step: Any) -> Build:
        return lambda: (Own(step, STEPS[step]), torch.randn(4, 2, X))

    names = {f.__name__: f for f in STEPS}
    cells = {
        "LSTM from linear layers, `chunk`": "chunked",
        "LSTM from linear layers, slices": "sliced",
        "LSTM from `x @ W`": "products",
        "LSTM with peepholes": "peephole",
        "GRU from linear layers": "gru",
        "highway cell": "highway",
        "Elman cell from linear layers": "elman",
    }
    x = torch.randn(4, 2, X)
    return {
        **{name: of_shape(name) for name in SHAPES},
        **{f"hand-written: {name}": of_cell(names[step]) for name, step in cells.items()},
        "hand-written: SRU": lambda: (Simple(), x),
        "state kept in an attribute": lambda: (Stream(False), x),
        "state kept in a buffer": lambda: (Stream(True), x),
        "masked loop from zeros": lambda: (Loop(), x),
        "masked loop from a learned state": lambda: (Loop(True), x),
        "2-d convolutions in front": lambda: (Front(), torch.randn(2, 1, 5, 8)),
        "subclass of nn.LSTM that returns its output alone": lambda: (
            nn.Sequential(Output(X, H), nn.Linear(H, 3)),
            x,
        ),
    }


def row(name: str, build: Build) -> str:
    """What l0gate does with a model: its axes, those that are frozen with the reason."""
    torch.manual_seed(0)
    model, inputs = build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            gated = l0gate.gate(model, example_inputs=inputs, strength=1e-3)
        except L0GateError as error:
            return f"| {name} | | refused: {str(error).splitlines()[0]} |"
        pruned = [axis for axis in gated.layout.axes if axis not in gated.frozen]
        gated.eval().shrink()
    reasons = (f"{axis}: {_short(why)}" for axis, why in gated.frozen.items())
    return f"| {name} | {', '.join(pruned)} | {'; '.join(reasons)} |"


def _short(reason: str) -> str:
    return re.sub(r"^.*? uses its neurons in ", "", reason).replace("|", "\\|")


def table() -> str:
    rows = [row(name, build) for name, build in models().items()]
    return "\n".join(["| model | pruned | frozen, and why |", "|---|---|---|", *rows]) + "\n"


def on_page() -> str:
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


@pytest.mark.filterwarnings("ignore")
def test_the_table_is_what_l0gate_does() -> None:
    assert on_page() == table(), "run `python tests/docs/test_pytorch_models.py`"


def test_there_are_many_models() -> None:
    assert on_page().count("\n") - 2 >= 40


if __name__ == "__main__":
    text = PAGE.read_text()
    begin, _, rest = text.partition(BEGIN)
    PAGE.write_text(begin + BEGIN + table() + END + rest.partition(END)[2])
