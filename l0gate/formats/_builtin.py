"""The built-in formats, registered like any plugin's."""

from __future__ import annotations

from typing import Any

from l0gate._hooks import hookimpl


@hookimpl
def l0gate_formats() -> list[dict[str, Any]]:
    """Descriptors of the built-in formats."""
    return [
        {"name": "rtneural", "factory": "l0gate.formats._rtneural:RTNeural"},
        {"name": "guitarml", "factory": "l0gate.formats._guitarml:GuitarML"},
        {"name": "onnx", "factory": "l0gate.formats._onnx.onnx_format:Onnx"},
        {"name": "c", "factory": "l0gate.formats._c.c_format:C"},
        {"name": "safetensors", "factory": "l0gate.formats._state_dict:Safetensors"},
        {"name": "state_dict", "factory": "l0gate.formats._state_dict:StateDict"},
        {"name": "keras", "factory": "l0gate.formats._keras.keras_format:Keras"},
        {"name": "keras-h5", "factory": "l0gate.formats._keras.keras_format:KerasH5"},
        {"name": "nam", "factory": "l0gate.formats._nam:Nam"},
    ]
