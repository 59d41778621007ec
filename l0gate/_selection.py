"""Choosing which neurons to keep within a budget, and warnings about the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from l0gate._errors import warn
from l0gate._hard_concrete import HardConcrete
from l0gate.layout.cost import Cost


def choose(
    cost: Cost,
    limit: float,
    log_alpha: Mapping[str, np.ndarray],
    candidates: Mapping[str, np.ndarray],
    norms: Mapping[str, np.ndarray] | None = None,
    groups: Sequence[Sequence[str]] = (),
    frozen: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """The neurons to keep within `limit`: sorted indices per axis.

    The candidates of all axes are sorted by log_alpha (n,), highest first. The longest prefix that
    fits is kept, then every later neuron that still fits. `candidates` (n,) is bool. Ties within an
    axis go to the larger norm; ties between axes to the smaller (rank in its axis / axis size).

    Axes in one group keep the same number of neurons, if necessary also some that are no
    candidates. Every axis keeps at least one neuron, and `frozen` axes keep all. The cost grows
    with the number of neurons of every axis, so in the end no further candidate fits.
    """
    order: dict[str, np.ndarray] = {}
    count: dict[str, int] = {}
    for axis, values in log_alpha.items():
        norm = norms[axis] if norms is not None else np.zeros(len(values))
        ranked = np.lexsort((np.arange(len(values)), -norm, -values))
        stays = candidates[axis][ranked]
        order[axis] = np.concatenate([ranked[stays], ranked[~stays]])
        count[axis] = max(1, int(stays.sum()))
    grouped = {axis for group in groups for axis in group}
    together = [tuple(a for a in group if a not in frozen) for group in groups]
    alone = [(a,) for a in log_alpha if a not in grouped and a not in frozen]
    units = [unit for unit in [*together, *alone] if unit]
    frozen_counts = {axis: len(log_alpha[axis]) for axis in frozen}
    steps: list[tuple[float, float, int]] = []  # (-log_alpha, rank / size, unit), first is best
    for u, unit in enumerate(units):
        longest = max(count[axis] for axis in unit)
        size = max(len(log_alpha[axis]) for axis in unit)
        # From 1: the first neuron of every axis is always kept.
        for rank in range(1, longest):
            level = np.mean([log_alpha[axis][order[axis][rank]] for axis in unit])
            steps.append((-float(level), rank / size, u))
    steps.sort()

    def counts_after(taken: Sequence[int]) -> dict[str, int]:
        pruned = {axis: 1 + taken[u] for u, unit in enumerate(units) for axis in unit}
        return frozen_counts | pruned

    def prefix(length: int) -> list[int]:
        taken = [0] * len(units)
        for _, _, u in steps[:length]:
            taken[u] += 1
        return taken

    low, high = 0, len(steps)
    while low < high:
        middle = (low + high + 1) // 2
        if cost.at(counts_after(prefix(middle))) <= limit:
            low = middle
        else:
            high = middle - 1
    taken = prefix(low)
    for _, _, u in steps[low:]:
        taken[u] += 1
        if cost.at(counts_after(taken)) > limit:
            taken[u] -= 1
    counts = counts_after(taken)
    return {axis: np.sort(order[axis][: counts[axis]]) for axis in log_alpha}


def pad(
    kept: Mapping[str, np.ndarray],
    groups: Sequence[Sequence[str]],
    log_alpha: Mapping[str, np.ndarray],
    least: int = 0,
) -> dict[str, np.ndarray]:
    """Add neurons so that all axes of a group keep equally many: as many as the largest, and at
    least `least`. The added ones have the highest log_alpha of those not kept."""
    padded = dict(kept)
    for group in groups:
        count = max(least, *(len(kept[axis]) for axis in group))
        for axis in group:
            others = np.setdiff1d(np.arange(len(log_alpha[axis])), kept[axis])
            best = others[np.argsort(-log_alpha[axis][others], kind="stable")]
            more = best[: count - len(kept[axis])]
            padded[axis] = np.sort(np.concatenate([kept[axis], more]))
    return padded


def best_neuron(log_alpha: np.ndarray) -> int:
    """The index of the neuron to keep if all gates of an axis are closed."""
    return int(np.argmax(log_alpha))


def warn_of_stall(
    gates: HardConcrete, log_alpha: np.ndarray, expected: float, wanted: float
) -> None:
    """Warn if the undecided gates are far above the budget, or nearly all at a bound of log_alpha.

    `expected` and `wanted` are sizes as fractions of the dense model.
    """
    if len(log_alpha) == 0:
        return
    if expected > wanted + 0.1:
        warn(
            f"the gates stalled: the expected size is {expected:.1%} of the dense model and the"
            f" budget {wanted:.1%}, so the selection closes much that was open; give the gates"
            " a larger learning rate, more steps, or raise `Budget.rate`"
        )
    for bound, word in ((gates.highest, "open"), (gates.lowest, "closed")):
        stuck = float(np.mean(np.abs(log_alpha - bound) < 1e-6))
        if stuck > 0.95:
            warn(
                f"the gates are saturated: {stuck:.0%} of them sit at log_alpha = {bound:g}"
                f" ({word}), so their order says little about which neurons matter"
            )
