"""The examples of l0gate inside training frameworks, run where the framework is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from scripts import ROOT

FOLDER = ROOT / "examples" / "frameworks"


@pytest.mark.parametrize(
    ("script", "package"),
    [
        ("with_lightning.py", "lightning"),
        ("with_trainer.py", "transformers"),
        ("with_skorch.py", "skorch"),
    ],
)
def test_the_example_trains_prunes_and_certifies(script: str, package: str) -> None:
    pytest.importorskip(package)
    result = subprocess.run(
        [sys.executable, str(FOLDER / script)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    found = re.search(r"small model: ([\d.]+)%", result.stdout)
    assert found is not None, result.stdout
    assert float(found[1]) > 85  # guessing gives 50
    assert "certified on 3 inputs" in result.stdout
    assert int(re.search(r"h0 24 -> (\d+)", result.stdout)[1]) < 24  # type: ignore[index]
