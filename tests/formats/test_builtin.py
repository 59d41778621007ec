"""Every built-in format can be made, and says what it is."""

from __future__ import annotations

import pytest

from l0gate.formats._builtin import l0gate_formats
from l0gate.formats.export import get_format


@pytest.mark.parametrize("descriptor", l0gate_formats(), ids=lambda d: str(d["name"]))
def test_formats_describe_themselves(descriptor: dict[str, str]) -> None:
    format = get_format(descriptor["name"], "", writing=True)
    assert format.name == descriptor["name"]
    assert format.summary
    assert format.reader
    assert set(format.holds) == {"cells", "unequal", "bidirectional", "embedding"}
