"""The whole job: train with gates, shrink, certify, save, train the twins, measure, report."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import l0gate
from l0gate._backend import Array, Parameters
from l0gate._certificate import Certificate
from l0gate._errors import L0GateError, check
from l0gate._saved_model import SavedModel, save
from l0gate.cli import _checkpoint
from l0gate.cli._measure import speedup
from l0gate.cli._options import Options
from l0gate.cli._report import write_report
from l0gate.cli._screen import Screen
from l0gate.cli._signals import StoppedError, stop_signals
from l0gate.cli._text import Corpus
from l0gate.cli._training import NotFiniteError, Task, Training, evaluate, start, train

MODEL = "model.npz"
_EXAMPLES = (4, 50, 8)  # of the certificate: inputs, time steps, sequences
_MOST_NATS = 700.0  # beyond, a perplexity is no float


@dataclass
class Job:
    """A job in its folder. `every` is the number of seconds between checkpoints."""

    options: Options
    corpus: Corpus
    folder: Path
    screen: Screen
    every: float

    def __post_init__(self) -> None:
        self.backend = self.options.engine()
        self.description = self.options.job(self.corpus)
        self.phases: dict[str, Training] = {}
        self.pruner = self.options.pruner()

    def run(self, resume: bool, twins: bool) -> dict[str, Any]:
        """Run what is left of the job; returns the report."""
        started = time.perf_counter()
        gated = self.options.task(self.corpus, self.pruner)
        try:
            fresh = start(gated)
        except L0GateError as error:  # the budget is below its floor
            raise L0GateError(f"`--budget`: {error}") from None
        if resume:
            self.phases = _checkpoint.read(self.folder, self.description, self.backend)
            self.pruner.bind(fresh.parameters)
        self.screen.say(self._headline(fresh.parameters))
        set_up = self._warm_up(gated)
        result = self._train("gated", gated)
        assert result.gates is not None
        parameters, state = result.parameters, result.gates
        small, kept = self.pruner.shrink(parameters, state)
        certificate = self._certify(gated, parameters, state, small, kept)
        self.screen.say(str(certificate))
        self._save(small, kept, certificate)
        nets: dict[str, Parameters] = {
            "gated": self.pruner.gate(parameters, state),
            "small": small,
        }
        if twins:
            sizes = {axis: len(index) for axis, index in kept.items()}
            nets["dense"] = self._train("dense", self.options.task(self.corpus)).parameters
            direct = self.options.task(self.corpus, sizes=sizes)
            nets["direct"] = self._train("direct", direct).parameters
        report = {
            **self._about(),
            **{name: self._row(gated, net) for name, net in nets.items()},
            "certificate": _certified(certificate),
            "budget": self._budget(kept),
        }
        report.setdefault("dense", self._sizes(parameters))
        report.setdefault("direct", self._sizes(small))
        report["comparison"] = {"gap_recovered": _gap_recovered(report)}
        with self.screen.working("measuring the speed"):
            report["speedup"] = speedup(
                gated.net.layers,
                self._host(parameters),
                self._host(small),
                self.corpus.splits["test"],
            )
        report["seconds"] = {
            "set_up": set_up,
            **{phase: training.seconds for phase, training in self.phases.items()},
            "this_run": time.perf_counter() - started,
        }
        write_report(self.folder, report, self.phases, kept, self.pruner.sizes)
        return report

    # Training ---------------------------------------------------------------------------------

    def _warm_up(self, task: Task) -> float:
        """The first call of an engine may compile it; do that apart from the training's time."""
        started = time.perf_counter()
        compiles = self.backend.name == "numpy" and find_spec("numba") is not None
        note = " (numba compiles once, and keeps the result)" if compiles else ""
        with self.screen.working(f"preparing the engine{note}"):
            small = task.net.init(
                np.random.default_rng(0),
                input_size=2,
                sizes={"embedding": 2, "rnn": [2] * len(self.options.hidden), "decoder": 2},
            )
            ones = np.ones((2, 2), np.int32)
            task.net.loss_and_gradients(small, ones, ones)
            task.net.loss(small, ones, ones)
        return time.perf_counter() - started

    def _train(self, phase: str, task: Task) -> Training:
        if phase not in self.phases:
            self.phases[phase] = start(task)
            self._checkpoint()
        training = self.phases[phase]
        if training.step == task.steps:
            self.screen.say(f"{phase}: trained already, {training.step:,} steps")
            return training
        saved = clock = time.perf_counter()
        with stop_signals() as stop, self.screen.follow(phase, task.steps) as show:
            show(training)
            try:
                for _ in train(task, training):
                    now = time.perf_counter()
                    training.seconds += now - clock
                    clock = now
                    show(training)
                    if stop.requested:
                        break
                    if now - saved >= self.every:
                        self._checkpoint()
                        saved = time.perf_counter()
            except NotFiniteError as error:
                raise NotFiniteError(
                    f"{error} at step {training.step + 1} of the {phase} net; the checkpoint in"
                    f" '{self.folder}' is the last good one. Start again with a smaller `--lr`"
                ) from None
        if training.step == task.steps:
            training.finish()
        self._checkpoint()
        if stop.requested:
            raise StoppedError(stop.requested, phase, training.step)
        return training

    def _checkpoint(self) -> None:
        _checkpoint.write(self.folder, self.description, self.phases, self.backend)

    # Results ----------------------------------------------------------------------------------

    def _certify(
        self,
        task: Task,
        parameters: Parameters,
        state: Any,
        small: Parameters,
        kept: Mapping[str, np.ndarray],
    ) -> Certificate:
        # In float64 the compiled cells would be compiled anew; plain NumPy computes the same.
        engine = {"engine": "numpy"} if self.backend.name == "numpy" else {}

        def apply(given: Parameters, x: np.ndarray) -> tuple[Array, dict[str, Any]]:
            y, states = task.net.apply(given, x, **engine)
            return y, {
                axis: list(entry) if isinstance(entry, tuple) else entry
                for axis, entry in zip(self.options.chain.state_axes, states, strict=True)
            }

        rng = np.random.default_rng(self.options.seed)
        inputs = rng.integers(0, len(self.corpus.vocabulary), _EXAMPLES)
        return self.pruner.certify(apply, parameters, state, small, kept, list(inputs))

    def _save(
        self, small: Parameters, kept: Mapping[str, np.ndarray], certificate: Certificate
    ) -> None:
        chain = self.options.chain
        model = SavedModel(
            parameters=self._host(small),
            layout=chain.layout,
            kept=kept,
            dense_sizes=self.pruner.sizes,
            chain=chain,
            certificate=certificate,
            metadata={"vocabulary": list(self.corpus.vocabulary), "unit": self.corpus.unit},
        )
        save(self.folder / MODEL, model)

    def _row(self, task: Task, parameters: Parameters) -> dict[str, Any]:
        """Sizes of a net, and its figure on every held-out part."""
        row = self._sizes(parameters)
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

    def _sizes(self, parameters: Parameters) -> dict[str, Any]:
        layout = self.options.chain.layout
        arrays = self._host(parameters)
        counts = layout.solve(arrays)
        return {
            "parameters": sum(array.size for array in arrays.values()),
            "recurrent_parameters": sum(arrays[name].size for name in layout.recurrent),
            "bytes": sum(array.nbytes for array in arrays.values()),
            "input_size": counts["x"],
            "hidden_sizes": [counts[axis] for axis in self.options.chain.state_axes],
        }

    def _budget(self, kept: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """The limit, what the small net uses of it, and what one more neuron would make it."""
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

    @property
    def limit(self) -> float | None:
        """The most recurrent parameters that may stay."""
        budget = self.pruner.budget
        return None if budget is None else budget.limit(self.pruner.cost)

    @property
    def metric(self) -> str:
        return "bits_per_character" if self.corpus.unit == "character" else "perplexity"

    def _host(self, parameters: Parameters) -> dict[str, np.ndarray]:
        return {name: self.backend.to_numpy(array) for name, array in parameters.items()}

    def _about(self) -> dict[str, Any]:
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
            "versions": _versions(),
        }

    def _headline(self, parameters: Parameters) -> str:
        sizes = self._sizes(parameters)
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


def check_folder(folder: Path, resume: bool) -> None:
    """Make the output folder, and refuse one that cannot be written or holds another run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise L0GateError(f"`--out` '{folder}' cannot be written: {error.strerror}") from None
    held = (folder / _checkpoint.FILE).exists()
    if resume:
        check(held, f"`--resume`: '{folder}' holds no checkpoint")
        _checkpoint.tidy(folder)
    else:
        check(
            not held,
            f"`--out` '{folder}' holds a run already; go on with it by `--resume`, or choose"
            " another folder",
        )


def _gap_recovered(report: Mapping[str, Any]) -> float | None:
    """(direct - small) / (direct - dense) in bits per token, where there were twins."""
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


def _certified(certificate: Certificate) -> dict[str, Any]:
    return {
        "max_abs_difference": certificate.max_abs_difference,
        "tolerance": certificate.tolerance,
        "max_abs_difference_float32": certificate.max_abs_difference_float32,
        "tolerance_float32": certificate.tolerance_float32,
        "sequences": certificate.sequences,
        "forced_open": certificate.forced_open,
        "forced_closed": certificate.forced_closed,
    }


def _versions() -> dict[str, str]:
    versions = {"l0gate": l0gate.__version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "torch"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
