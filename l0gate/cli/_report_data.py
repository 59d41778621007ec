"""The figures of a job: sizes and scores of its nets, budget, text, and versions of libraries."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import l0gate
from l0gate._backend import Backend, Parameters
from l0gate._certificate import Certificate
from l0gate._pruner import Pruner
from l0gate.cli._options import Options
from l0gate.cli._text import Corpus
from l0gate.cli._training import Task, evaluate

NETS = ("dense", "gated", "small", "direct")  # direct: of the small sizes, trained from scratch
_MOST_NATS = 700.0  # exp of more overflows


@dataclass(frozen=True)
class Figures:
    """Computes the entries of report.json for one job."""

    options: Options
    corpus: Corpus
    pruner: Pruner
    backend: Backend

    @property
    def metric(self) -> str:
        """The key in the report of a net's score on the test part of the text."""
        return "bits_per_character" if self.corpus.unit == "character" else "perplexity"

    @property
    def limit(self) -> float | None:
        """How many recurrent parameters the small net may have; None without a budget."""
        budget = self.pruner.budget
        return None if budget is None else budget.limit(self.pruner.cost)

    def about(self) -> dict[str, Any]:
        """The job itself: its metric, text, options and versions."""
        return {
            "metric": self.metric,
            "text": {
                "name": self.corpus.name,
                "unit": self.corpus.unit,
                "vocabulary": len(self.corpus.vocabulary),
                "unseen": self.corpus.unseen,
                **{split: len(tokens) for split, tokens in self.corpus.splits.items()},
            },
            "options": asdict(self.options),
            "versions": versions(),
        }

    def headline(self, parameters: Parameters) -> str:
        """Two lines to print at the start of the job: its text, its dense net and its budget."""
        sizes = self.sizes(parameters)
        widths = " -> ".join(map(str, [sizes["input_size"], *sizes["hidden_sizes"]]))
        if self.limit is None:
            goal = f"strength {self.options.strength}"
        else:
            goal = f"at most {self.limit:,.0f} may stay"
        return (
            f"{self.corpus.describe()}\n{self.options.cell.upper()} {widths}:"
            f" {sizes['parameters']:,} parameters, {sizes['recurrent_parameters']:,} of them"
            f" recurrent, {goal}; {self.options.steps:,} steps of {self.options.batch} x"
            f" {self.options.length} {self.corpus.unit}s"
        )

    def net(self, task: Task, parameters: Parameters) -> dict[str, Any]:
        """The sizes of a net, and its score on every held-out part of the text."""
        row = self.sizes(parameters)
        for split in ("valid", "test"):
            if split not in self.corpus.splits:
                continue
            nats = evaluate(
                task.net, parameters, self.corpus.splits[split], task.batch, task.length
            )
            prefix = "" if split == "test" else f"{split}_"
            row[prefix + self.metric] = (
                nats / math.log(2)
                if self.corpus.unit == "character"
                else math.exp(min(nats, _MOST_NATS))
            )
        return row

    def sizes(self, parameters: Parameters) -> dict[str, Any]:
        """How large a net is: parameters, bytes, and neurons per layer."""
        chain = self.options.chain
        arrays = self.on_host(parameters)
        counts = chain.layout.solve(arrays)
        return {
            "parameters": sum(array.size for array in arrays.values()),
            "recurrent_parameters": sum(arrays[name].size for name in chain.layout.recurrent),
            "bytes": sum(array.nbytes for array in arrays.values()),
            "input_size": counts["x"],
            "hidden_sizes": [counts[axis] for axis in chain.state_axes],
        }

    def budget(self, kept: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """The limit, what the small net uses of it, and what it would use with one more neuron.

        `kept` maps each axis to the indices of the neurons that the small net keeps.
        """
        if self.limit is None:
            return None
        cost, counts = self.pruner.cost, {axis: len(index) for axis, index in kept.items()}
        larger = [
            cost.at({**counts, axis: count + 1})
            for axis, count in counts.items()
            if count < cost.sizes[axis]
        ]
        return {
            "of": "recurrent parameters",
            "dense": cost.total,
            "limit": self.limit,
            "used": cost.at(counts),
            "with_one_more_neuron": min(larger, default=None),
        }

    def on_host(self, parameters: Parameters) -> dict[str, np.ndarray]:
        """The parameters as NumPy arrays."""
        return {name: self.backend.to_numpy(array) for name, array in parameters.items()}


def gap_recovered(report: Mapping[str, Any]) -> float | None:
    """(direct - small) / (direct - dense) in bits per token.

    0: no better than a net of the small sizes trained from scratch (direct). 1: as good as the
    dense net. None if these nets were not trained, or if dense is not better than direct.
    """
    bits = {}
    for name in ("dense", "small", "direct"):
        row = report[name]
        if "perplexity" in row:
            bits[name] = math.log2(row["perplexity"])
        elif "bits_per_character" in row:
            bits[name] = row["bits_per_character"]
    if len(bits) < 3 or bits["direct"] <= bits["dense"]:
        return None
    return (bits["direct"] - bits["small"]) / (bits["direct"] - bits["dense"])


def certificate_figures(certificate: Certificate) -> dict[str, Any]:
    """The measured differences between gated and small net, and the tolerances."""
    return {
        "max_abs_difference": certificate.max_abs_difference,
        "tolerance": certificate.tolerance,
        "max_abs_difference_float32": certificate.max_abs_difference_float32,
        "tolerance_float32": certificate.tolerance_float32,
        "sequences": certificate.sequences,
        "forced_open": certificate.forced_open,
        "forced_closed": certificate.forced_closed,
    }


def versions() -> dict[str, str]:
    """The versions of Python, l0gate and the libraries that it computes with."""
    found = {"l0gate": l0gate.__version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "torch"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
