"""A small model is saved, and rebuilt from its file; a chain also runs without torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import chains
from torch import Tensor, nn
from torch.nn import functional as F
from torch_models import (
    Chained,
    Features,
    Language,
    assert_close,
    by_cell,
    gated_language,
    inputs_of,
    prunable,
    set_gates,
    small_of,
    tokens,
)

import l0gate
from l0gate import L0GateError

pytestmark = pytest.mark.filterwarnings("ignore:every gate of axis:UserWarning")


@given(chains().filter(prunable))
def test_a_small_chain_runs_without_torch(case: dict[str, Any]) -> None:
    small, x = small_of(Chained(case), inputs_of(case), case["gates"]), inputs_of(case, seed=1)
    saved = l0gate.get_backend(small).describe(small)
    assert set(saved.parameters) == set(Chained(case).state_dict())
    net = saved.net()
    y, state = net(x.numpy())
    expected, last = small(x)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    cells = by_cell(last)
    flat = [entry if isinstance(entry, tuple) else (entry,) for entry in state]
    for part, tensors in enumerate(cells):
        for cell, tensor in enumerate(tensors):
            np.testing.assert_allclose(flat[cell][part], tensor.detach(), rtol=1e-10, atol=1e-12)
    if not small.rnn.bidirectional:
        state = None
        for t in range(case["length"]):
            y_t, state = net.step(x.numpy()[:, t] if case["batch_first"] else x.numpy()[t], state)
        last_y = expected[:, -1] if case["batch_first"] else expected[-1]
        np.testing.assert_allclose(y_t, last_y.detach(), rtol=1e-10, atol=1e-12)


@given(chains().filter(prunable), st.booleans())
def test_a_small_model_is_rebuilt_from_its_file(case: dict[str, Any], equal: bool) -> None:
    small = small_of(Chained(case), inputs_of(case), case["gates"], equal=equal)
    backend, x = l0gate.get_backend(small), inputs_of(case, seed=1)
    dense = Chained({**case, "seed": 1})
    before = copy.deepcopy(dense.state_dict())
    rebuilt = backend.rebuild(dense, backend.describe(small))
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert_close(rebuilt.eval()(x)[0], small(x)[0])
    assert rebuilt.state_dict().keys() == small.state_dict().keys()
    again = backend.describe(rebuilt)
    for name, array in backend.describe(small).parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)


def test_files_of_other_models_are_refused(tmp_path: Path) -> None:
    set_gates(gated := gated_language())
    path = tmp_path / "small.npz"
    l0gate.save(path, gated.shrink(), metadata={"vocabulary": ["a"]})
    assert l0gate.load(path).saved.metadata == {"vocabulary": ["a"]}
    with pytest.raises(L0GateError, match=r"a Language of other sizes .*'h0': 8.*"):
        l0gate.load(path, into=wider)
    with pytest.raises(L0GateError, match=r"Features, which is not the kind .* lacks embedding\."):
        l0gate.load(path, into=Features)
    for model in (gated, Language()):
        with pytest.raises(L0GateError, match=r"l0gate did not shrink"):
            l0gate.save(path, model)


def wider() -> nn.Module:
    model = Language()
    model.rnn, model.decoder = nn.LSTM(6, 9, 2), nn.Linear(9, 11)
    return model


def test_a_model_that_is_no_chain_needs_itself_to_load(tmp_path: Path) -> None:
    class Own(Language):
        def forward(self, x: Tensor, state: Any = None) -> Any:
            return F.log_softmax(super().forward(x, state)[0], -1)

    set_gates(gated := gated_language(model=Own()))
    small = gated.shrink()
    l0gate.save(tmp_path / "small.npz", small)
    with pytest.raises(L0GateError, match="not a chain"):
        l0gate.load(tmp_path / "small.npz")
    rebuilt = l0gate.load(tmp_path / "small.npz", into=Own)
    assert_close(rebuilt(tokens()), small(tokens()))
    assert rebuilt.certificate.max_abs_difference == small.certificate.max_abs_difference
    # A rebuilt model takes what its dense twin took.
    dense_state = (torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    assert_close(rebuilt(tokens(), dense_state), small(tokens()))
