"""Files: saving and loading is the identity, and no altered byte goes unnoticed."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_model_cases import pruned
from strategies import chains, examples

import l0gate
from l0gate import L0GateError, Pruner, npz
from l0gate._chain import Chain
from l0gate._saved_model import SavedModel, read
from l0gate.npz import pack, unpack


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=max(60, settings.default.max_examples),
)
@given(st.data())
def test_any_altered_or_missing_byte_is_noticed_or_harmless(tmp_path: Path, data: Any) -> None:
    saved, small, _ = pruned()
    path = tmp_path / "net.npz"
    l0gate.save(path, saved)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "broken.npz").write_bytes(content)
    try:
        loaded = read(tmp_path / "broken.npz")
    except L0GateError as error:
        assert "broken.npz" in str(error)  # noqa: PT017
    else:  # harmless: not only the weights, all that they mean is as it was
        for name, value in small.items():
            np.testing.assert_array_equal(loaded.parameters[name], value, strict=True)
        for axis, index in saved.kept.items():
            np.testing.assert_array_equal(loaded.kept[axis], index, strict=True)
        for name in ("layout", "dense_sizes", "chain", "metadata"):
            assert getattr(loaded, name) == getattr(saved, name)
        assert str(loaded.certificate) == str(saved.certificate)
        assert loaded.version == l0gate.__version__


@pytest.mark.parametrize("large", [2**16, 0])  # bytes from which an array is read at once
def test_every_byte_of_a_small_file_matters_or_not(
    large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_LARGE", large)
    arrays = {"w": np.arange(3.0), "i": np.array([[1, -2]], np.int16)}
    content = pack(arrays, {"words": ["a", "é"]})
    expected = unpack(io.BytesIO(content))
    noticed = 0
    for i in range(len(content)):
        for flip in (0x01, 0xFF):
            altered = content[:i] + bytes([content[i] ^ flip]) + content[i + 1 :]
            try:
                found, manifest = unpack(io.BytesIO(altered))
            except L0GateError:
                noticed += 1
            else:
                assert manifest == expected[1]
                for name, array in arrays.items():
                    np.testing.assert_array_equal(found[name], array, strict=True)
    assert noticed > len(content)  # more than half: dates and the like are harmless
    for end in range(len(content)):
        with pytest.raises(L0GateError, match="is no l0gate file, or is truncated"):
            unpack(io.BytesIO(content[:end]))


@examples(2)
@given(chains(), st.sampled_from(["float32", "float64"]))
def test_saving_and_loading_any_chain_is_the_identity(case: dict[str, Any], dtype: str) -> None:
    chain = Chain(case["layers"], case["batch_first"])
    net = l0gate.get_backend("numpy").net(case["layers"], case["batch_first"])
    rng = np.random.default_rng(case["seed"])
    names = {layer["name"]: case["hidden_size"] for layer in case["layers"]}
    parameters = net.init(rng, input_size=case["input_size"], sizes=names, dtype=dtype)
    pruner = Pruner(chain.layout, freeze=chain.frozen)
    sizes = chain.layout.solve(parameters)
    log_alpha = {a: rng.uniform(-6, 4, n) for a, n in sizes.items() if a not in chain.frozen}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # closed axes
        small, kept = pruner.shrink(parameters, pruner.init(parameters, log_alpha=log_alpha))
    saved = SavedModel(small, chain.layout, kept, sizes, chain, metadata={"case": case})
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder, "net"), Path(folder, "again")
        l0gate.save(path, saved)
        loaded = l0gate.load(path)
        l0gate.save(again, loaded)
        assert again.read_bytes() == path.read_bytes()
    assert loaded.saved.metadata == {"case": case}
    assert loaded.saved.chain == chain
    assert loaded.net.batch_first == case["batch_first"]
    for name, value in small.items():
        np.testing.assert_array_equal(loaded.parameters[name], value, strict=True)
    # It takes what the dense model took: all features, and states of the dense sizes.
    embedded = case["layers"][0]["type"] == "embedding"
    shape = (
        (case["batch"], case["length"]) if case["batch_first"] else (case["length"], case["batch"])
    )
    x = rng.integers(0, case["input_size"], shape)
    if not embedded:
        x = rng.normal(size=(*shape, case["input_size"]))
    states = tuple(rng.normal(size=(2, case["batch"], sizes[axis])) for axis in chain.state_axes)
    recurrent = next(layer for layer in case["layers"] if layer["type"] in ("lstm", "gru"))
    dense = tuple(tuple(s) if recurrent["type"] == "lstm" else s[0] for s in states)
    reduced = tuple(
        tuple(part[:, kept[axis]] for part in s) if isinstance(s, tuple) else s[:, kept[axis]]
        for s, axis in zip(dense, chain.state_axes, strict=True)
    )
    read_ = x if chain.input_axis is None else x[..., kept[chain.input_axis]]
    lengths = rng.integers(0, case["length"] + 1, case["batch"])
    y, last = loaded(x, dense, lengths)
    expected, expected_last = net.apply(
        small, read_, reduced, lengths=lengths, engine=loaded.engine
    )
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_equal(last, expected_last)
