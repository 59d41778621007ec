"""From the graph of an ONNX file to layers.

Every value of the graph is followed from the inputs on. What cannot be expressed is noted with its
reason, and is an error only if the net's output depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats._onnx.operators import evaluated
from l0gate.formats._onnx.order import DIRECTIONS, FEATURES
from l0gate.formats._onnx.tensors import array_of, attributes_of, parsed
from l0gate.formats._onnx.values import Moved, Node, Reversed, Stream, Unknown, Value
from l0gate.formats._onnx.writing import PREFIX, PRODUCER
from l0gate.formats.format import Content
from l0gate.formats.json_text import parse
from l0gate.formats.layers import (
    Embedding,
    Layer,
    Linear,
    Recurrent,
    Skip,
    with_storable_choice,
)

__all__ = ["content_of"]

_DOMAINS = ("", "ai.onnx")


def content_of(
    content: bytes, constants: Mapping[str, Any] | None = None, output: str | None = None
) -> Content:
    """What a file holds.

    `constants` gives arrays to inputs of the graph; `output` names the value that is the net's
    output, for graphs with several outputs or with operators at the end that l0gate lacks.
    """
    model = parsed(content)
    check(
        constants is None or isinstance(constants, Mapping),
        f"`constants` is {type(constants).__name__}; it must be a dict from names of inputs to"
        " arrays",
    )
    walk = _Walk(model, dict(constants or {}), len(content))
    values = walk.run()
    stream = _output(model.graph, values, output)
    layers = _finished(stream)
    metadata = _metadata(model)
    return Content(layers, metadata, walk.batch_first(stream))


class _Walk:
    def __init__(self, model: Any, constants: dict[str, Any], size: int) -> None:
        self.graph, self.properties = model.graph, model.metadata_props
        self.own = model.producer_name == PRODUCER
        self.opset = max((o.version for o in model.opset_import if o.domain in _DOMAINS), default=1)
        given = {name: _given(name, value) for name, value in constants.items()}
        self.largest = 2 * (size + sum(array.nbytes for array in given.values())) + 2**16
        self.values: dict[str, Value | None] = {"": None}
        for tensor in self.graph.initializer:
            self.values[tensor.name] = array_of(tensor)
        self.ranks: dict[str, int] = {}
        names = {info.name for info in self.graph.input}
        unknown = sorted(set(given) - names)
        check(
            not unknown,
            f"has no input {unknown[:1]!r}, which `constants` names; it has {sorted(names)[:20]}",
        )
        for info in self.graph.input:
            if info.name in given:
                self.values[info.name] = given[info.name]
            elif info.name not in self.values:
                self.values[info.name] = self._input(info)
        self.notes: dict[str, int] = {}

    def _input(self, info: Any) -> Value:
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
            return Unknown(f"has the input {info.name[:60]!r} without a shape")
        tokens = kind.elem_type in (6, 7)
        if not tokens and kind.elem_type not in (1, 10, 11):
            return Unknown(f"has the input {info.name[:60]!r} of numbers of another type")
        dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        if len(dims) > 8 or not all(d is None or d > 0 for d in dims):
            return Unknown(f"has the input {info.name[:60]!r} of shape {dims[:9]}")
        self.ranks[info.name] = len(dims)
        steps = dims if tokens else dims[:-1]
        sizes = {str(k): d for k, d in enumerate(steps)}
        axes = tuple(() if d == 1 else (str(k),) for k, d in enumerate(steps))
        width = None if tokens or not dims else dims[-1]
        return Stream(
            info.name,
            axes if tokens or not dims else (*axes, (FEATURES,)),
            width,
            sizes,
            tokens=tokens,
        )

    def run(self) -> Mapping[str, Value | None]:
        for number, proto in enumerate(self.graph.node):
            names = tuple(proto.input)
            missing = [name for name in names if name not in self.values]
            check(
                not missing,
                f"has {proto.op_type[:40]} {proto.name[:60]!r}, which reads {missing[:1]} before"
                " anything writes it",
            )
            values = self._node(proto, names, number)
            for k, name in enumerate(proto.output):
                if name:
                    last = Unknown(f"uses output {k} of {proto.op_type[:40]}")
                    self.values[name] = values[k] if k < len(values) else last
        return self.values

    def _node(self, proto: Any, names: tuple[str, ...], number: int) -> list[Value]:
        count = len(proto.output)
        if proto.domain not in _DOMAINS:
            why = f"has the operator {proto.domain[:40]}.{proto.op_type[:40]}, which is no part of"
            return [Unknown(f"{why} ONNX")] * count
        try:
            attributes = attributes_of(proto)
        except L0GateError as error:
            return [Unknown(str(error))] * count
        node = Node(
            proto.op_type,
            proto.name,
            attributes,
            tuple(self.values[name] for name in names),
            names,
            count,
            self.opset,
            self.own,
            self.notes,
        )
        return evaluated(node, self.largest)

    def own_batch_first(self) -> bool | None:
        """What a file of l0gate says of it; None for other files."""
        texts = {entry.key: entry.value for entry in self.properties} if self.own else {}
        return {"true": True, "false": False}.get(texts.get(f"{PREFIX}batch_first", ""))

    def batch_first(self, stream: Stream) -> bool:
        """Whether the net's input has batches before time; its output must have the same order."""
        time = self.notes.get(f"time of {stream.source}", 0)
        batch = self.notes.get(f"batch of {stream.source}", 1)
        order = [
            label for axis in stream.axes for label in axis if label not in (FEATURES, DIRECTIONS)
        ]
        check(
            order == sorted(order),
            "has time and batch in its output in another order than in its input; l0gate's nets"
            " keep the order",
        )
        said = self.own_batch_first()
        if said is not None:
            return said
        if self.ranks[stream.source] < (2 if self._tokens(stream) else 3):
            return False
        return time == 1 or (time == -1 and batch == 0)

    def _tokens(self, stream: Stream) -> bool:
        first = self.values[stream.source]
        return isinstance(first, Stream) and first.tokens


def _given(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    check(
        array.dtype.kind in "biuf",
        f"`constants`[{name!r}] has dtype {array.dtype}; it must be an array of numbers",
    )
    return array


def _output(graph: Any, values: Mapping[str, Value | None], chosen: str | None) -> Stream:
    """The value that is the net's output: the one output that is no state."""
    names = [info.name for info in graph.output]
    if chosen is not None:
        known = isinstance(chosen, str) and values.get(chosen) is not None
        check(known, f"has no value {str(chosen)[:60]!r} (`output`); its outputs are {names[:20]}")
        names = [str(chosen)]
    for name in names:
        check(values.get(name) is not None, f"has the output {name[:60]!r}, which nothing writes")
    found = {name: values[name] for name in names}
    rest = {n: v for n, v in found.items() if not isinstance(v, Moved)}
    proper = {n: v for n, v in rest.items() if not (isinstance(v, Stream) and v.state)} or rest
    check(bool(proper), "has no output but states")
    reasons = [v.why for v in proper.values() if isinstance(v, Unknown)]
    if len(reasons) == len(proper):
        raise L0GateError(reasons[0])
    check(
        len(proper) == 1,
        f"has several outputs: {', '.join(map(repr, list(proper)[:20]))}; say which is the net's"
        " with `output`",
    )
    (value,) = proper.values()
    if not isinstance(value, Stream) or not value.layers:
        raise L0GateError("has an output that no layer writes")
    return value


def _finished(stream: Stream) -> list[Layer]:
    """The layers of the output, with names that differ."""
    found: list[Layer] = []
    taken: set[str] = set()
    for place, layer in enumerate(stream.layers):
        if isinstance(layer, Reversed):
            raise L0GateError(
                f"has direction 'reverse' in {layer.layer.name!r} without a forward layer beside"
                " it; l0gate's nets run forward, or in both directions"
            )
        check(
            not isinstance(layer, Skip) or place == len(stream.layers) - 1,
            "adds the net's input before its last layer; l0gate reads such a sum at the end only",
        )
        if isinstance(layer, (Embedding, Linear, Recurrent)):
            base = layer.name or type(layer).__name__.lower()
            name, number = base, 2
            while name.removesuffix("_l0") in taken:  # the name of a stack, of its first layer
                name, number = f"{base}_{number}", number + 1
            taken.add(name.removesuffix("_l0"))
            layer = replace(layer, name=name)
        found.append(layer)
    check(
        not stream.last or not any(_two_ways(layer) for layer in found),
        "returns the last step of a layer of two directions, whose other direction ends at the"
        " first step",
    )
    return list(with_storable_choice(found))


def _two_ways(layer: Layer) -> bool:
    return isinstance(layer, Recurrent) and len(layer.directions) == 2


def _metadata(model: Any) -> dict[str, Any]:
    """The user's metadata, as l0gate or another program wrote it."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    own = texts.get(f"{PREFIX}metadata")
    found: dict[str, Any] = {} if own is None else parse(own.encode())
    found.pop("onnx", None)
    others = {key: text for key, text in texts.items() if not key.startswith(PREFIX)}
    if others:
        found["onnx"] = others
    return found
