"""A layout that does not fit the model is found before any training, on random gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_models import Features, Language, gated_language, set_gates
from torch_shapes import EXPECTED_WARNINGS, X_IN, H, X, assert_same, hidden, shape

import l0gate
from l0gate import L0GateError, Layout

pytestmark = EXPECTED_WARNINGS


def test_a_layout_that_misses_a_reader_is_found_before_training() -> None:
    class Skip(Features):
        def forward(self, x: Tensor, offset: Any = 0.0) -> Tensor:
            y = self.rnn(x)[0]
            return self.decoder(y) + y.sum(-1, keepdim=True)

    with pytest.raises(
        L0GateError, match=r"(?s)the model cannot be shrunk by its layout.*axis  size"
    ):
        l0gate.gate(Skip(), layout=Layout.lstm(2, embedding=None), strength=1e-3)
    gated = l0gate.gate(Skip(), layout=Layout.lstm(2, embedding=None), strength=1e-3, freeze=["h1"])
    assert gated.pruner.freeze == ("h1",)


def test_code_that_fixes_a_hidden_size_is_found_before_training() -> None:
    class Fixed(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            y, _ = self.rnn(self.embedding(x))
            return self.decoder(y.reshape(-1, 8))

    with pytest.raises(L0GateError, match=r"(?s)once it is small .*shape '\[-1, 8\]' is invalid"):
        gated_language(model=Fixed(), strict=True)
    with pytest.warns(UserWarning, match=r"axis 'h1': tried on random gates, .*shape '\[-1, 8\]'"):
        set_gates(gated := gated_language(model=Fixed()))
    kept = gated.shrink().certificate.kept
    assert len(kept["h0"]) < len(kept["h1"]) == 8


@pytest.mark.filterwarnings("ignore:.*jit.script. is deprecated:DeprecationWarning")
def test_compiled_code_that_cannot_be_looked_into() -> None:
    script = torch.jit.script(nn.Linear(H, H))
    model = shape(lambda m, x: m.out(m.script(hidden(m, x))), nn.GRU(X, H, 2), script=script)
    with pytest.warns(UserWarning, match=r"axis 'h1': tried on random gates, it cannot be shrunk"):
        gated = l0gate.gate(model, example_inputs=X_IN, strength=1e-3).eval()
    assert set(gated.frozen) == {"h1"}
    set_gates(gated)
    assert_same((small := gated.shrink())(X_IN), gated(X_IN), small.certificate)
