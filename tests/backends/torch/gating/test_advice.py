"""Messages that advise: the advice is taken on a model that provokes it, and works."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import set_gates

import l0gate
from l0gate import L0GateError
from l0gate.backends import PrunableLayerNorm

X, H = 5, 8
x = torch.randn(4, 2, X)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Net(nn.Module):
    def __init__(self, run: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.rnn, self.norm, self.out = nn.GRU(X, H, 2), nn.LayerNorm(H), nn.Linear(H, 3)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def plain(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0])


def fixed(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0].reshape(-1, 8))


def from_module(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0].reshape(-1, m.out.in_features))


def mixed(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0].sort(-1)[0])


def normed(m: Any, x: Tensor) -> Any:
    return m.out(m.norm(m.rnn(x)[0]))


def listed(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0]).argmax(-1).tolist()


def scores(m: Any, x: Tensor) -> Any:
    return m.out(m.rnn(x)[0])


def gate(model: nn.Module, **options: Any) -> Any:
    return l0gate.gate(model, **{"example_inputs": x, "strength": 1e-3, **options})


def frozen_as_told(message: str) -> dict[str, Any]:
    (names,) = re.findall(r"`freeze=\[(.*?)\]`", message)
    return {"freeze": re.findall(r"'(\w+)'", names)}


# The name of an advice: a call that provokes it, what it says, and the call that takes it.
ADVICE: dict[str, tuple[Callable[[], Any], str, Callable[[str], Any]]] = {
    "freeze what is not followed": (
        lambda: gate(Net(mixed), strict=True),
        r"give `freeze=\['h1'\]` to keep all of them",
        lambda told: gate(Net(mixed), strict=True, **frozen_as_told(told)),
    ),
    "freeze what the trial finds": (
        lambda: gate(Net(fixed), strict=True),
        r"`freeze=\['h1'\]` keeps the neurons that cause it",
        lambda told: gate(Net(fixed), strict=True, **frozen_as_told(told)),
    ),
    "sizes from a module": (
        lambda: gate(Net(fixed), strict=True),
        r"let it read sizes from a module, as in .*in line \d+ of test_advice.py: .*reshape\(-1, 8",
        lambda told: gate(Net(from_module), strict=True),
    ),
    "a norm that can be pruned": (
        lambda: gate(Net(normed), strict=True),
        r"put `l0gate\.backends\.PrunableLayerNorm` in its place",
        lambda told: gate(PrunableLayerNorm.replace_all(Net(normed)), strict=True),
    ),
    "scores instead of a list": (
        lambda: gate(Net(listed)),
        "gate a model that returns scores or a loss",
        lambda told: gate(Net(scores)),
    ),
    "example inputs": (
        lambda: gate(Net(plain), example_inputs=None),
        "give `example_inputs`, a tuple of what the model is called with",
        lambda told: gate(Net(plain), example_inputs=(x,)),
    ),
    "the module inside": (
        lambda: gate(nn.DataParallel(Net(plain))),
        "gate the module inside, `model.module`",
        lambda told: gate(nn.DataParallel(Net(plain)).module),
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_the_advice_works(name: str) -> None:
    provoke, advice, take = ADVICE[name]
    with pytest.raises(L0GateError, match=rf"(?s){advice}") as error:
        provoke()
    gated = take(str(error.value))
    set_gates(gated)
    assert gated.eval().shrink().certificate.max_abs_difference < 1e-12


def test_what_is_set_is_not_advised() -> None:
    for equal in (False, True):
        model = Net(fixed)
        model.rnn = nn.GRU(X, H, 4)
        with pytest.raises(L0GateError) as error:
            gate(model, strict=True, equal=equal)
        assert ("`equal=True` helps" in str(error.value)) == (not equal)


def test_freeze_is_not_advised_where_it_cannot_help() -> None:
    def counted(m: Any, x: Tensor) -> Any:
        return m.out(m.rnn(x)[0]) + float(sum(p.numel() for p in m.parameters()))

    with pytest.raises(L0GateError, match="so `freeze=` does not help"):
        gate(Net(counted), strict=True)
