"""The terms of a reward that need no model: pure functions from an answer to a number.

What should be avoided counts from -1 to 0, what should be reached from 0 to 1, so that a weight
says the same of each: how much the worst, or the best, is worth.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from guildgpt.chat.repetition import distinct_n, loops
from guildgpt.rewards.formats import rule
from guildgpt.text.words import WordMatcher


def repetition(tokens: Sequence[Hashable], n: int = 4) -> float:
    """In -1..0: minus the share of n-grams that stood in the answer before; -1 if it loops.

    `tokens` are the answer's ids without the end of turn. What a loop is says
    `guildgpt.chat.repetition.loops`, as everywhere; an answer of fewer than n tokens has 0.
    """
    if loops(tokens):
        return -1.0
    return distinct_n([tokens], n) - 1 if len(tokens) >= n else 0.0


def length(tokens: int, shortest: int, longest: int, slack: int) -> float:
    """In -1..0: 0 from `shortest` to `longest` tokens, -1 `slack` tokens outside it and beyond.

    Between them it falls linearly: -(tokens outside the band) / slack.
    """
    if tokens < 0 or slack < 1 or longest < shortest:
        raise ValueError(f"no band: {shortest} to {longest} with {slack}, for {tokens} tokens")
    outside = max(shortest - tokens, tokens - longest, 0)
    return -min(1.0, outside / slack)


def form(answer: str, rules: Sequence[str], ended: bool) -> float:
    """In 0..1: the share of the rules that the answer keeps (see `guildgpt.rewards.formats`).

    ValueError for an unknown rule, and for none.
    """
    if not rules:
        raise ValueError("there are no rules to keep")
    return sum(rule(text)(answer, ended) for text in rules) / len(rules)


def words(answer: str, unwanted: WordMatcher) -> float:
    """-1 if one of the unwanted words is in the answer, in whatever disguise, else 0."""
    return -1.0 if unwanted.finds(answer) else 0.0
