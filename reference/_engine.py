"""The two engines, "numpy" and "numba".

"numpy" runs the scans of `_lstm.py` and `_gru.py`. "numba" runs compiled scans in training, and for
inference the whole net as one compiled call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from l0gate._errors import L0GateError
from l0gate.reference._gru import gru_scan, gru_scan_backward
from l0gate.reference._lstm import lstm_scan, lstm_scan_backward

ENGINES = ("auto", "numpy", "numba")


class Engine:
    """The four scans of an engine, with the signatures of `_lstm.py` and `_gru.py`.

    `takes_gate` says whether they have the argument `gate`. `program` is the class that runs whole
    nets; None in NumPy. (No NamedTuple: making one takes as long as importing a small file.)
    """

    def __init__(
        self,
        lstm_scan: Callable[..., Any],
        lstm_scan_backward: Callable[..., Any],
        gru_scan: Callable[..., Any],
        gru_scan_backward: Callable[..., Any],
        takes_gate: bool,
        program: Callable[..., Any] | None = None,
    ) -> None:
        self.lstm_scan, self.lstm_scan_backward = lstm_scan, lstm_scan_backward
        self.gru_scan, self.gru_scan_backward = gru_scan, gru_scan_backward
        self.takes_gate, self.program = takes_gate, program


NUMPY = Engine(lstm_scan, lstm_scan_backward, gru_scan, gru_scan_backward, takes_gate=True)


def find_engine(name: str) -> Engine:
    """The engine of that name; "auto" is numba where it is installed, else NumPy."""
    if not isinstance(name, str) or name not in ENGINES:
        raise L0GateError(f"`engine` is {name!r}; allowed: {', '.join(ENGINES)}")
    return _found(name)


@cache
def _found(name: str) -> Engine:
    if name == "numpy":
        return NUMPY
    if name == "auto":
        try:
            return find_engine("numba")
        except L0GateError:
            return NUMPY
    try:
        scans = import_module("l0gate.reference.compiled.scans")
    except ImportError as error:
        raise L0GateError(
            f"`engine` is 'numba', which needs numba ({error}): pip install 'l0gate[fast]', "
            "or choose 'numpy'"
        ) from error
    return Engine(
        scans.lstm_scan,
        scans.lstm_scan_backward,
        scans.gru_scan,
        scans.gru_scan_backward,
        takes_gate=False,
        program=scans.Program,
    )


def set_num_threads(threads: int) -> None:
    """Let compiled nets use up to `threads` threads, from now on and in the whole process.

    The default is NUMBA_NUM_THREADS, or the number of cores. The sequences of a
    batch are divided among the threads where that is faster; one sequence runs on one thread. Needs
    numba.

    >>> set_num_threads(2)
    >>> set_num_threads(0)
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `threads` is 0; it must be at least 1
    """
    find_engine("numba")  # raises L0GateError if numba is not installed
    import_module("l0gate.reference.compiled.threads").set_num_threads(threads)
