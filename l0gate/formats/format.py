"""`Format`, the base class of every file format, and what a file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from l0gate._certificate import Certificate
from l0gate._errors import L0GateError
from l0gate._saved_model import SavedModel
from l0gate.formats.assembly import assembled
from l0gate.formats.layers import Embedding, Layer, Other, Recurrent, Selection, Skip
from l0gate.formats.runner import ReadBack, Runner

__all__ = ["Content", "Format", "refuse"]


@dataclass(frozen=True, eq=False)
class Content:
    """What a file holds: the layers, whether batches come before time, and any JSON of the user.

    `certificate` is that of the net, if shrinking made it. `proof` is the figure of
    `l0gate.export`, as text, once it is known.
    """

    layers: Sequence[Layer]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    batch_first: bool = False
    proof: str = ""
    certificate: Certificate | None = None


class Format:
    """A file format. Subclasses set the attributes and define `write`, `read` or both.

    `suffixes` are the endings of file names that mean this format. `reader` says which programs
    read it; `holds` what it can hold, for the listing. `options` are the keywords of `write`, with
    their defaults. A format that another program reads never guesses: what it cannot hold is
    refused by `refuse`, which names the layer and the way round.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str] = ""
    reader: ClassVar[str] = ""
    holds: ClassVar[Mapping[str, Any]] = {}
    options: ClassVar[Mapping[str, Any]] = {}
    read_options: ClassVar[Mapping[str, Any]] = {}
    writes: ClassVar[bool] = True
    reads: ClassVar[bool] = True
    keeps_proof: ClassVar[bool] = False

    def recognizes(self, content: bytes) -> bool:
        """Whether the bytes look like a file of this format, for endings that several have."""
        return True

    def write(self, content: Content, **options: Any) -> bytes:
        """The bytes of the file."""
        raise L0GateError(f"`format` is {self.name!r}, which l0gate reads and does not write")

    def read(self, content: bytes, **options: Any) -> Content:
        """What a file holds. Messages about damage begin with a verb: "is truncated"."""
        raise L0GateError(f"`format` is {self.name!r}, which l0gate writes and does not read")

    def reference(self, saved: SavedModel, **options: Any) -> SavedModel:
        """The net that the file is to equal: the given one, unless an option says otherwise."""
        return saved

    def runner(self, content: bytes, **options: Any) -> Runner | None:
        """What runs the bytes that `write` returned, to prove them. The default reads them back.

        None if nothing here can run them; the proof then says so.
        """
        found = self.read(content)
        return ReadBack(assembled(found.layers, batch_first=found.batch_first), self.name)

    def accepted_sizes(self, hidden: Sequence[int], **options: Any) -> list[int]:
        """The least hidden sizes, one a recurrent layer, from `hidden` on that the target takes."""
        return list(hidden)


def refuse(layer: Layer, format: str, why: str, instead: str) -> L0GateError:
    """An error that names the layer, the format, what is in the way and the way round."""
    return L0GateError(f"`net`: {described(layer)}: {format} {why}; {instead}")


def described(layer: Layer) -> str:
    """A layer in words, for messages."""
    if isinstance(layer, Recurrent):
        kind = layer.cell.upper()
        return f"layer {layer.name!r} ({kind}, {layer.inputs} inputs, {layer.outputs} outputs)"
    if isinstance(layer, Selection):
        return f"the choice of {len(layer.index)} of {layer.size} inputs"
    if isinstance(layer, Skip):
        return "the connection from the input to the output"
    if isinstance(layer, Other):
        return f"layer {layer.name!r} ({layer.entry['type']})"
    if isinstance(layer, Embedding):
        return f"layer {layer.name!r} (embedding)"
    return f"layer {getattr(layer, 'name', None) or getattr(layer, 'function', '')!r}"
