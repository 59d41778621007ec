"""Claim: without any training, reconstruction loses at most half the bits that a plain cut loses.

Three language models of characters are trained on the default text of `l0gate train` (2,000 steps),
then cut to 7/8, 3/4, 5/8 and 1/2 of their hidden neurons, the same share in every layer. A tenth of
the text is held out. The results are its bits per character: for neurons chosen by magnitude and by
`spectral`, cut plainly and with reconstruction, and for what `l0gate.calibrate` chooses by the loss
on the calibration data, which are the first 96,000 characters of the training text. "torch" is the
public call `gated.shrink(reconstruct=batches)` on the same model and data, without labels.

    python benchmarks/reconstruction_halves_what_a_cut_loses.py [--quick] [--nets FOLDER]
        [--json FILE] [--write]

`--nets` keeps the trained nets. `--write` fills the table of docs/without_training.md from the
results in benchmarks/results. Takes about twenty minutes on one thread.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import _scripts
import numpy as np
from _scripts import RESULTS, Report, Results
from _tables import Limit, Table, limits_table

NETS = {
    "LSTM 256": ("lstm", (256,)),
    "GRU 256": ("gru", (256,)),
    "LSTM 128 + 128": ("lstm", (128, 128)),
}
SHARES = (0.875, 0.75, 0.625, 0.5)
KEYS = ("net", "share")
NAME = Path(__file__).stem
PAGE = RESULTS.parents[1] / "docs" / "without_training.md"
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)
STREAMS, LENGTH, RIDGE = 32, 500, " (ridge 0.001)"
COLUMNS = ("magnitude", "magnitude, reconstructed", "spectral", "spectral, reconstructed")


def dense(options: Any, task: Any, path: Path) -> dict[str, np.ndarray]:
    """The parameters of the dense net, from the file or trained."""
    from l0gate.cli._training import start, train

    if not path.exists():
        training = start(task)
        for _ in train(task, training):
            if training.step % 500 == 0:
                print(f"{path.stem}: {training.step} steps", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **training.parameters)
    with np.load(path) as file:
        return dict(file)


def measure(results: Results, nets: Path, quick: bool) -> None:
    from l0gate import Budget, Pruner, calibrate
    from l0gate.cli import _text
    from l0gate.cli._options import Options
    from l0gate.cli._training import evaluate
    from l0gate.layout.cost import Cost
    from l0gate.reference import second_moments

    corpus = _text.python_topics()
    for name, (cell, hidden) in list(NETS.items())[: 1 if quick else None]:
        options = Options(cell, hidden, 64, None, None, "numpy", 2000, 32, 64, 0, 8e-3, 0.06)
        task, layout = options.task(corpus), options.chain.layout
        parameters = dense(options, task, nets / f"{name}.npz")
        known = corpus.splits["train"][: STREAMS * LENGTH * 6]
        moments: Any = {}
        for part in known.reshape(-1, STREAMS, LENGTH):
            own = second_moments(task.net, parameters, part.T)
            moments = {key: moments.get(key, 0.0) + value for key, value in own.items()}

        def bits(net: Any, tokens: Any, task: Any = task) -> float:
            return evaluate(task.net, net, tokens, STREAMS, task.length) / math.log(2)

        for share in SHARES[1:2] if quick else SHARES:
            if results.has(net=name, share=share):
                continue
            sizes = layout.solve(parameters)
            counts = {axis: round(share * n) if axis != "x" else n for axis, n in sizes.items()}
            cost = Cost(layout, parameters, "parameters", "recurrent", task.backend)
            budget = Budget(parameters=int(cost.at(counts)), of="recurrent")
            held_out: list[float] = []

            def errors(
                candidates: Any, known: Any = known, into: list[float] = held_out
            ) -> list[float]:
                into += [bits(net, corpus.splits["test"]) for net in candidates]
                return [bits(net, known) for net in candidates]

            pruner = Pruner(
                layout, budget, method="spectral", freeze=["x"], equal=equal_axes(counts)
            )
            found = calibrate(pruner, parameters, moments, errors)
            of = dict(zip(found.errors, held_out, strict=True))
            row = {"net": name, "share": share, "kept": counts["h0"]}
            row["dense"] = bits(parameters, corpus.splits["test"])
            for column in COLUMNS:
                row[column] = of.get(column, of.get(column + RIDGE))
            row["chosen"], row["choice"] = of[found.chosen], found.chosen
            row["torch"] = bits(
                in_torch(cell, hidden, parameters, budget, known), corpus.splits["test"]
            )
            print(row, flush=True)
            results.add(row)


def equal_axes(counts: Any) -> list[list[str]]:
    """All hidden axes, as one group: every layer keeps the same number of neurons."""
    hidden = [axis for axis in counts if axis != "x"]
    return [hidden] if len(hidden) > 1 else []


def in_torch(
    cell: str, hidden: tuple[int, ...], parameters: Any, budget: Any, known: np.ndarray
) -> dict[str, np.ndarray]:
    """The parameters of the small model that the public call for torch returns."""
    import torch
    from torch import nn

    import l0gate

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            vocabulary, width = parameters["embedding.weight"].shape
            self.embedding = nn.Embedding(vocabulary, width)
            kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
            self.rnn = kind(width, hidden[0], num_layers=len(hidden))
            self.decoder = nn.Linear(hidden[0], vocabulary)

        def forward(self, tokens: Any) -> Any:
            return self.decoder(self.rnn(self.embedding(tokens))[0])

    model = Model().eval()
    model.load_state_dict({name: torch.tensor(array) for name, array in parameters.items()})
    batches = [torch.tensor(part.T).long() for part in known.reshape(-1, STREAMS, LENGTH)]
    options = {"freeze": ["x"], "equal": True, "distill": "kl", "method": "spectral"}
    gated = l0gate.gate(model, example_inputs=batches[0][:5, :4], budget=budget, **options)
    small = gated.shrink(reconstruct=batches)
    print(small.calibration, flush=True)
    return {name: tensor.numpy() for name, tensor in small.state_dict().items()}


def tables(report: Report) -> list[Table]:
    heads = ("net", "dense", "kept", "magnitude", "+ reconstruction")
    heads += ("spectral", "+ reconstruction", "chosen", "in torch")
    names = ("dense", "kept", *COLUMNS, "chosen", "torch")
    rows = [
        (row["net"], *(row[n] if n == "kept" else f"{row[n]:.3f}" for n in names))
        for row in report["rows"]
    ]
    return [Table("", heads, rows)]


def limits(report: Report) -> list[Limit]:
    """The largest part of a plain cut's loss that remains, per way to call it."""
    found = []
    for column, what in (("chosen", "NumPy"), ("torch", "torch")):
        parts = [
            (row[column] - row["dense"]) / (row["magnitude"] - row["dense"])
            for row in report["rows"]
        ]
        what = f"{what}: part of the loss that remains"
        found.append(Limit(what, max(parts, default=math.nan), at_most=0.5))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one net, one cut")
    parser.add_argument("--nets", type=Path, help="a folder for the trained nets")
    parser.add_argument("--json", type=Path, help="results file; resumes an interrupted run")
    parser.add_argument("--write", action="store_true", help="only write the table of the page")
    options = parser.parse_args()
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(filled(text, _scripts.read(RESULTS / f"{NAME}.json")), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "rows.json"
        measure(Results(path, KEYS), options.nets or Path(folder), options.quick)
        report = _scripts.read(path)
    for table in [*tables(report), limits_table(limits(report))]:
        print(f"\n{table.text()}")


def filled(page: str, report: Report) -> str:
    """The page with the table of the results."""
    table = tables(report)[0].markdown()
    return BLOCK.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page)


if __name__ == "__main__":
    main()
