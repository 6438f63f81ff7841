"""Kinds of constraints on an answer's words: one that must or must not occur, the first and the
last ones, the language."""

from __future__ import annotations

from itertools import takewhile
from random import Random
from typing import Literal, Self
from unicodedata import normalize

import regex
from pydantic import Field

from guildgpt.constraints import counting, lists
from guildgpt.constraints.constraint import Constraint, fewer
from guildgpt.constraints.counting import whole
from guildgpt.constraints.draft import Draft
from guildgpt.constraints.languages import NAMES, language_of


class Word(Constraint):
    """A word that must occur as a whole word, in whatever case."""

    kind: Literal["word"] = "word"
    word: str = Field(pattern=r"\S")

    wordings = (
        'Use the word "{word}".',
        'The word "{word}" must occur in your answer.',
        'Include the word "{word}" somewhere.',
        'Make sure that "{word}" appears in the answer.',
        "Mention the word {word}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(word=random.choice(lists.WORDS))

    def holds(self, answer: str) -> bool:
        return counting.has_word(answer, self.word)

    def shape(self, draft: Draft) -> None:
        draft.include.append(self.word)


class NoWord(Constraint):
    """A word that must not occur as a whole word, in whatever case."""

    kind: Literal["no_word"] = "no_word"
    word: str = Field(pattern=r"\S")

    wordings = (
        'Do not use the word "{word}".',
        'Avoid the word "{word}".',
        'The word "{word}" must not occur in your answer.',
        'Write without the word "{word}".',
        'Leave out the word "{word}".',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(word=random.choice(lists.COMMON_WORDS))

    def holds(self, answer: str) -> bool:
        return not counting.has_word(answer, self.word)

    def nearly(self, answer: str) -> float:
        return fewer(counting.times(answer, self.word))

    def shape(self, draft: Draft) -> None:
        draft.avoid.append(self.word)


class Begins(Constraint):
    """The answer begins with a phrase, letter by letter, at a word's end."""

    kind: Literal["begins"] = "begins"
    phrase: str = Field(pattern=r"^\S(.*\S)?$")

    wordings = (
        'Begin your answer with "{phrase}".',
        'Start with the words "{phrase}".',
        'The first words of your answer must be "{phrase}".',
        'Your reply has to begin with: "{phrase}"',
        'Open with "{phrase}".',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(phrase=random.choice(lists.BEGINNINGS))

    def holds(self, answer: str) -> bool:
        return bool(regex.match(rf"\s*{whole(self.phrase)}", normalize("NFC", answer)))

    def nearly(self, answer: str) -> float:
        return 0.9 * _in_common(self.phrase.split(), answer.split())

    def shape(self, draft: Draft) -> None:
        draft.begin = self.phrase


class Ends(Constraint):
    """The answer ends with a phrase, letter by letter, that begins at a word's beginning."""

    kind: Literal["ends"] = "ends"
    phrase: str = Field(pattern=r"^\S(.*\S)?$")

    wordings = (
        'End your answer with "{phrase}"',
        'The last words of your answer must be "{phrase}"',
        'Finish with exactly this phrase: "{phrase}"',
        'Close with "{phrase}" and write nothing after it.',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(phrase=random.choice(lists.ENDINGS))

    def holds(self, answer: str) -> bool:
        return bool(regex.search(rf"{whole(self.phrase)}$", normalize("NFC", answer.rstrip())))

    def nearly(self, answer: str) -> float:
        return 0.9 * _in_common(self.phrase.split()[::-1], answer.split()[::-1])

    def shape(self, draft: Draft) -> None:
        draft.end = self.phrase


class Language(Constraint):
    """The language of the answer, as `languages.language_of` tells it: one of five."""

    kind: Literal["language"] = "language"
    language: Literal["en", "de", "fr", "es", "it"]

    wordings = (
        "Answer in {name}.",
        "Write your answer in {name}.",
        "Please reply in {name} only.",
        "The answer must be in {name}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(language=random.choice(("de", "fr", "es", "it")))

    def said(self) -> dict[str, str]:
        return {"name": NAMES[self.language]}

    def holds(self, answer: str) -> bool:
        return language_of(answer) == self.language

    def shape(self, draft: Draft) -> None:
        draft.language = self.language


def _in_common(asked: list[str], found: list[str]) -> float:
    """The share of the words asked for that stand there, from the first on."""
    pairs = zip(asked, found, strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))) / len(asked)
