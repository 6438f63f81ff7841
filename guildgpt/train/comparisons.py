"""Learning from comparisons: what the reward model and DPO have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guildgpt.data.examples import Example, Ranking
from guildgpt.train.objective import RowObjective


class ComparisonObjective(RowObjective):
    """All pairs of each ranking, averaged within the prompt; prompts are the terms of the loss."""

    def cut(self, rows: Sequence[Ranking]) -> list[list[Ranking]]:
        """Some prompts as passes; a prompt's answers stay together."""
        return ranking_batches(rows, self.config.micro_tokens, padded=self.trunk.padded)


def answers_of(batch: Sequence[Ranking]) -> list[Example]:
    """The answers to each prompt, laid end to end."""
    return [answer for ranking in batch for answer in ranking.answers]


def by_pair(values: Tensor, batch: Sequence[Ranking]) -> list[tuple[Tensor, Tensor]]:
    """From a value for each answer those of the better and of the worse one in each pair: two
    tensors (pairs,) for each ranking."""
    found = []
    pieces = torch.split(values, [len(ranking.answers) for ranking in batch])
    for ranking, piece in zip(batch, pieces, strict=True):
        better, worse = map(list, zip(*ranking.pairs, strict=True))
        found.append((piece[better], piece[worse]))
    return found


def ranking_batches(rows: Sequence[Ranking], limit: int, *, padded: bool) -> list[list[Ranking]]:
    """Prompts in groups of similar length, of at most `limit` tokens, padding included; one prompt
    at least."""
    groups: list[list[Ranking]] = []
    size, longest, answers = 0, 0, 0
    for row in sorted(rows, key=len):
        longest = max(longest, *map(len, row.answers))
        answers += len(row.answers)
        size = longest * answers if padded else size + len(row)
        if not groups or size > limit:
            groups.append([])
            longest, answers, size = max(map(len, row.answers)), len(row.answers), len(row)
        groups[-1].append(row)
    return groups
