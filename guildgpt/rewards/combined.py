"""All programmatic terms of a reward together, for a batch of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guildgpt.errors import RecipeError
from guildgpt.rewards import terms
from guildgpt.rewards.config import (
    FormatTerm,
    LengthTerm,
    RepetitionTerm,
    RewardTerms,
    VerifyTerm,
    WordsTerm,
)
from guildgpt.rewards.confine import level
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
        self._terms: dict[str, tuple[float, _Values]] = {
            name: (term.weight, _TERMS[name](term))
            for name, term in on.items()
            if term is not None and term.weight > 0
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The terms that are on, in the order in which they are added."""
        return tuple(self._terms)

    def __call__(self, answers: Sequence[Written], wanted: Sequence[Wanted]) -> Rewarded:
        """The rewards of a batch: `wanted[i]` is what the prompt of `answers[i]` asks.

        A total is the sum of weight times value over the terms that apply, 0 if none does.
        GuildError with the row if a term fails; nothing is ever counted as 0 in silence.
        """
        if len(answers) != len(wanted):
            raise ValueError(f"{len(answers)} answers and {len(wanted)} rows")
        values = {name: each(answers, wanted) for name, (_, each) in self._terms.items()}
        totals = [0.0] * len(answers)
        for name, (weight, _) in self._terms.items():
            for index, value in enumerate(values[name]):
                totals[index] += weight * (value or 0.0)
        return Rewarded(totals, values)


_Values = Callable[[Sequence[Written], Sequence[Wanted]], list[float | None]]


def _repetition(config: RepetitionTerm) -> _Values:
    return lambda answers, wanted: [terms.repetition(one.ids, config.ngram) for one in answers]


def _length(config: LengthTerm) -> _Values:
    return lambda answers, wanted: [
        terms.length(len(one.ids), config.shortest, config.longest, config.slack) for one in answers
    ]


def _format(config: FormatTerm) -> _Values:
    def values(answers: Sequence[Written], wanted: Sequence[Wanted]) -> list[float | None]:
        rules = [row.format or config.rules for row in wanted]
        return [
            terms.form(one.text, each, one.ended) if each else None
            for one, each in zip(answers, rules, strict=True)
        ]

    return values


def _words(config: WordsTerm) -> _Values:
    unwanted = _matcher(config)
    return lambda answers, wanted: [terms.words(one.text, unwanted) for one in answers]


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
    "words": _words,
    "verify": _verify,
}


def _matcher(config: WordsTerm) -> WordMatcher:
    built_in = built_in_words()
    unwanted = [word for name in config.lists for word in built_in[name]]
    if config.file is not None:
        try:
            lines = Path(config.file).read_text(encoding="utf-8").splitlines()
            more = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            return WordMatcher([*unwanted, *more])
        except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            raise RecipeError(
                f"the word list cannot be used: {error}",
                where=config.file,
                remedy="It is a text file in UTF-8 with a word or a phrase on each line.",
            ) from None
    return WordMatcher(unwanted)
