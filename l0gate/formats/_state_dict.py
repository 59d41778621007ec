"""Files of named arrays: safetensors, and torch's state dicts (`.pt`, `.pth`, JSON).

They do not say which layers the arrays belong to. `layers` says it, as `l0gate.formats` describes
chains; without it, names decide: `rnn.weight_ih_l0` is a recurrent layer with its cell given by the
number of rows, a matrix `weight` with or without `bias` is a linear layer, in the order of the
file.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l0gate._chain import Chain
from l0gate._errors import L0GateError, check
from l0gate._saved_model import SavedModel
from l0gate.formats.assembly import assembled
from l0gate.formats.format import Content, Format, refuse
from l0gate.formats.json_text import array, parse
from l0gate.formats.layers import Selection, layers_of

__all__ = ["Safetensors", "StateDict"]

_HOLDS: Mapping[str, Any] = {
    "cells": "LSTM, GRU, RNN",
    "unequal": True,
    "bidirectional": True,
    "embedding": True,
}
_CELL_OF = {4: "lstm", 3: "gru", 1: "rnn"}
_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind) for name, kind in (("F32", "<f4"), ("F64", "<f8"), ("F16", "<f2"))
}
_LAYERS = "l0gate_layers"  # the key of the description in the metadata of a file


class Safetensors(Format):
    """Arrays by name, with the chain of layers in the metadata of the file."""

    name = "safetensors"
    suffixes = (".safetensors",)
    summary = "named arrays, with the layers in the metadata"
    reader = "whatever reads safetensors; names and layout are torch's"
    holds: ClassVar[Mapping[str, Any]] = _HOLDS
    read_options: ClassVar[Mapping[str, Any]] = {"layers": None, "batch_first": False}
    keeps_proof = True

    def write(self, content: Content, **options: Any) -> bytes:
        for layer in content.layers:
            if isinstance(layer, Selection):
                instead = "use the format 'onnx', which can, or keep all inputs"
                raise refuse(layer, "safetensors", "has no place for it", instead)
        saved = assembled(content.layers)
        assert saved.chain is not None
        arrays = {name: np.ascontiguousarray(a, "<f4") for name, a in saved.parameters.items()}
        header: dict[str, Any] = {
            "__metadata__": {
                _LAYERS: json.dumps(list(saved.chain.layers)),
                "batch_first": json.dumps(content.batch_first),
                "metadata": json.dumps(dict(content.metadata)),
                "proof": content.proof,
            }
        }
        start = 0
        for name, values in arrays.items():
            ends = [start, start + values.nbytes]
            header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": ends}
            start = ends[1]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return (
            len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values())
        )

    def read(
        self, content: bytes, *, layers: Any = None, batch_first: bool = False, **_: Any
    ) -> Content:
        size = int.from_bytes(content[:8], "little")
        check(8 + size <= len(content), "is no safetensors file, or is truncated")
        header = parse(content[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        check(isinstance(metadata, dict), "has a `__metadata__` that is no object")
        arrays = {name: _tensor(name, entry, content[8 + size :]) for name, entry in header.items()}
        own: Any = {}
        if layers is None and _LAYERS in metadata:
            try:
                layers = json.loads(metadata[_LAYERS])
                batch_first = json.loads(metadata.get("batch_first", "false")) is True
                own = json.loads(metadata.get("metadata", "{}"))
            except (TypeError, ValueError, RecursionError):
                raise L0GateError("has a damaged description of its layers") from None
        return _content(arrays, layers, batch_first, own if isinstance(own, dict) else {}, False)


class StateDict(Format):
    """What `torch.save(model.state_dict(), path)` wrote, or the same as JSON."""

    name = "state_dict"
    suffixes = (".pt", ".pth", ".json")
    summary = "a torch state dict, as torch.save or as JSON"
    reader = "torch (l0gate reads it only; write 'safetensors' instead)"
    holds: ClassVar[Mapping[str, Any]] = _HOLDS
    read_options: ClassVar[Mapping[str, Any]] = {"layers": None, "batch_first": False}
    writes = False

    def recognizes(self, content: bytes) -> bool:
        return (
            content[:2] == b"PK" or re.search(rb'"[^"]*weight_ih_l0"\s*:\s*\[', content) is not None
        )

    def read(
        self, content: bytes, *, layers: Any = None, batch_first: bool = False, **_: Any
    ) -> Content:
        if content[:2] == b"PK":
            arrays = _torch_arrays(content)
        else:
            found = parse(content)
            arrays = {name: _json_array(name, values) for name, values in found.items()}
        return _content(arrays, layers, batch_first, {}, True)


def _tensor(name: str, entry: Any, data: bytes) -> np.ndarray:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [start, end, *shape]
        fits = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
    except (TypeError, KeyError, ValueError):
        fits, dtype = False, None
    check(fits, f"has a damaged entry {name[:60]!r}")
    check(
        isinstance(dtype, str) and dtype in _DTYPES,
        f"has {name[:60]!r} of type {str(dtype)[:20]!r}; l0gate reads {', '.join(_DTYPES)}",
    )
    kind: np.dtype[Any] = _DTYPES[str(dtype)]
    check(
        end <= len(data) and end - start == math.prod(shape) * kind.itemsize,
        f"has an entry {name[:60]!r} of shape {str(shape)[:60]} outside the file, or is truncated",
    )
    found: np.ndarray = np.frombuffer(data[start:end], kind).reshape(shape)
    return found.astype(np.float32)


def _json_array(name: str, values: Any) -> np.ndarray:
    depth, inner = 0, values
    while isinstance(inner, list) and inner and depth < 4:
        depth, inner = depth + 1, inner[0]
    return array(values, (None,) * max(depth, 1), f"`{name[:60]}`")


def _torch_arrays(content: bytes) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise L0GateError(
            "is a file of torch.save, which needs torch to be read: pip install 'l0gate[torch]'"
        ) from None
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise L0GateError(
            "is no file of torch.save with tensors alone, or is damaged:"
            f" {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    check(
        isinstance(found, Mapping) and all(isinstance(t, torch.Tensor) for t in found.values()),
        f"holds {type(found).__name__}; expected what torch.save(model.state_dict(), path) writes",
    )
    return {str(name): t.float().numpy() for name, t in found.items() if t.is_floating_point()}


def _content(
    arrays: Mapping[str, np.ndarray],
    layers: Any,
    batch_first: bool,
    metadata: Mapping[str, Any],
    ordered: bool,
) -> Content:
    check(isinstance(batch_first, bool), f"`batch_first` is {batch_first!r}; it must be a bool")
    found = guessed(arrays, ordered) if layers is None else layers
    chain = Chain(found, batch_first)
    names = set(chain.layout.patterns)
    missing = sorted(names - set(arrays))
    check(not missing, f"lacks the arrays {missing[:4]} of `layers`")
    unused = sorted(set(arrays) - names)
    check(not unused, f"has the arrays {unused[:4]}, which no layer of `layers` has")
    sizes = dict(chain.layout.solve(arrays))
    kept = {axis: np.arange(size) for axis, size in sizes.items()}
    saved = SavedModel(dict(arrays), chain.layout, kept, sizes, chain)
    return Content(layers_of(saved), metadata, batch_first)


def guessed(arrays: Mapping[str, np.ndarray], ordered: bool = True) -> list[dict[str, Any]]:
    """The chain of layers that names and shapes suggest.

    Layers come in the order of the arrays if it is the model's (`ordered`). Otherwise they come in
    the one order in which every layer reads as many features as the one before it writes. Raises
    `L0GateError` where names and shapes do not say enough, and asks for `layers`.

    >>> names = {"rnn.weight_ih_l0": np.ones((8, 1)), "rnn.weight_hh_l0": np.ones((8, 2)),
    ...          "out.weight": np.ones((1, 2))}
    >>> [(layer["type"], layer["name"]) for layer in guessed(names)]
    [('lstm', 'rnn'), ('linear', 'out')]
    """
    found: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        owner, _, stem = name.rpartition(".")
        if stem == "weight_hh_l0":
            rows, hidden = values.shape if values.ndim == 2 else (0, 1)
            cell = _CELL_OF.get(rows // hidden) if rows % hidden == 0 else None
            check(cell is not None, f"has `{name}` of shape {values.shape}, which is no cell")
            found[owner] = {
                "type": cell,
                "name": owner,
                "num_layers": sum(f"{_dot(owner)}weight_hh_l{i}" in arrays for i in range(1000)),
                "bidirectional": f"{_dot(owner)}weight_hh_l0_reverse" in arrays,
                "bias": f"{_dot(owner)}bias_ih_l0" in arrays,
            }
        elif stem == "weight" and values.ndim == 2:
            bias = f"{_dot(owner)}bias" in arrays
            found[owner] = {"type": "linear", "name": owner, "bias": bias}
    check(bool(found), "holds no arrays of layers that l0gate knows; describe them with `layers`")
    chains = [list(found.values())] if ordered else _orders(list(found.values()), arrays)
    check(
        len(chains) == 1,
        f"has arrays that fit as {len(chains)} orders of layers; say which with `layers`",
    )
    first = chains[0][0]
    if len(chains[0]) > 1 and first["type"] == "linear" and not first["bias"]:
        raise L0GateError(
            f"has a first matrix {first['name']!r} that may be an embedding or a linear layer; say"
            " which with `layers`"
        )
    return chains[0]


def _orders(
    layers: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]
) -> list[list[dict[str, Any]]]:
    """The orders in which the features of neighbours agree; at most two are looked for."""
    check(len(layers) <= 100, f"has {len(layers)} layers; describe them with `layers`")
    widths = [_widths(layer, arrays) for layer in layers]
    found: list[list[dict[str, Any]]] = []

    def extend(order: list[int]) -> None:
        if len(order) == len(layers):
            found.append([layers[i] for i in order])
        for i, (inputs, _) in enumerate(widths):
            if len(found) < 2 and i not in order and (not order or widths[order[-1]][1] == inputs):
                extend([*order, i])

    extend([])
    return found


def _widths(layer: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """How many features a layer reads, and how many it writes."""
    prefix = _dot(layer["name"])
    if layer["type"] == "linear":
        outputs, inputs = arrays[f"{prefix}weight"].shape
        return inputs, outputs
    last = layer["num_layers"] - 1
    ends = ("", "_reverse") if layer["bidirectional"] else ("",)
    outputs = sum(arrays[f"{prefix}weight_hh_l{last}{end}"].shape[-1] for end in ends)
    return arrays[f"{prefix}weight_ih_l0"].shape[-1], outputs


def _dot(owner: str) -> str:
    return f"{owner}." if owner else ""
