"""`Layout`: which axes the dimensions of every parameter run over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from l0gate._backend import Array, Backend, Parameters
from l0gate._errors import L0GateError, check
from l0gate.layout.cycles import axes_on_cycles
from l0gate.layout.notation import Dimension, Pattern, parse_pattern
from l0gate.layout.solve import Slice, solve
from l0gate.layout.stacked import stacked_patterns
from l0gate.layout.table import axes_table


class Layout:
    """Says which axes (named groups of neurons) the dimensions of every parameter run over.

    `patterns` maps parameter names to patterns, or to lists of patterns for the slices of a leading
    dimension (as in ONNX, for the directions of a recurrent layer). In `out <- in` or `in -> out`,
    the parameter reads the neurons on the input side and writes those on the output side. Gates
    scale only the input side. Parameters without an arrow (biases, running statistics) lose
    neurons, but are not scaled. `_` is a dimension that is not pruned. Parameters without a pattern
    are left as they are.

    `sizes` are needed for axes whose size does not follow from the shapes. `uses` says how often a
    parameter is multiplied per time step. Default: 1 with an arrow, else 0. An embedding needs 0.

    >>> layout = Layout({
    ...     "embedding.weight": "_ -> x",
    ...     "rnn.weight_ih_l0": "(4 h0) <- x",
    ...     "rnn.weight_hh_l0": "(4 h0) <- h0",
    ...     "decoder.weight": "_ <- h0",
    ... }, uses={"embedding.weight": 0})
    >>> layout.axes
    ('x', 'h0')
    >>> layout.readers("h0"), layout.writers("h0")
    (('rnn.weight_hh_l0', 'decoder.weight'), ('rnn.weight_ih_l0', 'rnn.weight_hh_l0'))

    Faults raise `L0GateError` with the name of the parameter, the pattern and a caret under it.
    """

    def __init__(
        self,
        patterns: Mapping[str, str | Sequence[str]],
        *,
        sizes: Mapping[str, int] | None = None,
        uses: Mapping[str, float] | None = None,
    ) -> None:
        check(
            isinstance(patterns, Mapping) and len(patterns) > 0,
            f"`patterns` is {patterns!r}; it must map parameter names to patterns",
        )
        self.patterns: dict[str, Pattern | tuple[Pattern, ...]] = {}
        for name, text in patterns.items():
            check(
                isinstance(text, str) or (isinstance(text, (list, tuple)) and len(text) > 0),
                f"layout of {name!r}: `pattern` is {text!r}; it must be a string or a list of"
                " strings",
            )
            try:
                self.patterns[name] = (
                    parse_pattern(text)
                    if isinstance(text, str)
                    else tuple(parse_pattern(t) for t in text)
                )
            except L0GateError as error:
                raise L0GateError(f"layout of {name!r}: {error}") from None
        self.axes: tuple[str, ...] = tuple(
            dict.fromkeys(axis for _, p in self._each() for axis in p.axes)
        )
        for option, given in (("sizes", sizes), ("uses", uses)):
            check(
                given is None or isinstance(given, Mapping),
                f"`{option}` is {given!r}; it must map names to numbers",
            )
        self.given_sizes = dict(sizes or {})
        self.given_uses = dict(uses or {})
        for axis, size in self.given_sizes.items():
            check(axis in self.axes, f"`sizes` names the axis {axis!r}; the layout has {self.axes}")
            check(
                isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0,
                f"`sizes[{axis!r}]` is {size!r}; it must be an int above 0",
            )
        for name, count in self.given_uses.items():
            check(name in self.patterns, f"`uses` names {name!r}, which the layout does not hold")
            check(
                isinstance(count, (int, float)) and 0 <= count < float("inf"),
                f"`uses[{name!r}]` is {count!r}; it must be a finite number of at least 0",
            )
        for axis in self.axes:
            check(
                self.readers(axis),
                f"axis {axis!r} is read by no parameter; put it on the input side of the arrow of"
                " whatever reads it, or write `_` for a dimension that is never pruned",
            )

    @classmethod
    def lstm(
        cls,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        name: str = "rnn",
        embedding: str | None = "embedding",
        decoder: str | None = "decoder",
    ) -> Layout:
        """The layout of embedding, stacked LSTM and linear layer, with torch's parameter names.

        The input neurons are the axis x, the hidden neurons of layer k are hk, or fk and bk for
        the two directions. `embedding` and `decoder` name the other two layers, or are None.
        Without a decoder the model returns the neurons of its last layer, so these cannot be
        pruned: name their axis in `Pruner(freeze=...)`.

        >>> Layout.lstm(1, bias=False)
        Layout({
            'embedding.weight': '_ -> x',
            'rnn.weight_ih_l0': '(4 h0) <- x',
            'rnn.weight_hh_l0': '(4 h0) <- h0',
            'decoder.weight':   '_ <- h0',
            'decoder.bias':     '_',
        }, uses={'embedding.weight': 0})
        """
        patterns, uses = stacked_patterns(
            "lstm", num_layers, bidirectional, bias, name, embedding, decoder
        )
        return cls(patterns, uses=uses)

    @classmethod
    def gru(
        cls,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        name: str = "rnn",
        embedding: str | None = "embedding",
        decoder: str | None = "decoder",
    ) -> Layout:
        """The layout of embedding, stacked GRU and linear layer: see `lstm`."""
        patterns, uses = stacked_patterns(
            "gru", num_layers, bidirectional, bias, name, embedding, decoder
        )
        return cls(patterns, uses=uses)

    def to_dict(self) -> dict[str, str | list[str]]:
        """The patterns as text, spelled in one way, without `sizes` and `uses`."""
        return {
            name: [str(p) for p in pattern] if isinstance(pattern, tuple) else str(pattern)
            for name, pattern in self.patterns.items()
        }

    def __repr__(self) -> str:
        width = max(len(repr(name)) for name in self.patterns) + 1
        lines = [f"    {f'{name!r}:':<{width}} {text!r}," for name, text in self.to_dict().items()]
        sizes = f", sizes={self.given_sizes!r}" if self.given_sizes else ""
        uses = f", uses={self.given_uses!r}" if self.given_uses else ""
        return "Layout({\n" + "\n".join(lines) + "\n}" + sizes + uses + ")"

    def __eq__(self, other: object) -> bool:
        names = ("patterns", "given_sizes", "given_uses")
        return isinstance(other, Layout) and all(
            getattr(self, n) == getattr(other, n) for n in names
        )

    __hash__ = None  # type: ignore[assignment]

    def table(self, parameters: Parameters | None = None) -> str:
        """The axes as a text table: size (with parameters to measure), writers and readers.

        >>> print(Layout({"a.weight": "h <- x", "b.weight": "_ <- h"}).table())
        axis  size  written by  read by
        x     ?     input       a.weight
        h     ?     a.weight    b.weight
        """
        sizes = self.solve(parameters) if parameters else self.given_sizes
        axes = self.in_reading_order
        return axes_table([(a, sizes.get(a), self.writers(a), self.readers(a)) for a in axes])

    # Structure --------------------------------------------------------------------------------

    def readers(self, axis: str) -> tuple[str, ...]:
        """Names of the parameters that read the axis: it is on the input side of their arrow."""
        return self._names(lambda p: any(d.reads and axis in d.axes for d in p.dimensions))

    def writers(self, axis: str) -> tuple[str, ...]:
        """Names of the parameters that write the axis; none if it is an input of the model."""
        return self._names(
            lambda p: p.arrow and any(not d.reads and axis in d.axes for d in p.dimensions)
        )

    @property
    def in_reading_order(self) -> list[str]:
        """The axes in the order of the first parameter that reads each."""
        order = list(self.patterns)
        return sorted(self.axes, key=lambda axis: order.index(self.readers(axis)[0]))

    @property
    def recurrent(self) -> tuple[str, ...]:
        """Parameters that write a recurrent axis: one that some parameter both reads and writes.

        In an LSTM or GRU these are `weight_ih` and `weight_hh` of every layer and direction. Axes
        on a longer cycle count too: in a projected LSTM, h -> p -> h, hence also `weight_hr`.

        >>> Layout({"w": "(4 h) <- x", "u": "(4 h) <- p", "v": "p <- h", "out": "_ <- p"}).recurrent
        ('w', 'u', 'v')
        """
        cyclic = axes_on_cycles(self.axes, self.readers, self.writers)
        return self._names(
            lambda p: p.arrow and any(not d.reads and cyclic & set(d.axes) for d in p.dimensions)
        )

    def uses(self, name: str) -> float:
        """How often the parameter is multiplied per time step, as given or by default."""
        first = self._slices(name)[0]
        return self.given_uses.get(name, 0 if first.arrow is None else 1)

    def _names(self, matches: Callable[[Pattern], object]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, p in self._each() if matches(p)))

    def _slices(self, name: str) -> tuple[Pattern, ...]:
        pattern = self.patterns[name]
        return pattern if isinstance(pattern, tuple) else (pattern,)

    def _each(self) -> Iterable[tuple[str, Pattern]]:
        return ((name, p) for name in self.patterns for p in self._slices(name))

    # Arrays -----------------------------------------------------------------------------------

    def slices(self, parameters: Parameters) -> list[Slice]:
        """Every array with its name, pattern and shape.

        A parameter with a list of patterns gives one entry for each slice of its leading dimension.
        """
        found: list[Slice] = []
        for name, pattern in self.patterns.items():
            if name not in parameters:
                raise L0GateError(
                    f"the layout names the parameter {name!r}, which the model does not have;"
                    f" it has {', '.join(map(repr, parameters)) or 'none'}"
                )
            value = parameters[name]
            listed = isinstance(value, (list, tuple)) and not isinstance(pattern, Pattern)
            for part in value if listed else [value]:
                kind = type(part).__name__
                check(hasattr(part, "shape"), f"parameter {name!r} is {kind}; it must be an array")
            if isinstance(pattern, Pattern):
                found.append((name, pattern, tuple(value.shape), value))
                continue
            count = len(value) if listed else tuple(value.shape)[:1]
            check(
                count in (len(pattern), (len(pattern),)),
                f"parameter {name!r} has"
                f" {f'{count} arrays' if listed else f'shape {tuple(value.shape)}'}; its layout"
                f" lists {len(pattern)} patterns for the slices of a leading dimension",
            )
            found += [(name, p, tuple(value[i].shape), value[i]) for i, p in enumerate(pattern)]
        return found

    def axis_dimensions(self, parameters: Parameters) -> Iterable[tuple[Dimension, int, Array]]:
        """Every dimension that runs over an axis, its position in its array, and the array."""
        for _, pattern, _, value in self.slices(parameters):
            for i, dimension in enumerate(pattern.dimensions):
                if dimension.axes:
                    yield dimension, i, value

    def solve(self, parameters: Parameters) -> dict[str, int]:
        """The size of every axis, from the shapes of the arrays. Raises if a shape does not fit.

        >>> import numpy as np
        >>> layout = Layout({"w": "(4 h) <- x", "u": "(4 h) <- h"})
        >>> layout.solve({"w": np.zeros((8, 3)), "u": np.zeros((8, 2))})
        {'h': 2, 'x': 3}
        >>> layout.solve({"w": np.zeros((9, 3)), "u": np.zeros((8, 2))})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        l0gate._errors.L0GateError: parameter 'w' has shape (9, 3), which does not fit...
        """
        return solve(self.slices(parameters), self.axes, self.given_sizes)

    def map(
        self,
        parameters: Parameters,
        change: Callable[[str, Pattern, Array], Array],
        backend: Backend,
    ) -> dict[str, Array]:
        """The parameters with `change(name, pattern, array)` in place of every named array.

        Slices of a leading dimension are changed one by one, then stacked again if they still
        have equal shapes, else returned as a tuple.
        """
        changed: dict[str, Array] = dict(parameters)
        for name, pattern in self.patterns.items():
            value = parameters[name]
            if isinstance(pattern, Pattern):
                changed[name] = change(name, pattern, value)
                continue
            parts = tuple(change(name, p, value[i]) for i, p in enumerate(pattern))
            same = len({tuple(part.shape) for part in parts}) == 1
            changed[name] = backend.xp.stack(parts, axis=0) if same else parts
        return changed
