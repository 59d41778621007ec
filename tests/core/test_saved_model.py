"""Saved models: what survives a round trip, and every refusal word by word."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import amplifier, saved
from saved_model_cases import LAYERS, pruned

import l0gate
from l0gate import L0GateError
from l0gate._saved_model import SavedModel, read, saved_model_of
from l0gate.files import write_atomically
from l0gate.npz import pack, unpack


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_net_computes_the_same_whole_and_step_by_step(
    tmp_path: Path, batch_first: bool, dtype: str
) -> None:
    saved, small, net = pruned(batch_first, dtype)
    l0gate.save(tmp_path / "net.npz", saved)
    loaded = l0gate.load(tmp_path / "net.npz")
    x = np.random.default_rng(2).integers(0, 9, (3, 5) if batch_first else (5, 3))
    y, state = loaded(x)
    expected, _ = net.apply(small, x, engine=loaded.engine)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    states = None
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-10}
    for t in range(5):
        y_t, states = loaded.step(x[:, t] if batch_first else x[t], states)
        np.testing.assert_allclose(y_t, y[:, t] if batch_first else y[t], **tolerance)
    for (h, c), (h_t, c_t) in zip(state, states, strict=True):
        np.testing.assert_allclose(h_t, h, **tolerance)
        np.testing.assert_allclose(c_t, c, **tolerance)


def test_everything_survives_a_round_trip(tmp_path: Path) -> None:
    saved, small, _ = pruned()
    l0gate.save(tmp_path / "a.npz", saved)
    loaded = l0gate.load(tmp_path / "a.npz")
    l0gate.save(tmp_path / "b.npz", loaded)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = read(tmp_path / "b.npz")
    assert set(again.parameters) == set(small)
    for name, value in small.items():
        np.testing.assert_array_equal(again.parameters[name], value)
        assert again.parameters[name].dtype == value.dtype
    assert again.layout == saved.layout
    assert again.dense_sizes == saved.dense_sizes
    assert again.metadata == saved.metadata
    assert again.version == l0gate.__version__
    assert again.certificate is not None
    assert again.certificate.max_abs_difference == saved.certificate.max_abs_difference
    assert again.certificate.kept["h0"].tolist() == saved.kept["h0"].tolist()


def test_states_of_the_dense_size_are_reduced(tmp_path: Path) -> None:
    saved, _, _ = pruned()
    l0gate.save(tmp_path / "net.npz", saved)
    net = l0gate.load(tmp_path / "net.npz")
    dense = [np.random.default_rng(i).normal(size=(1, 8)).astype(np.float32) for i in range(4)]
    given = ((dense[0], dense[1]), (dense[2], dense[3]))
    k0, k1 = saved.kept["h0"], saved.kept["h1"]
    reduced = ((dense[0][:, k0], dense[1][:, k0]), (dense[2][:, k1], dense[3][:, k1]))
    x = np.array([[1], [2]])
    np.testing.assert_array_equal(net(x, given)[0], net(x, reduced)[0])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_bound_net_keeps_what_its_dense_model_took(tmp_path: Path, cell: str) -> None:
    net = l0gate.get_backend("numpy").net([{"type": cell, "name": ""}])
    rng = np.random.default_rng(0)
    parameters = net.init(rng, input_size=2, sizes={"": 3}, dtype="float64")
    bound = net.bind(parameters, input_kept=([0, 2], 4), kept=[([1, 3, 5], 6)], engine="numpy")
    l0gate.save(tmp_path / "net.npz", bound)
    loaded = l0gate.load(tmp_path / "net.npz")
    x = rng.normal(size=(5, 2, 4))
    h = rng.normal(size=(2, 6))
    state = ((h, h) if cell == "lstm" else h,)
    np.testing.assert_array_equal(loaded(x, state)[0], bound(x, state)[0])
    with pytest.raises(L0GateError, match="the dense model's 4 features"):
        loaded(x[..., :3])
    whole = net.bind(parameters)
    l0gate.save(tmp_path / "whole.npz", whole)
    with pytest.raises(L0GateError, match="2 input features"):
        l0gate.load(tmp_path / "whole.npz")(np.zeros((3, 1, 50)))


def test_metadata_is_replaced_and_must_be_json(tmp_path: Path) -> None:
    saved, _, _ = pruned()
    l0gate.save(tmp_path / "net.npz", saved, metadata={"a": [1, None]})
    assert read(tmp_path / "net.npz").metadata == {"a": [1, None]}
    with pytest.raises(L0GateError, match="`metadata` is 5; it must be a dict"):
        l0gate.save(tmp_path / "net.npz", saved, metadata=5)  # type: ignore[arg-type]
    for bad in ({"a": np.zeros(2)}, {"a": float("nan")}):
        with pytest.raises(L0GateError, match="`metadata` must be plain JSON"):
            l0gate.save(tmp_path / "net.npz", saved, metadata=bad)


def test_plain_numpy_reads_the_arrays(tmp_path: Path) -> None:
    saved, small, _ = pruned()
    l0gate.save(tmp_path / "net.npz", saved)
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["parameters/decoder.weight"], small["decoder.weight"])
        manifest = json.loads(file["manifest"].tobytes())
    assert manifest["format"] == "l0gate"
    assert manifest["layout"]["rnn.weight_hh_l1"] == "(4 h1) <- h1"


def test_a_file_of_another_kind_or_version(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(L0GateError, match=r"net.npz' is no l0gate file: it holds no manifest"):
        l0gate.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(L0GateError, match="is no l0gate file"):
        l0gate.load(tmp_path / "array.npy")
    for content in (b"", b"hello", b"PK\x03\x04rubbish", b"\x80\x04]\x94."):
        path.write_bytes(content)
        with pytest.raises(L0GateError, match="is no l0gate file"):
            l0gate.load(path)
    path.write_bytes(pack({}, {"format": "l0gate", "format_version": 99}))
    with pytest.raises(L0GateError, match="has format version 99; this l0gate reads 2"):
        l0gate.load(path)
    path.write_bytes(pack({}, {"format": "l0gate", "format_version": 2}))
    with pytest.raises(L0GateError, match="damaged manifest: KeyError"):
        l0gate.load(path)
    path.write_bytes(pack({}, {"format": "checkpoint"}))
    with pytest.raises(L0GateError, match="is no l0gate model"):
        l0gate.load(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "net.npz"
    np.savez(path, manifest=np.array([Trap()], dtype=object))
    with pytest.raises(L0GateError):
        l0gate.load(path)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(L0GateError, match="'a' has dtype object"):
        pack({"a": np.array([None])}, {})


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    """Scalars, slices of unequal shapes, and sizes that the arrays leave open."""
    saved = SavedModel(
        parameters={
            "count": np.array(3, np.int64),
            "w": (np.zeros((2, 3)), np.ones((1, 3))),
            "out": np.zeros((2, 3), order="F"),
        },
        layout=l0gate.Layout({"w": ["f <- _", "b <- _"], "out": "_ <- (f + b)"}, sizes={"f": 2}),
        kept={"f": np.array([0, 4], np.uint8), "b": np.array([2])},
        dense_sizes={"f": 5, "b": 5},
    )
    l0gate.save(tmp_path / "net.npz", saved)
    again = read(tmp_path / "net.npz")
    assert again.parameters["out"].flags.c_contiguous
    assert again.kept["f"].dtype == "int64"
    assert again.layout == saved.layout
    assert again.parameters["count"].shape == ()
    assert [part.shape for part in again.parameters["w"]] == [(2, 3), (1, 3)]
    assert again.kept["f"].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": {"x": [0, 99]}}, r"`kept\['x'\]` must be sorted indices of the axis's 6"),
        ({"kept": {"x": [1, 1]}}, r"`kept\['x'\]` must be sorted indices"),
        ({"dense_sizes": {"x": 6}}, "`kept` must give the indices of the axes x"),
        ({"dense_sizes": {"x": "many"}}, "damaged manifest: ValueError"),
        ({"metadata": 5}, "its metadata is no JSON object"),
        ({"layout": {"w": "("}}, "layout of 'w': `pattern` has"),
        (
            {"chain": {"layers": [{**LAYERS[1], "num_layers": 10**9}], "batch_first": False}},
            "num_layers 1000000000; it must be an int from 1 to 1000",
        ),
        ({"chain": {"layers": LAYERS}}, "damaged manifest: KeyError"),
    ],
)
def test_a_manifest_that_lies(tmp_path: Path, changes: dict, message: str) -> None:
    saved, _, _ = pruned()
    l0gate.save(tmp_path / "net.npz", saved)
    arrays, manifest = unpack(io.BytesIO((tmp_path / "net.npz").read_bytes()))
    for axis, index in changes.pop("kept", {}).items():
        arrays[f"kept/{axis}"] = np.array(index)
    (tmp_path / "net.npz").write_bytes(pack(arrays, {**manifest, **changes}))
    with pytest.raises(L0GateError, match=message):
        l0gate.load(tmp_path / "net.npz")


def test_a_model_that_is_no_chain_asks_for_into(tmp_path: Path) -> None:
    saved, _, _ = pruned()
    l0gate.save(tmp_path / "net.npz", SavedModel(**{**vars(saved), "chain": None}))
    with pytest.raises(L0GateError, match="load it with `into=`"):
        l0gate.load(tmp_path / "net.npz")
    with pytest.raises(L0GateError, match="cannot be called without arguments"):
        l0gate.load(tmp_path / "net.npz", into=lambda size: size)
    with pytest.raises(L0GateError, match="`into` is 3; it must be a model"):
        l0gate.load(tmp_path / "net.npz", into=3)


def test_things_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(L0GateError, match=r"no backend owns builtins.int"):
        l0gate.save(tmp_path / "net.npz", 3)
    with pytest.raises(
        L0GateError, match="`small` is a dict of arrays, which cannot run by itself"
    ):
        l0gate.save(tmp_path / "net.npz", {"w": np.zeros(3)})
    with pytest.raises(L0GateError, match="`small` is ndarray; it must be a model"):
        l0gate.save(tmp_path / "net.npz", np.zeros(3))


def test_what_a_file_says_of_its_model(tmp_path: Path) -> None:
    saved, small, _ = pruned(batch_first=True)
    l0gate.save(tmp_path / "net.npz", saved)
    arrays, manifest = unpack(io.BytesIO((tmp_path / "net.npz").read_bytes()))
    assert set(arrays) == {
        *(f"parameters/{name}" for name in small),
        *(f"kept/{axis}" for axis in ("x", "h0", "h1")),
    }
    assert all(arrays[f"kept/{axis}"].dtype == np.int64 for axis in saved.kept)
    checksum = zlib.crc32(b"<f4(4,)" + small["decoder.bias"].tobytes())
    assert manifest.pop("checksums")["parameters/decoder.bias"] == checksum
    certificate = saved.certificate
    assert manifest == {
        "format": "l0gate",
        "format_version": 2,
        "l0gate_version": l0gate.__version__,
        "layout": saved.layout.to_dict(),
        "uses": saved.layout.given_uses,
        "sizes": {},
        "slices": {},
        "dense_sizes": {"x": 6, "h0": 8, "h1": 8},
        "chain": {"layers": [dict(layer) for layer in saved.chain.layers], "batch_first": True},
        "certificate": {
            "max_abs_difference": certificate.max_abs_difference,
            "max_abs_difference_float32": certificate.max_abs_difference_float32,
            "max_abs_output": certificate.max_abs_output,
            "sequences": 1,
            "forced_open": certificate.forced_open,
            "forced_closed": certificate.forced_closed,
        },
        "metadata": {"vocabulary": list("abcdefghi")},
    }
    bare = SavedModel(
        parameters={"w": (np.zeros((2, 3)), np.ones((1, 3)))},
        layout=l0gate.Layout({"w": ["f <- _", "b <- _"], "v": "_ <- (f + b)"}, sizes={"f": 2}),
        kept={"f": [0, 1], "b": [2]},  # type: ignore[dict-item]
        dense_sizes={"f": np.int64(5), "b": 5},  # type: ignore[dict-item]
    )
    l0gate.save(tmp_path / "bare.npz", bare)
    arrays, manifest = unpack(io.BytesIO((tmp_path / "bare.npz").read_bytes()))
    assert list(arrays) == ["parameters/w[0]", "parameters/w[1]", "kept/f", "kept/b"]
    assert (manifest["chain"], manifest["certificate"], manifest["metadata"]) == (None, None, {})
    assert (manifest["slices"], manifest["sizes"]) == ({"w": 2}, {"f": 2})
    again = read(tmp_path / "bare.npz")
    assert (again.chain, again.certificate, again.metadata) == (None, None, {})
    assert type(again.parameters["w"]) is tuple


def message_of(call: Any) -> str:
    with pytest.raises(L0GateError) as error:
        call()
    return str(error.value)


def test_refusals_of_files_word_by_word(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"

    def refused(content: bytes) -> str:
        path.write_bytes(content)
        message = message_of(lambda: l0gate.load(path))
        assert message.startswith(f"`path` '{path}' ")
        return message.removeprefix(f"`path` '{path}' ")

    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    np.savez(archive, weights=np.zeros(3))
    assert refused(array.getvalue()) == "is no l0gate file, or is truncated"
    assert refused(archive.getvalue()) == "is no l0gate file: it holds no manifest"
    assert refused(b"PK") == "is no l0gate file, or is truncated"
    assert refused(pack({}, {"format": "x"})) == "is no l0gate model"
    later = {"format": "l0gate", "format_version": 4, "l0gate_version": "9.9"}
    assert refused(pack({}, later)) == (
        "has format version 4; this l0gate reads 2 and 3 (it was written by l0gate 9.9)"
    )
    assert refused(pack({}, {**later, "format_version": 2})) == (
        "has a damaged manifest: KeyError: 'slices'"
    )

    def rewritten(manifest: Any, **arrays: np.ndarray) -> bytes:
        text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
        np.savez(buffer := io.BytesIO(), manifest=text, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    others = "is damaged: its arrays are not those that the manifest lists"
    assert refused(rewritten([])) == "is no l0gate file: its manifest is no JSON object"
    assert refused(rewritten({})) == ("holds no checksums: it is no l0gate file, or an older one")
    assert refused(rewritten({"checksums": []})) == others
    assert refused(rewritten({"checksums": {"a": 0}})) == others
    altered = rewritten({"checksums": {"a": 0}}, a=np.zeros(2))
    assert refused(altered) == "is damaged: array 'a' was altered"
    with zipfile.ZipFile(path, "w") as inside:
        inside.writestr("manifest.npy", b"rubbish")
    message = refused(path.read_bytes())
    assert message.startswith("is truncated or damaged: ")
    assert message_of(lambda: read(tmp_path / "none")) == (
        f"`path` '{tmp_path / 'none'}' cannot be read: No such file or directory"
    )


def test_refusals_of_models_word_by_word(tmp_path: Path) -> None:
    saved, small, _ = pruned()
    path = tmp_path / "net.npz"
    assert message_of(lambda: l0gate.save(path, small)) == (
        "`small` is a dict of arrays, which cannot run by itself; bind it to a net"
        " (`get_backend('numpy').net(layers).bind(small)`) or give a `SavedModel`"
    )
    assert message_of(lambda: l0gate.save(path, np.zeros(3))) == (
        "`small` is ndarray; it must be a model"
    )
    wrong: Any = [1]
    assert message_of(lambda: l0gate.save(path, saved, metadata=wrong)) == (
        "`metadata` is [1]; it must be a dict"
    )
    deep: Any = []
    for _ in range(100000):
        deep = [deep]
    assert message_of(lambda: l0gate.save(path, saved, metadata={"a": deep})) == (
        "`metadata` is nested too deeply"
    )
    assert message_of(lambda: pack({}, {"a": np.zeros(2)})) == (
        "`metadata` must be plain JSON: Object of type ndarray is not JSON serializable"
    )
    assert message_of(lambda: pack({"a.npy": np.zeros(2)}, {})) == (
        "an array has the name 'a.npy', which a file cannot hold"
    )
    assert message_of(lambda: pack({"a": np.array(["text"])}, {})) == (
        "array 'a' has dtype <U4, not numbers"
    )
    assert message_of(lambda: write_atomically(tmp_path / "no" / "f", b"")) == (
        f"`path` '{tmp_path / 'no' / 'f'}' cannot be written: No such file or directory"
    )
    assert message_of(lambda: write_atomically("", b"")) == (
        "`path` is ''; it must be the path of a file"
    )
    assert list(tmp_path.iterdir()) == []
    l0gate.save(path, SavedModel(**{**vars(saved), "chain": None}))
    assert message_of(lambda: l0gate.load(path)) == (
        f"`path` '{path}': the saved model is not a chain of embedding, recurrent, linear and"
        " activation layers, so it cannot run by itself; load it with `into=` a class or a"
        " function that builds it"
    )
    assert message_of(lambda: l0gate.load(path, into=3)) == (
        "`into` is 3; it must be a model, or build one when called"
    )

    def dense(size: int) -> Any:
        raise AssertionError

    assert message_of(lambda: l0gate.load(path, into=dense)) == (
        f"`into` is {dense!r}, which cannot be called without arguments ({dense.__qualname__}()"
        " missing 1 required positional argument: 'size'); give a function that returns the dense"
        " model, or the model"
    )


def test_the_engine_of_a_loaded_net(tmp_path: Path) -> None:
    saved, _, _ = pruned()
    l0gate.save(tmp_path / "net.npz", saved)
    assert l0gate.load(tmp_path / "net.npz").engine == saved.net().engine == "numpy"
    assert l0gate.load(tmp_path / "net.npz", engine="auto").engine == "auto"
    with pytest.raises(L0GateError, match="`engine` is 'gpu'"):
        l0gate.load(tmp_path / "net.npz", engine="gpu")


def test_a_model_of_the_users_own_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the backend that owns it; a class or a function builds it first."""
    saved, _, _ = pruned()
    path = tmp_path / "net.npz"
    l0gate.save(path, saved)
    model = object()

    class Owner:
        def rebuild(self, given: Any, content: SavedModel) -> Any:
            assert given is model
            return content

    def backend_of(given: Any) -> Any:
        if given is not model:
            raise L0GateError("no backend owns it")
        return Owner()

    monkeypatch.setattr("l0gate._saved_model.get_backend", backend_of)
    for into in (model, lambda: model):
        rebuilt = l0gate.load(path, into=into)
        assert rebuilt.metadata == saved.metadata
        assert rebuilt.dense_sizes == saved.dense_sizes


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_is_called_one(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(L0GateError, match=r"is no l0gate file but one of torch.save"):
        l0gate.load(path)


def test_what_can_be_saved_and_exported() -> None:
    net = saved(amplifier())
    assert saved_model_of(net, "net") is net
    assert saved_model_of(net.net(), "net") is net
