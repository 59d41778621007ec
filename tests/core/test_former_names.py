"""What l0gate 0.1.0 wrote before its modules were moved into packages still loads and runs.

The files in `tests/files/0.1.0` were written at commit 5359016: saved models, and pickles, which
name the modules of their classes.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_models import Language

import l0gate
from l0gate import Budget

FILES = Path(__file__).parents[1] / "files" / "0.1.0"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FILES / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def pickled() -> dict[str, Any]:
    found: dict[str, Any] = pickle.loads((FILES / "numpy.pickle").read_bytes())
    return found


def close(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-6)


def test_a_saved_chain(expected: dict[str, np.ndarray]) -> None:
    net = l0gate.load(FILES / "chain.npz")
    close(net(expected["x"])[0], expected["y"])
    assert net.saved.metadata == {"words": ["a", "b"]}
    assert l0gate.load(FILES / "ragged.npz").saved.certificate.max_abs_difference < 1e-10


def test_a_saved_torch_model(expected: dict[str, np.ndarray]) -> None:
    small = l0gate.load(FILES / "ragged.npz", into=Language)
    with torch.no_grad():
        close(small.eval()(torch.tensor(expected["tokens"]))[0], expected["ragged"])


@pytest.mark.parametrize("name", ["gated", "gated_by_method", "ragged", "equal"])
def test_a_pickled_torch_module(name: str, expected: dict[str, np.ndarray]) -> None:
    model = torch.load(FILES / f"{name}.pt", weights_only=False)
    with torch.no_grad():
        close(model(torch.tensor(expected["tokens"]))[0], expected[name])


@pytest.mark.parametrize("name", ["gated", "gated_by_method"])
def test_a_pickled_gated_model_trains_on(name: str, expected: dict[str, np.ndarray]) -> None:
    gated = torch.load(FILES / f"{name}.pt", weights_only=False).train()
    optimizer = torch.optim.Adam(gated.param_groups(lr=1e-2))
    tokens = torch.tensor(expected["tokens"])
    for progress in (0.9, 1.0):
        loss = gated(tokens)[0].square().mean() + gated.penalty(progress)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    small = gated.shrink()
    assert small.certificate.max_abs_difference < 1e-10
    assert l0gate.report(gated).selected
    if name == "gated":
        assert gated.eval().distill(tokens).item() >= 0.0


def test_the_state_of_a_gated_model(expected: dict[str, np.ndarray]) -> None:
    gated = l0gate.gate(
        Language(), example_inputs=torch.tensor(expected["tokens"]), budget=Budget(parameters=0.5)
    )
    gated.load_state_dict(torch.load(FILES / "gated_state.pt", weights_only=True))
    with torch.no_grad():
        close(gated.eval()(torch.tensor(expected["tokens"]))[0], expected["gated"])


def test_pickled_pruners_shrink_to_the_same_nets(pickled: dict[str, Any]) -> None:
    small, kept = pickled["pruner"].shrink(pickled["parameters"], pickled["state"])
    for axis, index in kept.items():
        np.testing.assert_array_equal(index, pickled["kept"][axis])
    for name, array in pickled["small"].items():
        np.testing.assert_array_equal(small[name], array)
    pruner, state = pickled["method_pruner"], pickled["method_state"]
    state = pruner.select(pruner.update(state, 0.5, pickled["parameters"]), pickled["parameters"])
    assert pruner.size(state) <= pruner.limit


def test_pickled_nets_and_streams_run(
    pickled: dict[str, Any], expected: dict[str, np.ndarray]
) -> None:
    x, bound, stream = expected["x"], pickled["bound"], pickled["stream"]
    close(bound(x)[0], expected["y"])
    close(pickled["net"].apply(pickled["small"], x)[0], expected["y"])
    for t in range(1, len(x)):  # it had read the first step of the first sequence
        close(stream.step(x[t, 0]), expected["y"][t, 0])


def test_other_pickled_objects(pickled: dict[str, Any]) -> None:
    assert pickled["layout"] == l0gate.load(FILES / "chain.npz").saved.layout
    assert pickled["budget"] == Budget(bytes=0.5, warmup=0.3)
    assert pickled["gates"] == l0gate.HardConcrete(rule="median")
    assert pickled["chain"].layout == pickled["layout"]
    small_sizes = {axis: len(index) for axis, index in pickled["kept"].items()}
    assert pickled["saved"].dense_sizes == small_sizes
    assert set(pickled["certificate"].dense_sizes) == set(small_sizes)
    assert "recurrent" in str(pickled["report"])
    assert [repr(method) for method in pickled["methods"]] == [
        "GroupLasso(gradual=False, strength=0.0001)",
        "Magnitude(gradual=False)",
    ]
