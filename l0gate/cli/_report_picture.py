"""The picture of a finished job: loss and size over training, and the neurons that were kept."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0gate.cli._training import Training

_COLOURS = {"dense": "0.55", "gated": "tab:blue", "direct": "tab:orange"}
_SMOOTHED = 40  # points of a loss curve


def draw(
    report: Mapping[str, Any],
    phases: Mapping[str, Training],
    kept: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture(report, phases, kept, sizes).savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def picture(
    report: Mapping[str, Any],
    phases: Mapping[str, Training],
    kept: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> Figure:
    """Three charts, one below the other: losses of all nets, expected size, kept neurons."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    rows = figure.add_gridspec(3, 1, height_ratios=[3, 2, 0.5 + 0.35 * len(kept)])
    losses = figure.add_subplot(rows[0])
    sizes_over_time = figure.add_subplot(rows[1], sharex=losses)
    neurons = figure.add_subplot(rows[2])
    _draw_losses(losses, report, phases)
    _draw_expected_size(sizes_over_time, report, phases["gated"])
    _draw_neurons(neurons, kept, sizes)
    return figure


def _draw_losses(axes: Axes, report: Mapping[str, Any], phases: Mapping[str, Training]) -> None:
    for name, training in phases.items():
        values = np.array(training.losses) / math.log(2)
        parts = np.array_split(values, min(_SMOOTHED, len(values)))
        steps = np.cumsum([len(part) for part in parts])
        axes.plot(
            steps,
            [part.mean() for part in parts],
            color=_COLOURS[name],
            label=_label(report, name),
        )
    unit = report["text"]["unit"]
    axes.set_ylabel(f"training loss\n(bits per {unit})")
    axes.set_title(f"{report['text']['name']}: loss, size, and the neurons that stayed")
    axes.legend()


def _label(report: Mapping[str, Any], name: str) -> str:
    label = f"{name} {_sizes(report[name])}"
    if name != "gated":
        return label
    taught = report["options"].get("teacher", "none") == "dense"  # older reports do not say
    against = " (loss mostly against dense)" if taught else ""
    return f"{label}, shrunk to {_sizes(report['small'])}{against}"


def _sizes(net: Mapping[str, Any]) -> str:
    return " -> ".join(map(str, [net["input_size"], *net["hidden_sizes"]]))


def _draw_expected_size(axes: Axes, report: Mapping[str, Any], gated: Training) -> None:
    axes.plot(np.arange(1, gated.step + 1), gated.size_fractions, color=_COLOURS["gated"])
    budget = report["budget"]
    if budget is not None:
        limit = budget["limit"] / budget["dense"]
        axes.axhline(limit, color="0.3", linestyle="--", linewidth=1)
        axes.annotate(f"budget {limit:.0%}", (0, limit), va="bottom", ha="left")
    axes.set_ylim(0, 1.05)
    counted = "parameters" if budget is None else budget["of"]
    axes.set_ylabel(f"expected size\n({counted})")
    axes.set_xlabel("step")


def _draw_neurons(axes: Axes, kept: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Draw one row per axis, as wide as the axis has neurons, with a mark for each kept neuron."""
    for row, (axis, index) in enumerate(kept.items()):
        axes.broken_barh([(0, 1)], (row - 0.4, 0.8), color="0.92")
        width = 1 / sizes[axis]
        axes.broken_barh(
            [(i * width, width * 0.85) for i in index], (row - 0.4, 0.8), color="tab:blue"
        )
    labels = [f"{_named(axis)}: {len(index)} of {sizes[axis]}" for axis, index in kept.items()]
    axes.set_yticks(range(len(kept)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_xlabel("neurons, in their order in the dense net")


def _named(axis: str) -> str:
    return "embedding" if axis == "x" else f"hidden layer {int(axis.removeprefix('h')) + 1}"
