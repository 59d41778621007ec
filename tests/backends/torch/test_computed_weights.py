"""The way round that messages name for computed weights, taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import set_gates

import l0gate
from l0gate import L0GateError, Layout
from l0gate.backends._torch.computed_weights import advice, way_round

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated", "ignore:Setting attributes on")


class Net(nn.Module):
    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 8)
        self.out = nn.Linear(8, 3)
        change(self)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.rnn(x)[0])


class Dropped(nn.LSTM):
    """AWD's weight drop: the recurrent weight is computed from a parameter with another name."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_parameter("weight_hh_l0_raw", self._parameters.pop("weight_hh_l0"))
        self.drop()

    def drop(self) -> None:
        dropped = F.dropout(self.weight_hh_l0_raw, 0.5, self.training) * 1.0
        if "weight_hh_l0" not in self._parameters:
            self.__dict__["weight_hh_l0"] = dropped
            self._flat_weights[1] = dropped

    def forward(self, *args: Any) -> Any:
        if "weight_hh_l0_raw" in self._parameters:
            self.drop()
        else:
            self._flat_weights[1] = self.weight_hh_l0
        return super().forward(*args)


def swap(m: Any) -> None:
    m.rnn = Dropped(5, 8)


norms = nn.utils.parametrizations
MODELS: dict[str, Callable[[Any], Any]] = {
    "weight_norm of an LSTM": lambda m: norms.weight_norm(m.rnn, "weight_hh_l0"),
    "two of an LSTM": lambda m: [norms.weight_norm(m.rnn, f"weight_{k}_l0") for k in ("ih", "hh")],
    "old weight_norm of an LSTM": lambda m: nn.utils.weight_norm(m.rnn, "weight_hh_l0"),
    "weight_norm of a reader": lambda m: norms.weight_norm(m.out),
    "old weight_norm of a reader": lambda m: nn.utils.weight_norm(m.out),
    "spectral_norm": lambda m: norms.spectral_norm(m.out),
    "old spectral_norm": lambda m: nn.utils.spectral_norm(m.out),
    "orthogonal": lambda m: norms.orthogonal(m.out),
    "weight drop": swap,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_way_round_is_named_and_works(name: str) -> None:
    model, x = Net(MODELS[name]), torch.randn(4, 2, 5)
    with pytest.raises(L0GateError, match="make a parameter of it first: `") as error:
        l0gate.gate(model, example_inputs=x, strength=1e-3, strict=True)
    (code,) = set(re.findall(r"first: `(.*?)`", str(error.value)))
    exec(code, {"torch": torch, "model": model})
    gated = l0gate.gate(model, example_inputs=x, strength=1e-3, strict=True)
    set_gates(gated)
    assert gated.eval().shrink().out.in_features < 8


def test_a_layout_beside_a_computed_weight() -> None:
    layout = Layout.lstm(1, embedding=None, decoder="out", name="rnn")
    rest = {n: p for n, p in layout.to_dict().items() if n != "rnn.weight_hh_l0"}
    with pytest.raises(L0GateError, match=r"rnn\.weight_hh_l0 is computed.*remove_parametr"):
        l0gate.gate(
            Net(MODELS["weight_norm of an LSTM"]),
            example_inputs=torch.randn(4, 2, 5),
            strength=1e-3,
            layout=Layout(rest),
        )


def test_a_module_of_parameters_needs_none() -> None:
    assert way_round("", nn.Linear(2, 2)) == advice("", nn.Linear(2, 2)) == ""
