"""A Keras model, pruned, as a C header with int8 weights.

python examples/microcontroller/motion.py motion.keras
python examples/microcontroller/prune.py motion.keras motion.h
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import motion
import numpy as np
import torch

import l0gate

MAIN = Path(__file__).with_name("main.c")


def prune(source: str, inputs: Callable[[], np.ndarray], keep: float, steps: int):
    """A net with `keep` of the parameters, taught by the one in the file: no labels are needed.

    `inputs` returns a batch of inputs (B, T, features) like those that the net will meet.
    """
    model = l0gate.import_(source).to_torch()
    budget = l0gate.Budget(parameters=keep, round_to=8)  # the header computes eight at a time
    gated = l0gate.gate(
        model,
        example_inputs=torch.from_numpy(inputs()),
        budget=budget,
        distill=True,
        warm_start=True,
    )
    optimizer = torch.optim.Adam(gated.param_groups(2e-3))
    for step in range(steps):
        loss = gated.distill(torch.from_numpy(inputs())) + gated.penalty(step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gated.shrink()


def classify(header: str, x: np.ndarray) -> list[str] | None:
    """What `main.c` prints for the readings x (T, 3); None if there is no C compiler."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "main")
        include = os.path.dirname(os.path.abspath(header))
        options = ["-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I", include]
        command = [*compiler.split(), *options, str(MAIN), "-o", program, "-lm"]
        subprocess.run(command, check=True)
        lines = "\n".join(" ".join(f"{value:.6f}" for value in reading) for reading in x)
        done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="the Keras file of a classifier, as motion.py writes one")
    parser.add_argument("target", help="the header to write; main.c includes motion.h")
    parser.add_argument("--keep", type=float, default=0.3, help="the part of the parameters kept")
    parser.add_argument("--steps", type=int, default=400, help="steps of training")
    given = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    small = prune(
        given.source, lambda: motion.readings(rng, 32, 4 * motion.RATE)[0], given.keep, given.steps
    )
    proof = l0gate.export(small, given.target, "c", name="motion", int8=True)
    print(f"proved: {proof}")

    x, movement = motion.readings(np.random.default_rng(2), 1, 120 * motion.RATE)
    names = [motion.CLASSES[number] for number in movement[0]]
    dense = l0gate.import_(given.source)
    found = {"dense, in Python": [motion.CLASSES[i] for i in dense(x)[0][0].argmax(axis=-1)]}
    in_c = classify(given.target, x[0])
    if in_c is None:
        print("no C compiler (CC, cc, gcc, clang) is here to run main.c")
    else:
        found["small, int8, in C"] = in_c
    for what, answers in found.items():
        right = np.mean([a == b for a, b in zip(answers, names, strict=True)])
        print(f"{what}: {right:.1%} of the readings right")
    weights = sum(parameter.numel() for parameter in small.parameters())
    before = sum(array.size for array in dense.parameters.values())
    print(f"{before:,} parameters in the Keras file, {weights:,} in the header")


if __name__ == "__main__":
    main()
