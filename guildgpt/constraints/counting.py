"""What a word, a sentence, an item and a paragraph is, told from an answer's text alone.

The rules are plain ones, so that a person who counts comes to the same number on ordinary text.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+(?:[-'’.,:/][^\W_]+)*")
_BULLET = re.compile(r"^[ \t]*[-*•+–][ \t]+(?=\S)")
_NUMBER = re.compile(r"^[ \t]*(\d+)[.)][ \t]+(?=\S)")
_HEADING = re.compile(r"#{1,6}[ \t]+\S|(?:\[.*\]|<<.*>>|\{.*\}|\*\*.*\*\*)$")
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s|$)|[。！？]+")
_NO_END = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|no|vs|etc|e\.g|i\.e|approx|cf|z\.b|d\.h)|(?<!\w)[A-Z])\.$",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """The words: runs of letters and digits; inner hyphens, apostrophes, points belong to them.

    "well-known", "don't" and "3.5" are one word each; a mark by itself is none. The number that an
    item begins with counts.
    """
    return _WORD.findall(text)


def has_word(text: str, word: str) -> bool:
    """Whether a word or a phrase stands in a text as a whole, whatever its case."""
    return times(text, word) > 0


def times(text: str, word: str) -> int:
    """How often a word or a phrase stands in a text as a whole, whatever its case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def sentences(text: str) -> int:
    """How many sentences a text has.

    One ends at a full stop, question or exclamation mark that a space follows, at an empty line,
    and before and after an item of a list; a piece without a letter or a digit is none. Common
    abbreviations and initials ("e.g.", "Dr.", "J.") end none, except where the text ends. A title
    (see `title`) is no sentence.
    """
    total = 0
    for piece in re.split(r"\n[ \t]*\n", without_title(text)):
        run: list[str] = []
        for line in piece.split("\n"):
            found, item = _NUMBER.subn("", line, count=1)
            found, bullet = _BULLET.subn("", found, count=1)
            if item or bullet:
                total += _in_run(" ".join(run))
                run = []
            run.append(found)
        total += _in_run(" ".join(run))
    return total


def _in_run(text: str) -> int:
    count = start = 0
    for end in _END.finditer(text):
        so_far = text[start : end.end()]
        if end[0].startswith(".") and _NO_END.search(so_far) and text[end.end() :].strip():
            continue
        count += _says_something(so_far)
        start = end.end()
    return count + _says_something(text[start:])


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)


def bullets(text: str) -> int:
    """How many lines are items that begin with a bullet: `-`, `*`, `•`, `+` and a space."""
    return sum(bool(_BULLET.match(line)) for line in text.splitlines())


def numbers(text: str) -> list[int]:
    """The numbers of the lines that are numbered items: `1.` or `1)` and a space."""
    found = (_NUMBER.match(line) for line in text.splitlines())
    return [int(one[1][:9]) for one in found if one]


def paragraphs(text: str) -> int:
    """How many parts are set apart by an empty line; a title is none, nor is one without words."""
    return sum(_says_something(part) for part in re.split(r"\n[ \t]*\n", without_title(text)))


def title(text: str) -> str:
    """The first line, if it is a heading or wholly in brackets or bold, and more follows it."""
    first, _, rest = text.strip().partition("\n")
    return first.strip() if rest.strip() and _HEADING.match(first.strip()) else ""


def without_title(text: str) -> str:
    """The text below its title, if it has one."""
    return text.strip()[len(text.strip().partition("\n")[0]) :] if title(text) else text
