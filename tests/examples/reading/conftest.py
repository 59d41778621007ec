"""The modules of the reading example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from scripts import modules_of

NAMES = ("text", "bidaf", "loop", "babi", "squad")


@pytest.fixture(scope="module")
def reading() -> Iterator[dict[str, Any]]:
    """The modules by name, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with modules_of("examples/reading") as load:
        yield {name: load(name) for name in NAMES}
    torch.set_num_threads(threads)
