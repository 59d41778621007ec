"""The axis notation: patterns such as `(4 h0) <- x`, parsed into blocks and printed again.

    pattern   = dims "<-" dims | dims "->" dims | dims
    dims      = dimension { dimension }
    dimension = "_" | axis | number | "(" sum ")"
    sum       = product { "+" product }
    product   = factor { factor }                 at most one factor is not a number
    factor    = number | axis | "(" sum ")"

As in einops, the leftmost factor varies slowest: `(4 h)` is four blocks of h, `(h 4)` is every
neuron four times in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from l0gate._errors import L0GateError

_TOKEN = re.compile(
    r"\s*(?:(?P<arrow><-|->)|(?P<name>[^\W\d]\w*)|(?P<number>[0-9]+)|(?P<sign>[()+]))"
)
_DEEPEST, _MOST_BLOCKS = 32, 4096  # far beyond any real array; limits the work for malicious text


@dataclass(frozen=True)
class Block:
    """A part of a dimension: the axis `outer` times, with every neuron `inner` times in a row.

    If `axis` is None, it is `outer` positions that are never pruned.
    """

    axis: str | None
    outer: int = 1
    inner: int = 1

    def __str__(self) -> str:
        if self.axis is None:
            return str(self.outer)
        parts = [str(self.outer)] * (self.outer > 1) + [self.axis]
        return " ".join(parts + [str(self.inner)] * (self.inner > 1))


@dataclass(frozen=True)
class Dimension:
    """One dimension of an array: its blocks in order, or none where it is never pruned (`_`).

    `reads` is True on the input side of the arrow: the parameter reads these neurons.
    """

    blocks: tuple[Block, ...]
    reads: bool = False

    def __str__(self) -> str:
        if not self.blocks:
            return "_"
        text = " + ".join(map(str, self.blocks))
        return text if len(self.blocks) == 1 and text.isidentifier() else f"({text})"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in this dimension, each once, in order."""
        return tuple(dict.fromkeys(block.axis for block in self.blocks if block.axis is not None))


@dataclass(frozen=True)
class Pattern:
    """What the dimensions of one array run over, in storage order."""

    dimensions: tuple[Dimension, ...]
    arrow: str | None = None

    def __str__(self) -> str:
        if self.arrow is None:
            return " ".join(map(str, self.dimensions))
        out = " ".join(str(d) for d in self.dimensions if not d.reads)
        read = " ".join(str(d) for d in self.dimensions if d.reads)
        return f"{out} <- {read}" if self.arrow == "<-" else f"{read} -> {out}"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in this pattern, each once, in order."""
        return tuple(dict.fromkeys(axis for d in self.dimensions for axis in d.axes))


def parse_pattern(text: str) -> Pattern:
    """Parse one pattern; a fault raises `L0GateError` with the pattern and a caret under it.

    >>> pattern = parse_pattern("(4 h0) <- x")
    >>> [(str(d), d.reads) for d in pattern.dimensions]
    [('(4 h0)', False), ('x', True)]
    >>> parse_pattern("(4 h0 <- x")
    Traceback (most recent call last):
    ...
    l0gate._errors.L0GateError: `pattern` has a parenthesis that is not closed before `<-`
        (4 h0 <- x
              ^
    """
    if not isinstance(text, str):
        raise L0GateError(f"`pattern` is {text!r}; it must be a string such as '(4 h) <- x'")
    return _Parser(text).pattern()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.at = 0
        self.depth = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:
                fault = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                self.fail(f"has {self.text[fault]!r}, which is not part of the notation", fault)
            kind = match.lastgroup or ""
            if kind == "name" and not match.group(kind).isidentifier():
                self.fail("has an axis whose name is not an identifier", match.start(kind))
            yield kind, match.group(kind), match.start(kind)
            position = match.end()
        yield "end", "", len(self.text)

    def fail(self, why: str, position: int | None = None) -> NoReturn:
        column = self.tokens[self.at][2] if position is None else position
        # Tabs and line breaks are shown as spaces, so that the caret stays under the fault.
        shown = re.sub(r"\s", " ", self.text)
        raise L0GateError(f"`pattern` {why}\n    {shown}\n    {' ' * column}^") from None

    @property
    def token(self) -> tuple[str, str]:
        return self.tokens[self.at][:2]

    def named(self) -> str:
        kind, value = self.token
        return "the end" if kind == "end" else f"`{value}`"

    def pattern(self) -> Pattern:
        left = self.dims()
        arrow = None
        right: list[tuple[Block, ...]] = []
        if self.token[0] == "arrow":
            arrow = self.token[1]
            if not left:
                self.fail("has nothing before its arrow; write `_` for a dimension left alone")
            self.at += 1
            right = self.dims()
            if not right:
                self.fail("has nothing after its arrow; write `_` for a dimension left alone")
        if self.token[0] == "arrow":
            self.fail("has a second arrow")
        if self.token[0] != "end":
            self.fail(f"has {self.named()} where a dimension was expected")
        if not left:
            self.fail("is empty; give one dimension for every dimension of the array")
        dimensions = [Dimension(blocks, arrow == "->") for blocks in left]
        dimensions += [Dimension(blocks, arrow == "<-") for blocks in right]
        return Pattern(tuple(dimensions), arrow)

    def dims(self) -> list[tuple[Block, ...]]:
        found: list[tuple[Block, ...]] = []
        while self.token[0] in ("name", "number") or self.token[1] == "(":
            if self.token == ("name", "_"):
                self.at += 1
                found.append(())
            else:
                found.append(self.factor())
        return found

    def factor(self) -> tuple[Block, ...]:
        kind, value = self.token
        if kind == "number":
            if int(value) == 0:
                self.fail("has a size of 0; a number must be at least 1")
            self.at += 1
            return (Block(None, int(value)),)
        if kind == "name":
            if value == "_":
                self.fail("has `_` inside a parenthesis; it stands for a whole dimension")
            self.at += 1
            return (Block(value),)
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"has more than {_DEEPEST} parentheses inside each other")
        self.at += 1
        blocks = list(self.product())
        while self.token[1] == "+":
            self.at += 1
            blocks += self.product()
        if self.token[1] != ")":
            self.fail(f"has a parenthesis that is not closed before {self.named()}")
        self.at += 1
        self.depth -= 1
        return _merged(blocks)

    def product(self) -> tuple[Block, ...]:
        outer = inner = 1
        core: tuple[Block, ...] | None = None
        first = self.at
        while self.token[0] in ("name", "number") or self.token[1] == "(":
            position = self.at
            factor = self.factor()
            if len(factor) == 1 and factor[0].axis is None:
                if core is None:
                    outer *= factor[0].outer
                else:
                    inner *= factor[0].outer
            elif core is None:
                core = factor
            else:
                self.at = position
                self.fail("has a product of two axes; at most one factor is not a number")
        if self.at == first:
            self.fail(f"has {self.named()} where an axis or a number was expected")
        if core is None:
            return (Block(None, outer),)
        if len(core) > 1 and len(core) * outer > _MOST_BLOCKS:
            self.fail(f"repeats a sum into more than {_MOST_BLOCKS} blocks")
        return _repeated(core, outer, inner)


def _repeated(blocks: tuple[Block, ...], outer: int, inner: int) -> tuple[Block, ...]:
    if len(blocks) == 1 and blocks[0].axis is not None:
        (block,) = blocks
        # In (2 (h 3) 4), factors before the axis multiply `outer`, those after it `inner`.
        return (Block(block.axis, block.outer * outer, block.inner * inner),)
    each = tuple(
        Block(None, b.outer * inner) if b.axis is None else Block(b.axis, b.outer, b.inner * inner)
        for b in blocks
    )
    return _merged(list(each * outer))


def _merged(blocks: list[Block]) -> tuple[Block, ...]:
    """Merge neighbouring blocks without an axis, so that equal dimensions print the same."""
    merged: list[Block] = []
    for block in blocks:
        if block.axis is None and merged and merged[-1].axis is None:
            merged[-1] = Block(None, merged[-1].outer + block.outer)
        else:
            merged.append(block)
    return tuple(merged)
