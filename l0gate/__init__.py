"""l0gate: learned binary gates that make LSTMs and GRUs smaller, with the same outputs."""

from __future__ import annotations

from l0gate._errors import L0GateError

__all__ = ["L0GateError"]
__version__ = "0.1.0"
