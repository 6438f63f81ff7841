"""What a word, a sentence, an item and a paragraph is, told from an answer's text alone.

The rules are plain ones, so that a person who counts comes to the same number on ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unicodedata import normalize

import regex

_IN_WORD = r"[\p{L}\p{M}\p{N}]"
_JOINS = r"(?:[-'’‐‑]|(?<=\d)[.,:/](?=\d)|(?<=\b\p{L})\.(?=\p{L}\b))"
_WORD = regex.compile(rf"[\p{{L}}\p{{N}}]{_IN_WORD}*(?:{_JOINS}{_IN_WORD}+)*")
_EDGE = rf"(?:(?<!{_IN_WORD})|(?!{_IN_WORD}))"  # a place that is not inside a word
_BULLET = regex.compile(r"^[ \t]*[-*•+–][ \t]+(?=\S)")
_NUMBER = regex.compile(r"^[ \t]*(\d+)[.)][ \t]+(?=\S)")
_EMPTY_LINE = regex.compile(r"\n[ \t]*\n")
_BLOCK = regex.compile(r"\s*```\w*[ \t]*\n(.*?)\n?```\s*", regex.DOTALL)
_HEADING = regex.compile(r"#{1,6}[ \t]+\S.*|\[[^\[\]]*\]|<<[^<>]*>>|\{[^{}]*\}|\*\*[^*]+\*\*")
_CHAPTER = regex.compile(r"^[^\p{L}\p{N}]*\d+[.)][ \t]+")
# A mark that a space follows or, after a word of two letters, the next word's capital.
_CLOSING = r"[\"'”’»)\]}*_]*+"
_END = regex.compile(
    rf"(?<![.!?…])[.!?…]++(?:{_CLOSING}(?=\s|$)"
    rf"|(?<=[\p{{L}}\p{{N}}]{{2}}[.!?…]+){_CLOSING}(?=\p{{Lu}}\p{{L}}|I[ '’]))|[。！？।؟۔]+"
)
# With a capital, these begin a sentence also after an abbreviation: they are no names.
_SUBJECT = "I|You|He|She|It|We|They|The|This|That|These|Those|There"
_BEGINNING = (
    rf"(?:{_SUBJECT}|An?|Here|Then|Now|When|If|My|Your|His|Her|Its|Our|Their|But|And|So|Yes|No|Not|"
    r"What|Who|Why|How|Some|Most|Many|All|Every|In|At|For|With|Er|Sie|Es|Ich|Wir|Der|Die|Das|Ein|"
    r"Eine|Man|Dann)(?=[\s'’])"
)
# The point of an abbreviation, an initial or a German ordinal, where the sentence goes on.
_GOES_ON = regex.compile(
    rf"""
    (?<=\b(?:(?i:mrs?|ms|dr|prof|st|vs|approx|cf|e\.g|i\.e|[zd](?:\.\ ?[bh])?)|[A-HJ-Z]))
        \.[)\]*_]*\s+(?!{_BEGINNING})\S
    |(?<=\b(?i:p\.s))\.\s+\S
    |(?<=\b(?i:etc|[ap]\.m))\.[)\]*_]*\s+(?!(?i:{_SUBJECT})\b)[\p{{Ll}}\d]
    |(?<=\b(?i:no|nr))\.\s+\d
    |(?<=(?<!\bI\ )\b(?i:[ai]m|[vz]om|zum|beim|de[rmns]|die|das)\ \d\d?)\.
        \s+(?!{_BEGINNING})\p{{Lu}}
    """,
    regex.VERBOSE,
)
_MOST_IN_ONE = 4  # points in a sentence that end none: no more sentences can hide behind them


def words(text: str) -> list[str]:
    """The words: runs of letters and digits; inner hyphens and apostrophes belong to them.

    So do points, commas, colons and slashes between digits, and points between single letters:
    "well-known", "don't", "3.5" and "e.g." are one word each, "and/or" is two. A mark by itself is
    none. The number that an item begins with counts.
    """
    return list(_WORD.findall(normalize("NFC", text)))


def has_word(text: str, word: str) -> bool:
    """Whether a word or a phrase stands in a text as a whole, whatever its case."""
    return times(text, word) > 0


def times(text: str, word: str) -> int:
    """How often a word or a phrase stands in a text as a whole, whatever its case."""
    return len(regex.findall(rf"(?i){whole(word)}", normalize("NFC", text)))


def whole(phrase: str) -> str:
    """The regular expression of a phrase that begins and ends inside no word."""
    return f"{_EDGE}{regex.escape(normalize('NFC', phrase))}{_EDGE}"


def sentences(text: str) -> int:
    """How many sentences a text has.

    One ends at a full stop, question or exclamation mark that a space or a capital follows, at an
    empty line, and before and after an item of a list; a piece without a letter or a digit is none.
    Abbreviations and initials ("e.g.", "Dr.", "J.") end none, except where the text ends, where a
    word such as "It" follows, or after four of them. A title (see `title`) is none, unless it ends
    in such a mark. In JSON each value counts by itself.
    """
    if (value := from_json(text)) is not None:
        return max(sum(map(sentences, texts_in(value))), says_something(text))
    total = len(list(_ends(_inner(title(text)))))
    for piece in _EMPTY_LINE.split(without_title(text)):
        run: list[str] = []
        for line in piece.split("\n"):
            found = _BULLET.sub("", _NUMBER.sub("", line))
            if found != line:
                total += _in_run(" ".join(run))
                run = []
            run.append(found)
        total += _in_run(" ".join(run))
    return total


def _in_run(text: str) -> int:
    ends = [0, *_ends(text), len(text)]
    return sum(says_something(text[start:end]) for start, end in pairwise(ends))


def _ends(text: str) -> Iterator[int]:
    inside = 0
    for end in _END.finditer(text):
        if inside < _MOST_IN_ONE and _GOES_ON.match(text, end.start()):
            inside += 1
        else:
            inside = 0
            yield end.end()


def says_something(text: str) -> bool:
    """Whether a text has a word."""
    return _WORD.search(text) is not None


def bullets(text: str) -> list[str]:
    """The marks of the lines that are items: they begin with `-`, `*`, `•`, `+` and a space, and
    have a word."""
    found = ((_BULLET.match(line), line) for line in text.splitlines())
    return [one[0].strip() for one, line in found if one and says_something(line)]


def numbers(text: str) -> list[int]:
    """The numbers of the numbered items: lines with `1.` or `1)`, a space, and a word."""
    found = ((_NUMBER.match(line), line) for line in text.splitlines())
    return [int(one[1][:9]) for one, line in found if one and _WORD.search(line, one.end())]


def paragraphs(text: str) -> int:
    """How many parts are set apart by an empty line; a part without words is none, nor is a title,
    unless it is in bold."""
    below = text if title(text).startswith("**") else without_title(text)
    return sum(map(says_something, _EMPTY_LINE.split(below)))


def title(text: str) -> str:
    """The first line, if it is a heading or wholly in brackets or bold, of one sentence at most,
    and more follows it."""
    first, _, rest = text.strip().partition("\n")
    first = first.strip()
    found = _HEADING.fullmatch(first) and _in_run(_inner(first)) == 1 and says_something(rest)
    return first if found else ""


def _inner(named: str) -> str:
    """A title without the number of a chapter."""
    return str(_CHAPTER.sub("", named))


def without_title(text: str) -> str:
    """The text below its title, if it has one."""
    return text.strip().partition("\n")[2] if title(text) else text


def from_json(text: str) -> Any:
    """The object or list that a text is in JSON, as it is or in one block of code; None if none.

    A key that comes twice and NaN are none of JSON's.
    """
    block = _BLOCK.fullmatch(text)
    try:
        value = json.loads(
            block[1] if block else text, object_pairs_hook=_object, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _refuse("a key that comes twice")


def _refuse(what: str) -> Any:
    raise ValueError(what)


def texts_in(value: Any) -> Iterator[str]:
    """The texts, numbers and yes or no in a value from JSON, as texts."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
        elif one is not None:
            yield str(one)
