"""Comparisons with a rule behind them: the answer with more of one token is the better one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guildgpt.data.examples import Example, Ranking

from .conftest import VOCABULARY

LIKED = 17


def planted(count: int, seed: int, answers: int = 2, length: int = 6) -> list[Ranking]:
    """Rankings of random answers; the n-th best holds `LIKED` as often as its place allows."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        prompt = generator.integers(0, VOCABULARY, 4)
        examples = []
        for place in range(answers):
            ids = generator.choice([i for i in range(VOCABULARY) if i != LIKED], length)
            ids[: answers - 1 - place] = LIKED
            generator.shuffle(ids)
            examples.append(answered(prompt.tolist(), ids.tolist()))
        rows.append(ranking(examples, tree=str(number)))
    return rows


def answered(prompt: Sequence[int], ids: Sequence[int]) -> Example:
    whole = np.array([*prompt, *ids], np.int32)
    return Example(whole, np.arange(len(whole)) >= len(prompt), 0, "planted")


def ranking(examples: Sequence[Example], places: Sequence[int] = (), tree: str = "") -> Ranking:
    """Answers, best first, or at `places`."""
    at = list(places) or list(range(len(examples)))
    count = range(len(examples))
    pairs = tuple((i, j) for i in count for j in count if at[i] < at[j])
    steps = tuple(at[j] - at[i] for i, j in pairs)
    return Ranking(tuple(examples), pairs, steps, "planted", tree, frozenset())
