"""A trained model made small without training: `shrink(reconstruct=batches)`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import l0gate
from l0gate import Budget, L0GateError, calibrate
from l0gate.backends._torch.gating.moments import gather_moments
from l0gate.backends._torch.pytree import as_inputs, named_tensors


class Tagger(nn.Module):
    def __init__(self, cell: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = cell(6, 8, num_layers=2)
        self.out = nn.Linear(8, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embedding(tokens))[0])


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(20, (9, 4), generator=generator) for _ in range(count)]


def gated(model: nn.Module, method: str = "spectral", **options: Any) -> Any:
    budget = Budget(parameters=0.6)
    return l0gate.gate(model, example_inputs=batches()[0], budget=budget, method=method, **options)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_the_best_candidate_is_taken_and_the_model_left_alone(cell: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    model = Tagger(cell).double().eval()
    before = {name: p.clone() for name, p in model.named_parameters()}
    small = gated(model).shrink(reconstruct=batches())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert small.certificate.max_abs_difference < 1e-10
    errors = small.calibration.errors
    assert small.calibration.chosen.endswith("reconstructed (ridge 0.001)")

    def error(other: nn.Module) -> float:
        with torch.no_grad():
            pairs = [(other(x), model(x)) for x in batches()]
            return sum(float((a - b).square().mean() / b.var(correction=0)) for a, b in pairs) / 3

    assert error(small) == pytest.approx(errors[small.calibration.chosen], rel=1e-8)
    plain = gated(model, "magnitude").shrink()
    assert error(plain) == pytest.approx(errors["magnitude"], rel=1e-8)
    assert error(small) < error(plain)


def test_linear_combinations_of_other_neurons_go_without_a_change() -> None:
    """Half of the neurons of the embedding are combinations of the others, plus constants."""
    torch.manual_seed(0)
    model = Tagger().double().eval()
    with torch.no_grad():
        table = model.embedding.weight
        table[:, 3:] = table[:, :3] @ torch.randn(3, 3, dtype=torch.float64) + 0.5
    # Nothing else can be pruned, and the budget asks for half of the embedding.
    total = sum(p.numel() for p in model.parameters())
    found = l0gate.gate(
        model,
        example_inputs=batches()[0],
        budget=Budget(parameters=total - 3 * (20 + 32)),
        method="spectral",
        freeze=["h0", "h1"],
    )
    small = found.shrink(reconstruct=batches())
    assert small.embedding.weight.shape == (20, 3)
    assert small.calibration.errors[small.calibration.chosen] < 1e-5
    # The ridge of `shrink` is small, but not 0. Without it the outputs are the same.
    tensors = {name: t.detach() for name, t in named_tensors(model).items()}
    inputs = [as_inputs(x) for x in batches()]
    moments = gather_moments(model, tensors, found.layout, found.pruner.backend, inputs)
    x = batches()[0]

    def errors(candidates: Any) -> list[float]:
        run = torch.func.functional_call
        return [float((run(model, c, (x,)) - model(x)).abs().max()) for c in candidates]

    with torch.no_grad():
        exact = calibrate(found.pruner, tensors, moments, errors, ridges=(0.0,))
    assert exact.errors["spectral, reconstructed"] < 1e-10


def test_batches_may_be_a_generator_or_hold_named_arguments() -> None:
    torch.manual_seed(0)
    model = Tagger().eval()
    one = gated(model).shrink(reconstruct=({"tokens": x} for x in batches()))
    other = gated(model).shrink(reconstruct=[(x,) for x in batches()])
    assert one.calibration.errors == other.calibration.errors


def test_a_teacher_of_logits_measures_the_divergence() -> None:
    torch.manual_seed(0)
    model = Tagger().double().eval()
    x = batches(1)[0]
    small = gated(model, distill="kl").shrink(reconstruct=[x])
    with torch.no_grad():
        ours, theirs = (m(x).log_softmax(-1) for m in (small, model))
        wanted = float((theirs.exp() * (theirs - ours)).sum(-1).mean())
    found = small.calibration.errors[small.calibration.chosen]
    assert found == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "`reconstruct` has no batches"),
        (3, "`reconstruct` is int; it must be a list of batches"),
        (torch.zeros(2), "`reconstruct` is Tensor"),
        ([(torch.zeros(2, 2, dtype=torch.int64), 1)], "the model fails on a batch"),
    ],
)
def test_bad_batches(given: Any, message: str) -> None:
    with pytest.raises(L0GateError, match=message):
        gated(Tagger().eval()).shrink(reconstruct=given)


def test_spectral_without_data_says_what_to_give() -> None:
    with pytest.raises(L0GateError, match=r"shrink\(reconstruct=batches\)"):
        gated(Tagger().eval()).shrink()


def test_neurons_that_are_selected_already_cannot_be_reconstructed() -> None:
    model = gated(Tagger().eval(), "magnitude")
    model.penalty(1.0)
    with pytest.raises(L0GateError, match="selected already"):
        model.shrink(reconstruct=batches())
