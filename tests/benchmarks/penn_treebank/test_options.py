"""Which options go together."""

from __future__ import annotations

from typing import Any

import pytest

from l0gate import L0GateError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "huge"}, "`--model` is 'huge'; allowed: small"),
        ({"method": "direct"}, "`--sizes` and `--method direct` go together"),
        ({"sizes": (1, 1, 1)}, "`--sizes` and `--method direct` go together"),
        ({"method": "l0"}, "either `--budget` or `--strength`"),
        ({"budget": 0.5}, "no budget and no strength"),
        ({"method": "magnitude", "budget": 0.5, "strength": 0.1}, "it takes `--budget`"),
        ({"method": "iss", "strength": 0.1}, "it takes `--budget`, and `--strength`"),
        ({"method": "l0", "strength": 0.1, "settle": 0.9}, "`--settle` is 0.9; it needs"),
        ({"method": "l0", "budget": 1.5}, "`--budget` is 1.5"),
    ],
)
def test_wrong_options_are_refused(load: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        load("options").Options(**{"model": "tiny", **options})


def test_the_name_holds_every_option_that_was_given(load: Any) -> None:
    options = load("options").Options
    assert options("small").name == "small-dense-seed1"
    assert options("small", "l0", 0.5, settle=0.9, seed=2).name == "small-l0-0.5-settle0.9-seed2"
    assert options("tiny", "direct", sizes=(4, 3, 5)).name == "tiny-direct-4x3x5-seed1"
    late = options("tiny", "iss", 0.5, 1e-4, shrink_early=True, epochs=3, cosine=True)
    assert late.name == "tiny-iss-0.5-strength0.0001-early-3epochs-cosine-seed1"
