"""The code of the README."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scripts import ROOT

import l0gate


@pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PyTorch example and what follows it, as a reader would paste them."""
    torch = pytest.importorskip("torch")

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(10, 6)
            self.lstm = torch.nn.LSTM(6, 8, num_layers=2)
            self.tags = torch.nn.Linear(8, 10)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.tags(self.lstm(self.embed(x))[0])

    torch.manual_seed(0)
    tokens = torch.randint(10, (5, 3))
    monkeypatch.chdir(tmp_path)
    names = {
        "torch": torch,
        "l0gate": l0gate,
        "model": Tagger(),
        "x": tokens,
        "loader": [(tokens, tokens)] * 5,
        "criterion": lambda y, x: torch.nn.functional.cross_entropy(y.flatten(0, 1), x.flatten()),
        "epochs": 2,
        "x_t": tokens[0].numpy(),
    }
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    exec(blocks[0], names)
    expected = names["small"](tokens).detach().numpy()
    names["x"], names["state"] = tokens.numpy(), None
    exec(blocks[1], names)
    np.testing.assert_allclose(names["y"], expected, rtol=1e-4, atol=1e-6)
