"""Discord's formatting within lines: bold, italics, underline, strikethrough, spoilers, code.

What is open is told from the text before a place alone: a text that grows changes nothing of it.
So a mark counts as open although the one that closes it may never come. Emphasis ends where its
paragraph, list item or heading ends; a spoiler only where it is closed, for it hides something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SPOILER = "||"
# Units of the marks that each of these characters may have open at once: `**` and `*`, and so on.
ROOM = {"*": 3, "_": 3, "~": 2, "|": 2, "`": 2}
_CODE = re.compile("(?<!`)`{1,2}[^`]")  # three are a fence

Marks = tuple[str, ...]
"""What is open, the outermost first; a run of backticks can only be the last."""

_TOKEN = re.compile(
    r"\\.|(?P<ticks>`+)(?P<code>.*?(?<!`)(?P=ticks)(?!`))?|https?://[^\s*|~`<>]+"
    r"|\*{4,}|_{4,}|(?P<mark>\*+|_+|~{2}(?!~)|\|{2})",
    re.DOTALL,
)
_MAY_OPEN = {
    # In scripts without blanks bold words stand between letters; in Latin it is a power or a name.
    "*": re.compile(r"(?<![A-Za-z0-9])\*++(?=\S)"),
    "_": re.compile(r"(?<![^\W_])_++(?=\S)"),
    "~": re.compile(r"~~(?=\S)"),
    "|": re.compile(r"^\|\||\|\|(?=\S)"),  # it may stand on a line of its own, before hidden lines
}
_MAY_CLOSE = {
    "*": re.compile(r"(?<!\s)\*"),
    "_": re.compile(r"_++(?![^\W_])"),
    "__": re.compile(r"_++(?![^\W_])"),
}
_ANYWHERE = re.compile("")
_BLOCK = re.compile(r"\s*(?:[-+*]|\d{1,9}[.)]|#{1,3}|-#|>{1,3})\s")


def seen_in(text: str) -> set[str]:
    """The characters of marks that may have opened something in the text."""
    seen = ROOM.keys() & set(text)
    return seen if _CODE.search(text) else seen - {"`"}


def begin_line(line: str, marks: Marks) -> Marks:
    """What stays open where this line begins."""
    if not line.strip() or _BLOCK.match(line):
        return spoilers(marks)
    return marks


def spoilers(marks: Marks) -> Marks:
    """Of what is open, what the end of a paragraph does not close."""
    return tuple(mark for mark in marks if mark == SPOILER)


def after(text: str, marks: Marks, *, torn: bool = False) -> Marks:
    """What is open at the end of a line or a part of it; see `changes`."""
    return [marks, *(now for _, now in changes(text, marks, torn=torn))][-1]


def changes(text: str, marks: Marks, *, torn: bool) -> Iterator[tuple[int, Marks]]:
    """(place, what is open from there on) at every mark in a line; `marks` are open before it.

    Backticks that nothing closes are code where the line is `torn`: it goes on. Else they are text.
    """
    place = 0
    if marks and marks[-1][0] == "`":
        *outer, ticks = marks
        closing = re.search(f"(?<!`){ticks}(?!`)", text)
        if torn and not closing:
            return
        place = closing.end() if closing else 0
        marks = tuple(outer)
        yield place, marks
    for found in _TOKEN.finditer(text, place):
        before = marks
        if found["mark"]:
            marks = _toggled(found, marks)
        elif found["ticks"] and not found["code"] and torn and len(found["ticks"]) < 3:
            yield found.end(), (*marks, found["ticks"])
            return
        if marks != before:
            yield found.end(), marks


def _toggled(found: re.Match[str], marks: Marks) -> Marks:
    run = found["mark"]
    kinds = [run] if len(run) < 3 else [run[:2], run[0]]
    if run[0] in marks:  # `***` closes in the other order
        kinds.reverse()
    for kind in kinds:
        if kind not in marks:
            if _MAY_OPEN[run[0]].match(found.string, found.start()):
                marks = (*marks, kind)
        elif _MAY_CLOSE.get(kind, _ANYWHERE).match(found.string, found.start()):
            marks = marks[: marks.index(kind)]
    return marks
