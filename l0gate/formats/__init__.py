"""Nets as files that other programs read: `l0gate.export` and `l0gate.import_`.

The modules, in reading order:

- `export`: the two calls; which format a file has
- `format`: `Format`, what a format must define
- `layers`: a net as a list of layers that hold their arrays
- `assembly`: from such a list to a net that runs in NumPy
- `runner`: running a written file, by another program or by reading it back
- `proof`: a written file, run beside the net that it was written from
- `padding`: closed neurons for programs that take some hidden sizes only
- `json_text`: reading JSON without trust, and writing it with few digits
- `one_stack`: the base of formats of one stack of recurrent layers
- `keras_layout`: weights as Keras and RTNeural keep them
- `_rtneural`, `_guitarml`, `_nam`: the formats of audio plugins
- `_onnx`: ONNX, for whole sequences and streams
- `_c`: a C99 header
- `_keras`: `.keras` and legacy `.h5`
- `_state_dict`: safetensors and torch's state dicts
- `_builtin`: registers these formats, as any plugin does

A distribution adds a format through an entry point in the group `l0gate` whose module implements

    @l0gate.hookimpl
    def l0gate_formats():
        return [{"name": "tract", "factory": "my_package:Tract"}]  # a subclass of Format
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from l0gate._later import import_later

if TYPE_CHECKING:
    from l0gate.formats.format import Content, Format
    from l0gate.formats.proof import Proof
    from l0gate.formats.runner import Runner

__all__ = ["Content", "Format", "Proof", "Runner"]
# Whoever looks for a backend imports this package too, to register the formats.
__getattr__, __dir__ = import_later(
    __name__,
    __all__,
    {"Content": "format", "Format": "format", "Proof": "proof", "Runner": "runner"},
)
