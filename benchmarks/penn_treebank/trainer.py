"""`Trainer`: the training steps of one model, the cut, and perplexity on validation and test text.

The cut is the step at which the neurons that stay are selected.

Zaremba, Sutskever and Vinyals train with plain SGD on 20 streams, 35 steps at a time, with a
falling learning rate and clipped gradients. Gates are trained by Adam.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from data import Corpus, streams
from model import MODELS, LanguageModel
from options import Options
from torch import Tensor, nn

import l0gate
from l0gate import Budget
from l0gate.methods import GroupLasso

STEPS, BATCH, EVALUATION_BATCH = 35, 20, 10
GATE_RATE = 0.01  # the learning rate of Adam, which trains the gates


class Trainer:
    """A model and the state of its training, all of which a checkpoint holds."""

    def __init__(self, options: Options, corpus: Corpus, device: str = "cpu") -> None:
        self.options, self.corpus, self.device = options, corpus, device
        self.config = MODELS[options.model]
        self.epochs = options.epochs or self.config.epochs
        self.data = streams(corpus.train, BATCH).to(device)
        self.per_epoch = -(-(len(self.data) - 1) // STEPS)
        self.total = self.per_epoch * self.epochs
        self.step, self.loss, self.state = 0, 0.0, None
        self.cut: dict[str, Any] | None = None
        self.small: nn.Module | None = None  # with --shrink-early, from the cut on
        self.model = self._model()
        self.gate_optimizer: torch.optim.Adam | None = None
        if options.pruned:
            self._gate()

    def _model(self) -> LanguageModel:
        torch.manual_seed(self.options.seed)
        config = self.config
        sizes = self.options.sizes or (config.hidden,) * 3
        return LanguageModel(self.corpus.words, sizes, config.dropout, config.scale).to(self.device)

    def _gate(self) -> None:
        options = self.options
        budget = options.budget and Budget(
            parameters=options.budget,
            of="recurrent",
            **({} if options.settle is None else {"settle": options.settle}),
        )
        gates, strength, method = options.method == "l0", options.strength, {}
        if not gates:
            own = options.method == "iss" and strength is not None
            method = {"method": GroupLasso(strength) if own else options.method}
            strength = None
        self.gated = l0gate.gate(
            self.model,
            example_inputs=torch.zeros(3, 2, dtype=torch.long, device=self.device),
            budget=budget,
            strength=strength,
            seed=options.seed,
            **method,
        )
        if gates:
            self.gate_optimizer = torch.optim.Adam(self.gated.log_alpha.values(), lr=GATE_RATE)

    @property
    def network(self) -> Any:
        """The model in training: dense, gated or small."""
        if self.small is not None:
            return self.small
        return self.gated if self.options.pruned else self.model

    @property
    def selected(self) -> bool:
        """Whether the neurons that stay have been selected."""
        if self.small is not None:
            return True
        return bool(self.gated.pruner.selected(self.gated.gates.read()))

    def train_step(self) -> None:
        """One update, on the next 35 steps of the text; sets `cut` if neurons are selected here."""
        position = self.step % self.per_epoch
        if position == 0:
            self.state = None
        begin = position * STEPS
        chunk = self.data[begin : begin + STEPS + 1]
        self.network.train()
        logits, state = self.network(chunk[:-1], self.state)
        self.state = _detached(state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten())
        self.loss += float(loss.detach())
        selected_before = self.options.pruned and self.selected
        if self.options.pruned and self.small is None:
            loss = loss + self.gated.penalty((self.step + 1) / self.total)
        self._update(loss)
        self.step += 1
        if self.options.pruned and not selected_before and self.selected:
            self._make_cut()

    def _update(self, loss: Tensor) -> None:
        """One step of gradient descent on the weights, and one of Adam on the gates."""
        weights = [p for p in (self.small or self.model).parameters() if p.requires_grad]
        for parameter in weights:
            parameter.grad = None
        if self.gate_optimizer is not None:
            self.gate_optimizer.zero_grad()
        # The published learning rate and clipping are for the sum over the time steps.
        (STEPS * loss).backward()
        nn.utils.clip_grad_norm_(weights, self.config.clip)
        rate = self._learning_rate()
        with torch.no_grad():
            for parameter in weights:
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
        if self.gate_optimizer is not None and self.small is None:
            self.gate_optimizer.step()

    def _learning_rate(self) -> float:
        if self.options.cosine:
            return 0.5 * (1.0 + math.cos(math.pi * self.step / self.total))
        epoch = self.step // self.per_epoch
        return float(self.config.decay ** max(0, epoch + 1 - self.config.constant))

    def _make_cut(self) -> None:
        """Record the perplexity right after the cut, before training continues."""
        self.cut = {"step": self.step, "valid": self.perplexity(self.corpus.valid)}
        self.cut["test"] = self.perplexity(self.corpus.test)
        if self.options.shrink_early:
            self.small = self.gated.shrink()
            self.state = None

    def end_epoch(self) -> dict[str, Any]:
        """Training and validation perplexity of the epoch and, with gates, the expected size."""
        row = {"train": math.exp(min(self.loss / self.per_epoch, 20.0))}
        row["valid"] = self.perplexity(self.corpus.valid)
        if self.options.pruned:
            pruner, state = self.gated.pruner, self.gated.gates.read()
            row["expected_size"] = float(pruner.expected_size(state).detach()) / pruner.cost.total
        self.loss = 0.0
        return row

    @torch.no_grad()
    def perplexity(self, ids: Tensor, network: Any = None) -> float:
        """The perplexity on a text of the model in training, or of `network`."""
        network = self.network if network is None else network
        network.eval()
        data, state, total = streams(ids, EVALUATION_BATCH).to(self.device), None, 0.0
        for begin in range(0, len(data) - 1, STEPS):
            chunk = data[begin : begin + STEPS + 1]
            logits, state = network(chunk[:-1], state)
            losses = nn.functional.cross_entropy(
                logits.flatten(0, 1), chunk[1:].flatten(), reduction="sum"
            )
            total += float(losses)
        return math.exp(total / ((len(data) - 1) * EVALUATION_BATCH))


def _detached(state: Any) -> Any:
    return state.detach() if isinstance(state, Tensor) else tuple(_detached(s) for s in state)
