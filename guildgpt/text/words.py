"""Whole words and phrases, found in a text however they are disguised; and short lists of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser
from importlib import resources

from guildgpt.text.visible import clean

_LEET = str.maketrans("0134578@$!l", "oieastbasii")  # 1 and ! stand for i and l, so l counts as i
_ASCII_UNSEEN = str.maketrans(
    "", "", "".join(map(chr, [*range(9), *range(14, 28), 31, 127])) + "'`"
)
_LEET_SIGN = re.compile(r"[0134578@$!]")


class WordMatcher:
    """Finds words and phrases in whatever case, accent, width or simple leetspeak.

    ValueError for a word without letters.
    """

    def __init__(self, words: Iterable[str]):
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


def built_in_words() -> dict[str, list[str]]:
    """The lists of `words.txt` by their names."""
    text = resources.files("guildgpt.text").joinpath("words.txt").read_text(encoding="utf-8")
    parser = ConfigParser(allow_no_value=True, interpolation=None)
    parser.read_string(text)
    return {name: list(parser[name]) for name in parser.sections()}


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
