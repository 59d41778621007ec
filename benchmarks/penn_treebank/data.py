"""Penn TreeBank: texts of words, read from three files and cut into parallel streams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from l0gate import L0GateError


@dataclass(frozen=True)
class Corpus:
    """Word ids of the training, validation and test text, each (N,); every line ends in <eos>."""

    train: Tensor
    valid: Tensor
    test: Tensor
    words: int  # the size of the vocabulary

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """Read the files of a folder whose names contain train, valid and test."""
        parts = {}
        for name in ("train", "valid", "test"):
            found = sorted(path for path in folder.glob(f"*{name}*") if path.is_file())
            if len(found) != 1:
                raise L0GateError(
                    f"`--data` is '{folder}', where {len(found)} files have {name!r} in their"
                    " names; it must be one"
                )
            parts[name] = found[0].read_text(encoding="utf-8").replace("\n", " <eos> ").split()
        vocabulary = {word: i for i, word in enumerate(sorted(set(parts["train"])))}
        unknown = {w for part in parts.values() for w in part if w not in vocabulary}
        if unknown:
            raise L0GateError(f"`--data`: words that training never saw: {sorted(unknown)[:5]}")
        ids = {name: torch.tensor([vocabulary[w] for w in part]) for name, part in parts.items()}
        return cls(**ids, words=len(vocabulary))


def streams(ids: Tensor, batch: int) -> Tensor:
    """Cut a text (N,) into parallel streams: (steps, batch)."""
    steps = len(ids) // batch
    return ids[: steps * batch].reshape(batch, steps).T.contiguous()
