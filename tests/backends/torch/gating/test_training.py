"""A gated model trains as any module does: compiled, distributed, with any optimizer, averaged."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_loops import adam, assert_same_state, gated_model, loss_of, noise_of, settled, step
from torch_models import Language, assert_close, autocast, tokens

import l0gate
from l0gate import Budget, Layout

pytestmark = [
    pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning"),
    pytest.mark.filterwarnings("ignore:these parts of the model are frozen:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*open neurons were cut:UserWarning"),
]


# torch.compile --------------------------------------------------------------------------------


class Cells(nn.Module):
    """A loop over a cell, which dynamo traces as a whole, unlike nn.LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell, self.decoder = (
            nn.Embedding(11, 6),
            nn.GRUCell(6, 8),
            nn.Linear(8, 11),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        h, outputs = None, []
        for x_t in self.embedding(x):
            h = self.cell(x_t, h)
            outputs.append(self.decoder(h))
        return (torch.stack(outputs),)


CELLS_LAYOUT = Layout(
    {
        "embedding.weight": "_ -> x",
        "cell.weight_ih": "(3 h) <- x",
        "cell.weight_hh": "(3 h) <- h",
        "cell.bias_ih": "(3 h)",
        "cell.bias_hh": "(3 h)",
        "decoder.weight": "_ <- h",
    },
    uses={"embedding.weight": 0},
)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("model", "layout"), [(Language, None), (Cells, CELLS_LAYOUT)])
def test_a_compiled_model_computes_the_same(model: Any, layout: Any, training: bool) -> None:
    torch.compiler.reset()
    eager = gated_model(model(), layout=layout).train(training)
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager")
    optimizers = [torch.optim.SGD(g.param_groups(1e-2, gate_lr=1.0)) for g in (eager, twin)]
    for k in range(4):
        losses = []
        for gated, call, optimizer in zip(
            (eager, twin), (eager, compiled), optimizers, strict=True
        ):
            y = call(tokens(seed=k))[0]
            loss = y.square().mean() + gated.penalty(k / 4)
            optimizer.zero_grad()
            loss.backward()
            losses.append((y.detach(), [p.grad.clone() for p in gated.parameters()]))
            optimizer.step()
        assert_close(losses[1], losses[0])
    assert bool(twin.gates.multipliers.any())


def test_a_compiled_training_step_with_its_penalty() -> None:
    torch.compiler.reset()
    gated = gated_model()
    expected = loss_of(gated, tokens()) + copy.deepcopy(gated).penalty(0.3)

    @torch.compile(backend="eager")
    def whole(x: Tensor, progress: float) -> Tensor:
        return loss_of(gated, x) + gated.penalty(progress)

    assert_close(whole(tokens(), 0.3), expected)
    pruner = gated.pruner
    draw = torch.compile(lambda state: pruner.noise(state, (3, 0))[0], backend="eager")
    found, wanted = draw(gated.gates.read()), pruner.noise(gated.gates.read(), (3, 0))[0]
    assert all(torch.equal(found[axis], wanted[axis]) for axis in wanted)


class PackedTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 12, bidirectional=True, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


def test_a_compiled_small_model_takes_packed_sequences() -> None:
    torch.compiler.reset()
    x, lengths = torch.randn(4, 6, 8), torch.tensor([6, 3, 5, 2])
    gated = l0gate.gate(PackedTagger(), example_inputs=(x, lengths), budget=Budget(parameters=0.3))
    small = gated.shrink().eval()
    assert type(small.rnn).__name__ == "RaggedRNN"
    assert_close(torch.compile(small, backend="eager")(x, lengths), small(x, lengths))


# What goes wrong in a loop --------------------------------------------------------------------


def test_progress_that_goes_back_is_noticed() -> None:
    gated = gated_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for progress in (0.0, 0.1, 0.1, 0.2):
            gated.penalty(progress)
    with pytest.warns(UserWarning, match=r"`progress` is 0.1 after 0.2; it must not go back") as w:
        gated.penalty(0.1)
    assert w[0].filename == __file__


def test_gates_that_no_optimizer_has_are_noticed() -> None:
    gated = gated_model()
    with pytest.warns(UserWarning, match="does an optimizer have it\\?") as caught:
        gated.penalty(1.0)
    assert {Path(warning.filename) for warning in caught} == {Path(__file__)}


# DistributedDataParallel ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes, launched as users launch them, got."""
    folder, here = tmp_path_factory.mktemp("ddp"), Path(__file__).parents[3]  # tests/
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, *launch, str(here / "torch_ddp.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_processes_draw_noise_of_their_own(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["noise"] for rank in ranks)
    assert len(first) == len(second) == 12
    for ours, theirs in zip(first, second, strict=True):
        assert not torch.isclose(ours, theirs).any()
    assert not torch.equal(first[0], first[1])


def test_processes_get_the_same_gates_and_small_model(ranks: list[dict[str, Any]]) -> None:
    first, second = ranks
    assert first["state"]["gates.multipliers"].any()
    assert bool((first["state"]["gates.mask_h0"] >= 0).all())
    for part in ("state", "small"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    assert first["small"]["decoder.weight"].shape[1] < 8


def test_loss_and_penalty_are_averaged_over_processes(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for found, expected in rank["gradients"].values():
            assert_close(found, expected)
        assert rank["gradients"]["gates.log_alpha_h0"][0].any()


def test_processes_resume_as_if_they_had_not_stopped(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for name, value in rank["state"].items():
            assert torch.equal(value, rank["resumed"][name]), name


# One sample per optimizer step ----------------------------------------------------------------


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    whole, parts = gated_model(), gated_model()
    optimizers = [adam(whole), adam(parts)]
    for k in range(3):
        x = tokens(batch=4, seed=k)
        step_of = (k + 1) / 10
        for optimizer in optimizers:
            optimizer.zero_grad()
        (loss_of(whole, x) + whole.penalty(step_of)).backward()
        drawn = []
        for part in x.split(2, dim=1):
            ((loss_of(parts, part) + parts.penalty(step_of)) / 2).backward()
            drawn.append(torch.cat(list(parts._noise.values())))
        assert torch.equal(*drawn)  # although the penalty has written to log_alpha
        for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
            assert_close(ours.grad, theirs.grad)
        assert torch.equal(parts.gates.multipliers, whole.gates.multipliers)
        parts.load_state_dict({**whole.state_dict()})  # rounding apart, they go on alike
        for optimizer in optimizers:
            optimizer.step()


def plain_sgd(parameters: list[Tensor]) -> None:
    for parameter in parameters:
        parameter.data.add_(parameter.grad, alpha=-0.1)


@pytest.mark.parametrize("fused", [False, True])
def test_every_optimizer_step_draws_anew(fused: bool) -> None:
    gated = gated_model()
    optimizer = adam(gated, fused=fused)
    drawn = [noise_of(gated)]
    for k in range(3):
        step(gated, optimizer, k / 10)
        drawn.append(noise_of(gated))
        assert torch.equal(noise_of(gated), drawn[-1])
    assert len({tuple(u.tolist()) for u in drawn}) == 4


def test_a_step_that_leaves_no_version_behind_draws_anew() -> None:
    gated = gated_model()
    first = noise_of(gated)
    (loss_of(gated, tokens()) + gated.penalty(0.1)).backward()
    versions = [p._version for p in gated.parameters()]
    plain_sgd(list(gated.parameters()))
    assert [p._version for p in gated.parameters()] == versions
    assert not torch.equal(noise_of(gated), first)


def test_gates_that_do_not_move_still_get_new_noise() -> None:
    gated = gated_model()
    for values in gated.log_alpha.values():
        values.requires_grad_(False)
    first = noise_of(gated)
    step(gated, torch.optim.SGD([p for p in gated.parameters() if p.requires_grad], lr=0.1), 0.1)
    assert not torch.equal(noise_of(gated), first)


def test_lbfgs_sees_one_objective_in_all_calls_of_a_step() -> None:
    gated = gated_model()
    optimizer = torch.optim.LBFGS(gated.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    drawn: list[list[Tensor]] = []
    losses: list[list[float]] = []
    for k in range(3):
        drawn.append([])
        losses.append([])

        def closure(k: int = k) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(gated, tokens()) + gated.penalty(k / 10)
            loss.backward()
            drawn[-1].append(noise_of(gated))
            losses[-1].append(loss.item())
            return loss

        with gated.one_sample():
            optimizer.step(closure)
        assert len(drawn[-1]) > 2
        assert all(torch.equal(u, drawn[-1][0]) for u in drawn[-1])
        assert min(losses[-1]) < losses[-1][0]
    assert not torch.equal(drawn[0][0], drawn[1][0])
    held = noise_of(gated)
    step(gated, adam(gated), 0.5)
    assert not torch.equal(noise_of(gated), held)  # no longer held


# Training in other ways -----------------------------------------------------------------------


def test_mixed_precision_with_a_scaler() -> None:
    gated = gated_model()
    optimizer = adam(gated)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    first, before = None, gated.log_alpha["h0"].detach().clone()
    for k in range(30):
        with autocast():
            y = gated(tokens())[0]
            task = y.float().square().mean()
            penalty = gated.penalty(k / 30)
            loss = task + penalty
        assert (y.dtype, penalty.dtype) == (torch.bfloat16, torch.float32)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(gated.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        first = first if first is not None else task.item()
    assert task.item() < 0.5 * first
    assert not torch.equal(gated.log_alpha["h0"], before)
    assert gated.shrink().certificate.max_abs_difference < 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_another_dtype_are_trained_and_shrunk(dtype: torch.dtype) -> None:
    gated = gated_model().to(dtype)
    optimizer = torch.optim.SGD(gated.param_groups(lr=0.1))
    losses = [step(gated, optimizer, k / 20) for k in range(20)]
    assert losses[-1] < losses[0]
    assert {p.grad.dtype for p in gated.model.parameters()} == {dtype}
    assert {p.grad.dtype for p in gated.log_alpha.values()} == {torch.float32}
    small = gated.shrink()
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert small.certificate.max_abs_difference < 1e-10


def test_gradients_are_clipped_like_any_others() -> None:
    gated = gated_model()
    (100 * loss_of(gated, tokens()) + gated.penalty(0.5)).backward()
    nn.utils.clip_grad_norm_(gated.parameters(), 0.1)
    norm = torch.stack([p.grad.norm() for p in gated.parameters()]).norm()
    torch.testing.assert_close(norm.item(), 0.1, rtol=1e-4, atol=0)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_the_weights_runs_and_shrinks(use_buffers: bool) -> None:
    gated = gated_model(distill=True)
    ema = AveragedModel(gated, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=use_buffers)
    optimizer = adam(gated)
    wanted = gated.model.decoder.weight.detach().clone()
    for k in range(20):
        step(gated, optimizer, k / 20)
        ema.update_parameters(gated)
        now = gated.model.decoder.weight.detach()
        wanted = now.clone() if k == 0 else wanted.lerp(now, 0.2)
    averaged = ema.module.eval()
    assert_close(averaged.model.decoder.weight, wanted)
    with torch.no_grad():
        assert not torch.equal(ema(tokens())[0], gated.eval()(tokens())[0])
    small = averaged.shrink()
    assert small.certificate.max_abs_difference < 1e-10
    assert averaged.pruner.cost.at({a: len(i) for a, i in small.certificate.kept.items()}) <= (
        averaged.pruner.limit
    )
    assert_close(small(tokens())[0], settled(averaged)(tokens())[0])
    assert_same_state(pickle.loads(pickle.dumps(averaged)), averaged)


def test_parts_that_do_not_learn() -> None:
    model = Language()
    model.rnn.requires_grad_(False)
    gated = gated_model(model)
    before = copy.deepcopy(model.rnn.state_dict())
    log_alpha = gated.log_alpha["h0"].detach().clone()
    for k in range(5):
        step(gated, adam(gated), k / 5)
    assert all(torch.equal(before[name], value) for name, value in model.rnn.state_dict().items())
    assert not torch.equal(gated.log_alpha["h0"], log_alpha)
    small = gated.shrink()
    assert not any(p.requires_grad for p in small.rnn.parameters())
    assert all(p.requires_grad for p in small.decoder.parameters())


def test_an_optimizer_for_the_weights_and_one_for_the_gates() -> None:
    both, one = gated_model(), gated_model()
    weights, gates = both.param_groups(lr=1e-2)
    optimizers = [torch.optim.Adam([weights]), torch.optim.Adam([gates])]
    single = adam(one)
    for k in range(4):
        step(one, single, k / 4, seed=k)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (loss_of(both, tokens(seed=k)) + both.penalty(k / 4)).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert_same_state(both, one)
