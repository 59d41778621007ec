"""`l0gate report`: the table of a finished run, once more."""

from __future__ import annotations

import pytest
from cli_runs import report_of

from l0gate.cli._app import run


def test_report_prints_the_table_again(finished, capsys):
    assert run(["report", str(finished)]) == 0
    shown = capsys.readouterr().out
    report = report_of(finished)
    for name in ("dense", "gated", "small", "direct"):
        assert name in shown
        assert f"{report[name]['bits_per_character']:.3f}" in shown
    assert f"{report['small']['recurrent_parameters']:,} of at most" in shown


@pytest.mark.parametrize("command", ["report", "sample"])
def test_a_folder_without_a_run(command, tmp_path, capsys):
    assert run([command, str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
