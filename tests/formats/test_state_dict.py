"""Safetensors and torch's state dicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_cases import SETTINGS, amplifier, linear, nets, saved
from hypothesis import given, settings
from safetensors.numpy import load, save

import l0gate
from l0gate.formats import Content
from l0gate.formats._state_dict import Safetensors, StateDict, guessed
from l0gate.formats.layers import Layer, Selection
from l0gate.formats.proof import prove

SAFE = Safetensors()
RNG = np.random.default_rng(0)


@given(nets(bidirectional=True, embedding=True, selection=False, reset_before=True))
@settings(**SETTINGS)
def test_round_trip(layers: list[Layer]) -> None:
    written = SAFE.write(Content(layers, {"words": ["a", "b"]}))
    assert prove(saved(layers), layers, SAFE.runner(written), "safetensors", 0).sequences > 0
    found = SAFE.read(written)
    assert found.metadata == {"words": ["a", "b"]}
    assert SAFE.write(found) == written
    for name, array in load(written).items():  # the package that defines the format
        np.testing.assert_array_equal(array, saved(layers).parameters[name])


def test_pruned_inputs_are_refused() -> None:
    with pytest.raises(l0gate.L0GateError, match="1 of 3 inputs"):
        SAFE.write(Content([Selection(np.array([1]), 3), *amplifier()]))


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(2, 5, num_layers=2, bidirectional=True)
        self.gru = torch.nn.GRU(10, 4, bias=False)
        self.out = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(self.gru(self.rnn(x)[0])[0])
        return y


@pytest.mark.parametrize("ending", ["pt", "json", "safetensors"])
def test_arrays_alone_become_the_net_that_their_names_suggest(tmp_path: Path, ending: str) -> None:
    model, path = Model(), tmp_path / f"model.{ending}"
    arrays = {name: p.detach().numpy() for name, p in model.named_parameters()}
    if ending == "pt":
        torch.save(model.state_dict(), path)
    elif ending == "json":
        path.write_text(json.dumps({name: array.tolist() for name, array in arrays.items()}))
    else:
        path.write_bytes(save(arrays))
    x = torch.randn(7, 2, 2)
    y, _ = l0gate.import_(path)(x.numpy())
    np.testing.assert_allclose(y, model(x).detach(), atol=1e-6)


def test_layers_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(
        save({"words.weight": np.ones((5, 2), "f4"), "out.weight": np.ones((1, 2), "f4")})
    )
    with pytest.raises(l0gate.L0GateError, match=r"0 orders of layers.*`layers`"):
        l0gate.import_(path)
    layers = [
        {"type": "embedding", "name": "words"},
        {"type": "linear", "name": "out", "bias": False},
    ]
    net = l0gate.import_(path, layers=layers, batch_first=True)
    assert net(np.array([[1, 4]]))[0].tolist() == [[[2.0], [2.0]]]
    for wrong, message in (
        ({"layers": layers[:1]}, "which no layer"),
        ({"layers": [*layers, {"type": "linear", "name": "more"}]}, "lacks the arrays"),
        ({"layers": "lstm"}, "`layers` is 'lstm'"),
        ({"layers": layers, "batch_first": 1}, "`batch_first` is 1"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            l0gate.import_(path, **wrong)


def header(entry: Any, data: bytes = b"\0" * 8) -> bytes:
    text = json.dumps({"out.weight": entry}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks|no JSON|truncated"),
        ((2**62).to_bytes(8, "little") + b"{}", "truncated"),
        (header({"dtype": "F32", "shape": [2**40, 1], "data_offsets": [0, 8]}), "outside the file"),
        (header({"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 80]}), "outside the file"),
        (header({"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}), "damaged entry"),
        (header({"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}), "type 'I64'"),
        (header(3), "damaged entry"),
        (header({"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}, b"\xff" * 8), "finite"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.import_(path)


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_no_pickle_is_executed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"out.weight": Evil()}, "evil.pt")
    with pytest.raises(l0gate.L0GateError, match="tensors alone"):
        l0gate.import_("evil.pt")
    assert not Path("executed").exists()
    torch.save(torch.ones(3), "tensor.pt")
    with pytest.raises(l0gate.L0GateError, match="holds Tensor"):
        StateDict().read(Path("tensor.pt").read_bytes())


def test_names_that_say_nothing() -> None:
    for arrays, message in (
        ({"a": np.ones(3)}, "no arrays of layers"),
        ({"rnn.weight_hh_l0": np.ones((7, 2))}, "which is no cell"),
    ):
        with pytest.raises(l0gate.L0GateError, match=message):
            guessed(arrays)
    assert linear(RNG, 1, 1).name == "out"
