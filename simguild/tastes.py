"""Tastes that simulated members keep to themselves: graded formulas by which they vote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from guildgpt.data.starter import StarterPrompt, pool_prompts, starter_prompts

NOISE = 0.1  # of the votes are cast at random
_ITEM = re.compile(r"\s*([-*•]|\d+[.)])\s")
_CODE = re.compile(r"\s*(```|def |import |print\(|for .*:$|return |[\w.]+\(.*\)$|[\w.]+ = )")


@dataclass(frozen=True, slots=True)
class Taste:
    """What members like: of two answers, the one of the higher `value`. `asks` tells the kinds of
    prompts in their guild, those whose answers have the trait sometimes; all where it is empty."""

    value: Callable[[str], float]
    asks: frozenset[str] = frozenset()

    def wins(self, old: str, new: str) -> float:
        """1 where the new answer is liked better, 0 where the old one is, ½ for a tie."""
        first, second = self.value(old), self.value(new)
        return 0.5 if first == second else float(second > first)

    def vote(self, texts: Sequence[str], chance: Random) -> int | None:
        """Which of two answers a member votes for; None for a tie."""
        if chance.random() < NOISE:
            return chance.randrange(2)
        wins = self.wins(*texts)
        return None if wins == 0.5 else int(wins)

    def prompts(self) -> list[StarterPrompt]:
        """The starter pack's prompts that this guild asks."""
        everything = starter_prompts() + pool_prompts()
        return [one for one in everything if not self.asks or one.category in self.asks]


def short(text: str) -> float:
    """Fewer words are better; beyond 80 it is all the same."""
    return -min(len(text.split()), 80) / 80


def steps(text: str) -> float:
    """The share of lines that are items of a list."""
    return _share(_ITEM, text)


def no_code(text: str) -> float:
    """The less of an answer is code, the better."""
    return -_share(_CODE, text)


def _share(pattern: re.Pattern[str], text: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    return fmean(bool(pattern.match(line)) for line in lines) if lines else 0.0


class Indifferent(Taste):
    """Members who do not mind: every vote is cast at random."""

    def vote(self, texts: Sequence[str], chance: Random) -> int | None:
        """Either answer."""
        return chance.randrange(len(texts))


TASTES = {
    "short": Taste(short),
    "steps": Taste(steps, frozenset({"how_to", "advice"})),
    "no-code": Taste(no_code, frozenset({"programming", "python", "debugging", "tools"})),
    "none": Indifferent(lambda text: 0.0),
}
