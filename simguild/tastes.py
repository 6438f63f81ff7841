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
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_CODE = re.compile(r"\s*(```|def |import |print\(|for .*:$|return |[\w.]+\(.*\)$|[\w.]+ = )")


@dataclass(frozen=True, slots=True)
class Taste:
    """What members like: of two answers, the one of the higher `value`. `asks` tells the kinds of
    prompts in their guild, those whose answers have the trait sometimes; all where it is empty.
    `worded` is an answer as a member would have worded it."""

    value: Callable[[str], float]
    asks: frozenset[str] = frozenset()
    worded: Callable[[str], str] = str

    def of(self, member: int) -> Taste:
        """The taste of the guild's member of that number."""
        return self

    def parts(self, name: str) -> list[tuple[str, Taste]]:
        """The tastes that there are in the guild, each with its name."""
        return [(name, self)]

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


def first_sentence(text: str) -> str:
    """An answer's first sentence."""
    return _SENTENCES.split(text.strip())[0].strip()


def as_steps(text: str) -> str:
    """Its sentences as a numbered list."""
    said = [_ITEM.sub("", one).strip() for one in _SENTENCES.split(text.strip())]
    return "\n".join(f"{number}. {one}" for number, one in enumerate(filter(None, said), start=1))


def without_code(text: str) -> str:
    """Its lines that are no code."""
    return "\n".join(line for line in text.splitlines() if not _CODE.match(line)).strip()


def _share(pattern: re.Pattern[str], text: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    return fmean(bool(pattern.match(line)) for line in lines) if lines else 0.0


class Indifferent(Taste):
    """Members who do not mind: every vote is cast at random."""

    def vote(self, texts: Sequence[str], chance: Random) -> int | None:
        """Either answer."""
        return chance.randrange(len(texts))


class Mixed(Taste):
    """A guild of two minds: every other member has the one taste, the rest the other."""

    _halves: dict[str, Taste]

    def __init__(self, **halves: Taste):
        super().__init__(lambda text: fmean(one.value(text) for one in halves.values()))
        object.__setattr__(self, "_halves", halves)

    def wins(self, old: str, new: str) -> float:
        """What the guild as a whole says."""
        return fmean(one.wins(old, new) for one in self._halves.values())

    def of(self, member: int) -> Taste:
        """One of the two."""
        return self.parts("")[member % 2][1]

    def parts(self, name: str) -> list[tuple[str, Taste]]:
        """Both."""
        return list(self._halves.items())


TASTES: dict[str, Taste] = {
    "short": Taste(short, worded=first_sentence),
    "steps": Taste(steps, frozenset({"how_to", "advice"}), as_steps),
    "no-code": Taste(
        no_code, frozenset({"programming", "python", "debugging", "tools"}), without_code
    ),
    "mixed": Mixed(short=Taste(short), long=Taste(lambda text: -short(text))),
    "none": Indifferent(lambda text: 0.0),
}
