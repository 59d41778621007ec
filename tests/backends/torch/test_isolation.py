"""A model runs without a trace in it, in random generators or in the process."""

from __future__ import annotations

import random
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import checkpoint
from torch_models import Language, gated_language, tokens

from l0gate import L0GateError
from l0gate.backends._torch.isolation import (
    copied,
    no_advice_to_flatten,
    no_checkpoints,
    undisturbed,
)

ADVICE = (
    "RNN module weights are not part of single contiguous chunk of memory. This means they need"
)


def test_a_copy_may_share_its_parameters() -> None:
    model = Language()
    model.register_buffer("calls", torch.zeros(1))
    shared, apart = copied(model, share_parameters=True), copied(model)
    assert shared.decoder.weight is model.decoder.weight
    assert apart.decoder.weight is not model.decoder.weight
    assert torch.equal(apart.decoder.weight, model.decoder.weight)
    assert shared.calls is not model.calls

    class Single(nn.Module):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("there is one")

    with pytest.raises(L0GateError, match=r"Single cannot be copied, .*: TypeError: there is one"):
        copied(Single())


def draw() -> list[float]:
    return [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: NPY002


def test_random_numbers_are_the_same_inside_and_go_on_outside() -> None:
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    expected = [draw() for _ in range(2)]
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    found, inside = [draw()], []
    for _ in range(2):
        with undisturbed(torch.float64):
            inside.append(draw())
            assert torch.zeros(1).dtype == torch.float64
            assert not torch.is_grad_enabled()
    found.append(draw())
    assert found == expected
    assert inside[0] == inside[1]
    assert torch.zeros(1).dtype == torch.float32
    assert torch.is_grad_enabled()


# Checkpoints ----------------------------------------------------------------------------------


def functions() -> tuple[Any, ...]:
    return (
        checkpoint.CheckpointFunction.apply,
        vars(checkpoint.CheckpointFunction).get("apply"),
        checkpoint._checkpoint_without_reentrant_generator,
    )


def run_checkpoint(reentrant: bool) -> Tensor:
    x = torch.ones(2, requires_grad=True)
    y: Tensor = checkpoint.checkpoint(torch.sin, x, use_reentrant=reentrant)
    return y


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_refused_inside_alone(reentrant: bool) -> None:
    before = functions()
    with no_checkpoints():
        with no_checkpoints():
            pass
        with pytest.raises(L0GateError, match=r"calls torch\.utils\.checkpoint in its `forward`"):
            run_checkpoint(reentrant)
    assert functions() == before
    run_checkpoint(reentrant).sum().backward()


def test_other_threads_may_checkpoint() -> None:
    before, results, inside = functions(), [], threading.Event()
    leave = threading.Event()

    def stay() -> None:
        with no_checkpoints():
            inside.set()
            leave.wait(10)
            try:
                run_checkpoint(False)
            except L0GateError as error:
                results.append(error)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    run_checkpoint(False)  # while the other thread is inside
    with no_checkpoints():
        pass
    assert functions() != before  # the other thread is inside still
    leave.set()
    thread.join()
    assert len(results) == 1
    assert functions() == before


def test_calls_of_a_gated_model_leave_no_trace_in_the_process() -> None:
    class Checkpointed(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            y = self.embedding(x)
            if self.training and torch.is_grad_enabled():
                y = checkpoint.checkpoint(self.dropout, y, use_reentrant=False)
            return self.decoder(self.rnn(y)[0])

    before, filters = functions(), list(warnings.filters)
    gated = gated_language(model=Checkpointed())
    for training in (True, False):
        with torch.set_grad_enabled(False):
            gated.train(training)(tokens())
    with pytest.raises(L0GateError, match=r"calls torch\.utils\.checkpoint"):
        gated.train()(tokens())
    y = checkpoint.checkpoint(gated.eval(), tokens(), use_reentrant=False)
    (y.sum() + gated.penalty(0.1)).backward()
    gated.shrink()
    assert functions() == before
    assert list(warnings.filters) == filters


# Warnings -------------------------------------------------------------------------------------


def test_cudnn_does_not_advise_in_every_step() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        for _ in range(3):
            with no_advice_to_flatten(), no_advice_to_flatten():
                warnings.warn(ADVICE, UserWarning, stacklevel=1)
            assert list(warnings.filters) == filters  # however often it is called
        with no_advice_to_flatten():
            warnings.warn("anything else", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["anything else"]


def test_warnings_that_were_shown_once_are_not_shown_again() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            with no_advice_to_flatten():
                warnings.warn("of the user's own", UserWarning, stacklevel=1)
    assert len(caught) == 1


def test_filters_that_change_inside() -> None:
    filters = list(warnings.filters)
    with no_advice_to_flatten(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.resetwarnings()
    assert list(warnings.filters) == filters
    with warnings.catch_warnings():
        with no_advice_to_flatten():
            warnings.resetwarnings()
        assert not warnings.filters
    assert list(warnings.filters) == filters
