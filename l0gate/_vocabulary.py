"""The kinds of layers of a net, as plain dicts that can be saved as JSON, and their checks.

Every entry reads the output of the entry before it, unless `"reads"` names another: `"input"`, what
the net is given, or the label of an earlier entry, which has that label as `"label"`. The values
below are the defaults; only what has none must be given.

    {"type": "embedding", "name"}                        only as the first layer
    {"type": "linear", "name", "bias": True}
    {"type": "lstm", "name", "num_layers": 1, "bidirectional": False, "bias": True,
     "activation": "tanh", "recurrent_activation": "sigmoid"}
    {"type": "gru", ... as lstm ..., "reset_after": True}
    {"type": "rnn", "name", "num_layers": 1, "bidirectional": False, "bias": True,
     "activation": "tanh"}                               a simple RNN
    {"type": "conv1d", "name", "bias": True, "stride": 1, "dilation": 1, "groups": 1,
     "padding": "causal"}                                or "same", "valid", [left, right]
    {"type": "batch_norm", "name", "epsilon": 1e-5, "affine": True}
    {"type": "activation", "function", "slope"}          `slope` for leaky_relu and elu only
    {"type": "add", "inputs"}, {"type": "multiply", "inputs"}, {"type": "concat", "inputs"}
    {"type": "slice", "start", "stop"}                   features start..stop-1
    {"type": "outputs", "inputs"}                        only as the last: y is then a tuple

`inputs` is a list of labels. In a sum or product, an input of one feature is used for all features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l0gate._errors import check
from l0gate.layout.stacked import check_num_layers

RECURRENT = ("lstm", "gru", "rnn")
JOINS = ("add", "multiply", "concat", "outputs")  # what has `inputs`
INPUT = "input"  # the label of what the net is given
#: The slope of an activation function that has one: its default.
SLOPES = {"leaky_relu": 0.01, "elu": 1.0}
ACTIVATIONS = (
    "tanh",
    "sigmoid",
    "relu",
    "leaky_relu",
    "elu",
    "softmax",
    "swish",
    "gelu",
    "gelu_tanh",
    "softplus",
    "softsign",
    "hard_tanh",
    "relu6",
    "hard_sigmoid",
    "hard_sigmoid_keras2",
    "linear",
)
#: The functions that a cell may use.
CELL_ACTIVATIONS = tuple(f for f in ACTIVATIONS if f not in ("softmax", "leaky_relu"))

_STACK = {"num_layers": 1, "bidirectional": False, "bias": True}
_CELL = {**_STACK, "activation": "tanh", "recurrent_activation": "sigmoid"}
_CONV = {"bias": True, "stride": 1, "dilation": 1, "groups": 1, "padding": "causal"}
# type -> (the keys that must be given, further keys with their defaults)
_KEYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "embedding": (("name",), {}),
    "lstm": (("name",), _CELL),
    "gru": (("name",), {**_CELL, "reset_after": True}),
    "rnn": (("name",), {**_STACK, "activation": "tanh"}),
    "linear": (("name",), {"bias": True}),
    "conv1d": (("name",), _CONV),
    "batch_norm": (("name",), {"epsilon": 1e-5, "affine": True}),
    "activation": (("function",), {}),
    "slice": (("start", "stop"), {}),
    **{kind: (("inputs",), {}) for kind in JOINS},
}


def complete(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Check the layers, and return them with a value for every key but `reads` and `label`.

    >>> complete([{"type": "linear", "name": "out"}])
    [{'type': 'linear', 'name': 'out', 'bias': True}]
    """
    check(
        isinstance(layers, (list, tuple)) and len(layers) > 0,
        f"`layers` is {layers!r}; it must be a list of at least one layer",
    )
    completed = [_complete(f"`layers[{index}]`", layer) for index, layer in enumerate(layers)]
    _check_order(completed)
    names = [layer["name"] for layer in completed if "name" in layer]
    repeated = sorted({name for name in names if names.count(name) > 1})
    check(not repeated, f"`layers` use the names {repeated} more than once; names must differ")
    sources(completed)
    return completed


def sources(layers: Sequence[Mapping[str, Any]]) -> list[tuple[int, ...]]:
    """What each layer reads: 0 for the net's input, k + 1 for the output of layer k.

    >>> sources([{"type": "linear", "name": "a", "label": "y"},
    ...          {"type": "add", "inputs": ["y", "input"]}])
    [(0,), (1, 0)]
    """
    labels = {INPUT: 0}
    found: list[tuple[int, ...]] = []
    for index, layer in enumerate(layers):
        wanted = layer["inputs"] if layer["type"] in JOINS else [layer.get("reads")]
        for label in wanted:
            check(
                label is None or label in labels,
                f"`layers[{index}]` reads {label!r}, which no earlier layer has as its `label`;"
                f" it can read {', '.join(map(repr, labels))}",
            )
        found.append(tuple(index if label is None else labels[label] for label in wanted))
        if "label" in layer:
            label = layer["label"]
            check(label not in labels, f"`layers[{index}]` has the label {label!r}, which is taken")
            labels[label] = index + 1
    if layers[0]["type"] == "embedding":
        for index, own in enumerate(found[1:], start=1):
            check(0 not in own, f"`layers[{index}]` reads the input, which is tokens, not features")
    return found


def describe(index: int, layer: Mapping[str, Any]) -> str:
    """A layer as messages name it: its position, type and name.

    >>> describe(1, {"type": "conv1d", "name": "front"})
    "`layers[1]` (conv1d 'front')"
    """
    name = f" {layer['name']!r}" if layer.get("name") else ""
    return f"`layers[{index}]` ({layer['type']}{name})"


def _check_order(layers: Sequence[Mapping[str, Any]]) -> None:
    for index, layer in enumerate(layers):
        check(
            index == 0 or layer["type"] != "embedding",
            f"`layers[{index}]` is an embedding; only the first layer can be one",
        )
        check(
            index == len(layers) - 1 or layer["type"] != "outputs",
            f"`layers[{index}]` has type 'outputs'; only the last layer can be one",
        )


def _complete(where: str, layer: Mapping[str, Any]) -> dict[str, Any]:
    check(isinstance(layer, Mapping), f"{where} is {layer!r}; it must be a dict with a `type`")
    kind = layer.get("type")
    check(
        isinstance(kind, str) and kind in _KEYS,
        f"{where} has type {kind!r}; known types are {', '.join(_KEYS)}",
    )
    required, defaults = _KEYS[str(kind)]
    for key in required:
        check(key in layer, f"{where} of type {kind!r} lacks the key `{key}`")
    if kind == "activation":
        defaults = _slope(where, layer["function"])
    references = ("label",) if kind in JOINS else ("reads", "label")
    unknown = sorted(set(layer) - {"type", *required, *defaults, *references}, key=str)
    allowed = ", ".join((*required, *defaults, *references))
    check(not unknown, f"{where} of type {kind!r} has unknown keys {unknown}; allowed: {allowed}")
    full = {"type": kind, **{key: layer[key] for key in required}, **defaults, **layer}
    for key in set(full) - {"type", "function"}:
        _CHECKS[key](f"{where} has {key}", full[key])
    if kind == "slice":
        check(full["start"] < full["stop"], f"{where} has stop {full['stop']}, not above its start")
    return full


def _slope(where: str, function: Any) -> dict[str, Any]:
    """The defaults of an activation layer: a slope where its function has one."""
    allowed = ", ".join(ACTIVATIONS)
    valid = isinstance(function, str) and function in ACTIVATIONS
    check(valid, f"{where} has function {function!r}; allowed: {allowed}")
    return {"slope": SLOPES[function]} if function in SLOPES else {}


def _whole(where: str, value: Any, least: int) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
    check(valid, f"{where} {value!r}; it must be an int of at least {least}")


def _check_bool(where: str, value: Any) -> None:
    check(isinstance(value, bool), f"{where} {value!r}; it must be a bool")


def _check_name(where: str, value: Any) -> None:
    check(isinstance(value, str), f"{where} {value!r}; expected a str")


def _check_function(where: str, value: Any) -> None:
    valid = isinstance(value, str) and value in CELL_ACTIVATIONS
    check(valid, f"{where} {value!r}; allowed: {', '.join(CELL_ACTIVATIONS)}")


def _check_number(where: str, value: Any) -> None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
    check(valid, f"{where} {value!r}; it must be a number of at least 0")


def _check_padding(where: str, value: Any) -> None:
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    valid = pair and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)
    named = isinstance(value, str) and value in ("causal", "same", "valid")
    check(valid or named, f"{where} {value!r}; allowed: 'causal', 'same', 'valid', [left, right]")


def _check_inputs(where: str, value: Any) -> None:
    valid = isinstance(value, (list, tuple)) and len(value) > 0
    valid = valid and all(isinstance(label, str) for label in value)
    check(valid, f"{where} {value!r}; it must be a list of at least one label")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "num_layers": check_num_layers,
    "name": _check_name,
    "label": _check_name,
    "reads": _check_name,
    "activation": _check_function,
    "recurrent_activation": _check_function,
    "slope": _check_number,
    "epsilon": _check_number,
    "padding": _check_padding,
    "inputs": _check_inputs,
    "start": lambda where, value: _whole(where, value, 0),
    **dict.fromkeys(("bidirectional", "bias", "reset_after", "affine"), _check_bool),
    **dict.fromkeys(
        ("stride", "dilation", "groups", "stop"), lambda where, value: _whole(where, value, 1)
    ),
}
