"""The check of trainable nets: every kind of fault fails at it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from faults import assert_found, found_in

import l0gate
import l0gate.testing
from l0gate.backends._torch.backend import TorchBackend
from l0gate.testing import (
    _nets,
    run_check,
)


@pytest.mark.parametrize("fault", found_in(_nets), ids=lambda fault: fault.__name__)
def test_a_fault_fails_at_the_check_that_names_it(fault: type[l0gate.Backend]) -> None:
    assert_found(fault)


@pytest.mark.parametrize("which", ["cross_entropy", "mse"])
def test_losses_that_are_off_are_found(which: str) -> None:
    class Off(TorchBackend):
        def net(self, layers: Any, batch_first: bool = False) -> Any:
            net = super().net(layers, batch_first)
            run = net.loss_and_gradients

            def off(*args: Any, **options: Any) -> Any:
                loss, *rest = run(*args, **options)
                wrong = "teacher" in options and options.get("loss", "cross_entropy") == which
                return loss + wrong * 1e-6, *rest

            net.loss_and_gradients = off
            return net

    named = run_check(l0gate.testing.check_nets, Off())
    assert named.reason.startswith("the losses of a stacked LSTM below a linear layer are")


def test_a_net_that_ignores_its_teacher_is_found() -> None:
    class Deaf(TorchBackend):
        def net(self, layers: Any, batch_first: bool = False) -> Any:
            net = super().net(layers, batch_first)
            run = net.loss_and_gradients

            def deaf(*args: Any, loss: str = "cross_entropy", **_: Any) -> Any:
                return run(*args, loss=loss)

            net.loss_and_gradients = deaf
            return net

    named = run_check(l0gate.testing.check_nets, Deaf())
    assert named.reason.startswith("the losses of a stacked LSTM below a linear layer are")


def _off(tree: Any) -> Any:
    """The same numbers, a millionth too large."""
    if isinstance(tree, dict):
        return {name: _off(part) for name, part in tree.items()}
    return tuple(map(_off, tree)) if isinstance(tree, tuple) else tree * (1 + 1e-6)


@pytest.mark.parametrize(
    ("method", "place", "with_state", "said"),
    [
        ("loss_and_gradients", 2, False, r"\['state beside gradients'\]\[0\]\[0\]\[0, 0\] = "),
        ("loss_and_gradients", 1, False, r"\['gradients'\]\['embedding.weight'\]\[0, 0\] = "),
        ("loss_and_gradients", 1, True, r"\['gradients from a state'\]\['embedding.weight'\]"),
    ],
)
def test_what_is_wrong_with_a_net_is_named(
    method: str, place: int, with_state: bool, said: str
) -> None:
    class Wrong(TorchBackend):
        def net(self, layers: Any, batch_first: bool = False) -> Any:
            net = super().net(layers, batch_first)
            right = getattr(net, method)

            def wrong(*args: Any, **options: Any) -> Any:
                found = right(*args, **options)
                if with_state and len(args) < 4:
                    return found
                return tuple(_off(part) if i == place else part for i, part in enumerate(found))

            setattr(net, method, wrong)
            return net

    named = run_check(l0gate.testing.check_nets, Wrong())
    assert re.match(f"(a stacked LSTM below a linear layer)?{said}", named.reason), named.reason
