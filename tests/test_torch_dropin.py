"""A gated model does what users do with any module: compile, distribute, average, resume, teach."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_models import Language, assert_close, autocast, set_gates, tokens

import l0gate
from l0gate import Budget, HardConcrete, L0GateError, Layout
from l0gate._fold import fold
from l0gate.backends import _torch_gated
from l0gate.backends._torch_linear import GatedWeight, gate_inputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning"),
    pytest.mark.filterwarnings("ignore:these neurons stay whole:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*open neurons were cut:UserWarning"),
]


def gated_model(model: nn.Module | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    options = {"budget": Budget(parameters=0.5), "example_inputs": tokens(), **options}
    return l0gate.gate(model or Language(), **options).train()


def loss_of(gated: Any, x: Tensor) -> Tensor:
    return gated(x)[0].square().mean()


def noise_of(gated: Any) -> Tensor:
    """The noise of this step, drawn if it must be."""
    gated(tokens())
    return torch.cat(list(gated._noise.values())).clone()


def adam(gated: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(gated.param_groups(lr=1e-2), **options)


def step(gated: Any, optimizer: torch.optim.Optimizer, progress: float, seed: int = 0) -> float:
    loss = loss_of(gated, tokens(seed=seed)) + gated.penalty(progress)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def assert_same_state(found: nn.Module, expected: nn.Module) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


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
    folder, here = tmp_path_factory.mktemp("ddp"), Path(__file__).parent
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


def settled(gated: Any) -> Any:
    """With its gates decided, as `shrink` decides them."""
    gated.gates.write(gated.pruner.settle(gated.gates.read(), gated._tensors()))
    return gated


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


# Saving, copying, moving ----------------------------------------------------------------------


def test_state_dicts_are_strict_and_complete() -> None:
    gated, other = gated_model(seed=2**64 - 1), gated_model(seed=3)
    for k in range(4):
        step(gated, adam(gated), k / 4)
    file = io.BytesIO()
    torch.save(gated.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(other, gated)
    assert other.gates.rng == gated.gates.rng
    assert other.gates.rng[0] == 2**64 - 1
    step(gated, adam(gated), 0.9)
    step(other, adam(other), 0.9)
    assert_same_state(other, gated)
    assert torch.equal(noise_of(other), noise_of(gated))
    incomplete = gated.state_dict()
    del incomplete["gates.log_alpha_h0"]
    with pytest.raises(RuntimeError, match=r"Missing key.*gates\.log_alpha_h0"):
        other.load_state_dict(incomplete)


def test_training_resumes_with_the_same_numbers() -> None:
    def fresh() -> tuple[Any, Any, Any]:
        gated = gated_model(warm_start=True, distill=True, seed=2**63 + 5)
        optimizer = adam(gated)
        return gated, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def go_on(gated: Any, optimizer: Any, scheduler: Any, first: int, last: int) -> None:
        for k in range(first, last):
            optimizer.zero_grad()
            (gated.distill(tokens(seed=k)) + gated.penalty((k + 1) / 10)).backward()
            optimizer.step()
            scheduler.step()

    go_on(*(whole := fresh()), 0, 10)
    for stop in (1, 5, 7):  # in the warm-up, before and after the selection
        go_on(*(part := fresh()), 0, stop)
        file = io.BytesIO()
        torch.save([piece.state_dict() for piece in part], file)
        file.seek(0)
        other = fresh()
        for piece, saved in zip(other, torch.load(file, weights_only=True), strict=True):
            piece.load_state_dict(saved)
        go_on(*other, stop, 10)
        assert_same_state(other[0], whole[0])


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(way: Callable[[Any], Any]) -> None:
    gated = gated_model(distill=True)
    step(gated, adam(gated), 0.2)
    other = way(gated)
    x = tokens(seed=1)
    drawn = gated.gates.rng
    assert other.training
    expected = gated(x)[0]
    if way is not copy.copy:  # which shares its gates, and so their generator
        assert other.gates.rng == drawn
        assert_close(other(x)[0], expected)
    assert_close(other.eval()(x)[0], gated.eval()(x)[0])
    assert_close(other.distill(x), gated.distill(x))


def test_nothing_assumes_the_cpu() -> None:
    gated = gated_model(distill=True).to("meta")
    x = tokens().to("meta")
    for training in (True, False):
        y, state = gated.train(training)(x)
        assert {t.device.type for t in (y, *state)} == {"meta"}
    assert gated.distill(x).device.type == "meta"
    assert {u.device.type for u in gated._noise.values()} == {"meta"}
    moved = gated.to_empty(device="cpu")
    moved.load_state_dict(gated_model().state_dict())
    assert moved.log_alpha["h0"].dtype == torch.float32
    assert_close(moved(tokens())[0], gated_model().eval()(tokens())[0])


def test_cudnn_does_not_advise_in_every_step() -> None:
    text = "RNN module weights are not part of single contiguous chunk of memory. This means"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = len(warnings.filters)
        for _ in range(3):
            _torch_gated._expect_weights_in_pieces()
            warnings.warn(text, UserWarning, stacklevel=1)
        assert len(warnings.filters) == filters + 1  # however often it is called
        warnings.warn("anything else", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["anything else"]


# Warm start -----------------------------------------------------------------------------------


def next_token_loss(model: Any, seed: int) -> Tensor:
    """The task: the token that follows is this one and the last, added."""
    x = tokens(steps=8, batch=16, seed=seed)
    wanted = (x + torch.cat([torch.zeros_like(x[:1]), x[:-1]])) % 11
    return F.cross_entropy(model(x)[0].flatten(0, 1), wanted.flatten())


class Wider(Language):
    """Language with room to spare."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn, self.decoder = (
            nn.Embedding(11, 16),
            nn.LSTM(16, 48, 2),
            nn.Linear(48, 11),
        )


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    model = Wider()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for k in range(250):
        optimizer.zero_grad()
        next_token_loss(model, k).backward()
        optimizer.step()
    assert next_token_loss(model, 1000).item() < 0.1
    return model


@torch.no_grad()
def distance(gated: Any, model: nn.Module) -> float:
    """Relative to the model's outputs, over samples of the gates (root mean square)."""
    x = tokens(steps=8, batch=16, seed=5)
    expected, squares = model(x)[0], []
    for seed in range(30):
        gated._drawn, gated.gates.rng = None, (seed, 0)
        squares.append((gated.train()(x)[0] - expected).square().mean())
    return float((torch.stack(squares).mean() / expected.square().mean()).sqrt())


def test_a_warm_start_is_near_the_trained_model(trained: nn.Module) -> None:
    x = tokens(steps=8, batch=16, seed=5)
    cold = gated_model(copy.deepcopy(trained))
    warm = gated_model(copy.deepcopy(trained), warm_start=True)
    assert torch.equal(warm.eval()(x)[0], trained(x)[0])
    away = [distance(gated, trained) for gated in (warm, cold)]
    assert 0.05 < away[0] < 0.15
    assert 0.2 < away[1] < 0.4
    for gated, mean in ((warm, 0.014), (cold, 0.102)):
        noise, _ = gated.pruner.noise(gated.gates.read(), (0, 0))
        state = gated.gates.read()
        draws = []
        for _ in range(200):
            draws.append(torch.cat(list(gated.pruner.gates(state, noise).values())))
            noise, _ = gated.pruner.noise(state, (len(draws), 0))
        assert abs((1 - torch.stack(draws)).mean().item() - mean) < 0.003


def test_prune_while_fine_tuning_then_fine_tune_the_small_model(trained: nn.Module) -> None:
    gated = gated_model(
        copy.deepcopy(trained), warm_start=True, budget=Budget(parameters=0.5), strength=None
    )
    optimizer = torch.optim.Adam(gated.param_groups(lr=5e-3))
    for k in range(200):
        optimizer.zero_grad()
        (next_token_loss(gated, k) + gated.penalty(k / 200)).backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = gated.shrink()
    assert small.certificate.max_abs_difference < 1e-10
    before = next_token_loss(small, 1000).item()
    optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
    for k in range(60):
        optimizer.zero_grad()
        next_token_loss(small, k).backward()
        optimizer.step()
    assert next_token_loss(small, 1000).item() < before
    assert sum(p.numel() for p in small.parameters()) < 0.55 * sum(
        p.numel() for p in trained.parameters()
    )


def test_a_warm_start_fits_the_gates_it_is_given() -> None:
    for gates in (
        HardConcrete(initial=0.5),
        HardConcrete(highest=3.0),
        HardConcrete(rule="median"),
    ):
        gated = gated_model(warm_start=True, gates=gates)
        for values in gated.log_alpha.values():
            assert len(set(values.tolist())) == len(values)  # ties stay broken
            assert float(values.detach().max()) <= gates.highest
            assert torch.equal(gates.test_gate(values), torch.ones_like(values))
    with pytest.raises(L0GateError, match=r"`highest` is 2\.4; it must be above 2\.408"):
        gated_model(warm_start=True, gates=HardConcrete(highest=2.4))


# Distillation ---------------------------------------------------------------------------------


def test_the_original_model_teaches() -> None:
    model = Language(dropout=0.5)
    gated = gated_model(model, distill=True, warm_start=True)
    assert {name for name, _ in gated.named_parameters()} == {
        *(f"model.{name}" for name, _ in model.named_parameters()),
        *(f"gates.log_alpha_{axis}" for axis in gated.log_alpha),
    }
    assert not any("teacher" in name for name in gated.state_dict())
    teacher = copy.deepcopy(model).eval()
    x = tokens(seed=3)
    assert gated.eval().distill(x).item() < 1e-12  # kernels differ where gradients are asked for
    optimizer = torch.optim.SGD(gated.param_groups(lr=0.5))
    step(gated.train(), optimizer, 0.1)
    expected, y = teacher(x)[0], gated.eval()(x)[0]
    wanted = F.mse_loss(y, expected) / expected.var(correction=0)
    assert_close(gated.distill(x), wanted)  # the teacher has not moved, nor does dropout touch it
    outputs = gated(x)
    assert_close(gated.distill(x, outputs=outputs), wanted)
    gated.distill(x).backward()
    assert gated.log_alpha["h0"].grad.any()


def test_the_teacher_goes_where_the_model_goes() -> None:
    gated, x = gated_model(distill=True), tokens()
    set_gates(gated)
    expected = gated.eval().distill(x)
    assert expected > 0.01
    wide = copy.deepcopy(gated).double()
    assert wide.distill(x).dtype == torch.float64
    torch.testing.assert_close(wide.distill(x).float(), expected, rtol=1e-4, atol=1e-6)
    half = copy.deepcopy(gated).bfloat16()
    assert half(x)[0].dtype == torch.bfloat16
    # Eight bits of mantissa, in the outputs of both.
    torch.testing.assert_close(half.distill(x), expected, rtol=0.1, atol=0)
    with autocast():
        loss = gated.distill(x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.1, atol=0)


def test_distilling_logits() -> None:
    gated, x = gated_model(distill="kl"), tokens()
    set_gates(gated)
    ours, theirs = gated.eval()(x)[0].log_softmax(-1), gated.model(x)[0].log_softmax(-1)
    wanted = (theirs.exp() * (theirs - ours)).sum(-1).mean()
    assert_close(gated.distill(x), wanted)

    class Scalar(Language):
        def forward(self, x: Tensor, state: Any = None) -> Tensor:  # type: ignore[override]
            return super().forward(x, state)[0].mean((-1, -2), keepdim=True)

    scalar = gated_model(Scalar(), distill="kl")
    with pytest.raises(L0GateError, match=r"logits over the last dimension; .* shape \(5, 1, 1\)"):
        scalar.distill(x)


class Returns(Language):
    """Language that returns what a function makes of its logits, outputs and states."""

    def __init__(self, make: Callable[..., Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor, state: Any = None) -> Any:
        y, states = self.rnn(self.embedding(x), state)
        return self.make(self.decoder(y), states)


def relative(found: Tensor, expected: Tensor) -> Tensor:
    return F.mse_loss(found, expected) / expected.var(correction=0)


def test_what_is_compared() -> None:
    x = tokens()
    cases: list[tuple[Callable[..., Any], Callable[[Any], list[Tensor]]]] = [
        (lambda y, s: (y, s), lambda out: [out[0]]),
        (lambda y, s: {"y": [y], "n": 3, "h": s[0][-1]}, lambda out: out["y"]),
        (lambda y, s: (y, y.sum(0)), lambda out: [out[0], out[1]]),
        (lambda y, s: s, lambda out: [out[0], out[1]]),  # nothing but states
        (lambda y, s: s[0][-1], lambda out: [out]),
        (
            lambda y, s: pack_padded_sequence(y, torch.tensor([5, 3, 2])),
            lambda out: [out.data],
        ),
    ]
    for make, compared in cases:
        torch.manual_seed(0)
        layout, whole = Layout.lstm(2), ["h0", "h1"]  # whose states the caller sees
        model = Returns(make)
        gated = l0gate.gate(model, layout=layout, strength=1e-3, distill=True, freeze=whole)
        keep_most(gated.eval())
        found, expected = compared(gated(x)), compared(gated.model(x))
        wanted = torch.stack([relative(*pair) for pair in zip(found, expected, strict=True)])
        assert bool((wanted > 0).all())
        assert_close(gated.distill(x), wanted.mean())


def keep_most(gated: Any) -> None:
    with torch.no_grad():
        for values in gated.log_alpha.values():
            values[:2] = -1.0


def test_packed_sequences_are_compared() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.decoder = nn.GRU(3, 8), nn.Linear(8, 2)

        def forward(self, x: PackedSequence) -> PackedSequence:
            y = self.rnn(x)[0]
            return y._replace(data=self.decoder(y.data))

    torch.manual_seed(0)
    x = pack_padded_sequence(torch.randn(5, 3, 3), torch.tensor([5, 3, 2]))
    gated = gated_model(Packed(), example_inputs=(x,), distill=True)
    set_gates(gated)
    found, expected = gated.eval()(x).data, gated.model(x).data
    assert_close(gated.distill(x), relative(found, expected))


def test_outputs_that_do_not_vary_have_a_loss() -> None:
    x = tokens()
    for make, scale in (
        (lambda y, s: y[0, 0, 0], lambda t: t.square()),
        (lambda y, s: y[0, 0, 0] * 0.0, lambda t: torch.tensor(1.0)),
    ):
        torch.manual_seed(0)
        gated = l0gate.gate(Returns(make), layout=Layout.lstm(2), strength=1e-3, distill=True)
        keep_most(gated.eval())
        found, expected = gated(x), gated.model(x)
        wanted = (found - expected).square() / scale(expected)
        assert_close(gated.distill(x), wanted)


def test_what_cannot_be_distilled() -> None:
    x = tokens()
    with pytest.raises(
        L0GateError, match=r"there is no teacher: gate the model with `distill=True"
    ):
        gated_model().distill(x)
    with pytest.raises(L0GateError, match=r"`distill` is 'mse'; it must be True, False or 'kl'"):
        gated_model(distill="mse")
    gated = gated_model(distill=True)
    with pytest.raises(
        L0GateError, match=r"`outputs` have the shapes \[\(4, 3, 11\), .*\(5, 3, 11"
    ):
        gated.distill(x, outputs=gated(x[:4]))

    class Choice(Language):
        def forward(self, x: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0].argmax(-1) + state

    gated = l0gate.gate(Choice(), layout=Layout.lstm(2), strength=1e-3, distill=True)
    with pytest.raises(
        L0GateError, match="compares floating point outputs; the model returns none"
    ):
        gated.distill(x, x)


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
    assert (weight.written is None) == (rows < 3)


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
