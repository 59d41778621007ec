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
        # The similarity w [h; u; h * u] as three linear layers, without the large concatenation.
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
    """A gate of 0 passes x through, a gate of 1 transforms it (arXiv 1505.00387)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.transform(x).relu() + (1 - gate) * x


class Reader(nn.Module):
    """A reader for bAbI stories: in each hop it attends to one sentence; the answer is one word.

    story (B, S, T) and question (B, J) are word ids, and 0 pads. Returns scores (B, answers), and
    the log-probabilities (B, hops, S) that a hop attends to a sentence. One encoder turns sentences
    and questions into vectors. Another runs over the sentences of a story, so that their order
    matters.
    """

    def __init__(
        self,
        words: int,
        answers: int,
        hops: int,
        hidden: int = 64,
        width: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        both = {"batch_first": True, "bidirectional": True}
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.encoder = nn.GRU(width, hidden, **both)
        self.order = nn.GRU(2 * hidden, hidden, **both)
        self.key = nn.Linear(4 * hidden, hidden)
        # The first query is computed from the question, later ones also from the last sentence.
        sizes = [2 * hidden] + [4 * hidden] * (hops - 1)
        self.query = nn.ModuleList(nn.Linear(size, hidden) for size in sizes)
        self.compare = nn.Linear(6 * hidden, hidden)
        self.answer = nn.Linear(hidden, answers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, story: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        empty = (story == 0).all(dim=2)
        asked = self._encoded(question)
        sentences = self._encoded(story.flatten(0, 1)).unflatten(0, story.shape[:2])
        ordered = self.dropout(run(self.order, sentences, ~empty))
        keys = self.key(torch.cat([sentences, ordered], dim=2))
        known, looked = asked, []
        for query in self.query:
            score = (keys @ query(known)[:, :, None]).squeeze(-1).masked_fill(empty, -1e30)
            looked.append(score.log_softmax(1))
            found = (score.softmax(1)[:, None] @ sentences).squeeze(1)
            known = torch.cat([asked, found], dim=1)
        compared = self.compare(torch.cat([asked, found, asked * found], dim=1)).relu()
        return self.answer(compared), torch.stack(looked, dim=1)

    def _encoded(self, ids: Tensor) -> Tensor:
        x = self.dropout(self.word(ids))
        lengths = (ids != 0).sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, last = self.encoder(packed)
        return self.dropout(torch.cat([last[0], last[1]], dim=1))


def run(rnn: Any, x: Tensor, ids: Tensor) -> Tensor:
    """The outputs on padded sequences (B, T, features); 0 in the padding, where ids are 0."""
    lengths = (ids != 0).sum(1).clamp(min=1).cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]
