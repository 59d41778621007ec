"""Nets that only run forward: against torch, step by step, with lengths, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from forward_only_cases import FEATURES, NETS, parameters_of

import l0gate
from l0gate import L0GateError
from l0gate._chain import Chain
from l0gate.reference import Net

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def first(y: Any) -> list[np.ndarray]:
    return list(y) if isinstance(y, tuple) else [y]


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETS)
def test_steps_and_parts_equal_a_sequence(name: str, dtype: type, batch: tuple[int, ...]) -> None:
    net = Net(NETS[name]).bind(parameters_of(NETS[name], dtype), engine="numpy")
    x = np.random.default_rng(1).standard_normal((9, *batch, FEATURES)).astype(dtype)
    whole = x if batch else x[:, None]
    y, last = net(whole)
    half, middle = net(whole[:4])
    rest, end = net(whole[4:], middle)
    stream = net.stream()
    stepped = [stream.step(x_t) for x_t in x]
    for n, part in enumerate(first(y)):
        assert part.dtype == dtype
        steps = np.stack([first(s)[n] for s in stepped])
        joined = np.concatenate((first(half)[n], first(rest)[n]))
        np.testing.assert_allclose(joined, part, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(steps if batch else steps[:, None], part, atol=TOLERANCE[dtype])
    for a, b in zip(_leaves(end), _leaves(last), strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype])


def _leaves(state: Any) -> list[np.ndarray]:
    return [a for e in state for a in (e if isinstance(e, tuple) else (e,))]


@pytest.mark.parametrize("name", NETS)
def test_padding_changes_nothing(name: str) -> None:
    net = Net(NETS[name]).bind(parameters_of(NETS[name]), engine="numpy")
    x = np.random.default_rng(1).standard_normal((6, 2, FEATURES))
    padded, state = net(x, lengths=[6, 3])
    y, last = net(x[:3, 1:])
    for a, b in zip(first(padded), first(y), strict=True):
        np.testing.assert_allclose(a[:3, 1:], b, atol=1e-12)
    for a, b in zip(_leaves(state), _leaves(last), strict=True):
        np.testing.assert_allclose(a[1:], b, atol=1e-12)


@pytest.mark.parametrize(
    ("padding", "stride", "dilation", "groups"),
    [
        ("same", 1, 1, 1),
        ("same", 1, 2, 2),
        ("valid", 2, 1, 1),
        ([2, 1], 1, 1, 4),
        ([0, 3], 3, 2, 1),
    ],
)
def test_a_convolution_is_torchs(padding: Any, stride: int, dilation: int, groups: int) -> None:
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(4, 8, 3, **options).double()
    arrays = {f"c.{n}": p.detach().numpy() for n, p in conv.named_parameters()}
    net = Net([{"type": "conv1d", "name": "c", "padding": padding, **options}], batch_first=True)
    x = np.random.default_rng(1).standard_normal((2, 11, 4))
    sides = {"same": (dilation, dilation), "valid": (0, 0)}.get(str(padding)) or tuple(padding)
    wide = torch.nn.functional.pad(torch.tensor(x).mT, sides)
    expected = conv(wide).mT.detach().numpy()
    y, state = net.apply(arrays, x)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert state == ()
    bound = net.bind(arrays)
    with pytest.raises(
        L0GateError, match=r"`layers\[0\]` \(conv1d 'c'\) runs whole sequences only"
    ):
        bound.step(x[0, 0])
    with pytest.raises(L0GateError, match="runs whole sequences only"):
        bound(x, lengths=[11, 3])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_rnn_is_torchs(nonlinearity: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": bidirectional}
    rnn = torch.nn.RNN(3, 5, nonlinearity=nonlinearity, **options).double()
    arrays = {n: p.detach().numpy() for n, p in rnn.named_parameters()}
    net = Net([{"type": "rnn", "name": "", "activation": nonlinearity, **options}])
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    expected, last = rnn(x)
    y, state = net.apply(arrays, x.numpy())
    np.testing.assert_allclose(y, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(np.stack(state), last.detach(), atol=1e-12)


def test_batch_norm_is_torchs() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(4).double()
    for _ in range(3):
        norm(torch.randn(9, 4, dtype=torch.float64) * 3 + 1)
    arrays = {f"n.{k}": v.numpy() for k, v in norm.state_dict().items() if v.ndim}
    x = torch.randn(5, 4, dtype=torch.float64)
    y, _ = Net([{"type": "batch_norm", "name": "n"}]).apply(arrays, x.numpy()[:, None])
    np.testing.assert_allclose(y[:, 0], norm.eval()(x).detach(), atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_saved_and_loaded(name: str, tmp_path: Any) -> None:
    layers = json.loads(json.dumps(NETS[name]))
    net = Net(layers, batch_first=True).bind(parameters_of(NETS[name], np.float32), engine="numpy")
    l0gate.save(tmp_path / "net.npz", net)
    loaded = l0gate.load(tmp_path / "net.npz")
    x = np.random.default_rng(1).standard_normal((2, 5, FEATURES)).astype(np.float32)
    for a, b in zip(first(loaded(x)[0]), first(net(x)[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert a.shape[:2] == (2, 5)


def test_axes_of_a_net_with_skips() -> None:
    chain = Chain(NETS["rnnoise"])
    patterns = chain.layout.to_dict()
    assert patterns["noise.weight_ih_l0"] == "(3 h1) <- (x + h0 + input)"
    assert patterns["gain.weight_ih_l0"] == "(3 h2) <- (h0 + h1 + input)"
    assert chain.input_axis == "input"
    assert chain.frozen == ()
    assert Chain(NETS["amplifier"]).frozen == ("x",)
    front = Chain(NETS["front"]).layout.to_dict()
    assert front["a.weight"] == "_ <- _ _"
    assert front["c.weight"] == "x <- _ _"  # it has groups: nothing that it reads is pruned
    assert Chain(NETS["front"]).frozen == ("x", "h0")


def test_what_only_runs_forward_says_so() -> None:
    for name in NETS:
        net, parameters = Net(NETS[name]), parameters_of(NETS[name])
        x = np.zeros((2, 1, FEATURES))
        with pytest.raises(L0GateError, match=r"^`layers\[\d\]` \(\w+.*only runs forward"):
            net.forward(parameters, x)
        with pytest.raises(L0GateError, match=r"^`layers\[\d\]` \(\w+.*only runs forward"):
            net.loss_and_gradients(parameters, x, x, loss="mse")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [*NETS["amplifier"][:2], {"type": "add", "inputs": ["y", "input"]}],
            None,  # one feature is added to all
        ),
        (
            [*NETS["front"][:1], {"type": "slice", "start": 2, "stop": 5}],
            r"^`layers\[1\]` \(slice\) stops at 5, but reads 4 features$",
        ),
        (
            [{**NETS["front"][0], "label": "y"}, {"type": "multiply", "inputs": ["y", "input"]}],
            r"^`layers\[1\]` \(multiply\) reads outputs of \[4, 3\] features; they must agree$",
        ),
    ],
)
def test_shapes_are_checked(layers: list[dict[str, Any]], message: str | None) -> None:
    parameters = parameters_of(layers)
    if message is None:
        parameters = {n: a[:1] if n.startswith("b.") else a for n, a in parameters.items()}
        assert Net(layers).apply(parameters, np.ones((2, 1, FEATURES)))[0].shape == (2, 1, FEATURES)
        return
    with pytest.raises(L0GateError, match=message):
        Net(layers).bind(parameters)
