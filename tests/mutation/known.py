"""What is known of mutants, in docs/mutation.json: by part, by module, and by function or mutant.

For `l0gate/`, a function's digest and the exit codes of its mutants in both rounds stand in one
string, "digest: codes of the first; codes of the second", where - is a mutant that was not run. For
`reference/`, a file has a digest and what became of the mutants that were drawn from it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mutation.lab import ROOT

KNOWN = ROOT / "docs" / "mutation.json"


def read(part: str) -> dict[str, Any]:
    """What is known of the modules of a part that there are."""
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    return {m: found for m, found in known.get(part, {}).items() if source(m).exists()}


def write(part: str, found: dict[str, Any]) -> None:
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    lines = json.dumps(known | {part: found}, indent=0, sort_keys=True, ensure_ascii=False)
    temporary = KNOWN.with_suffix(".new")
    temporary.write_text(lines + "\n", encoding="utf-8")
    temporary.replace(KNOWN)


def source(module: str) -> Path:
    """The file of a module in the checkout, where `reference/` stands beside `l0gate/`."""
    inner = module.removeprefix("l0gate/")
    return ROOT / (inner if inner.startswith(("backends/", "reference/")) else module)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
