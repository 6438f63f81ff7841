"""Lengths as Discord counts them, in UTF-16 units, and the characters that a person sees."""

from __future__ import annotations

from bisect import bisect_right

import regex

_CHARACTER = regex.compile("[\ud800-\udbff][\udc00-\udfff]|\\X")  # two halves are one, too


def utf16_len(text: str) -> int:
    """Length in UTF-16 units: characters beyond U+FFFF, most emoji among them, count twice."""
    if text.isascii():
        return len(text)
    return len(text) + sum(character > "\uffff" for character in text)


def shortened(text: str, limit: int) -> str:
    """The text in at most `limit` UTF-16 units: of a longer one the beginning and an ellipsis, cut
    after a word where one ends in its second half, else between two characters."""
    if utf16_len(text) <= limit:
        return text
    places = range(len(text))
    end = bisect_right(places, limit - 1, key=lambda place: utf16_len(text[:place])) - 1
    words = [place for place in range(end // 2, end + 1) if text[place].isspace()]
    between = [place for place in boundaries(text, 0) if place <= end]
    return text[: max(words or between or [end])].rstrip() + "…"


def boundaries(text: str, start: int) -> set[int]:
    """The ends of what a person sees as one character: a letter with its accents, an emoji of
    several, a flag."""
    return {found.end() for found in _CHARACTER.finditer(text, start)}
