"""Choosing which neurons to keep within a budget, and warnings about the gates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from l0gate._errors import warn
from l0gate._hard_concrete import HardConcrete
from l0gate.layout.cost import Cost


def choose(
    cost: Cost,
    limit: float,
    scores: Mapping[str, np.ndarray],
    candidates: Mapping[str, np.ndarray],
    norms: Mapping[str, np.ndarray] | None = None,
    groups: Sequence[Sequence[str]] = (),
    frozen: Sequence[str] = (),
    allowed: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """The neurons to keep within `limit`: sorted indices per axis.

    The candidates of all axes are sorted by their scores (n,), highest first; with hard-concrete
    gates the score is log_alpha. The longest prefix that fits is kept, then every later neuron that
    still fits. `candidates` (n,) is bool. Ties within an axis go to the larger norm. Ties between
    axes go to the neuron that is further to the front of its axis: rank over axis size.

    Axes in one group keep the same number of neurons, if necessary also some that are no
    candidates; their neurons of one rank are kept together, by the mean of their scores. Every axis
    keeps at least one neuron, and `frozen` axes keep all. The cost grows with the number of neurons
    of every axis, so in the end no further candidate fits.

    `allowed` has the numbers of neurons that an axis may keep, increasing; axes in one group have
    the same. Neurons are then kept in steps from one allowed number to the next, by the mean score
    of a step; the last step may include neurons that are no candidates.
    """
    order: dict[str, np.ndarray] = {}
    count: dict[str, int] = {}
    for axis, values in scores.items():
        norm = norms[axis] if norms is not None else np.zeros(len(values))
        ranked = np.lexsort((-norm, -values))
        stays = candidates[axis][ranked]
        order[axis] = np.concatenate([ranked[stays], ranked[~stays]])
        count[axis] = max(1, int(stays.sum()))
    grouped = {axis for group in groups for axis in group}
    together = [tuple(a for a in group if a not in frozen) for group in groups]
    alone = [(a,) for a in scores if a not in grouped and a not in frozen]
    units = [unit for unit in [*together, *alone] if unit]
    frozen_counts = {axis: len(scores[axis]) for axis in frozen}
    steps: list[tuple[float, float, int]] = []  # (-score, rank / size, unit), first is best
    ladders: list[Sequence[int]] = []  # the numbers of neurons that a unit may keep
    for u, unit in enumerate(units):
        longest = max(count[axis] for axis in unit)
        size = len(scores[unit[0]])
        every = range(1, size + 1) if allowed is None else allowed[unit[0]]
        ladders.append(every)
        # The neurons up to the first allowed number are always kept.
        for low, high in itertools.pairwise(every):
            if low < longest:
                level = np.mean([scores[axis][order[axis][low:high]] for axis in unit])
                steps.append((-float(level), low / size, u))
    steps.sort()

    def counts_after(taken: Sequence[int]) -> dict[str, int]:
        pruned = {axis: ladders[u][taken[u]] for u, unit in enumerate(units) for axis in unit}
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
    return {axis: np.sort(order[axis][: counts[axis]]) for axis in scores}


def pad(
    kept: Mapping[str, np.ndarray],
    groups: Sequence[Sequence[str]],
    scores: Mapping[str, np.ndarray],
    least: int = 0,
    allowed: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Add neurons so that all axes of a group keep equally many: as many as the largest, and at
    least `least`. With `allowed`, the numbers that an axis may keep, every axis keeps the next of
    them. The added ones have the highest scores of those not kept. Groups that share an axis count
    as one."""
    padded = dict(kept)
    alone = [(axis,) for axis in kept] if allowed is not None else []
    for group in merged_groups([*groups, *alone]):
        count = max(least, *(len(kept[axis]) for axis in group))
        if allowed is not None:
            count = min((n for n in allowed[group[0]] if n >= count), default=count)
        for axis in group:
            others = np.setdiff1d(np.arange(len(scores[axis])), kept[axis])
            best = others[np.argsort(-scores[axis][others], kind="stable")]
            more = best[: count - len(kept[axis])]
            padded[axis] = np.sort(np.concatenate([kept[axis], more]))
    return padded


def merged_groups(groups: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """The groups, where those that share an axis have become one.

    >>> merged_groups([("a", "b"), ("c", "d"), ("b", "e")])
    [('c', 'd'), ('a', 'b', 'e')]
    """
    merged: list[tuple[str, ...]] = []
    for group in groups:
        shared = [other for other in merged if set(other) & set(group)]
        merged = [other for other in merged if other not in shared]
        merged.append(tuple(dict.fromkeys(axis for part in [*shared, group] for axis in part)))
    return merged


def best_neuron(log_alpha: np.ndarray) -> int:
    """The index of the neuron to keep if all gates of an axis are closed."""
    return int(np.argmax(log_alpha))


def warn_about_gates(
    distribution: HardConcrete, log_alpha: np.ndarray, expected: float, wanted: float
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
    for bound, word in ((distribution.highest, "open"), (distribution.lowest, "closed")):
        stuck = float(np.mean(np.abs(log_alpha - bound) < 1e-6))
        if stuck > 0.95:
            warn(
                f"the gates are saturated: {stuck:.0%} of them sit at log_alpha = {bound:g}"
                f" ({word}), so their order says little about which neurons matter"
            )
