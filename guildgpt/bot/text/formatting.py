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
    r"\\.|(?P<code>`+)|https?://[^\s*|~`<>]+|(?P<mark>\*+|_+|~{2}(?!~)|\|{2})", re.DOTALL
)
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
    """What is open at the end of a line or a part of it. Inline code ends with its line, but where
    the line is `torn` it goes on."""
    for _, now in changes(text, marks):
        marks = now
    if marks and marks[-1][0] == "`" and not torn:
        # It was none: what was taken for code is read once more.
        return _again_without_code(text, marks)
    return marks


def changes(text: str, marks: Marks) -> Iterator[tuple[int, Marks]]:
    """(place, what is open from there on) at every mark in a line; `marks` are open before it."""
    place = 0
    if marks and marks[-1][0] == "`":
        closing = _closing(text, 0, marks[-1])
        if closing is None:
            return
        marks, place = marks[:-1], closing
        yield place, marks
    while found := _TOKEN.search(text, place):
        place = found.end()
        if run := found["code"]:
            closing = _closing(text, place, run)
            if closing is None and len(run) < 3:
                yield place, (*marks, run)
                return
            place = closing or place
        elif found["mark"]:
            before = _toggled(text, found, marks)
            if before != marks:
                marks = before
                yield place, marks


def _closing(text: str, place: int, run: str) -> int | None:
    """The end of the backticks that close inline code."""
    found = re.compile(f"(?<!`){run}(?!`)").search(text, place)
    return found.end() if found else None


def _again_without_code(text: str, marks: Marks) -> Marks:
    opened = [place for place, now in changes(text, marks[:-1]) if now and now[-1][0] == "`"]
    if not opened:
        return marks[:-1]
    return after(text[opened[-1] :], marks[:-1])


def _toggled(text: str, found: re.Match[str], marks: Marks) -> Marks:
    run = found["mark"]
    if len(run) > 3:
        return marks
    single = run[0]
    kinds = [run] if len(run) < 3 else [2 * single, single]
    if len(run) == 3 and single in marks:  # `***` closes in the other order
        kinds.reverse()
    before = text[found.start() - 1 : found.start()] if found.start() else ""
    behind = text[found.end() : found.end() + 1]
    for kind in kinds:
        if kind in marks:
            if _may_close(kind, before, behind):
                marks = marks[: marks.index(kind)]
        elif _may_open(kind, before, behind):
            marks = (*marks, kind)
    return marks


def _may_close(kind: str, before: str, behind: str) -> bool:
    if kind[0] == "_":
        return not behind.isalnum()
    return kind != "*" or not before.isspace()


def _may_open(kind: str, before: str, behind: str) -> bool:
    if kind == SPOILER and not before:  # it may stand on a line of its own, before hidden lines
        return True
    if not behind or behind.isspace():
        return False
    if kind[0] == "_":
        return not before.isalnum()
    # In scripts without blanks bold words stand between letters; in Latin it is a power or a name.
    return kind[0] != "*" or not (before.isascii() and before.isalnum())
