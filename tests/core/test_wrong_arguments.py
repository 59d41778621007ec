"""No public call answers a wrong argument with an error of Python's own: `L0GateError` names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0gate
from l0gate import Budget, L0GateError, Layout, Pruner

WRONG: list[Any] = [
    None,
    "wrong",
    b"wrong",
    -1,
    1.5,
    float("nan"),
    True,
    10**30,
    [],
    {},
    {"w": 3},
    [None],
    ("a", 1),
    object(),
    dict,
    np.ones(3),
    np.ones((2, 2), dtype=complex),
    np.array("text"),
    lambda *arguments: None,
]
# What the caller's own function gets or is: its errors are the caller's.
OF_THE_CALLER = ("apply", "apply_small", "inputs")
LAYOUT = Layout({"w": "h <- h", "o": "_ <- h"})
PARAMETERS = {"w": np.eye(4), "o": np.ones((2, 4))}
PRUNER = Pruner(LAYOUT, Budget(parameters=0.5))
STATE = PRUNER.init(PARAMETERS, 0)
SMALL, KEPT = PRUNER.shrink(PARAMETERS, STATE)
NET = l0gate.get_backend("numpy").net([{"type": "gru", "name": "rnn"}])
BOUND = NET.bind(NET.init(np.random.default_rng(0), input_size=3, sizes={"rnn": 2}))
RNG = np.random.default_rng(0)
X = np.ones((5, 1, 3), np.float32)


def _apply(parameters: Any, x: Any) -> Any:
    return x @ parameters["w"] @ parameters["o"].T


def _calls(folder: Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Every public call, with arguments that it takes."""
    path = folder / "net.npz"
    l0gate.save(path, BOUND)
    return {
        "Budget": (Budget, {"parameters": 0.5}),
        "HardConcrete": (l0gate.HardConcrete, {}),
        "Layout": (Layout, {"patterns": {"w": "h <- h"}}),
        "Pruner": (Pruner, {"layout": LAYOUT, "budget": Budget(parameters=0.5)}),
        "Pruner.init": (PRUNER.init, {"parameters": PARAMETERS, "rng": 0}),
        "Pruner.gate": (PRUNER.gate, {"parameters": PARAMETERS, "state": STATE}),
        "Pruner.penalty": (PRUNER.penalty, {"state": STATE, "progress": 0.5}),
        "Pruner.update": (PRUNER.update, {"state": STATE, "progress": 0.5}),
        "Pruner.select": (PRUNER.select, {"state": STATE}),
        "Pruner.shrink": (PRUNER.shrink, {"parameters": PARAMETERS, "state": STATE}),
        "Pruner.certify": (
            PRUNER.certify,
            {
                "apply": _apply,
                "parameters": PARAMETERS,
                "state": STATE,
                "small": SMALL,
                "kept": KEPT,
                "inputs": [np.ones((3, 4))],
            },
        ),
        "gate": (l0gate.gate, {"model": BOUND, "budget": Budget(parameters=0.5)}),
        "get_backend": (l0gate.get_backend, {}),
        "save": (l0gate.save, {"path": path, "small": BOUND}),
        "load": (l0gate.load, {"path": path}),
        "net": (l0gate.get_backend("numpy").net, {"layers": [{"type": "gru", "name": "rnn"}]}),
        "Net.bind": (NET.bind, {"parameters": BOUND.parameters}),
        "Net.init": (
            NET.init,
            {"rng": np.random.default_rng(0), "input_size": 3, "sizes": {"rnn": 2}},
        ),
        "call": (BOUND, {"x": X}),
        "step": (BOUND.step, {"x_t": X[0]}),
        "stream": (BOUND.stream, {}),
    }


def _cases(folder: Path) -> Iterator[tuple[str, str, Any, Callable[[], Any]]]:
    for name, (call, given) in _calls(folder).items():
        for parameter in inspect.signature(call).parameters.values():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            if parameter.name in OF_THE_CALLER:
                continue
            for value in WRONG:
                arguments = {**given, parameter.name: value}
                positional = parameter.kind is parameter.POSITIONAL_ONLY

                def run(call=call, arguments=arguments, positional=positional):  # type: ignore[no-untyped-def]
                    return call(*arguments.values()) if positional else call(**arguments)

                yield name, parameter.name, value, run


@pytest.mark.filterwarnings("ignore")
def test_wrong_arguments_get_an_error_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some of the wrong paths can be written to
    bare, tried = [], 0
    for name, parameter, value, run in _cases(tmp_path):
        tried += 1
        try:
            run()
        except L0GateError:
            pass
        except Exception as error:
            bare.append(f"{name}({parameter}={value!r:.40}): {type(error).__name__}: {error}"[:150])
    assert tried >= 200
    assert not bare, f"{len(bare)} of {tried}:\n" + "\n".join(bare)
