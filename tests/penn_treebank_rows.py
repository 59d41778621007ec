"""Made-up results of the language-model experiment."""

from __future__ import annotations

from typing import Any


def row(model: str, method: str, sizes: tuple[int, int, int], test: float, **more: Any) -> Any:
    embedding, first, second = sizes
    return {
        "options": {"model": model, "method": method, "seed": 1, "strength": None}
        | {"shrink_early": False},
        "command": f"python train.py {method}",
        "machine": {"processor": "made up"},
        "valid": test + 3,
        "test": test,
        "at_cut": None,
        "sizes": list(sizes),
        "parameters": 10,
        "recurrent_weights": 4 * (first * (embedding + first) + second * (first + second)),
        "multiply_adds": 5,
        "training_seconds": 600.0,
        **more,
    }
