"""The scripts of `benchmarks/` as modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scripts import modules_of


@pytest.fixture
def load() -> Iterator[Any]:
    """Imports a script by its name."""
    with modules_of("benchmarks") as load:
        yield load


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The scripts set torch's number of threads."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
