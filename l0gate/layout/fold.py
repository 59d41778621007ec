"""Multiplying gates into parameters, removing neurons, and weight norms per neuron."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import combinations

import numpy as np

from l0gate._backend import Array, Backend, Parameters, zeros
from l0gate._errors import L0GateError
from l0gate.layout.layout import Layout
from l0gate.layout.notation import Dimension, Pattern


def fold(
    layout: Layout,
    parameters: Parameters,
    gates: Mapping[str, Array],
    backend: Backend,
    skip: Container[str] = (),
) -> dict[str, Array]:
    """Multiply the gates (n,) into every dimension that reads neurons, except in `skip`.

    Returns the parameters of the gated model.
    """

    def change(name: str, pattern: Pattern, value: Array) -> Array:
        if name in skip:
            return value
        for i, dimension in enumerate(pattern.dimensions):
            if dimension.reads and dimension.axes:
                gate = backend.cast(spread(dimension, gates, backend), backend.dtype(value))
                value = value * along(backend, gate, i, len(pattern.dimensions))
        return value

    return layout.map(parameters, change, backend)


def gate_gradients(
    layout: Layout,
    parameters: Parameters,
    gates: Mapping[str, Array],
    gradients: Parameters,
    backend: Backend,
) -> dict[str, Array]:
    """Gradients (n,) in the gates, given those in the folded parameters: the backward of `fold`."""
    contributions = []
    pairs = zip(layout.slices(parameters), layout.slices(gradients), strict=True)
    for (name, pattern, shape, value), (_, _, found, gradient) in pairs:
        if found != shape:
            raise L0GateError(f"the gradient of {name!r} has shape {found}, the parameter {shape}")
        read = [i for i, d in enumerate(pattern.dimensions) if d.reads and d.axes]
        spreads = {i: spread(pattern.dimensions[i], gates, backend) for i in read}
        for i in read:
            term = gradient * value
            for j in read:
                if j != i:
                    gate = backend.cast(spreads[j], backend.dtype(term))
                    term = term * along(backend, gate, j, len(shape))
            for j in reversed(range(len(shape))):
                if j != i:
                    term = backend.xp.sum(term, axis=j)
            contributions.append((pattern.dimensions[i], term))
    return gather(layout, gates, contributions, backend)


def keep(
    layout: Layout, parameters: Parameters, kept: Mapping[str, np.ndarray], backend: Backend
) -> dict[str, Array]:
    """The parameters with only the `kept` neurons of every axis (sorted NumPy indices)."""
    sizes = layout.solve(parameters)

    def change(name: str, pattern: Pattern, value: Array) -> Array:
        for i, dimension in enumerate(pattern.dimensions):
            if dimension.blocks:
                value = backend.take(value, positions(dimension, sizes, kept), i)
        if not any(dimension.blocks for dimension in pattern.dimensions):
            # Copied too: the small model never shares memory with the dense one.
            value = backend.take(value, np.arange(value.shape[0]), 0)
        return value

    return layout.map(parameters, change, backend)


def spread(
    dimension: Dimension, gates: Mapping[str, Array], backend: Backend, fixed: float = 1.0
) -> Array:
    """The gates of one dimension as a vector: for every position, the gate of its neuron.

    Positions that belong to no axis, such as a number in the pattern, get the value `fixed`.
    """
    xp = backend.xp
    parts = []
    for block in dimension.blocks:
        if block.axis is None:
            like = gates[dimension.axes[0]]
            parts.append(zeros(backend, (block.outer,), like, fill=fixed))
            continue
        gate = gates[block.axis]
        if block.inner > 1:
            gate = xp.reshape(xp.stack([gate] * block.inner, axis=1), (-1,))
        parts += [gate] * block.outer
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)


def gather(
    layout: Layout,
    gates: Mapping[str, Array],
    contributions: Iterable[tuple[Dimension, Array]],
    backend: Backend,
) -> dict[str, Array]:
    """For every axis, sum the values at all positions of each neuron: an array (n,).

    This is the transpose of `spread`. `contributions` are pairs of a dimension and its values.
    """
    xp = backend.xp
    sums = {axis: xp.zeros_like(gates[axis]) for axis in layout.axes}
    for dimension, values in contributions:
        start = 0
        for block in dimension.blocks:
            if block.axis is None:
                start += block.outer
                continue
            (size,) = gates[block.axis].shape
            stop = start + block.outer * size * block.inner
            part = xp.reshape(values[start:stop], (block.outer, size, block.inner))
            part = xp.sum(xp.sum(part, axis=2), axis=0)
            sums[block.axis] = sums[block.axis] + backend.cast(
                part, backend.dtype(gates[block.axis])
            )
            start = stop
    return sums


def positions(
    dimension: Dimension, sizes: Mapping[str, int], kept: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Sorted positions along one dimension that remain if only the `kept` neurons do."""
    parts, start = [], 0
    for block in dimension.blocks:
        if block.axis is None:
            parts.append(np.arange(start, start + block.outer))
            start += block.outer
            continue
        size = sizes[block.axis]
        outer = np.arange(block.outer)[:, None, None] * size
        index = (outer + np.asarray(kept[block.axis])[None, :, None]) * block.inner
        parts.append((start + index + np.arange(block.inner)).reshape(-1))
        start += block.outer * size * block.inner
    return np.concatenate(parts)


def group_norms(
    layout: Layout, parameters: Parameters, backend: Backend, *, reads: bool | None = None
) -> dict[str, np.ndarray]:
    """Per axis, the Euclidean norm (n,) of the weights of each neuron, as NumPy float64.

    `reads=True` takes only the weights that read the neuron's output, `reads=False` only those that
    write it; None takes all.
    """
    sizes = layout.solve(parameters)
    squares = {axis: np.zeros(size) for axis, size in sizes.items()}
    for _, pattern, _, value in layout.slices(parameters):
        energy = np.square(backend.to_numpy(value).astype(np.float64))
        for axis in pattern.axes:
            owners = {
                i: _owners(dimension, axis, sizes)
                for i, dimension in enumerate(pattern.dimensions)
                if axis in dimension.axes and reads in (None, dimension.reads)
            }
            # An axis may be in several dimensions, as in `h <- h`. A neuron's weights are then the
            # union of its slices, summed by inclusion and exclusion.
            for count in range(1, len(owners) + 1):
                for dims in combinations(owners, count):
                    others = tuple(i for i in range(energy.ndim) if i not in dims)
                    block = energy.sum(axis=others)
                    labels = np.meshgrid(*(owners[i] for i in dims), indexing="ij", sparse=True)
                    mine = labels[0] >= 0
                    for label in labels[1:]:
                        mine = mine & (label == labels[0])
                    owner = np.broadcast_to(labels[0], block.shape)[mine]
                    total = np.bincount(owner, block[mine], minlength=sizes[axis])
                    squares[axis] += total if count % 2 else -total
    return {axis: np.sqrt(np.maximum(values, 0.0)) for axis, values in squares.items()}


def _owners(dimension: Dimension, axis: str, sizes: Mapping[str, int]) -> np.ndarray:
    """For every position along the dimension, the index in `axis` of the neuron that it belongs to.

    The index is -1 where the position belongs to another axis or to none.
    """
    parts = []
    for block in dimension.blocks:
        size = 1 if block.axis is None else sizes[block.axis]
        index = np.arange(size) if block.axis == axis else np.full(size, -1)
        parts.append(np.tile(np.repeat(index, block.inner), block.outer))
    return np.concatenate(parts)


def along(backend: Backend, vector: Array, i: int, ndim: int) -> Array:
    """Reshape a vector (n,) to `ndim` dimensions, for broadcasting along dimension i.

    Dimension i has size n, all others have size 1.
    """
    return backend.xp.reshape(vector, (1,) * i + (-1,) + (1,) * (ndim - 1 - i))
