from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import l0gate
from l0gate.reference import kl_divergence, softmax_cross_entropy
from l0gate_jax import example, lstm

pytestmark = pytest.mark.filterwarnings("ignore:the gates stalled:UserWarning")


def test_the_lstm_is_the_one_of_the_reference() -> None:
    with jax.enable_x64(True):
        fresh = lstm.init(jax.random.key(0), 7, 4, 5)
        parameters = {
            name: jax.random.normal(jax.random.key(i), value.shape, jnp.float64)
            for i, (name, value) in enumerate(fresh.items())
        }
        tokens = np.arange(24).reshape(8, 3) % 7
        scores, (h, c) = lstm.apply(parameters, tokens)
        first, carried = lstm.apply(parameters, tokens[:3])
        second, _ = lstm.apply(parameters, tokens[3:], carried)
        wanted, ((wanted_h, wanted_c),) = lstm.numpy_net(parameters)(tokens)
        for found, right in (
            (scores, wanted),
            (h, wanted_h),
            (c, wanted_c),
            (np.concatenate([first, second]), wanted),
        ):
            np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-12)


def test_loss_is_the_cross_entropy() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)
    targets = np.arange(12).reshape(4, 3) % 6
    chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    chosen = np.take_along_axis(chances, targets[..., None], -1)
    assert float(lstm.loss(jnp.asarray(scores), jnp.asarray(targets))) == pytest.approx(
        float(-np.log(chosen).mean()), rel=1e-5
    )


def test_soft_loss_is_that_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    scores, teacher = rng.normal(size=(2, 4, 3, 6)).astype(np.float32)
    targets = np.arange(12).reshape(4, 3) % 6
    hard, _ = softmax_cross_entropy(scores, targets)
    divergence, _ = kl_divergence(scores, teacher)
    found = lstm.soft_loss(jnp.asarray(scores), jnp.asarray(targets), jnp.asarray(teacher))
    assert float(found) == pytest.approx((hard + divergence) / 2, rel=1e-5)


def test_a_teacher_is_heard_with_its_state() -> None:
    """A model that is its own teacher has no divergence, so its loss is half the cross-entropy."""
    tokens = np.random.default_rng(0).integers(0, 6, (12, example.BATCH)).astype(np.int32)
    fresh = lstm.init(jax.random.key(0), 6, 8, 16)
    step, alone = example.make_step(None, fresh), example.make_step(None)
    now = example.start(None, fresh, jax.random.key(1), fresh)
    other = example.start(None, fresh, jax.random.key(1))
    now, soft = step(now, tokens[:5], tokens[1:6], 1.0, 0.5)
    _, hard = alone(other, tokens[:5], tokens[1:6], 1.0, 0.5)
    assert float(soft) == pytest.approx(float(hard) / 2, rel=1e-5)
    _, wanted = lstm.apply(fresh, tokens[:5])
    for found, right in zip(now.teacher_carried or (), wanted, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_adam_is_the_published_one() -> None:
    values, moments = jnp.array([1.0, -2.0]), (jnp.zeros(2), jnp.zeros(2))
    m = v = np.zeros(2)
    wanted = np.array([1.0, -2.0])
    for count in (1, 2, 3):
        gradients = 2.0 * wanted
        values, moments = example.adam(values, jnp.asarray(gradients), moments, float(count), 0.1)
        m, v = 0.9 * m + 0.1 * gradients, 0.999 * v + 0.001 * gradients**2
        step = (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        wanted = wanted - 0.1 * step
        np.testing.assert_allclose(values, wanted, rtol=1e-5)


def test_train_prune_shrink_certify(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = np.tile(np.arange(6, dtype=np.int32), 2000)  # each token tells the next
    fresh = lstm.init(jax.random.key(0), 6, 8, 16)
    before = jax.tree.map(np.array, fresh)
    budget = l0gate.Budget(parameters=0.25, of="recurrent")
    pruner = l0gate.Pruner(lstm.LAYOUT, budget)
    now = example.train(pruner, fresh, tokens, 150, jax.random.key(1), "gated")
    assert pruner.selected(now.gates)
    small, kept = pruner.shrink(now.parameters, now.gates)
    size = sum(small[name].size for name in lstm.LAYOUT.recurrent)
    assert size == pruner.size(now.gates) <= pruner.limit == 0.25 * (8 + 16) * 64
    certificate = example.certify(pruner, now, small, kept, tokens)
    assert certificate.max_abs_difference < 1e-12
    assert certificate.sequences == 4
    gated = pruner.gate(now.parameters, now.gates)
    bits = [example.bits_per_character(p, tokens[:2000]) for p in (fresh, gated, small)]
    assert bits[2] == pytest.approx(bits[1], rel=1e-5)
    # Six equally frequent tokens take 2.58 bits each to a model that has learnt nothing.
    assert bits[2] < 1.5 < 2.5 < bits[0]
    for name, value in before.items():
        np.testing.assert_array_equal(fresh[name], value)
    again = example.train(pruner, fresh, tokens, 150, jax.random.key(1), "gated")
    for found, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(now), strict=True):
        if not jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(found, wanted)
    assert "aim 25.0%" in capsys.readouterr().out


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.npz"
    example.main(["--steps", "8", "--hidden", "16", "--budget", "0.3", "--save", str(path)])
    shown = capsys.readouterr().out
    assert "certified on 4 inputs" in shown
    assert "recurrent parameters" in shown
    net = l0gate.load(path)
    y, _ = net(np.zeros((3, 2), int))
    assert y.shape[:2] == (3, 2)
