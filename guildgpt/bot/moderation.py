"""What is not passed on: a small interface before and after the model, and a short word list.

A moderator looks at a text before the model reads it and at the answer before anyone else does.
Whoever wants more than words writes another `Moderator` and puts it into `Moderators`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Protocol

from guildgpt.bot.text import clean

if TYPE_CHECKING:
    from guildgpt.bot.settings import BotSettings

REFUSAL = "I'd rather not go into that. Is there something else I can help with?"
CARE = (
    "That sounds very hard, and I am glad that you said it. I am only a program: please talk to "
    "someone you trust, or to a helpline near you (https://findahelpline.com). If you are in "
    "danger right now, call your emergency number."
)

_LEET = str.maketrans("0134578@$!l", "oieastbasii")  # 1 and ! stand for i and l, so l counts as i
_ASCII_UNSEEN = str.maketrans(
    "", "", "".join(map(chr, [*range(9), *range(14, 28), 31, 127])) + "'`"
)
_LEET_SIGN = re.compile(r"[0134578@$!]")


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
        # The words and phrases by their first word, as they are spelled and in leetspeak.
        self._plain: dict[str, list[list[str]]] = {}
        self._leet: dict[str, list[list[str]]] = {}
        for word in words:
            phrase = _words(_folded(word))
            if not phrase:
                raise ValueError(f"{word!r} holds no letters to look for")
            self._plain.setdefault(phrase[0], []).append(phrase)
            leet = [part.translate(_LEET) for part in phrase]
            self._leet.setdefault(leet[0], []).append(leet)

    def before(self, text: str) -> Verdict | None:
        """The verdict on a question."""
        return self._verdict if self._before and self.finds(text) else None

    def after(self, text: str) -> Verdict | None:
        """The verdict on an answer."""
        return self._verdict if self._after and self.finds(text) else None

    def finds(self, text: str) -> bool:
        """Whether one of the words is in the text."""
        folded = _folded(text)
        if any(True for _ in _found(_words(folded), self._plain)):
            return True
        if not _LEET_SIGN.search(folded):
            return False
        words = _leet_words(folded)
        # A disguise has a sign for a letter; without one `l` and `i` are not the same.
        return any(
            any(_LEET_SIGN.search(word) and not word.isdigit() for word in words[place])
            for place in _found([word.translate(_LEET) for word in words], self._leet)
        )


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


def built_in_words() -> dict[str, list[str]]:
    """The lists of `words.txt` by their names."""
    text = resources.files("guildgpt.bot").joinpath("words.txt").read_text(encoding="utf-8")
    lists: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        elif line and not line.startswith("#"):
            lists.setdefault(name, []).append(line)
    return lists


def _found(words: list[str], phrases: Mapping[str, list[list[str]]]) -> Iterator[slice]:
    """Where the phrases stand."""
    for start, word in enumerate(words):
        for phrase in phrases.get(word, ()):
            place = slice(start, start + len(phrase))
            if words[place] == phrase:
                yield place


def _folded(text: str) -> str:
    """Compatibility letters, lower case, without accents, invisible characters and apostrophes."""
    if text.isascii():
        return text.lower().translate(_ASCII_UNSEEN)
    letters = unicodedata.normalize("NFKD", clean(text)).casefold()
    return "".join(c for c in letters if unicodedata.category(c) != "Mn" and c not in "'’`´")


def _words(folded: str) -> list[str]:
    return re.findall(r"[^\W_]+", folded)


def _leet_words(folded: str) -> list[str]:
    """The same with signs that stand for letters; a last ! ends a sentence."""
    found = re.findall(r"(?:[^\W_]|[@$!])+", folded)
    return [word for part in found if (word := part.rstrip("!"))]
