"""Every built-in format can be made, and says what it is."""

from __future__ import annotations

import pytest

from l0gate._registry import registry
from l0gate.formats._builtin import l0gate_formats


@pytest.mark.parametrize("descriptor", l0gate_formats(), ids=lambda d: str(d["name"]))
def test_formats_describe_themselves(descriptor: dict[str, str]) -> None:
    format = registry.format(descriptor["name"]).make()
    assert format.name == descriptor["name"]
    assert format.summary
    assert format.reader
    assert {"cells", "unequal", "bidirectional", "embedding"} <= set(format.holds)
