"""The job of `l0gate train`, with checkpoints.

Train the teacher, train with gates, shrink, certify, save, train the nets to compare with, measure
speed, report.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from l0gate._backend import Array, Parameters
from l0gate._certificate import Certificate
from l0gate._errors import L0GateError
from l0gate._saved_model import SavedModel, save
from l0gate._state import State
from l0gate.cli import _checkpoint
from l0gate.cli._folders import MODEL
from l0gate.cli._options import Options
from l0gate.cli._report_data import Figures, certificate_figures, gap_recovered
from l0gate.cli._report_file import write_report
from l0gate.cli._screen import Screen
from l0gate.cli._signals import StoppedError, stop_signals
from l0gate.cli._speed import speedup
from l0gate.cli._text import Corpus
from l0gate.cli._training import NotFiniteError, Task, Training, start, train

_EXAMPLES = (4, 50, 8)  # of the certificate: batches, time steps, sequences in a batch


@dataclass
class Job:
    """One run of `l0gate train`, in its folder. `every` is the seconds between checkpoints.

    `phases` has the training of each net begun so far, by name: "gated", "dense" and "direct".
    """

    options: Options
    corpus: Corpus
    folder: Path
    screen: Screen
    every: float

    def __post_init__(self) -> None:
        self.backend = self.options.load_backend()
        self.description = self.options.job(self.corpus)
        self.phases: dict[str, Training] = {}
        self.pruner = self.options.pruner()
        self.figures = Figures(self.options, self.corpus, self.pruner, self.backend)

    def run(self, resume: bool, twins: bool) -> dict[str, Any]:
        """Do the job, or with `resume` the rest of it, and return the report.

        With the teacher "dense", the dense net is trained first, without gates. With `twins` it is
        trained in any case, for comparison, and so is a net of the small sizes, from scratch and
        without a teacher.
        """
        started = time.perf_counter()
        gated = self.options.task(self.corpus, self.pruner)
        self._begin(gated, resume)
        set_up = self._warm_up(gated)
        trained: dict[str, Parameters] = {}
        if self.options.teacher == "dense":
            trained["dense"] = self._train("dense", self.options.task(self.corpus)).parameters
            gated = replace(gated, teacher=trained["dense"])
            self.screen.say("gated: three quarters of its loss are the divergence from dense")
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
            trained |= self._train_twins(kept, trained)
        nets |= trained
        figures = self.figures
        report = {
            **figures.about(),
            **{name: figures.net(gated, net) for name, net in nets.items()},
            "certificate": certificate_figures(certificate),
            "budget": figures.budget(kept),
        }
        report.setdefault("dense", figures.sizes(parameters))
        report.setdefault("direct", figures.sizes(small))
        report["comparison"] = {"gap_recovered": gap_recovered(report)}
        with self.screen.working("measuring the speed"):
            report["speedup"] = speedup(
                gated.net.layers,
                figures.on_host(parameters),
                figures.on_host(small),
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

    def _begin(self, gated: Task, resume: bool) -> None:
        """Check the budget on an untrained net, read the checkpoint, and say what will be done."""
        try:
            fresh = start(gated)
        except L0GateError as error:  # the budget is too small for any net
            raise L0GateError(f"`--budget`: {error}") from None
        if resume:
            self.phases = _checkpoint.read(self.folder, self.description, self.backend)
            self.pruner.bind(fresh.parameters)
        self.screen.say(self.figures.headline(fresh.parameters))

    def _warm_up(self, task: Task) -> float:
        """Run a tiny net, so that compilation does not count as training. Returns the seconds."""
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

    def _train_twins(
        self, kept: Mapping[str, np.ndarray], trained: Mapping[str, Parameters]
    ) -> dict[str, Parameters]:
        """Train the nets to compare with that are not `trained`, and return their parameters."""
        sizes = {axis: len(index) for axis, index in kept.items()}
        tasks = {
            "dense": self.options.task(self.corpus),
            "direct": self.options.task(self.corpus, sizes=sizes),
        }
        return {
            name: self._train(name, task).parameters
            for name, task in tasks.items()
            if name not in trained
        }

    def _train(self, phase: str, task: Task) -> Training:
        """Train one net to the end, with checkpoints, until a signal asks to stop."""
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

    # The small net ----------------------------------------------------------------------------

    def _certify(
        self,
        task: Task,
        parameters: Parameters,
        state: State,
        small: Parameters,
        kept: Mapping[str, np.ndarray],
    ) -> Certificate:
        """Compare the outputs and final states of gated and small net on random tokens."""
        # The certificate also runs in float64, for which numba would compile again. Plain NumPy
        # computes the same.
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
        """Write the small net, with its vocabulary, to model.npz."""
        chain = self.options.chain
        model = SavedModel(
            parameters=self.figures.on_host(small),
            layout=chain.layout,
            kept=kept,
            dense_sizes=self.pruner.sizes,
            chain=chain,
            certificate=certificate,
            metadata={"vocabulary": list(self.corpus.vocabulary), "unit": self.corpus.unit},
        )
        save(self.folder / MODEL, model)
