"""Running one check, its outcome, and outcomes as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from traceback import format_exception

from l0gate._backend import Backend
from l0gate.testing._compare import NotClaimed

Check = Callable[[Backend], None]


@dataclass(frozen=True)
class Outcome:
    """How one check ended: `result` is "passed", "failed" or "not claimed".

    `error` is what a failed check raised, with its traceback.
    """

    name: str
    promise: str
    result: str
    reason: str = ""
    error: Exception | None = field(default=None, repr=False, compare=False)

    def raise_if_failed(self) -> None:
        """Raise `AssertionError` with the promise and the reason, if the check failed."""
        if self.result == "failed":
            raise AssertionError(f"{self.name}: {self.promise}\n{self.reason}") from self.error

    def traceback(self) -> str:
        """Where a failed check raised its error, as text."""
        return "".join(format_exception(self.error)) if self.error is not None else ""


def run_check(check: Check, backend: Backend) -> Outcome:
    """Run one check. Whatever the backend raises becomes the reason of a failure.

    >>> import l0gate.testing
    >>> run_check(l0gate.testing.check_take, l0gate.get_backend("numpy")).result
    'passed'
    """
    name, promise = check.__name__, (check.__doc__ or "").partition("\n")[0]
    try:
        check(backend)
    except NotClaimed as error:
        return Outcome(name, promise, "not claimed", f"the backend does not offer {error}")
    except AssertionError as error:
        return Outcome(name, promise, "failed", str(error), error)
    except Exception as error:  # a backend under test may fail in any way
        return Outcome(name, promise, "failed", f"{type(error).__name__}: {error}", error)
    return Outcome(name, promise, "passed")


def table(outcomes: Sequence[Outcome], traceback: bool = False) -> str:
    """The outcomes as text: a line per check, with the reason or traceback below a failed one."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.name:{width}}  {outcome.result:11}  {outcome.promise}")
        if outcome.result == "failed":
            told = outcome.traceback() if traceback else outcome.reason
            lines += [f"{'':{width}}  {line}" for line in told.splitlines()]
    return "\n".join([*lines, summary(outcomes)])


def summary(outcomes: Sequence[Outcome]) -> str:
    """Count the checks that passed, that failed, and whose capability is not claimed.

    >>> summary([Outcome("check_take", "It takes.", "passed")])
    '1 passed, 0 failed, 0 not claimed'
    """
    results = [outcome.result for outcome in outcomes]
    return ", ".join(f"{results.count(r)} {r}" for r in ("passed", "failed", "not claimed"))
