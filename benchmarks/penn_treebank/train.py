"""Train, prune and test one language model on Penn TreeBank, as a row of the table.

    python benchmarks/penn_treebank/train.py --data FOLDER --model small
    python benchmarks/penn_treebank/train.py --data FOLDER --model small --method l0 --budget 0.285
    python benchmarks/penn_treebank/train.py --data FOLDER --model small --method direct \\
        --sizes 129 82 132

Models: Zaremba, Sutskever and Vinyals (arXiv 1409.2329), two LSTM layers, 35 steps, batches of 20,
plain SGD with decay, clipped gradients. Methods: `dense`; `l0` with a budget, or with `--strength`
as published; the other methods of `l0gate methods list`; and `direct`, which trains a net of the
given sizes (embedding, first and second layer). Gates have Adam of their own. With
`--shrink-early` the closed neurons are removed when they are chosen, and the small net trains on.

Runs on a CPU or, with `--device cuda`, on a GPU. Checkpoints are written every minute and at the
end of every epoch; the same command goes on from the last, with the same numbers as if it had not
been stopped. The result is a JSON file in `--out`, with everything needed to run it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import l0gate
from l0gate import Budget, L0GateError
from l0gate._errors import check
from l0gate.files import write_atomically
from l0gate.methods import GroupLasso
from l0gate.npz import pack, unpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _measure import machine

HERE = Path(__file__).resolve().parent
STEPS, BATCH, EVALUATION_BATCH = 35, 20, 10
GATE_RATE = 0.01  # of Adam, for the gates
EVERY = 60.0  # seconds between checkpoints


@dataclass(frozen=True)
class Model:
    """Sizes and schedule of one of the models."""

    hidden: int
    dropout: float
    epochs: int
    constant: int  # epochs before the learning rate falls
    decay: float
    clip: float
    scale: float  # weights start uniform in [-scale, scale]


MODELS = {
    "small": Model(200, 0.0, 8, 4, 0.5, 5.0, 0.1),
    "wide-small": Model(400, 0.35, 8, 4, 0.5, 5.0, 0.1),
    "medium": Model(650, 0.5, 39, 6, 1 / 1.2, 5.0, 0.05),
    "large": Model(1500, 0.65, 55, 14, 1 / 1.15, 10.0, 0.04),
    "tiny": Model(8, 0.1, 2, 1, 0.5, 5.0, 0.1),  # for tests
}


@dataclass(frozen=True)
class Options:
    """What decides the numbers of a run."""

    model: str
    method: str = "dense"
    budget: float | None = None
    strength: float | None = None
    sizes: tuple[int, int, int] | None = None
    seed: int = 1
    epochs: int | None = None
    shrink_early: bool = False
    settle: float | None = None
    cosine: bool | None = None

    def __post_init__(self) -> None:
        check(self.model in MODELS, f"`--model` is {self.model!r}; allowed: {', '.join(MODELS)}")
        direct = self.method == "direct"
        check(direct == (self.sizes is not None), "`--sizes` and `--method direct` go together")
        budget, strength = self.budget is not None, self.strength is not None
        allowed, what = {
            "l0": (budget != strength, "either `--budget` or `--strength`"),
            "iss": (
                budget,
                "`--budget`, and `--strength` where it is to have another than its own",
            ),
            "dense": (not (budget or strength), "no budget and no strength"),
            "direct": (not (budget or strength), "no budget and no strength"),
        }.get(self.method, (budget and not strength, "`--budget`"))
        check(allowed, f"`--method` is {self.method!r}; it takes {what}")
        check(
            self.settle is None or budget,
            f"`--settle` is {self.settle}; it needs a `--budget`, whose cut it times",
        )
        check(
            self.budget is None or 0 < self.budget <= 1,
            f"`--budget` is {self.budget}; it must be above 0 and at most 1, the part of the"
            " recurrent parameters that stays",
        )

    @property
    def pruned(self) -> bool:
        return self.method not in ("dense", "direct")

    @property
    def name(self) -> str:
        parts = [self.model, self.method]
        if self.budget is not None:
            parts.append(f"{self.budget:g}")
        if self.strength is not None:
            parts.append(f"strength{self.strength:g}")
        if self.settle is not None:
            parts.append(f"settle{self.settle:g}")
        if self.sizes is not None:
            parts.append("x".join(map(str, self.sizes)))
        parts += ["early"] * self.shrink_early
        parts += [f"{self.epochs}epochs"] * (self.epochs is not None)
        parts += ["cosine"] * bool(self.cosine)
        return "-".join([*parts, f"seed{self.seed}"])


class LanguageModel(nn.Module):
    """Embedding, one LSTM of two layers or two of one, decoder, with dropout between all."""

    def __init__(self, words: int, sizes: tuple[int, int, int], dropout: float, scale: float):
        super().__init__()
        embedding, first, second = sizes
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(words, embedding)
        if first == second:
            self.rnn: nn.Module = nn.LSTM(embedding, first, num_layers=2, dropout=dropout)
        else:
            self.rnn = Stack(nn.LSTM(embedding, first), nn.Dropout(dropout), nn.LSTM(first, second))
        self.decoder = nn.Linear(second, words)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-scale, scale)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.rnn(self.dropout(self.embedding(x)), state)
        return self.decoder(self.dropout(y)), state


class Stack(nn.Module):
    """Two layers of different sizes, called as one; the state is a pair of theirs."""

    def __init__(self, first: nn.Module, between: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.between, self.second = first, between, second

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        before = (None, None) if state is None else state
        y, one = self.first(x, before[0])
        y, two = self.second(self.between(y), before[1])
        return y, (one, two)


# Data ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Word ids of the three parts; a line ends with <eos>."""

    train: Tensor
    valid: Tensor
    test: Tensor
    words: int

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        parts = {}
        for name in ("train", "valid", "test"):
            found = sorted(path for path in folder.glob(f"*{name}*") if path.is_file())
            check(
                len(found) == 1,
                f"`--data` is '{folder}', where {len(found)} files have {name!r} in their names; it"
                " must be one",
            )
            parts[name] = found[0].read_text(encoding="utf-8").replace("\n", " <eos> ").split()
        vocabulary = {word: i for i, word in enumerate(sorted(set(parts["train"])))}
        unknown = {w for part in parts.values() for w in part if w not in vocabulary}
        check(not unknown, f"`--data`: words that training never saw: {sorted(unknown)[:5]}")
        ids = {name: torch.tensor([vocabulary[w] for w in part]) for name, part in parts.items()}
        return cls(**ids, words=len(vocabulary))


def streams(ids: Tensor, batch: int) -> Tensor:
    """(steps, batch): the text cut into parallel streams."""
    steps = len(ids) // batch
    return ids[: steps * batch].reshape(batch, steps).T.contiguous()


# Training -----------------------------------------------------------------------------------------


class Run:
    """One run from its start, or from a checkpoint, to its result."""

    def __init__(self, options: Options, corpus: Corpus, folder: Path, device: str = "cpu") -> None:
        self.options, self.corpus, self.device = options, corpus, device
        self.checkpoint = folder / f"{options.name}.checkpoint.npz"
        self.path = folder / f"{options.name}.json"
        self.config = MODELS[options.model]
        self.epochs = options.epochs or self.config.epochs
        self.data = streams(corpus.train, BATCH).to(device)
        self.per_epoch = -(-(len(self.data) - 1) // STEPS)
        self.total = self.per_epoch * self.epochs
        self.step, self.seconds, self.loss, self.state = 0, 0.0, 0.0, None
        self.history: list[dict[str, Any]] = []
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
        """What runs: the dense, the gated or the small model."""
        if self.small is not None:
            return self.small
        return self.gated if self.options.pruned else self.model

    def finish(self, say: Callable[[str], None] = print, stop_after: int | None = None) -> bool:
        """Train on; True once the result is written. `stop_after` steps it stops, for tests."""
        self._resume()
        started, left = time.perf_counter(), stop_after
        saved = started
        while self.step < self.total:
            if left == 0:
                return False
            left = None if left is None else left - 1
            before = time.perf_counter()
            self._train_step()
            self.seconds += time.perf_counter() - before
            ended = self.step % self.per_epoch == 0
            if ended:
                self._end_epoch(say)
            if ended or time.perf_counter() - saved > EVERY:
                self._save()
                saved = time.perf_counter()
                rest = self.seconds / self.step * (self.total - self.step)
                say(
                    f"{self.options.name}: step {self.step}/{self.total},"
                    f" {rest / 60:.0f} minutes of training left"
                )
        write_atomically(self.path, (json.dumps(self._result(), indent=2) + "\n").encode())
        self.checkpoint.unlink(missing_ok=True)
        return True

    def _train_step(self) -> None:
        config, network = self.config, self.network
        epoch, position = divmod(self.step, self.per_epoch)
        rate = config.decay ** max(0, epoch + 1 - config.constant)
        if self.options.cosine:
            rate = 0.5 * (1.0 + math.cos(math.pi * self.step / self.total))
        if position == 0:
            self.state = None
        begin = position * STEPS
        chunk = self.data[begin : begin + STEPS + 1]
        network.train()
        logits, state = network(chunk[:-1], self.state)
        self.state = _detached(state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten())
        self.loss += float(loss.detach())
        progress = (self.step + 1) / self.total
        chosen = self.options.pruned and self._chosen()
        if self.options.pruned and self.small is None:
            loss = loss + self.gated.penalty(progress)
        weights = [p for p in (self.small or self.model).parameters() if p.requires_grad]
        for parameter in weights:
            parameter.grad = None
        if self.gate_optimizer is not None:
            self.gate_optimizer.zero_grad()
        # The published rate and clipping are those of a sum over the time steps.
        (STEPS * loss).backward()
        nn.utils.clip_grad_norm_(weights, config.clip)
        with torch.no_grad():
            for parameter in weights:
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
        if self.gate_optimizer is not None and self.small is None:
            self.gate_optimizer.step()
        self.step += 1
        if self.options.pruned and not chosen and self._chosen():
            self._note_cut()

    def _chosen(self) -> bool:
        """Whether the neurons that stay are decided."""
        if self.small is not None:
            return True
        return bool(self.gated.pruner.selected(self.gated.gates.read()))

    def _note_cut(self) -> None:
        """What the model is worth right after the cut, before it trains on."""
        self.cut = {"step": self.step, "valid": self._perplexity(self.corpus.valid)}
        self.cut["test"] = self._perplexity(self.corpus.test)
        if self.options.shrink_early:
            self.small = self.gated.shrink()
            self.state = None

    def _end_epoch(self, say: Callable[[str], None]) -> None:
        train = math.exp(min(self.loss / self.per_epoch, 20.0))
        row = {"epoch": len(self.history) + 1, "train": train, "seconds": self.seconds}
        row["valid"] = self._perplexity(self.corpus.valid)
        if self.options.pruned:
            pruner, state = self.gated.pruner, self.gated.gates.read()
            row["expected_size"] = float(pruner.expected_size(state).detach()) / pruner.cost.total
        self.history.append(row)
        self.loss = 0.0
        say(
            f"{self.options.name}: epoch {row['epoch']}/{self.epochs}, perplexity"
            f" {row['train']:.1f} (train) {row['valid']:.1f} (valid)"
        )

    @torch.no_grad()
    def _perplexity(self, ids: Tensor, network: Any = None) -> float:
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

    # The result -----------------------------------------------------------------------------------

    def _result(self) -> dict[str, Any]:
        network, certificate = self.network, None
        if self.options.pruned:
            network = self.gated.shrink() if self.small is None else self.small
            certificate = network.certificate
        sizes = _sizes(network)
        recurrent = 4 * (sizes[1] * (sizes[0] + sizes[1]) + sizes[2] * (sizes[1] + sizes[2]))
        parameters = sum(p.numel() for p in network.parameters())
        result = {
            "options": dataclasses.asdict(self.options),
            "command": shlex.join(["python", "benchmarks/penn_treebank/train.py", *sys.argv[1:]]),
            "machine": machine() | {"device": _device_name(self.device)},
            "valid": self._perplexity(self.corpus.valid, network),
            "test": self._perplexity(self.corpus.test, network),
            "at_cut": self.cut,
            "sizes": sizes,
            "parameters": parameters,
            "parameters_without_embeddings": parameters - self.corpus.words * sizes[0],
            "recurrent_weights": recurrent,
            "multiply_adds": recurrent + sizes[2] * self.corpus.words,
            "training_seconds": self.seconds,
            "history": self.history,
        }
        if certificate is not None:
            result["certificate"] = {
                name: getattr(certificate, name)
                for name in ("max_abs_difference", "forced_open", "forced_closed")
            }
        return result

    # Checkpoints ----------------------------------------------------------------------------------

    def _job(self) -> dict[str, Any]:
        digest = [len(part) for part in (self.corpus.train, self.corpus.valid, self.corpus.test)]
        return {**json.loads(json.dumps(dataclasses.asdict(self.options))), "text": digest}

    def _save(self) -> None:
        tensors = dict(self._tensors())
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        arrays["rng"] = torch.get_rng_state().numpy()
        if self.device != "cpu":
            arrays["device_rng"] = torch.cuda.get_rng_state(self.device).numpy()
        for i, tensor in enumerate(_leaves(self.state)):
            arrays[f"state/{i}"] = tensor.cpu().numpy()
        manifest = {
            "format": "l0gate Penn TreeBank checkpoint",
            "job": self._job(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "history": self.history,
            "cut": self.cut,
            "small": self.small is not None,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.checkpoint, pack(arrays, manifest))

    def _resume(self) -> None:
        if self.step or not self.checkpoint.exists():
            return
        with self.checkpoint.open("rb") as file:
            arrays, manifest = unpack(file)
        check(
            _given(manifest.get("job")) == _given(self._job()),
            f"'{self.checkpoint}' is the checkpoint of another run: {manifest.get('job')}",
        )
        if self.options.pruned:
            self._restore(self.gated, "gated", arrays)
        else:
            self._restore(self.model, "model", arrays)
        if self.gate_optimizer is not None:
            for i, parameter in enumerate(self.gate_optimizer.param_groups[0]["params"]):
                own = {k: arrays.get(f"adam/{i}/{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
                if own["step"] is not None:
                    self.gate_optimizer.state[parameter] = {
                        k: torch.tensor(v, device="cpu" if k == "step" else self.device)
                        for k, v in own.items()
                    }
        if manifest["small"]:
            self.small = self.gated.shrink()
            self._restore(self.small, "small", arrays)
        leaves = [
            torch.tensor(arrays[f"state/{i}"], device=self.device)
            for i in range(sum(name.startswith("state/") for name in arrays))
        ]
        self.state = _like(_example_state(self.network), iter(leaves)) if leaves else None
        self.step, self.seconds, self.loss = (manifest[k] for k in ("step", "seconds", "loss"))
        self.history, self.cut = manifest["history"], manifest["cut"]
        torch.set_rng_state(torch.tensor(arrays["rng"]))
        if self.device != "cpu":
            torch.cuda.set_rng_state(torch.tensor(arrays["device_rng"]), self.device)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        kind, module = ("gated", self.gated) if self.options.pruned else ("model", self.model)
        parts: list[tuple[str, nn.Module]] = [(kind, module)]
        parts += [("small", self.small)] if self.small is not None else []
        for prefix, part in parts:
            for name, value in part.state_dict().items():
                yield f"{prefix}/{name}", value
        if self.gate_optimizer is not None:
            for i, parameter in enumerate(self.gate_optimizer.param_groups[0]["params"]):
                for key, value in self.gate_optimizer.state.get(parameter, {}).items():
                    yield f"adam/{i}/{key}", value

    def _restore(self, module: nn.Module, prefix: str, arrays: Mapping[str, Any]) -> None:
        start = f"{prefix}/"
        module.load_state_dict(
            {
                n.removeprefix(start): torch.tensor(a)
                for n, a in arrays.items()
                if n.startswith(start)
            }
        )


def _given(job: Any) -> Any:
    """Without what was not given: an older checkpoint knows fewer options."""
    return {k: v for k, v in job.items() if v is not None} if isinstance(job, dict) else job


def _detached(state: Any) -> Any:
    return state.detach() if isinstance(state, Tensor) else tuple(_detached(s) for s in state)


def _leaves(state: Any) -> list[Tensor]:
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [leaf for s in state for leaf in _leaves(s)]


def _like(example: Any, leaves: Iterator[Tensor]) -> Any:
    """A state of the same structure, from its tensors in order."""
    return next(leaves) if isinstance(example, Tensor) else tuple(_like(e, leaves) for e in example)


@torch.no_grad()
def _example_state(network: Any) -> Any:
    before = torch.get_rng_state()
    network.eval()
    device = next(network.parameters()).device
    _, state = network(torch.zeros(1, BATCH, dtype=torch.long, device=device))
    torch.set_rng_state(before)
    return state


def _sizes(network: Any) -> list[int]:
    """Embedding, first and second layer."""
    weights = dict(network.named_parameters())
    hidden = [w.shape[1] for name, w in weights.items() if "weight_hh" in name]
    return [weights["embedding.weight"].shape[1], *hidden]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of train, valid and test")
    parser.add_argument("--model", default="small", choices=[m for m in MODELS if m != "tiny"])
    parser.add_argument("--method", default="dense", help="dense, direct, l0 or another method")
    parser.add_argument("--budget", type=float, help="part of the recurrent parameters that stays")
    parser.add_argument(
        "--strength", type=float, help="of the penalty of l0, in place of a budget, or of iss"
    )
    parser.add_argument("--sizes", type=int, nargs=3, help="of a direct net")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="in place of the model's own")
    parser.add_argument(
        "--cosine",
        action="store_true",
        help="the learning rate falls from 1 to 0 in a cosine, for fewer epochs than the model's",
    )
    parser.add_argument("--settle", type=float, help="when to cut, as a part of training")
    parser.add_argument("--shrink-early", action="store_true", help="train on with the small net")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    try:
        options = Options(
            given.model,
            given.method,
            given.budget,
            given.strength,
            None if given.sizes is None else tuple(given.sizes),
            given.seed,
            given.epochs,
            given.shrink_early,
            given.settle,
            given.cosine or None,
        )
        run = Run(options, Corpus.read(given.data), given.out, given.device)
        if run.path.exists():
            print(f"'{run.path}' is there already")
            return 0
        run.finish(lambda text: print(text, flush=True))
    except L0GateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
