"""`python -m l0gate.testing NAME`: run the conformance kit on a backend by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from l0gate._errors import L0GateError
from l0gate._plugins import get_backend
from l0gate.testing import Outcome, run_checks


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as text, a line each, the reasons below what failed."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.name:{width}}  {outcome.result:11}  {outcome.promise}")
        if outcome.result == "failed":
            lines += [f"{'':{width}}  {line}" for line in outcome.reason.splitlines()]
    return "\n".join([*lines, summary(outcomes)])


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many checks ended in which way.

    >>> summary([Outcome("check_take", "It takes.", "passed")])
    '1 passed, 0 failed, 0 not claimed'
    """
    results = [outcome.result for outcome in outcomes]
    return ", ".join(f"{results.count(r)} {r}" for r in ("passed", "failed", "not claimed"))


def main(arguments: Sequence[str]) -> int:
    """Print the table; 0 if nothing failed, 1 if something did, 2 if there is no such backend."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m l0gate.testing NAME", file=sys.stderr)
        return 2
    try:
        backend = get_backend(arguments[0])
    except L0GateError as error:
        print(error, file=sys.stderr)
        return 2
    outcomes = run_checks(backend)
    print(table(outcomes))
    return int(any(outcome.result == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
