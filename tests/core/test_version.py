"""One version, in the package and in what was installed."""

from __future__ import annotations

from importlib.metadata import version

import l0gate


def test_the_installed_version_is_the_packages() -> None:
    assert version("l0gate") == l0gate.__version__
