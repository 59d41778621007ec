"""The scripts of the language-model experiment as modules, and a made-up text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import modules_of


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the experiment by its name; torch runs on one thread."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small nets wait for each other on more
    with modules_of("benchmarks/penn_treebank") as load:
        yield load
    torch.set_num_threads(threads)


@pytest.fixture
def corpus(load: Any, tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(12)])
    for name, lines in (("train", 260), ("valid", 60), ("test", 60)):
        text = "\n".join(" ".join(words[rng.integers(0, 12, 9)]) for _ in range(lines))
        start = " ".join(words) + "\n" if name == "train" else ""
        (tmp_path / f"made.{name}.txt").write_text(start + text + "\n", encoding="utf-8")
    return load("data").Corpus.read(tmp_path)
