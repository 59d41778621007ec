"""The built-in backends are registered as any plugin's are."""

from __future__ import annotations

from l0gate._registry import get_backend
from l0gate.backends import _builtin


def test_every_descriptor_makes_its_backend() -> None:
    descriptors = _builtin.l0gate_backends()
    assert [d["name"] for d in descriptors] == ["numpy", "torch"]
    for descriptor in descriptors:
        module, _, name = descriptor["factory"].partition(":")
        backend = get_backend(descriptor["name"])
        assert type(backend).__name__ == name
        assert type(backend).__module__.startswith(module)
