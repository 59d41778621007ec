"""The formats "keras" (`.keras`) and "keras-h5" (legacy `.h5`). TensorFlow is never imported."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._keras.h5 import arrays_under, open_h5, text_attribute
from l0gate.formats._keras.reading import Arrays, layers_of_model
from l0gate.formats._keras.running import KerasRunner, keras_backend
from l0gate.formats._keras.writing import group_name, keras_file
from l0gate.formats.format import Content, Format
from l0gate.formats.json_text import parse
from l0gate.formats.runner import Runner

__all__ = ["Keras", "KerasH5"]

_LARGEST = 2**31  # bytes of one entry of a .keras file
_HOLDS: Mapping[str, Any] = {
    "cells": "LSTM, GRU, RNN",
    "unequal": True,
    "bidirectional": True,
    "embedding": True,
}


class Keras(Format):
    """A sequential Keras 3 model, or a functional one that is a line of layers."""

    name = "keras"
    suffixes = (".keras",)
    summary = "Keras 3 models that are a line of layers"
    reader = "Keras 3 with TensorFlow, JAX or PyTorch"
    holds: ClassVar[Mapping[str, Any]] = _HOLDS

    def write(self, content: Content, **options: Any) -> bytes:
        return keras_file(content)

    def read(self, content: bytes, **options: Any) -> Content:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                files = {name: _entry(archive, name) for name in _FILES}
        except L0GateError:
            raise
        except Exception as error:
            raise L0GateError(f"is no .keras file, or is damaged: {error}") from None
        version = str(parse(files["metadata.json"]).get("keras_version", "3"))
        weights = files["model.weights.h5"]
        with open_h5(weights) as file:
            places: Counter[str] = Counter()
            known: dict[tuple[str, str], str] = {}

            def arrays(kind: str, name: str, part: str) -> list[np.ndarray]:
                if (kind, name) not in known:
                    snake = group_name(kind)
                    number = places[snake]
                    places[snake] += 1
                    known[kind, name] = f"layers/{snake}" + (f"_{number}" if number else "")
                inner = part if part in ("", "cell", "layer") else f"{part}/cell"
                path = "/".join(filter(None, (known[kind, name], inner, "vars")))
                found = arrays_under(file, path, len(weights))
                return [found[key] for key in sorted(found, key=_number)]

            layers = layers_of_model(parse(files["config.json"]), arrays, version)
        return Content(layers, batch_first=True)

    def runner(self, content: bytes, **options: Any) -> Runner | None:
        backend = keras_backend()
        return super().runner(content) if backend is None else KerasRunner(content, backend)


class KerasH5(Format):
    """A model that Keras 1 to 3 saved as `.h5`, with its configuration."""

    name = "keras-h5"
    suffixes = (".h5", ".hdf5")
    summary = "legacy Keras models"
    reader = "Keras 1 to 3 (l0gate reads them only; write 'keras' instead)"
    holds: ClassVar[Mapping[str, Any]] = _HOLDS
    writes = False

    def read(self, content: bytes, **options: Any) -> Content:
        with open_h5(content) as file:
            text = text_attribute(file, "model_config")
            if text is None:
                raise L0GateError(
                    "holds weights without a model; save the whole model (model.save), not its"
                    " weights alone"
                )
            version = text_attribute(file, "keras_version") or "1"
            layers = layers_of_model(parse(text.encode()), _legacy(file, len(content)), version)
        return Content(layers, batch_first=True)


_FILES = ("metadata.json", "config.json", "model.weights.h5")


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    check(name in archive.namelist(), f"lacks {name}: it is no .keras file")
    size = archive.getinfo(name).file_size
    check(size <= _LARGEST, f"has {size:,} bytes in {name}; read are {_LARGEST:,}")
    with archive.open(name) as member:
        data = member.read(_LARGEST + 1)
    check(len(data) == size, f"has another length of {name} than it says")
    return data


def _number(key: str) -> int:
    check(key.isdecimal() and len(key) < 9, f"has an array named {key[:40]!r}; expected a number")
    return int(key)


def _legacy(file: Any, limit: int) -> Arrays:
    """Finds arrays by Keras's list of their names, which gives their order."""

    def arrays(kind: str, name: str, part: str) -> list[np.ndarray]:
        root = f"model_weights/{name}" if "model_weights" in file else name
        check(root in file, f"holds no weights of the layer {name[:60]!r}")
        listed = file[root].attrs.get("weight_names", [])
        names = [
            n.decode() if isinstance(n, bytes) else str(n) for n in np.asarray(listed).tolist()
        ]
        if part in ("forward_layer", "backward_layer"):
            half = len(names) // 2
            names = names[:half] if part == "forward_layer" else names[half:]
        found = arrays_under(file, root, limit)
        missing = [n for n in names if n not in found]
        check(not missing, f"lacks the arrays {missing[:3]} of the layer {name[:60]!r}")
        return [found[n] for n in names]

    return arrays
