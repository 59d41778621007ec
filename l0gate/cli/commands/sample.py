"""`l0gate sample`: text from the small net of a run, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import l0gate
from l0gate._errors import L0GateError, check
from l0gate.cli._folders import MODEL
from l0gate.cli._text import END_OF_SENTENCE, UNKNOWN


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    length: Annotated[int, typer.Option(help="Tokens to draw.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.7,
    prompt: Annotated[str, typer.Option(help="Text that the sample continues.")] = "",
) -> None:
    """Write text with the small net of a run, token by token."""
    net = l0gate.load(run / MODEL)
    pieces = draw_text(net, prompt=prompt, length=length, temperature=temperature, seed=seed)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def draw_text(
    net: Any, *, prompt: str, length: int, temperature: float, seed: int
) -> Iterator[str]:
    """Yield the prompt token by token, then `length` tokens drawn from the net's predictions."""
    check(length >= 1, f"`--length` is {length}; it must be at least 1")
    check(
        0 <= temperature < float("inf"),
        f"`--temperature` is {temperature}; it must be a finite number of at least 0",
    )
    check(seed >= 0, f"`--seed` is {seed}; it must be at least 0")
    vocabulary, words = _vocabulary(net)
    index = {token: i for i, token in enumerate(vocabulary)}
    start = END_OF_SENTENCE if words else "\n"
    given: Sequence[str] = prompt.split() if words else prompt
    unknown = UNKNOWN["word" if words else "character"]
    for token in given:
        check(
            token in index or unknown in index,
            f"`--prompt` holds {token!r}, which the model's vocabulary of {len(vocabulary)} lacks",
        )
    rng = np.random.default_rng(seed)
    logits, state = net.step(index.get(start, 0))
    for token in given:
        logits, state = net.step(index.get(token, index.get(unknown)), state)
        yield _shown(token, words)
    for _ in range(length):
        drawn = _draw(logits, temperature, rng)
        logits, state = net.step(drawn, state)
        yield _shown(vocabulary[drawn], words)


def _vocabulary(net: Any) -> tuple[list[str], bool]:
    """The tokens of the model, and whether they are words."""
    metadata = net.saved.metadata
    try:
        return list(metadata["vocabulary"]), metadata["unit"] == "word"
    except KeyError:
        raise L0GateError(
            "the model has no vocabulary in its metadata; `l0gate train` writes one"
        ) from None


def _draw(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The index of one token, drawn from softmax(logits / temperature)."""
    if temperature == 0:
        return int(np.argmax(logits))
    scaled = (logits.astype(np.float64) - logits.max()) / temperature
    weights = np.exp(scaled)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _shown(token: str, words: bool) -> str:
    if not words:
        return token
    return "\n" if token == END_OF_SENTENCE else f"{token} "
