"""The terms of a reward that need no model, for a batch of answers: each a pure function from an
answer to a number, and their weighted sum.

What should be avoided counts from -1 to 0, what should be reached from 0 to 1, so that a weight
says the same of each: how much the worst, or the best, is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guildgpt.chat.repetition import distinct_n, loops
from guildgpt.constraints.constraint import Constraint
from guildgpt.errors import RecipeError
from guildgpt.rewards.config import (
    ConstraintsTerm,
    FormatTerm,
    LengthTerm,
    RepetitionTerm,
    RewardTerms,
    VerifyTerm,
    WordsTerm,
)
from guildgpt.rewards.confine import level
from guildgpt.rewards.formats import rule
from guildgpt.rewards.sandbox import REMEDY, SandboxError
from guildgpt.rewards.verify import verify_all
from guildgpt.rewards.wanted import Wanted
from guildgpt.text.words import WordMatcher, built_in_words


@dataclass(frozen=True, slots=True)
class Written:
    """An answer: its text, its ids without the end of turn, and whether the model ended it."""

    text: str
    ids: tuple[int, ...]
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The weighted sums, and each term's own values (None where a term does not apply)."""

    totals: list[float]
    values: dict[str, list[float | None]]


class Rewards:
    """The terms that a recipe turns on. RecipeError or SandboxError where one cannot work here."""

    def __init__(self, config: RewardTerms):
        on = {name: getattr(config, name) for name in _TERMS}
        asked = config.constraints
        self._without_model = bool(asked and asked.weight > 0 and asked.without_model)
        self._terms: dict[str, tuple[float, _Values]] = {
            name: (term.weight, _TERMS[name](term))
            for name, term in on.items()
            if term is not None and term.weight > 0
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The terms that are on, in the order in which they are added."""
        return tuple(self._terms)

    def without_model(self, wanted: Wanted) -> bool:
        """Whether a reward model's score counts for nothing in the answers to such a prompt."""
        return self._without_model and bool(wanted.constraints)

    def __call__(self, answers: Sequence[Written], wanted: Sequence[Wanted]) -> Rewarded:
        """The rewards of a batch: `wanted[i]` is what the prompt of `answers[i]` asks.

        A total is the sum of weight times value over the terms that apply, 0 if none does.
        GuildError with the row if a term fails; nothing is ever counted as 0 in silence.
        """
        values = {name: each(answers, wanted) for name, (_, each) in self._terms.items()}
        totals = [0.0] * len(answers)
        for name, (weight, _) in self._terms.items():
            for index, value in enumerate(values[name]):
                totals[index] += weight * (value or 0.0)
        return Rewarded(totals, values)


_Values = Callable[[Sequence[Written], Sequence[Wanted]], list[float | None]]


# --- pure functions ------------------------------------------------------------------------------


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
    outside = max(shortest - tokens, tokens - longest, 0)
    return -min(1.0, outside / slack)


def form(answer: str, rules: Sequence[str], ended: bool) -> float | None:
    """In 0..1: the share of the rules that the answer keeps (see `guildgpt.rewards.formats`); None
    if there are none. ValueError for an unknown one."""
    if not rules:
        return None
    return sum(rule(text)(answer, ended) for text in rules) / len(rules)


def constraints(answer: str, asked: Sequence[Constraint], partial: float = 0.5) -> float | None:
    """In 0..1: 1 if the answer keeps all constraints, else `partial` times how near it comes to
    each, in the mean; None if there are none."""
    if not asked:
        return None
    near = sum(one.nearness(answer) for one in asked) / len(asked)
    return 1.0 if near == 1 else partial * near


def words(answer: str, unwanted: WordMatcher) -> float:
    """-1 if one of the unwanted words is in the answer, in whatever disguise, else 0."""
    return -1.0 if unwanted.finds(answer) else 0.0


# --- each term as a recipe sets it ---------------------------------------------------------------


def _repetition(config: RepetitionTerm) -> _Values:
    return lambda answers, wanted: [repetition(one.ids, config.ngram) for one in answers]


def _length(config: LengthTerm) -> _Values:
    """A prompt with constraints says itself how long its answer may be."""
    return lambda answers, wanted: [
        None
        if row.constraints
        else length(len(one.ids), config.shortest, config.longest, config.slack)
        for one, row in zip(answers, wanted, strict=True)
    ]


def _format(config: FormatTerm) -> _Values:
    return lambda answers, wanted: [
        form(one.text, row.format or config.rules, one.ended)
        for one, row in zip(answers, wanted, strict=True)
    ]


def _constraints(config: ConstraintsTerm) -> _Values:
    return lambda answers, wanted: [
        constraints(one.text, row.constraints, config.partial)
        for one, row in zip(answers, wanted, strict=True)
    ]


def _words(config: WordsTerm) -> _Values:
    built_in = built_in_words()
    listed = [word for name in config.lists for word in built_in[name]]
    try:
        if config.file is not None:
            lines = Path(config.file).read_text(encoding="utf-8").splitlines()
            listed += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        unwanted = WordMatcher(listed)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise RecipeError(
            f"the word list cannot be used: {error}",
            where=config.file,
            remedy="It is a text file in UTF-8 with a word or a phrase on each line.",
        ) from None
    return lambda answers, wanted: [words(one.text, unwanted) for one in answers]


def _verify(config: VerifyTerm) -> _Values:
    if level() == "none":
        raise SandboxError(
            "this machine cannot confine the code that a model writes, so it is not run",
            where="verify",
            remedy=REMEDY,
        )

    def values(answers: Sequence[Written], wanted: Sequence[Wanted]) -> list[float | None]:
        tested = [index for index, row in enumerate(wanted) if row.tests]
        results = verify_all(
            [answers[index].text for index in tested],
            [wanted[index].tests for index in tested],
            config.workers,
            config.limits,
            where=[wanted[index].where for index in tested],
        )
        found: list[float | None] = [None] * len(answers)
        for index, result in zip(tested, results, strict=True):
            found[index] = result.score(config.partial)
        return found

    return values


_TERMS: dict[str, Callable[[Any], _Values]] = {
    "repetition": _repetition,
    "length": _length,
    "format": _format,
    "constraints": _constraints,
    "words": _words,
    "verify": _verify,
}
