"""Linear layers are gated at the smaller of their input and their weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch_models import assert_close

import l0gate
from l0gate import Layout
from l0gate.backends._torch.gating.linear import GatedWeight, gate_inputs
from l0gate.layout.fold import fold


def test_a_linear_reader_is_gated_at_its_input() -> None:
    """The same as a product of weight and gates, whoever reads the weight."""
    linear, x = nn.Linear(4, 3).double(), torch.randn(2, 4, dtype=torch.float64)
    gates = torch.rand(4, dtype=torch.float64, requires_grad=True)

    def gradients(weight: torch.Tensor, read: Any) -> Any:
        y = read(weight)
        return y, *torch.autograd.grad(y.square().sum(), (linear.weight, gates))

    for read in (
        lambda weight: torch.func.functional_call(linear, {"weight": weight}, (x,)),
        lambda weight: nn.functional.linear(x, weight),
        lambda weight: nn.functional.linear(input=x, weight=weight),
        lambda weight: nn.functional.linear(weight, torch.ones(1, 4, dtype=torch.float64)),
        lambda weight: x @ weight.T + weight.sum() + torch.stack([weight[0], weight[1]]).sum(),
        lambda weight: torch.cat([weight, weight]).detach() + weight.new_ones(6, 4) * weight.mean(),
    ):
        expected = gradients(linear.weight * gates, read)
        assert_close(gradients(GatedWeight(linear.weight, gates), read), expected)
    weight = GatedWeight(linear.weight, gates)
    assert (weight.shape, weight.dtype, weight.requires_grad) == ((3, 4), torch.float64, True)


@pytest.mark.parametrize("rows", [2, 3, 50])
def test_the_smaller_of_input_and_weight_is_gated(rows: int) -> None:
    linear, x = nn.Linear(4, 3).double(), torch.randn(rows, 4, dtype=torch.float64)
    weight = GatedWeight(linear.weight, gates := torch.rand(4, dtype=torch.float64))
    expected = nn.functional.linear(x * gates, linear.weight, linear.bias)
    assert_close(nn.functional.linear(x, weight, linear.bias), expected)
    assert (weight.computed is None) == (rows < 3)


def test_only_stock_linear_layers_are_gated_at_their_input() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), Own(4, 2), nn.Linear(2, 2))
    layout = Layout(
        {
            "0.weight": "a <- _",
            "1.weight": "b <- a",
            "2.weight": "c <- b",
            "3.weight": "_ <- c",
        }
    )
    backend = l0gate.get_backend("torch")
    tensors = {name: model.get_parameter(name) for name in layout.patterns}
    gates = {"a": torch.rand(4), "b": torch.rand(4), "c": torch.rand(2)}
    found = gate_inputs(model, layout, tensors, gates, backend)
    assert sorted(found) == ["1.weight", "3.weight"]
    folded = fold(layout, tensors, gates, backend)
    for name, weight in found.items():
        torch.testing.assert_close(weight + 0, folded[name])
