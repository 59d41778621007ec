"""`.nam`, the files of Neural Amp Modeler: one stack of LSTM layers and a head of one output.

Source: `sdatkinson/neural-amp-modeler` (`nam/models/recurrent.py`) and `NeuralAmpModelerCore`. The
weights are one flat list; a layer has, row by row, [W_ih | W_hh] with blocks i, f, g, o, the sum of
both biases, and the state that a stream begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from l0gate._errors import L0GateError, check
from l0gate.formats.assembly import assembled
from l0gate.formats.format import Content, refuse
from l0gate.formats.json_text import array, integer, numbers, parse, section, text
from l0gate.formats.layers import (
    Direction,
    Layer,
    Linear,
    Recurrent,
    input_size,
    output_size,
    recurrent_layers,
    with_all_inputs,
)
from l0gate.formats.one_stack import OneStack

__all__ = ["Nam"]

_SILENCE = 48_000  # zero samples before which a stream's first state is taken, as nam's own export


class Nam(OneStack):
    """LSTM layers of one size, one input, one output."""

    name = "nam"
    suffixes = (".nam",)
    summary = "amplifier models of Neural Amp Modeler: LSTM layers and a head"
    reader = "Neural Amp Modeler, its plugin and what builds on its core"
    title = "the .nam format"
    body = "holds LSTM layers and then a linear layer"
    instead = "use the format 'rtneural', which AIDA-X and NeuralAudio read, or 'onnx'"
    options: ClassVar[Mapping[str, Any]] = {"sample_rate": None}

    def check_cell(self, layer: Recurrent, first: Recurrent) -> None:
        if layer.cell != "lstm" or not layer.standard:
            why = "has LSTM layers with tanh and sigmoid only"
            raise refuse(layer, self.title, why, self.instead)

    def write(self, content: Content, *, sample_rate: Any = None, **options: Any) -> bytes:
        layers = with_all_inputs(content.layers)
        stack, last = self.stack_of(layers)
        if output_size(layers) != 1:
            raise refuse(last, self.title, "has one output", self.instead)
        own = content.metadata.get("nam", {})
        rate = own.get("sample_rate") if sample_rate is None else sample_rate
        valid = isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate < 1e9
        check(
            rate is None or valid, f"`sample_rate` is {rate!r}; it must be the samples per second"
        )
        bias = np.zeros(1, np.float32) if last.bias is None else last.bias
        parts = []
        for layer, (h, c) in zip(stack, _first_state(content, layers), strict=True):
            end = layer.directions[0]
            b_ih, b_hh = end.biases()
            parts += [np.hstack([end.weight_ih, end.weight_hh]).ravel(), b_ih + b_hh, h, c]
        weights = np.concatenate([*parts, last.weight.ravel(), bias])
        found = {
            "version": str(own.get("version", "0.5.4")),
            "architecture": "LSTM",
            "config": {
                "input_size": input_size(layers),
                "hidden_size": stack[0].outputs,
                "num_layers": len(stack),
            },
            "weights": numbers(weights),
            "metadata": own.get("metadata", {}),
        }
        return text(found if rate is None else {**found, "sample_rate": rate})

    def read(self, content: bytes, **options: Any) -> Content:
        found = parse(content)
        architecture = section(found, "architecture", str)
        check(
            architecture == "LSTM",
            f"has the architecture {architecture[:40]!r}; l0gate reads LSTM",
        )
        config = section(found, "config", dict)
        inputs, hidden, count = (
            integer(config, key, where="`config`")
            for key in ("input_size", "hidden_size", "num_layers")
        )
        check(count <= 1000, f"has {count} layers; allowed are 1,000")
        flat = array(section(found, "weights", list), (None,), "`weights`")
        widths = [inputs] + [hidden] * (count - 1)
        length = sum(4 * hidden * (w + hidden) + 6 * hidden for w in widths) + hidden + 1
        check(len(flat) == length, f"has {len(flat):,} weights; its config needs {length:,}")
        layers: list[Layer] = []
        states = []
        for depth, width in enumerate(widths):
            both, flat = _take(flat, (4 * hidden, width + hidden))
            bias, flat = _take(flat, (4 * hidden,))
            h, flat = _take(flat, (hidden,))
            c, flat = _take(flat, (hidden,))
            end = Direction(both[:, :width], both[:, width:], bias, np.zeros_like(bias))
            layers.append(Recurrent("rec" if count == 1 else f"rec_l{depth}", "lstm", (end,)))
            states.append([numbers(h), numbers(c)])
        weight, bias = _take(flat, (1, hidden))
        layers.append(Linear("head", weight, bias))
        own = {k: found[k] for k in ("version", "sample_rate", "metadata") if k in found}
        check(isinstance(own.get("metadata", {}), dict), "has a `metadata` that is no object")
        return Content(layers, {"nam": {**own, "first_state": states}})


def _take(flat: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    size = int(np.prod(shape))
    return flat[:size].reshape(shape), flat[size:]


def _first_state(content: Content, layers: Sequence[Layer]) -> list[Any]:
    """(h, c) of each layer after silence: what the file said if its sizes fit, else computed."""
    stack = recurrent_layers(layers)
    given = content.metadata.get("nam", {}).get("first_state")
    try:
        states = [tuple(np.array(part, np.float32) for part in pair) for pair in given]
        if [[len(part) for part in pair] for pair in states] == [[x.outputs] * 2 for x in stack]:
            return states
    except (TypeError, ValueError):
        pass  # none was given, or not by us
    net = assembled(layers).net("numpy")
    silence = np.zeros((1000, 1, input_size(layers) or 0), np.float32)
    state: Any = None
    for _ in range(_SILENCE // len(silence)):
        before = state
        _, state = net(silence, state)
        if before is not None and _close(before, state):
            break
    if not all(np.isfinite(part).all() for pair in state for part in pair):
        raise L0GateError("`net` gives numbers that are not finite for silence")
    return [tuple(part[0] for part in pair) for pair in state]


def _close(a: Any, b: Any) -> bool:
    pairs = [pair for x, y in zip(a, b, strict=True) for pair in zip(x, y, strict=True)]
    return all(float(np.abs(p - q).max()) < 1e-7 for p, q in pairs)
