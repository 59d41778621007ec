"""A JAX backend for l0gate. l0gate loads this module to find the backend; it imports no JAX."""

from __future__ import annotations

from typing import Any

import l0gate


@l0gate.hookimpl
def l0gate_backends() -> list[dict[str, Any]]:
    """The descriptor of the backend."""
    return [{"name": "jax", "module": "jax", "factory": "l0gate_jax.backend:JaxBackend"}]
