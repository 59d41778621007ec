"""`python -m l0gate.testing NAME`: run the conformance kit on a backend by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from l0gate._errors import L0GateError
from l0gate._registry import get_backend
from l0gate.testing import run_checks
from l0gate.testing._outcome import table

_DESCRIPTION = (
    "Run the conformance kit on a backend, and print a table of the outcomes. Exit code: 0 if no"
    " check failed, 1 if one did, 2 if there is no such backend."
)


def main(arguments: Sequence[str]) -> int:
    """Run the checks on the backend that `arguments` name, and print a table of the outcomes.

    Returns the exit code: 0 if no check failed, 1 if one did, 2 if there is no such backend.
    """
    parser = argparse.ArgumentParser("python -m l0gate.testing", description=_DESCRIPTION)
    parser.add_argument("name", metavar="NAME", help="as in `l0gate backends list`")
    parser.add_argument(
        "--only", metavar="CHECK", action="append", default=[], help="run this check (repeatable)"
    )
    parser.add_argument("--traceback", action="store_true", help="show where a check failed")
    given = parser.parse_args(arguments)
    try:
        outcomes = run_checks(get_backend(given.name), given.only)
    except L0GateError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(outcomes, given.traceback))
    return int(any(outcome.result == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
