"""Cases for the compiled scans, how results are compared, and a naive scan with autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from l0gate.reference._scan import previous_states
from l0gate.reference.compiled import scans

DTYPES = [np.float32, np.float64]


RESET = [True, False]


TOLERANCE: dict[Any, dict[str, float]] = {
    np.dtype(np.float32): {"rtol": 1e-4, "atol": 1e-6},
    np.dtype(np.float64): {"rtol": 1e-10, "atol": 1e-12},
}


def assert_close(found, expected, dtype):
    """Rounding goes with the terms of a sum, so with the array, not with what cancels."""
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        rtol, atol = TOLERANCE[np.dtype(dtype)].values()
        np.testing.assert_allclose(a, b, rtol, atol * np.abs(b).max(initial=1.0))


# name: (blocks, states, T, B, H, lengths, reverse)
CASES = {
    "plain": (5, 3, 7, None, False),
    "reverse": (4, 2, 16, None, True),
    "lengths": (6, 12, 9, "random", False),
    "reverse lengths": (6, 12, 9, "random", True),
    "all lengths 0": (3, 2, 4, "zero", True),
    "one step": (1, 1, 1, None, False),
    "no steps": (0, 2, 3, None, False),
    "no sequences": (3, 0, 3, None, True),
    "wide": (3, 17, 70, "random", False),
}


def make(case, blocks, dtype, seed=0):
    """gx, weight_hh, states and gradients of a case, and the options of its scan."""
    T, B, H, lengths, reverse = case
    rng = np.random.default_rng(seed)

    def random(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(dtype)

    if lengths is not None:
        lengths = rng.integers(0, T + 1, B) if lengths == "random" else np.zeros(B, np.int64)
    return {
        "gx": random(T, B, blocks * H),
        "weight_hh": random(blocks * H, H, scale=H**-0.5),
        "h0": random(B, H),
        "c0": random(B, H),
        "bias_hn": random(H),
        "dy": random(T, B, H),
        "dh": random(B, H),
        "dc": random(B, H),
    }, {"lengths": lengths, "reverse": reverse}


def lstm(scans, arrays, options):
    """y, h, c and the gradients of gx, h0, c0."""
    a = arrays
    y, h, c, tape = scans.lstm_scan(a["gx"], a["weight_hh"], a["h0"], a["c0"], **options)
    gradients = scans.lstm_scan_backward(
        a["dy"], a["dh"], a["dc"], a["weight_hh"], y, a["h0"], a["c0"], tape, **options
    )
    return y, h, c, *gradients


def gru(scans, arrays, options, reset_after):
    """y, h and the gradients of gx, h0, weight_hh and (with reset_after) bias_hn."""
    a, H = arrays, arrays["h0"].shape[1]
    y, h, tape = scans.gru_scan(
        a["gx"], a["weight_hh"], a["bias_hn"], a["h0"], reset_after, **options
    )
    dgx, dgh, dh0 = scans.gru_scan_backward(
        a["dy"], a["dh"], a["weight_hh"], a["bias_hn"], y, a["h0"], tape, reset_after, **options
    )
    h_prev = previous_states(y, a["h0"], options["lengths"], options["reverse"])
    read_n = h_prev if reset_after else tape[0][..., :H] * h_prev
    dweight_rz = np.einsum("tbi,tbj->ij", dgh[..., : 2 * H], h_prev)
    dweight_n = np.einsum("tbi,tbj->ij", dgh[..., 2 * H :], read_n)
    dweight = np.concatenate([dweight_rz, dweight_n])
    dbias = dgh[..., 2 * H :].sum((0, 1), dtype=dgh.dtype) if reset_after else 0 * a["bias_hn"]
    return y, h, dgx, dh0, dweight, dbias


def naive(arrays, options, step, parameters, states):
    """Every sequence on its own, step by step; gradients by autograd. All in float64."""
    tensors = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for name, array in arrays.items()
    }
    gx = tensors["gx"]
    T, B, H = arrays["dy"].shape
    y = [[torch.zeros(H, dtype=torch.float64)] * B for _ in range(T)]
    last = []
    for b in range(B):
        steps = range(T if options["lengths"] is None else options["lengths"][b])
        state = [tensors[name][b] for name in states]
        for t in reversed(steps) if options["reverse"] else steps:
            state = step(gx[t, b], tensors, *state)
            y[t][b] = state[0]
        last.append(state)
    out = torch.stack([torch.stack(row) for row in y]) if T and B else torch.zeros(T, B, H)
    final = [
        torch.stack([state[k] for state in last]) if B else torch.zeros(0, H)
        for k in range(len(states))
    ]
    total = (out * tensors["dy"].detach()).sum()
    for array, name in zip(final, ("dh", "dc"), strict=False):
        total = total + (array * tensors[name].detach()).sum()
    wanted = [tensors[name] for name in parameters]
    total = total + 0 * sum(x.sum() for x in wanted)  # so that each has a gradient
    gradients = torch.autograd.grad(total, wanted)
    return [x.detach().numpy() for x in (out, *final, *gradients)]


# Every scan, forward and backward, as a function of arrays and options.
RUNS = {
    "lstm": (4, lambda arrays, options: lstm(scans, arrays, options)),
    "gru": (3, lambda arrays, options: gru(scans, arrays, options, True)),
    "gru, reset before": (3, lambda arrays, options: gru(scans, arrays, options, False)),
}
