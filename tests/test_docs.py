from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import l0gate

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_on_the_page_run(page: Path) -> None:
    # doctest takes the end of a fence for output.
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_code_on_methods_runs() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    pruner = names["pruner"]
    assert isinstance(pruner, l0gate.Pruner)
    rng = np.random.default_rng(0)
    shapes = {"embedding.weight": (9, 3), "rnn.weight_ih_l0": (24, 3), "rnn.weight_hh_l0": (24, 6)}
    shapes |= {"rnn.bias_ih_l0": (24,), "rnn.bias_hh_l0": (24,)}
    shapes |= {"decoder.weight": (9, 6), "decoder.bias": (9,)}
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    parameters["rnn.weight_ih_l0"][:, 1] = parameters["rnn.weight_hh_l0"][:, 2] = 0
    parameters["decoder.weight"][:, 2] = 0
    kept = pruner.kept(pruner.select(pruner.init(parameters), parameters))
    assert 1 not in kept["x"]
    assert 2 not in kept["h0"]


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
