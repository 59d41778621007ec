"""The texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from l0gate import L0GateError


@pytest.mark.usefixtures("corpus")
def test_wrong_texts_are_refused(load: Any, tmp_path: Path) -> None:
    read = load("data").Corpus.read
    (tmp_path / "made.valid.txt").write_text("w1 unheard\n", encoding="utf-8")
    with pytest.raises(L0GateError, match=r"words that training never saw: \['unheard'\]"):
        read(tmp_path)
    (tmp_path / "made.valid.txt").unlink()
    with pytest.raises(L0GateError, match="0 files have 'valid' in their names"):
        read(tmp_path)


def test_streams_are_consecutive_parts_of_the_text(load: Any) -> None:
    found = load("data").streams(torch.arange(11), 3)
    assert found.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
