"""Train, interrupt, resume, select, shrink, save, load and go on, in any order."""

from __future__ import annotations

import io
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from reference_cases import freeze

import l0gate
from l0gate import Budget, L0GateError, Pruner
from l0gate._chain import Chain
from l0gate._pruner import State
from l0gate._saved_model import SavedModel, read
from l0gate.cli import _checkpoint
from l0gate.cli._training import Adam, Training
from l0gate.npz import pack, unpack

NUMPY = l0gate.get_backend("numpy")
WORDS, STEPS = 5, 6

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gates that close or stall


class Life(RuleBasedStateMachine):
    """A model and its shadow: whatever befalls the model, the shadow trains on undisturbed.

    Every array is read-only from the moment it exists, so a change of one raises.
    """

    @initialize(
        cell=st.sampled_from(["lstm", "gru", "gru_reset_before"]),
        num_layers=st.integers(1, 2),
        bidirectional=st.booleans(),
        batch_first=st.booleans(),
        dtype=st.sampled_from(["float32", "float64"]),
        goal=st.sampled_from(
            [
                {"strength": 0.02},
                {"budget": Budget(parameters=0.5)},
                {"budget": Budget(multiply_adds=0.5, warmup=0, settle=0.8, rate=(2, 9))},
                {"budget": Budget(bytes=0.6), "equal": "layer"},
            ]
        ),
        seed=st.integers(0, 2**32 - 1),
    )
    def begin(
        self,
        cell: str,
        num_layers: int,
        bidirectional: bool,
        batch_first: bool,
        dtype: str,
        goal: dict[str, Any],
        seed: int,
    ) -> None:
        recurrent = {"type": cell[:4].rstrip("_"), "name": "rnn", "num_layers": num_layers}
        if cell != "lstm":
            recurrent["reset_after"] = cell == "gru"
        recurrent["bidirectional"] = bidirectional
        layers = [{"type": "embedding", "name": "table"}, recurrent]
        layers.append({"type": "linear", "name": "out"})
        self.folder = Path(tempfile.mkdtemp())
        self.chain = Chain(layers, batch_first)
        self.net = NUMPY.net(layers, batch_first)
        self.goal = {**goal, "equal": self.chain.groups} if "equal" in goal else goal
        self.data = np.random.default_rng(seed).integers(0, WORDS, (2, 4, 4))
        sizes = {"table": 3, "rnn": 4, "out": WORDS}
        self.pruners = [Pruner(self.chain.layout, **self.goal) for _ in range(2)]
        self.lives = []
        for pruner in self.pruners:
            rng = np.random.default_rng(seed)
            parameters = self.net.init(rng, input_size=WORDS, sizes=sizes, dtype=dtype)
            self.lives.append(fresh(pruner, freeze(parameters), seed % 2**32))
        # Saved from the start, so that every rule can come first.
        self.shrink()
        self.save()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # Rules ------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 3))
    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.lives = [
                self.step(pruner, life)
                for pruner, life in zip(self.pruners, self.lives, strict=True)
            ]

    def step(self, pruner: Pruner, life: Training) -> Training:
        progress = min(1.0, (life.step + 1) / STEPS)
        x, targets = self.data
        noise, rng = pruner.noise(life.gates, life.rng)
        loss, slopes, carry = self.net.loss_and_gradients(
            pruner.gate(life.parameters, life.gates, freeze(noise)),
            x,
            targets,
            life.carry,
            engine="numpy",
        )
        slopes, gate_slopes = pruner.pullback(
            life.parameters, life.gates, freeze(noise), freeze(slopes)
        )
        penalty = pruner.penalty_gradient(life.gates, progress)
        moments = {n: 0.9 * life.adam.first[n] + slope for n, slope in slopes.items()}
        gates = {
            **life.gates,
            "log_alpha": {
                axis: (values - 0.8 * np.sign(gate_slopes[axis] + penalty[axis])).astype(
                    values.dtype
                )
                for axis, values in life.gates["log_alpha"].items()
            },
        }
        gates = pruner.update(freeze(gates), progress)
        settle = pruner.budget.settle if pruner.budget else 1.0
        parameters = {n: p - p.dtype.type(0.1) * moments[n] for n, p in life.parameters.items()}
        if progress >= settle and not pruner.selected(gates):
            gates = pruner.select(freeze(gates), freeze(parameters))
        return replace(
            life,
            parameters=freeze(parameters),
            adam=Adam(freeze(moments), life.adam.second, life.adam.steps + 1),
            gates=freeze(gates),
            rng=rng,
            carry=freeze(carry),
            losses=[*life.losses, loss],
        )

    @rule()
    def interrupt(self) -> None:
        """The process ends after a checkpoint; another one, with a pruner of its own, goes on."""
        job = {"layers": len(self.chain.layers)}
        _checkpoint.write(self.folder, job, {"main": self.lives[0]}, NUMPY)
        with pytest.raises(L0GateError, match="is the checkpoint of another job"):
            _checkpoint.read(self.folder, {"layers": 99}, NUMPY)
        again = _checkpoint.read(self.folder, job, NUMPY)["main"]
        pruner = Pruner(self.chain.layout, **self.goal)
        pruner.bind(again.parameters)
        self.pruners[0] = pruner
        self.lives[0] = replace(
            again,
            parameters=freeze(again.parameters),
            adam=Adam(freeze(again.adam.first), freeze(again.adam.second), again.adam.steps),
            gates=freeze(again.gates),
            carry=freeze(again.carry),
        )

    @rule(reopen=st.booleans())
    def select(self, reopen: bool) -> None:
        for i, (pruner, life) in enumerate(zip(self.pruners, self.lives, strict=True)):
            gates = pruner.select(life.gates, life.parameters, reopen=reopen)
            assert pruner.selected(gates)
            self.lives[i] = replace(life, gates=freeze(gates))

    @rule()
    def shrink(self) -> None:
        pruner, life = self.pruners[0], self.lives[0]
        small, kept = pruner.shrink(life.parameters, life.gates)
        counts = {axis: len(index) for axis, index in kept.items()}
        assert self.chain.layout.solve(small) == counts
        if pruner.limit is not None:
            assert pruner.cost.at(counts) <= pruner.limit
        if pruner.equal:
            assert all(len({counts[axis] for axis in group}) == 1 for group in pruner.equal)
        certificate = pruner.certify(
            self.apply, life.parameters, life.gates, freeze(small), freeze(kept), [self.data[0]]
        )
        assert certificate.max_abs_difference <= certificate.tolerance
        gated = pruner.gate(life.parameters, pruner.settle(life.gates, life.parameters))
        y, _ = self.net.apply(gated, self.data[1], engine="numpy")
        found, _ = self.net.apply(small, self.data[1], engine="numpy")
        bound = 1e-10 if y.dtype == np.float64 else 1e-5  # as the certificate's
        np.testing.assert_allclose(found, y, rtol=0, atol=bound * max(1.0, abs(y).max()))
        self.small = SavedModel(
            parameters=freeze(small),
            layout=self.chain.layout,
            kept=freeze(kept),
            dense_sizes=dict(pruner.sizes),
            chain=self.chain,
            certificate=certificate,
            metadata={"step": life.step, "words": list("abcde")},
        )

    def apply(self, parameters: dict[str, np.ndarray], x: np.ndarray) -> Any:
        y, states = self.net.apply(parameters, x, engine="numpy")
        return y, {
            axis: list(state) if isinstance(state, tuple) else state
            for axis, state in zip(self.chain.state_axes, states, strict=True)
        }

    @rule()
    def save(self) -> None:
        l0gate.save(self.folder / "small.npz", self.small)
        self.bytes = (self.folder / "small.npz").read_bytes()
        assert sorted(p.name for p in self.folder.glob("small*")) == ["small.npz"]
        self.saved = self.small

    @rule(cut=st.integers(0, 4))
    def load(self, cut: int) -> None:
        """The file holds what was saved, however much was trained and shrunk since."""
        loaded = l0gate.load(self.folder / "small.npz")
        assert_saved(loaded.saved, self.saved)
        l0gate.save(self.folder / "copy.npz", loaded)
        assert (self.folder / "copy.npz").read_bytes() == self.bytes
        x = self.data[0]
        time = 1 if self.chain.batch_first else 0
        y, _ = loaded(x)
        np.testing.assert_array_equal(
            y, self.net.apply(dict(self.saved.parameters), x, engine=loaded.engine)[0]
        )
        if not self.chain.layers[1]["bidirectional"]:
            parts, state = [], None
            for part in np.split(x, [cut], axis=time):
                piece, state = loaded(part, state)
                parts.append(piece)
            close = {"rtol": 1e-4, "atol": 1e-6} if y.dtype == np.float32 else {"rtol": 1e-10}
            np.testing.assert_allclose(np.concatenate(parts, axis=time), y, **close)
            state = None
            for t in range(4):
                y_t, state = loaded.step(x.take(t, axis=time), state)
                np.testing.assert_allclose(y_t, y.take(t, axis=time), **close)

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        content = bytearray(self.bytes)
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        (self.folder / "damaged.npz").write_bytes(content)
        try:
            found = read(self.folder / "damaged.npz")
        except L0GateError as error:
            assert "damaged.npz" in str(error)  # noqa: PT017
        else:
            assert_saved(found, self.saved)

    @rule(seed=st.integers(0, 99))
    def go_on_with_the_small_one(self, seed: int) -> None:
        """What was loaded is a dense model, to be trained and pruned again."""
        parameters = freeze(dict(read(self.folder / "small.npz").parameters))
        self.goal = {"budget": Budget(parameters=1.0, warmup=0.0, settle=0.5)}
        self.pruners = [Pruner(self.chain.layout, **self.goal) for _ in range(2)]
        self.lives = [fresh(pruner, parameters, seed) for pruner in self.pruners]

    # What always holds --------------------------------------------------------------------------

    @invariant()
    def the_model_equals_its_shadow_bit_for_bit(self) -> None:
        if hasattr(self, "lives"):
            one, other = (pack(*content(life)) for life in self.lives)
            assert one == other

    @invariant()
    def what_is_decided_meets_the_budget(self) -> None:
        for pruner, life in zip(
            getattr(self, "pruners", []), getattr(self, "lives", []), strict=True
        ):
            if pruner.limit is not None and pruner.selected(life.gates):
                assert pruner.size(life.gates) <= pruner.limit


def fresh(pruner: Pruner, parameters: dict[str, np.ndarray], seed: int) -> Training:
    state: State = freeze(pruner.init(parameters, seed))
    moments = freeze({name: 0 * p for name, p in parameters.items()})
    own = Adam(*(2 * [freeze({a: 0 * v for a, v in state["log_alpha"].items()})]))
    return Training(parameters, Adam(moments, moments), state, own, NUMPY.rng(seed + 1))


def content(life: Training) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All that a model is, for `pack`."""
    arrays = {f"p/{n}": p for n, p in life.parameters.items()}
    arrays |= {f"m/{n}": m for n, m in life.adam.first.items()}
    for key, part in life.gates.items():
        arrays |= {
            f"{key}/{a}": v for a, v in (part.items() if isinstance(part, dict) else [("", part)])
        }
    for i, state in enumerate(life.carry or ()):
        arrays |= {
            f"carry/{i}/{j}": s
            for j, s in enumerate(state if isinstance(state, tuple) else [state])
        }
    assert all(not array.flags.writeable for array in arrays.values())
    return arrays, {"rng": list(life.rng), "losses": life.losses, "steps": life.adam.steps}


def assert_saved(found: SavedModel, expected: SavedModel) -> None:
    """Every field, to the last bit."""
    for name in ("parameters", "kept"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value, strict=True)
    assert found.layout == expected.layout
    assert found.dense_sizes == expected.dense_sizes
    assert found.chain == expected.chain
    assert found.metadata == expected.metadata
    assert str(found.certificate) == str(expected.certificate)


def test_a_life_in_any_order() -> None:
    run_state_machine_as_test(Life)


def test_packing_is_unpacked_to_the_same_arrays() -> None:
    """Dtypes, shapes, memory orders, and values that compare unequal to themselves."""
    arrays = {
        "a/b.c": np.array([[np.nan, -0.0], [np.inf, 5e-324]]),
        "F": np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(True),
        "strided": np.arange(10, dtype=np.uint16)[::-3],
        "big-endian": np.arange(3, dtype=">f4"),
    }
    found, manifest = unpack(
        io.BytesIO(pack(freeze(arrays), {"text": "é\n", "none": None, "x": [0.1]}))
    )
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
    del manifest["checksums"]
    assert manifest == {"text": "é\n", "none": None, "x": [0.1]}
