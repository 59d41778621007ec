"""Claim: `import l0gate` takes at most 1.3 times as long as `import numpy`.

Both are timed in fresh interpreters, in turn, with compiled bytecode at hand as after an
installation; the ratio is taken pair by pair.

    python benchmarks/import_costs_little_more_than_numpy.py [--pairs 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str, cache: str) -> float:
    """Time of one import in a fresh interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(module)],
        env={**environment, "PYTHONPYCACHEPREFIX": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        for module in ("numpy", "l0gate"):  # writes the bytecode
            seconds(module, cache)
        pairs = [(seconds("numpy", cache), seconds("l0gate", cache)) for _ in range(options.pairs)]
    ratios = [ours / theirs for theirs, ours in pairs]
    row = {
        "numpy_ms": 1e3 * statistics.median(theirs for theirs, _ in pairs),
        "l0gate_ms": 1e3 * statistics.median(ours for _, ours in pairs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "pairs": options.pairs,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
    }
    print(f"import numpy   {row['numpy_ms']:6.1f} ms")
    print(f"import l0gate  {row['l0gate_ms']:6.1f} ms   (NumPy included)")
    print(f"ratio          {row['ratio']:6.2f}      of {min(ratios):.2f} to {max(ratios):.2f}")
    if options.json:
        options.json.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
