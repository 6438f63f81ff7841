"""What is not passed on: a small interface before and after the model, and a short word list.

A moderator looks at a text before the model reads it and at the answer before anyone else does.
Whoever wants more than words writes another `Moderator` and puts it into `Moderators`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from guildgpt.bot.operating.settings import BotSettings
from guildgpt.text.words import WordMatcher, built_in_words

REFUSAL = "I'd rather not go into that. Is there something else I can help with?"
CARE = (
    "That sounds very hard, and I am glad that you said it. I am only a program: please talk to "
    "someone you trust, or to a helpline near you (https://findahelpline.com). If you are in "
    "danger right now, call your emergency number."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rule a text broke, and the short friendly sentence to say instead ('' is silence)."""

    rule: str
    say: str


class Moderator(Protocol):
    """Looks at questions before, and at answers after they are generated; None lets them pass."""

    def before(self, text: str) -> Verdict | None:
        """The verdict on what a member asks."""

    def after(self, text: str) -> Verdict | None:
        """The verdict on what the model wrote, whole or as far as it is."""


class WordList:
    """Whole words and phrases, in whatever case, accent, width or simple leetspeak.

    `before` and `after` say which side it looks at. ValueError for a word without letters.
    """

    def __init__(
        self,
        words: Iterable[str],
        *,
        rule: str = "words",
        say: str = REFUSAL,
        before: bool = True,
        after: bool = True,
    ):
        self._verdict = Verdict(rule, say)
        self._before, self._after = before, after
        self._words = WordMatcher(words)

    def before(self, text: str) -> Verdict | None:
        """The verdict on a question."""
        return self._verdict if self._before and self.finds(text) else None

    def after(self, text: str) -> Verdict | None:
        """The verdict on an answer."""
        return self._verdict if self._after and self.finds(text) else None

    def finds(self, text: str) -> bool:
        """Whether one of the words is in the text."""
        return self._words.finds(text)


class Moderators:
    """Several moderators; the first that has something to say says it."""

    def __init__(self, *each: Moderator):
        self.each = each

    def before(self, text: str) -> Verdict | None:
        """The first verdict on a question."""
        return next((found for one in self.each if (found := one.before(text))), None)

    def after(self, text: str) -> Verdict | None:
        """The first verdict on an answer."""
        return next((found for one in self.each if (found := one.after(text))), None)


def moderators(settings: BotSettings) -> Moderators:
    """The built-in lists and the operator's own words, care for a person in danger first."""
    each: list[Moderator] = []
    if settings.moderation:
        lists = built_in_words()
        each.append(WordList(lists["despair"], rule="despair", say=CARE, after=False))
        each += [WordList(lists[rule], rule=rule) for rule in ("slurs", "cruelty")]
    if settings.blocked_words:
        each.append(WordList(settings.blocked_words, rule="operator"))
    return Moderators(*each)
