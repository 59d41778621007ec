"""Bidirectional attention flow (Seo et al., ICLR 2017, arXiv 1611.01603), and a smaller reader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiDAF(nn.Module):
    """Scores of every word of a passage for the start and for the end of the answer.

    passage (B, T) and question (B, J) are word ids, and 0 pads; their spellings (B, T, C) and
    (B, J, C) are character ids. Returns scores (B, T) for the start and the end; a padded word has
    the score -inf.
    """

    def __init__(
        self, words: int, characters: int, hidden: int = 50, width: int = 50, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.character = nn.Embedding(characters, 8, padding_idx=0)
        self.spelling = nn.Conv1d(8, width, kernel_size=5, padding=2)
        self.project = nn.Linear(2 * width, width)
        self.highway = nn.ModuleList(Highway(width) for _ in range(2))
        both = {"batch_first": True, "bidirectional": True}
        self.encoder = nn.LSTM(width, hidden, **both)
        # alpha(h, u) = w [h; u; h * u], as three readers, so that nothing is written out twice
        self.of_passage = nn.Linear(2 * hidden, 1)
        self.of_question = nn.Linear(2 * hidden, 1, bias=False)
        self.of_product = nn.Linear(2 * hidden, 1, bias=False)
        self.modelling = nn.LSTM(8 * hidden, hidden, num_layers=2, dropout=dropout, **both)
        self.ending = nn.LSTM(2 * hidden, hidden, **both)
        self.start = nn.Linear(10 * hidden, 1)
        self.end = nn.Linear(10 * hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, passage: Tensor, question: Tensor, spelled: Tensor, spelled_question: Tensor
    ) -> tuple[Tensor, Tensor]:
        h = self._encoded(passage, spelled)
        u = self._encoded(question, spelled_question)
        no_word, no_question_word = passage == 0, question == 0
        product = h[:, :, None] * u[:, None]
        similarity = (
            self.of_passage(h)
            + self.of_question(u).transpose(1, 2)
            + self.of_product(product).squeeze(-1)
        )  # (B, T, J)
        similarity = similarity.masked_fill(no_question_word[:, None], -1e30)
        attended = similarity.softmax(dim=2) @ u
        strongest = similarity.max(dim=2).values.masked_fill(no_word, -1e30)
        summary = (strongest.softmax(dim=1)[:, None] @ h).expand(-1, h.shape[1], -1)
        g = torch.cat([h, attended, h * attended, h * summary], dim=2)
        m = run(self.modelling, self.dropout(g), passage)
        m_end = run(self.ending, self.dropout(m), passage)
        start = self.start(self.dropout(torch.cat([g, m], dim=2))).squeeze(-1)
        end = self.end(self.dropout(torch.cat([g, m_end], dim=2))).squeeze(-1)
        return start.masked_fill(no_word, -torch.inf), end.masked_fill(no_word, -torch.inf)

    def _encoded(self, words: Tensor, spelled: Tensor) -> Tensor:
        batch, length, _ = spelled.shape
        letters = self.character(spelled).flatten(0, 1).transpose(1, 2)
        letters = self.spelling(letters).relu().max(dim=2).values.view(batch, length, -1)
        x = self.project(self.dropout(torch.cat([self.word(words), letters], dim=2)))
        for layer in self.highway:
            x = layer(x)
        return self.dropout(run(self.encoder, x, words))


class Highway(nn.Module):
    """x is carried on where the gate is 0, and transformed where it is 1 (arXiv 1505.00387)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.transform(x).relu() + (1 - gate) * x


class Reader(nn.Module):
    """For bAbI's stories: one word as the answer, from GRU encoders of story and question.

    story (B, T) and question (B, J) are word ids, and 0 pads. Returns scores (B, answers).
    """

    def __init__(self, words: int, answers: int, hidden: int = 64, width: int = 32) -> None:
        super().__init__()
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.story = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.question = nn.GRU(width, hidden, batch_first=True)
        self.key = nn.Linear(2 * hidden, hidden)
        self.query = nn.Linear(hidden, hidden)
        self.again = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.answer = nn.Linear(3 * hidden, answers)

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        y = run(self.story, self.word(story), story)
        _, (asked,) = self._final(self.question, self.word(question), question)
        query = self.query(asked)[:, :, None]
        weight = (self.key(y).tanh() @ query).squeeze(-1).masked_fill(story == 0, -1e30).softmax(1)
        z = run(self.again, y * weight[:, :, None] * story.shape[1], story)
        found = (weight[:, None] @ z).squeeze(1)
        return self.answer(torch.cat([found, asked], dim=1))

    def _final(self, rnn: Any, x: Tensor, ids: Tensor) -> tuple[Any, Tensor]:
        lengths = (ids != 0).sum(1).clamp(min=1).cpu()
        y, h = rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return y, h


def run(rnn: Any, x: Tensor, ids: Tensor) -> Tensor:
    """The outputs for padded sequences (B, T, features), 0 where there is no word."""
    lengths = (ids != 0).sum(1).clamp(min=1).cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]
