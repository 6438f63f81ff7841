"""What is not passed on: a small interface before and after the model, and a short word list.

A moderator looks at a text before the model reads it and at the answer before anyone else does.
Whoever wants more than words writes another `Moderator` and puts it into `Moderators`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from guildgpt.text.words import WordMatcher, built_in_words

REFUSAL = "I'd rather not go into that. Is there something else I can help with?"
CARE = (
    "That sounds very hard, and I am glad that you said it. I am only a program: please talk to "
    "someone you trust, or to a helpline near you (https://findahelpline.com). If you are in "
    "danger right now, call your emergency number."
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which rule a text broke, and the short friendly sentence to say instead ('' is silence)."""

    rule: str
    say: str


class Moderator(Protocol):
    """Looks at questions before, and at answers after they are generated; None lets them pass."""

    def before(self, text: str) -> Decision | None:
        """The decision on what somebody asks."""

    def after(self, text: str) -> Decision | None:
        """The decision on what the model wrote, whole or as far as it is."""


class WordList:
    """Whole words and phrases, in whatever case, accent, width or simple leetspeak.

    It looks at questions, and at answers unless `after` is false. ValueError for a word without
    letters.
    """

    def __init__(self, words: Iterable[str], rule: str, *, say: str = REFUSAL, after: bool = True):
        self._decision = Decision(rule, say)
        self._after = after
        self._words = WordMatcher(words)

    def before(self, text: str) -> Decision | None:
        """The decision on a question."""
        return self._decision if self._words.finds(text) else None

    def after(self, text: str) -> Decision | None:
        """The decision on an answer."""
        return self.before(text) if self._after else None


@dataclass(frozen=True)
class Moderators:
    """Several moderators; the first that has something to say says it."""

    each: Sequence[Moderator]

    def before(self, text: str) -> Decision | None:
        """The first decision on a question."""
        return next((found for one in self.each if (found := one.before(text))), None)

    def after(self, text: str) -> Decision | None:
        """The first decision on an answer."""
        return next((found for one in self.each if (found := one.after(text))), None)


def moderators(built_in: bool = True, blocked: Collection[str] = ()) -> Moderators:
    """The built-in lists, care for a person in danger first, and the operator's `blocked` words."""
    each: list[Moderator] = []
    if built_in:
        lists = built_in_words()
        each.append(WordList(lists["despair"], "despair", say=CARE, after=False))
        each += [WordList(lists[rule], rule) for rule in ("slurs", "cruelty")]
    if blocked:
        each.append(WordList(blocked, "operator"))
    return Moderators(each)
