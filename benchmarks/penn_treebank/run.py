"""`Run`: trains a model with checkpoints, and writes the result file."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint
import torch
from data import Corpus
from model import layer_sizes
from options import Options
from trainer import Trainer

from l0gate.files import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _timing import machine

EVERY = 60.0  # seconds between checkpoints


class Run:
    """One run, which reads and writes its checkpoint and its result file in `folder`."""

    def __init__(self, options: Options, corpus: Corpus, folder: Path, device: str = "cpu") -> None:
        self.options = options
        self.trainer = Trainer(options, corpus, device)
        self.checkpoint = folder / f"{options.name}.checkpoint.npz"
        self.path = folder / f"{options.name}.json"
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0  # of training steps, in this process and before the checkpoint

    def finish(self, say: Callable[[str], None] = print, stop_after: int | None = None) -> bool:
        """Train, from the checkpoint if there is one, and write the result.

        With `stop_after`, train at most so many steps. Returns whether the result is written.
        """
        trainer, left = self.trainer, stop_after
        if trainer.step == 0 and self.checkpoint.exists():
            self.history, self.seconds = checkpoint.load(self.checkpoint, trainer)
        saved = time.perf_counter()
        while trainer.step < trainer.total:
            if left == 0:
                return False
            left = None if left is None else left - 1
            before = time.perf_counter()
            trainer.train_step()
            self.seconds += time.perf_counter() - before
            ended = trainer.step % trainer.per_epoch == 0
            if ended:
                self._end_epoch(say)
            if ended or time.perf_counter() - saved > EVERY:
                self.save()
                saved = time.perf_counter()
                rest = self.seconds / trainer.step * (trainer.total - trainer.step)
                say(
                    f"{self.options.name}: step {trainer.step}/{trainer.total},"
                    f" {rest / 60:.0f} minutes of training left"
                )
        write_atomically(self.path, (json.dumps(self._result(), indent=2) + "\n").encode())
        self.checkpoint.unlink(missing_ok=True)
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.checkpoint, self.trainer, self.history, self.seconds)

    def _end_epoch(self, say: Callable[[str], None]) -> None:
        found = self.trainer.end_epoch()
        epoch = len(self.history) + 1
        self.history.append(
            {"epoch": epoch, "train": found["train"], "seconds": self.seconds, **found}
        )
        say(
            f"{self.options.name}: epoch {epoch}/{self.trainer.epochs}, perplexity"
            f" {found['train']:.1f} (train) {found['valid']:.1f} (valid)"
        )

    def _result(self) -> dict[str, Any]:
        trainer, certificate = self.trainer, None
        network, corpus = trainer.network, trainer.corpus
        if self.options.pruned:
            network = trainer.gated.shrink() if trainer.small is None else trainer.small
            certificate = network.certificate
        sizes = layer_sizes(network)
        recurrent = 4 * (sizes[1] * (sizes[0] + sizes[1]) + sizes[2] * (sizes[1] + sizes[2]))
        parameters = sum(p.numel() for p in network.parameters())
        result = {
            "options": dataclasses.asdict(self.options),
            "command": shlex.join(["python", "benchmarks/penn_treebank/train.py", *sys.argv[1:]]),
            "machine": machine() | {"device": _device_name(trainer.device)},
            "valid": trainer.perplexity(corpus.valid, network),
            "test": trainer.perplexity(corpus.test, network),
            "at_cut": trainer.cut,
            "sizes": sizes,
            "parameters": parameters,
            "parameters_without_embeddings": parameters - corpus.words * sizes[0],
            "recurrent_weights": recurrent,
            "multiply_adds": recurrent + sizes[2] * corpus.words,
            "training_seconds": self.seconds,
            "history": self.history,
        }
        if certificate is not None:
            result["certificate"] = {
                name: getattr(certificate, name)
                for name in ("max_abs_difference", "forced_open", "forced_closed")
            }
        return result


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
