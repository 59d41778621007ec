"""`l0gate sample`: what is drawn from a net, and what cannot be."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from l0gate import L0GateError
from l0gate.cli._app import run
from l0gate.cli.commands.sample import draw_text


class Counting:
    """A net over an alphabet that likes one token after another, and says what it was asked."""

    def __init__(self, vocabulary: list[str], unit: str) -> None:
        self.saved = SimpleNamespace(metadata={"vocabulary": vocabulary, "unit": unit})
        self.asked: list[tuple[int, Any]] = []

    def step(self, token: int, state: Any = None) -> tuple[np.ndarray, Any]:
        self.asked.append((token, state))
        size = len(self.saved.metadata["vocabulary"])
        logits = np.zeros(size, np.float32)
        logits[(token + 1) % size] = 2.0
        return logits, len(self.asked)


def sampled(net: Any, **changes: Any) -> list[str]:
    options: dict[str, Any] = {"prompt": "", "length": 4, "temperature": 0, "seed": 0}
    return list(draw_text(net, **{**options, **changes}))


def test_a_sample_of_characters() -> None:
    net = Counting(["c", "\n", "a", "b"], "character")
    assert sampled(net, prompt="ca") == ["c", "a", "b", "c", "\n", "a"]
    # A new line before the prompt; the state is carried from step to step.
    assert [token for token, _ in net.asked] == [1, 0, 2, 3, 0, 1, 2]
    assert [state for _, state in net.asked] == [None, 1, 2, 3, 4, 5, 6]
    assert sampled(Counting(["x", "a"], "character"), length=1) == ["a"]  # 0 where there is none
    unknown = Counting(["a", "b", "\ufffd"], "character")
    assert sampled(unknown, prompt="?b", length=1) == ["?", "b", "\ufffd"]
    assert [token for token, _ in unknown.asked] == [0, 2, 1, 2]


def test_a_sample_of_words() -> None:
    net = Counting(["two", "<eos>", "<unk>", "one"], "word")
    assert sampled(net, prompt=" one what\n") == ["one ", "what ", "one ", "two ", "\n", "<unk> "]
    assert [token for token, _ in net.asked] == [1, 3, 2, 3, 0, 1, 2]


def test_samples_are_drawn_as_the_net_predicts() -> None:
    net = Counting(["a", "b", "c"], "character")
    for temperature in (0.5, 1.0, 4.0):
        drawn = sampled(net, length=1500, temperature=temperature, seed=1)
        assert drawn == sampled(net, length=1500, temperature=temperature, seed=1)
        assert drawn != sampled(net, length=1500, temperature=temperature, seed=2)
        likely = sum("abc".index(b) == ("abc".index(a) + 1) % 3 for a, b in pairwise(drawn))
        weight = math.exp(2.0 / temperature)
        assert likely / 1499 == pytest.approx(weight / (weight + 2), abs=0.05)
    # Large figures overflow nothing.
    net.step = lambda token, state=None: (np.array([1e4, 0, -1e4], np.float32), 0)  # type: ignore[method-assign]
    assert sampled(net, length=2, temperature=0.01) == ["a", "a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, "`--length` is 0; it must be at least 1"),
        (
            {"temperature": -0.5},
            "`--temperature` is -0.5; it must be a finite number of at least 0",
        ),
        (
            {"temperature": math.inf},
            "`--temperature` is inf; it must be a finite number of at least 0",
        ),
        ({"seed": -1}, "`--seed` is -1; it must be at least 0"),
        ({"prompt": "a?"}, "`--prompt` holds '?', which the model's vocabulary of 2 lacks"),
    ],
)
def test_samples_that_cannot_be_drawn(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(L0GateError) as error:
        sampled(Counting(["a", "b"], "character"), **changes)
    assert str(error.value) == message
    net = SimpleNamespace(saved=SimpleNamespace(metadata={}))
    with pytest.raises(L0GateError) as error:
        sampled(net)
    assert str(error.value) == (
        "the model has no vocabulary in its metadata; `l0gate train` writes one"
    )


def test_sample_streams_text(finished, capsys):
    sample = ["sample", str(finished), "--length", "20", "--prompt", "The "]
    assert run([*sample, "--seed", "1"]) == 0
    first = capsys.readouterr().out
    assert run([*sample, "--seed", "1"]) == 0
    assert capsys.readouterr().out == first
    assert len(first) == len("The ") + 20 + 1
    assert first.startswith("The ")
    assert run([*sample, "--seed", "2"]) == 0
    assert capsys.readouterr().out != first


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--length", "0"], "`--length` is 0"),
        (["--temperature=-1"], "`--temperature` is -1.0"),
        (["--prompt", "snow ☃"], "`--prompt` holds '☃'"),
    ],
)
def test_bad_samples(finished, options, part, capsys):
    assert run(["sample", str(finished), *options]) == 2
    assert part in capsys.readouterr().err
