"""Claim: a training step of the NumPy backend's compiled LSTM is no slower than torch's.

For each shape, one layer forward and backward with all gradients (input, both weights, biases) in
`torch.nn.LSTM`, in `reference.Net` with numba and in `reference.Net` with plain NumPy; and the
scans alone, which is the part that numba compiles: recurrent products and everything pointwise.
All in one process, on so many threads each. The engines take turns, with a pause between them, as
threads of the one before may still spin for work.

    python benchmarks/training_step.py [--threads 1] [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES = [  # steps, batch, hidden
    (64, 16, 64),
    (64, 32, 64),
    (64, 64, 64),
    (64, 16, 128),
    (64, 32, 128),
    (64, 32, 256),
    (64, 64, 256),
    (64, 16, 512),
    (64, 32, 512),
]
REPEATS = 3


def steps(T: int, B: int, H: int) -> dict[str, Callable[[], Any]]:
    """The measured calls, by name."""
    import numpy as np
    import torch

    from l0gate.reference import Net, _cells, _jit

    rng = np.random.default_rng(0)
    net = Net([{"type": "lstm", "name": "rnn"}])
    parameters = net.init(rng, input_size=H, sizes={"rnn": H}, dtype=np.float32)
    x, dy = rng.standard_normal((2, T, B, H)).astype(np.float32)
    zero = np.zeros((B, H), np.float32)
    gx = (x.reshape(-1, H) @ parameters["rnn.weight_ih_l0"].T).reshape(T, B, 4 * H)
    weight_hh = parameters["rnn.weight_hh_l0"]

    model = torch.nn.LSTM(H, H)
    x_torch, dy_torch = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def torch_step() -> None:
        for parameter in (x_torch, *model.parameters()):
            parameter.grad = None
        model(x_torch)[0].backward(dy_torch)

    def net_step(engine: str) -> None:
        _, _, tape = net.forward(parameters, x, engine=engine)
        net.backward(tape, dy)

    def scan_step(scans: Any) -> None:
        y, _, _, tape = scans.lstm_scan(gx, weight_hh, zero, zero)
        scans.lstm_scan_backward(dy, zero, zero, weight_hh, y, zero, zero, tape)

    return {
        "torch": torch_step,
        "numba": lambda: net_step("numba"),
        "numpy": lambda: net_step("numpy"),
        "scans_numba": lambda: scan_step(_jit),
        "scans_numpy": lambda: scan_step(_cells),
    }


def milliseconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The least of `REPEATS` in every round, by name."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.05)
            call()
            repeats = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                call()
                repeats.append(1e3 * (time.perf_counter() - start))
            times[name].append(min(repeats))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)  # before NumPy is imported

    import torch

    from l0gate.reference import _jit

    torch.set_num_threads(options.threads)
    _jit.set_num_threads(options.threads)
    print(f"milliseconds on {options.threads} threads; speed: torch's time by ours")
    print("   T   B    H    torch    numba    numpy   speed  | scans: numba    numpy")
    rows = []
    for T, B, H in SHAPES:
        times = milliseconds(steps(T, B, H), options.rounds)
        pairs = zip(times["torch"], times["numba"], strict=True)
        speed = statistics.median(theirs / ours for theirs, ours in pairs)
        median = {name: statistics.median(values) for name, values in times.items()}
        rows.append({"steps": T, "batch": B, "hidden": H, "speed": speed, "ms": median})
        print(
            f"{T:4} {B:3} {H:4} {median['torch']:8.2f} {median['numba']:8.2f} "
            f"{median['numpy']:8.2f} {speed:7.2f}  | {median['scans_numba']:12.2f} "
            f"{median['scans_numpy']:8.2f}",
            flush=True,
        )
    mean = statistics.geometric_mean(row["speed"] for row in rows)
    print(f"geometric mean of the speed beside torch: {mean:.2f}")
    if options.json:
        report = {
            "threads": options.threads,
            "rounds": options.rounds,
            "geometric_mean_speed": mean,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
