"""Tables of results as text and as Markdown, and limits: a measured value and its claimed bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """A measured value and its claimed bound. NaN means not measured; then the bound is not met."""

    what: str
    value: float
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most

    @property
    def holds(self) -> str:
        if math.isnan(self.value):
            return "not measured"
        return "yes" if self.met else "no"

    @property
    def allowed(self) -> str:
        if self.at_most < math.inf:
            return f"at most {self.at_most:.3g}"
        return f"at least {self.at_least:.3g}"


@dataclass(frozen=True)
class Table:
    """A table, as text for a terminal and as Markdown.

    >>> table = Table("Speed", ("net", "times"), [("small", 12.345), ("large", 1.5)])
    >>> print(table.text())
    Speed
    net    times
    small   12.3
    large   1.50
    >>> print(table.markdown())
    | net | times |
    | --- | ---: |
    | small | 12.3 |
    | large | 1.50 |
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def text(self) -> str:
        cells = [list(self.columns), *([shown(value) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = self._left()
        lines = (
            "  ".join(
                cell.ljust(width) if to_left else cell.rjust(width)
                for cell, width, to_left in zip(line, widths, left, strict=True)
            )
            for line in cells
        )
        return "\n".join([self.title, *(line.rstrip() for line in lines)])

    def markdown(self) -> str:
        rule = ["---" if to_left else "---:" for to_left in self._left()]
        lines = [self.columns, rule, *([shown(value) for value in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _left(self) -> list[bool]:
        """Whether each column is aligned to the left, as columns of words are."""
        return [
            any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))
        ]


def shown(value: Any) -> str:
    """A float with three significant digits; words and whole numbers as they are.

    >>> [shown(value) for value in (0.123456, 1.5, 12.345, 1234.5, 7, "lstm", float("nan"))]
    ['0.123', '1.50', '12.3', '1,234', '7', 'lstm', '-']
    """
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def limits_table(limits: Sequence[Limit]) -> Table:
    """A table of limits: measured value, claimed bound, and whether the claim holds."""
    rows = [(x.what, x.value, x.allowed, x.holds) for x in limits]
    return Table("Claimed", ("figure", "measured", "claimed", "holds"), rows)
