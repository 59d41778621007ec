"""Numbers in a model's attributes that are sizes of axes, such as `self.hidden_size`.

During a trace such numbers are replaced by a `Size`, which remembers where it comes from. A size
that is used for a dimension of neurons is changed in the small model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn


class Size(int):
    """A whole number from an attribute; `name` says which one, `base` is its value there."""

    name: str
    base: int

    def __new__(cls, value: int, name: str, base: int) -> Size:
        made = super().__new__(cls, value)
        made.name, made.base = name, base
        return made

    def _derived(self, value: Any) -> Any:
        return Size(value, self.name, self.base) if type(value) is int else value

    def __mul__(self, other: Any) -> Any:
        return self._derived(int(self) * other)

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        return self._derived(int(self) + other)

    __radd__ = __add__

    def __floordiv__(self, other: Any) -> Any:
        return self._derived(int(self) // other)

    def __deepcopy__(self, memo: Any) -> Size:
        return self


def mark_sizes(model: nn.Module) -> None:
    """Replace whole numbers in attributes of `model`, a copy, that may be sizes of axes.

    Torch's modules and ours are left out: their sizes are set from their parameters.
    """
    for path, module in model.named_modules():
        if not type(module).__module__.startswith(("torch.", "l0gate.")):
            for key, value in vars(module).items():
                if type(value) is int and value > 1:
                    name = f"{path}.{key}".lstrip(".")
                    module.__dict__[key] = Size(value, name, value)


def sizes_in(tree: Any) -> Iterator[Size]:
    """Every `Size` in nested tuples, lists, dicts and slices."""
    if isinstance(tree, Size):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from sizes_in(value)
    elif isinstance(tree, Mapping):
        yield from sizes_in(list(tree.values()))
    elif isinstance(tree, slice):
        yield from sizes_in((tree.start, tree.stop))
