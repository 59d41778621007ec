"""Tensors are found and replaced in whatever a model takes and returns."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from l0gate.backends._torch.pytree import (
    as_inputs,
    copied_inputs,
    data_of,
    map_tensors,
    named_tensors,
    returned_tensors,
    storage_of,
    tensors,
    with_data,
)

Pair = namedtuple("Pair", ["a", "b"])


@dataclass(frozen=True)
class Record:
    x: Tensor
    note: str = ""


def tree(*values: Tensor) -> list[Any]:
    a, b, c, d, e = values
    packed = pack_sequence([e])
    return [(a, "text"), {"k": [b]}, Pair(c, 3), Record(d), packed, None]


VALUES = [torch.full((2,), float(i)) for i in range(5)]


def test_tensors_are_found_in_order() -> None:
    found = list(tensors(tree(*VALUES)))
    assert [t.flatten()[0].item() for t in found[:5]] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_classes_are_kept_when_tensors_change() -> None:
    given = tree(*VALUES)
    batch = UserDict({"ids": VALUES[0]})
    changed = map_tensors(lambda t: t + 10, [*given, batch, OrderedDict(x=VALUES[1])])
    pair, record, packed = changed[2:5]
    assert [type(part) for part in changed[:5]] == [tuple, dict, Pair, Record, PackedSequence]
    assert changed[0][1] == "text"
    assert (pair.a[0], pair.b, record.x[0], packed.data[0]) == (12, 3, 13, 14)
    assert torch.equal(packed.batch_sizes, given[4].batch_sizes)  # indices, not data
    assert isinstance(changed[6], UserDict)
    assert changed[6]["ids"][0] == 10
    assert isinstance(changed[7], OrderedDict)
    assert [t.flatten()[0].item() for t in VALUES] == [0.0, 1.0, 2.0, 3.0, 4.0]  # untouched


def test_what_a_caller_can_reach_in_an_output() -> None:
    hidden = SimpleNamespace(states=[VALUES[1]], model=nn.Linear(2, 2), call=lambda: VALUES[2])
    hidden.itself = hidden
    found = list(returned_tensors({"y": VALUES[0], "more": hidden, "set": {VALUES[3]}}))
    assert [t[0].item() for t in found] == [0.0, 1.0, 3.0]


def test_arguments() -> None:
    x, packed = VALUES[0], pack_sequence([VALUES[0]])
    assert as_inputs((x, 3)) == as_inputs([x, 3]) == ((x, 3), {})
    assert as_inputs({"x": x}) == ((), {"x": x})
    assert as_inputs(x) == ((x,), {})
    assert as_inputs(packed)[0][0] is packed
    leaf = torch.ones(2, requires_grad=True)
    ((own,), _) = copied_inputs(leaf)
    assert not own.requires_grad
    assert storage_of(own) != storage_of(leaf)
    assert storage_of(leaf) == storage_of(leaf.view(1, 2))


def test_shared_tensors_have_one_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    model.again = model[0]
    names = list(named_tensors(model))
    assert names[:3] == ["0.weight", "1.weight", "1.bias"]
    assert "1.running_mean" in names


def test_sequences_padded_or_packed() -> None:
    x = torch.ones(3, 2)
    packed = pack_sequence([x])
    assert data_of(x) is with_data(x, x) is x
    assert torch.equal(data_of(packed), x)
    doubled = with_data(packed, 2 * x)
    assert torch.equal(doubled.data, 2 * x)
    assert torch.equal(doubled.batch_sizes, packed.batch_sizes)
