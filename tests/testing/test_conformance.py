"""Our own backends pass the conformance kit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from l0gate.backends._numpy import NumpyBackend
from l0gate.backends._torch.backend import TorchBackend
from l0gate.testing import (
    backend_checks,
    run_check,
)


def read_only(value: Any) -> Any:
    """The same values, where changing them raises."""
    array = np.asarray(value)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


class _ReadOnlyNamespace:
    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        return lambda *args, **kwargs: read_only(function(*args, **kwargs))


class ReadOnlyNumpy(NumpyBackend):
    """NumPy whose arrays can never be changed, as those of most other frameworks."""

    name: ClassVar[str] = "read-only"
    xp: Any = _ReadOnlyNamespace()

    def asarray(self, array: Any, like: Any = None) -> Any:
        return read_only(np.array(array))

    def cast(self, x: Any, dtype: str) -> Any:
        return read_only(super().cast(x, dtype))


OWN = {
    "numpy": NumpyBackend(),
    "read-only": ReadOnlyNumpy(),
}


@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OWN)
def test_our_own_backends_conform(name: str, check: Callable[..., None]) -> None:
    outcome = run_check(check, OWN[name])
    outcome.raise_if_failed()
    not_claimed = {"check_gradients", "check_gradient_structure", "check_gradients_of_gating"}
    not_claimed |= {"check_models"}
    assert outcome.result == ("not claimed" if outcome.name in not_claimed else "passed")


@pytest.mark.parametrize("check", backend_checks(), ids=lambda check: check.__name__)
def test_torch_conforms(check: Callable[..., None]) -> None:
    outcome = run_check(check, TorchBackend())
    outcome.raise_if_failed()
    assert outcome.result == "passed"
