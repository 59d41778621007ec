"""`l0gate` and `python -m l0gate` where the command line is not installed."""

from __future__ import annotations

import sys

import pytest


def test_missing_extra_is_named(monkeypatch, capsys):
    from l0gate.__main__ import main

    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "typer: pip install 'l0gate[cli]'" in capsys.readouterr().err
