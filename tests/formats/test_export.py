"""`l0gate.export` and `l0gate.import_`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import amplifier, linear, saved

import l0gate
from l0gate._registry import registry
from l0gate.formats import Content, Format
from l0gate.formats._nam import Nam
from l0gate.formats.export import get_format, read_file
from l0gate.formats.layers import Layer, Linear

NET = saved(amplifier())


class Broken(Format):
    """Writes weights that are a little off."""

    name = "broken"
    suffixes = (".broken",)

    def write(self, content: Content, **options: Any) -> bytes:
        *rest, last = content.layers
        assert isinstance(last, Linear)
        off: list[Layer] = [*rest, Linear(last.name, last.weight * 1.01, last.bias)]
        return Nam().write(Content(off))

    def read(self, content: bytes, **options: Any) -> Content:
        return Nam().read(content)


class Plugin:
    @l0gate.hookimpl
    def l0gate_formats(self) -> list[dict[str, Any]]:
        return [{"name": "broken", "factory": Broken}, {"name": "wrong", "factory": dict}]


@pytest.fixture
def plugin() -> Any:
    registry.register(Plugin(), "a-plugin")
    yield
    registry.unregister("a-plugin")


@pytest.mark.usefixtures("plugin")
def test_a_file_that_differs_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(l0gate.L0GateError, match="differs from the net"),
        pytest.warns(UserWarning, match="format 'wrong' of a-plugin"),
    ):
        l0gate.export(NET, tmp_path / "net.broken")
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_makes_no_format_is_named() -> None:
    with pytest.raises(l0gate.L0GateError, match=r"format 'wrong' of a-plugin is \{\}"):
        get_format("wrong", "x", writing=True)


def test_a_plugin_is_forgotten() -> None:
    with pytest.raises(l0gate.L0GateError, match="`format` is 'broken'; registered are 'rtneural'"):
        get_format("broken", "x", writing=True)


@pytest.mark.parametrize("format", ["rtneural", "guitarml", "nam"])
def test_a_file_comes_back(tmp_path: Path, format: str) -> None:
    path = tmp_path / "amp.json"
    proof = l0gate.export(NET, path, format)
    assert proof.format == format
    assert proof.bytes == path.stat().st_size
    net = l0gate.import_(path, format)
    x = np.random.default_rng(0).standard_normal((20, 1, 1)).astype(np.float32)
    np.testing.assert_allclose(net(x)[0], NET.net()(x)[0], atol=1e-6)
    l0gate.save(tmp_path / "amp.npz", net)
    np.testing.assert_array_equal(l0gate.load(tmp_path / "amp.npz")(x)[0], net(x)[0])


@pytest.mark.parametrize("format", ["rtneural", "guitarml"])
def test_the_content_tells_formats_of_one_ending_apart(tmp_path: Path, format: str) -> None:
    l0gate.export(NET, tmp_path / "amp.json", format)
    assert read_file(tmp_path / "amp.json").chain is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "x.json"}, "'rtneural' and 'guitarml' do; say which with `format`"),
        ({"path": "x.what"}, "no ending or content of a known format"),
        ({"path": "x.nam", "format": "tract"}, "`format` is 'tract'; registered are"),
        ({"path": "x.nam", "format": 3}, "`format` is 3"),
        ({"path": "x.nam", "speed": 3}, "`speed` is no option of the format 'nam'; options: `sam"),
        ({"path": "x.nam", "pad_to": 4}, "cannot be less"),
        ({"path": "x.nam", "pad_to": "most"}, "`pad_to` is 'most'"),
        ({"path": "x.nam", "pad_to": [True]}, "`pad_to` is"),
        ({"path": 3}, "`path` is 3"),
        ({"path": "x.json", "format": "rtneural", "aida_x": 1}, "`aida_x` is 1"),
        ({"path": "x.nam", "net": 3}, "no backend owns"),
        ({"path": "x.nam", "net": {}}, "no backend owns"),
        ({"path": "no/such/folder/x.nam"}, "cannot be written"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, monkeypatch: Any, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(l0gate.L0GateError, match=message):
        l0gate.export(**{"net": NET, **arguments})
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(l0gate.L0GateError, match=r"cannot be read: No such file"):
        l0gate.import_(tmp_path / "x.nam")
    with pytest.raises(l0gate.L0GateError, match="cannot be read"):
        l0gate.import_(tmp_path, "nam")


def test_padding_to_what_the_target_takes(tmp_path: Path) -> None:
    net = saved(amplifier(hidden=9))
    path = tmp_path / "amp.json"
    with pytest.raises(l0gate.L0GateError, match=r"AIDA-X takes.*pad_to"):
        l0gate.export(net, path, "rtneural", aida_x=True)
    l0gate.export(net, path, "rtneural", aida_x=True, pad_to="target")
    assert l0gate.import_(path).parameters["lstm_0.weight_hh_l0"].shape == (48, 12)


def test_nets_without_weights_of_recurrent_layers(tmp_path: Path) -> None:
    net = saved([linear(np.random.default_rng(0), 2, 3)])
    l0gate.export(net, tmp_path / "net.json", "rtneural")
    with pytest.raises(l0gate.L0GateError, match="no recurrent layer"):
        l0gate.export(net, tmp_path / "net.json", "rtneural", pad_to="target")
