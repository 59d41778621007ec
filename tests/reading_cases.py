"""Made-up texts for the reading example, and inputs of its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import l0gate

NET = l0gate.get_backend("numpy").net([{"type": "linear", "name": "out"}])
PARAMETERS = {"out.weight": np.ones((2, 3)), "out.bias": np.ones(2)}
# Options of a training that takes a second.
TINY = ("--held-out", 1, "--hidden", 6, "--width", 6, "--epochs", 4, "--batch", 3, "--part", 0.5)


def inputs(words: int = 30) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    passage = torch.randint(2, words, (3, 9), generator=generator)
    question = torch.randint(2, words, (3, 4), generator=generator)
    passage[1, 6:], question[2, 2:] = 0, 0
    spelled = torch.randint(0, 20, (3, 9, 7), generator=generator)
    spelled_question = torch.randint(0, 20, (3, 4, 7), generator=generator)
    return passage, question, spelled, spelled_question


def article(title: str, passage: str, *qas: tuple[str, str]) -> dict[str, Any]:
    questions = [
        {
            "id": f"{title}{i}",
            "question": question,
            "answers": [{"answer_start": passage.index(text), "text": text}],
        }
        for i, (question, text) in enumerate(qas)
    ]
    return {"title": title, "paragraphs": [{"context": passage, "qas": questions}]}


def made(path: Path) -> Path:
    colours = ["red", "blue", "green", "black"]
    articles = []
    for i in range(4):
        sky, sea = colours[i], colours[(i + 1) % 4]
        passage = f"In land {i} the sky is {sky}. The sea, though, is {sea}!"
        asked = ("What colour is the sky?", sky), ("What colour is the sea?", sea)
        articles.append(article(f"land{i}", passage, *asked))
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return path
