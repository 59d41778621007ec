"""Claim: a training step of the NumPy backend is about as fast as torch's, gates included.

A step runs one layer forward over 64 time steps and computes the squared error and the gradients of
all parameters: with `Net.loss_and_gradients` in numba and in plain NumPy, and with
`torch.nn.LSTM`/`GRU`. Loss and gradients must agree to 1e-4 before anything is timed. The geometric
mean of the speed over the grid is at least 0.9 times that of torch, on one thread and on two.

The work that gates add to a step of the NumPy backend is timed separately; it does not depend on
the number of time steps. It is sampling noise, multiplying the weights by the gates
(`Pruner.gate`), the backward pass of that (`Pruner.pullback`), the gradient of the penalty, and the
update of the multipliers. By the geometric mean, it takes at most a tenth of the time of a step
with numba.

    python benchmarks/training_steps_keep_up_with_torch.py [--quick] [--threads 1 2] [--seconds 1]
        [--json FILE] [--plot FILE]

Takes about three minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _plots
import _scripts
import _timing
from _scripts import Report, Results
from _tables import Limit, Table
from _timing import mean

CELLS, HIDDEN, BATCHES, LENGTH = ("lstm", "gru"), (64, 128, 256, 512), (16, 32, 64), 64
SIDES = ("l0gate", "numpy", "torch")
KEYS = ("cell", "hidden", "batch", "threads")


def steps(cell: str, hidden: int, batch: int, threads: int) -> dict[str, Callable[[], Any]]:
    """The functions to time. Those of an engine return the loss and the gradients by name."""
    import numpy as np
    import torch
    from _nets import Spec
    from _runtimes import Torch

    import l0gate

    spec = Spec(cell, hidden, (hidden,))
    net, parameters, x = spec.net(), spec.parameters(), spec.x(LENGTH, batch)
    targets = np.tanh(x[::-1]).copy()

    torch.set_num_threads(threads)
    (model,) = Torch(spec, parameters).modules
    model.train()
    x_torch, targets_torch = torch.from_numpy(x), torch.from_numpy(targets)

    def in_torch() -> tuple[float, dict[str, Any]]:
        model.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x_torch)[0], targets_torch)
        loss.backward()
        return float(loss.detach()), {
            f"rnn.{n}": p.grad.numpy() for n, p in model.named_parameters()
        }

    def in_net(engine: str) -> tuple[float, dict[str, Any]]:
        return net.loss_and_gradients(parameters, x, targets, loss="mse", engine=engine)[:2]

    layout = getattr(l0gate.Layout, cell)(embedding=None, decoder=None)
    # Outputs that are returned would not be pruned, but the time does not depend on that.
    pruner = l0gate.Pruner(layout, budget=l0gate.Budget(parameters=0.5))
    state, rng = pruner.init(parameters), pruner.backend.rng(0)

    def gates() -> None:
        noise, _ = pruner.noise(state, rng)
        folded = pruner.gate(parameters, state, noise)
        pruner.pullback(parameters, state, noise, folded)  # any arrays of these shapes
        pruner.penalty_gradient(state, 0.1)
        pruner.update(state, 0.1)

    return {
        "l0gate": lambda: in_net("numba"),
        "numpy": lambda: in_net("numpy"),
        "torch": in_torch,
        "gates": gates,
    }


def check(calls: dict[str, Callable[[], Any]]) -> None:
    """Check that all engines return the same loss and gradients."""
    import numpy as np

    loss, gradients = calls["torch"]()
    gradients = {name: gradient.copy() for name, gradient in gradients.items()}
    for engine in ("l0gate", "numpy"):
        ours, own = calls[engine]()
        np.testing.assert_allclose(ours, loss, rtol=1e-4)
        for name, gradient in gradients.items():
            scale = np.abs(gradient).max()
            np.testing.assert_allclose(own[name], gradient, rtol=0, atol=1e-4 * scale)


def measure(results: Results, threads: int, options: argparse.Namespace) -> None:
    sizes, batches = (HIDDEN[:2], BATCHES[:1]) if options.quick else (HIDDEN, BATCHES)
    for cell in CELLS:
        for hidden in sizes:
            for batch in batches:
                key = {"cell": cell, "hidden": hidden, "batch": batch, "threads": threads}
                if results.has(**key):
                    continue
                calls = steps(cell, hidden, batch, threads)
                check(calls)
                pause = 0.02 * (threads > 1)
                times = _timing.in_turns(calls, seconds=options.seconds, pause=pause)
                row = key | _timing.summary(times, "l0gate")
                del row["faster"]["gates"]
                row["gates"] = _timing.times_faster(times, "l0gate", "gates")  # as a part of a step
                results.add(row)
                print(
                    f"{cell:4} {hidden:3} x {batch:2}, {threads} threads: "
                    + ", ".join(f"{name} {us / 1e3:.2f} ms" for name, us in row["us"].items())
                    + f"; beside torch {row['faster']['torch']:.2f}",
                    flush=True,
                )


def tables(report: Report) -> list[Table]:
    columns = (*KEYS, "numba, ms", "NumPy", "torch", "numba beside torch", "gates, % of a step")
    body = [
        [
            *(row[key] for key in KEYS),
            *(row["us"][side] / 1e3 for side in SIDES),
            row["faster"]["torch"],
            100 * row["gates"],
        ]
        for row in report["rows"]
    ]
    return [Table(f"A training step over {LENGTH} time steps", columns, body)]


def limits(report: Report) -> list[Limit]:
    speeds = {
        threads: [row["faster"]["torch"] for row in report["rows"] if row["threads"] == threads]
        for threads in (1, 2)
    }
    shares = [row["gates"] for row in report["rows"]]
    return [
        Limit("training, 1 thread, beside torch", mean(speeds[1]), at_least=0.9),
        Limit("training, 2 threads, beside torch", mean(speeds[2]), at_least=0.9),
        Limit("gates, part of a training step", mean(shares), at_most=0.1),
    ]


def plot(path: Path, report: Report) -> None:
    """The speed relative to torch over hidden size, and the part of a step that gates take."""
    made, axes = _plots.figure(3)
    for cell, axis in zip(CELLS, axes[:2], strict=True):
        for batch in BATCHES:
            for threads, style in ((1, "o-"), (2, "s--")):
                rows = [
                    row
                    for row in report["rows"]
                    if (row["cell"], row["batch"], row["threads"]) == (cell, batch, threads)
                ]
                label = f"batch {batch}, {threads} thread{'s' * (threads > 1)}"
                color = f"C{BATCHES.index(batch)}"
                hidden = [row["hidden"] for row in rows]
                if rows:
                    ratios = [row["faster"]["torch"] for row in rows]
                    axis.plot(hidden, ratios, style, color=color, label=label)
                if rows and threads == 1:
                    share = [100 * row["gates"] for row in rows]
                    name = f"{cell.upper()}, batch {batch}"
                    line = "o-" if cell == "lstm" else "s--"
                    axes[2].plot(hidden, share, line, color=color, label=name)
        axis.axhline(1, color="black", lw=1)
        axis.set(title=f"{cell.upper()}: speed beside torch", ylim=(0, None))
    axes[2].set(title="gates, % of a step on one thread", ylim=(0, None))
    for axis in axes:
        axis.set(xlabel="hidden size")
        _plots.log_axes(axis, x=HIDDEN)
    for axis in axes[::2]:
        axis.legend(frameon=False, fontsize=8)
    _plots.save(made, path)


def main() -> None:
    _scripts.run(sys.modules[__name__], _scripts.parser(__doc__, threads=(1, 2)).parse_args())


if __name__ == "__main__":
    main()
