"""Discord's formatting: within lines (bold, italics, underline, strikethrough, spoilers, code), and
line by line with what is open where each begins: a code fence, bold, a quote.

What is open is told from the text before a place alone: a text that grows changes nothing of it.
So a mark counts as open although the one that closes it may never come. Emphasis ends where its
paragraph, list item or heading ends; a spoiler only where it is closed, for it hides something.
Code fences are found as Discord finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
    **dict.fromkeys(("**", "~~", "||"), re.compile("")),  # anywhere
}
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
        elif _MAY_CLOSE[kind].match(found.string, found.start()):
            marks = marks[: marks.index(kind)]
    return marks


# Line by line

# A fence longer than this, or with more behind it, is text: it bounds what a part must add.
LONGEST_RUN = 16
_LANGUAGE = r"(?P<language>[\w+#.-]{1,40}(?!\S))?"
_OPENS = re.compile(
    rf"[ \t]*(?P<run>`{{3,{LONGEST_RUN}}}(?=[^`]{{0,80}}$)"
    rf"|~{{3,{LONGEST_RUN}}}(?!~)(?=.{{0,80}}$))\s*{_LANGUAGE}.*"
)
# "Run this: ```sh" at the end of a line, which Discord takes for a fence and CommonMark does not.
_OPENS_LATE = re.compile(
    rf"(?:(?!```).)*[^`](?P<run>`{{3,{LONGEST_RUN}}})(?P<language>[\w+#.-]{{0,40}})[ \t\r]*"
)
# A spoiler's end may stand right behind: Discord hides whole blocks so.
_CLOSES = re.compile(
    rf"[ \t]*(`{{3,{LONGEST_RUN}}}|~{{3,{LONGEST_RUN}}})(?:[ \t\r]*|\|\|.*)", re.DOTALL
)
QUOTE_TO_THE_END = ">>> "
_QUOTED = re.compile(r"(?:>>>|>) ")


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code fence: its marks and language; `late` if text stands before it on its line,
    `quoted` if that is a quote's mark."""

    run: str
    language: str
    late: bool = False
    quoted: bool = False

    @property
    def opening(self) -> str:
        """The line that opens it (again)."""
        return f"{'> ' * self.quoted}{self.run}{self.language}\n"

    @property
    def closing(self) -> str:
        """The line that closes it, with the line end before it."""
        return f"\n{'> ' * self.quoted}{self.run}"

    def closed_by(self, line: str) -> bool:
        """Whether this line ends the code."""
        if found := _CLOSES.fullmatch(line):
            return found[1].startswith(self.run)
        return self.late and line.rstrip().endswith((self.run, self.run + SPOILER))

    def may_close(self, line: str) -> bool:
        """Whether a line closes the fence, or is on the way to when more of it comes."""
        marks = line.strip()
        return bool(marks) and len(marks) <= LONGEST_RUN and set(marks) == {self.run[0]}


def fence_behind(line: str, fence: Fence | None) -> Fence | None:
    """The code fence that is open behind a line, if `fence` is open before it."""
    if fence:
        return None if fence.closed_by(line) else fence
    if found := _OPENS.fullmatch(line):
        return Fence(found["run"], found["language"] or "")
    if found := _OPENS_LATE.fullmatch(line):
        return Fence(found["run"], found["language"], late=True, quoted=line.startswith("> "))
    return None


def open_fence(text: str) -> Fence | None:
    """The code fence that is open at the end of `text`."""
    fence = None
    for line in text.split("\n"):
        fence = fence_behind(line, fence)
    return fence


@dataclass(frozen=True, slots=True)
class Open:
    """What is open at a place: formatting, a code fence in it; `quote` is the mark of the quote
    that goes on behind it."""

    fence: Fence | None = None
    marks: Marks = ()
    quote: str = ""

    @property
    def opening(self) -> str:
        """What opens it again."""
        return self.quote + "".join(self.marks) + (self.fence.opening if self.fence else "")

    @property
    def closing(self) -> str:
        """What closes it."""
        return (self.fence.closing if self.fence else "") + "".join(reversed(self.marks))

    def behind(self, line: str, *, torn: bool = False) -> Open:
        """What is open behind a line that begins here, or behind a part of it if it is `torn`."""
        fence = fence_behind(line, self.fence)
        marks = self.marks
        if self.fence is None:
            words = line[: line.rindex(fence.run)] + "." if fence else line  # others open nothing
            marks = after(words, begin_line(line, marks), torn=torn)
        elif fence is None:
            marks = after(line[line.rindex(self.fence.run) + len(self.fence.run) :], marks)
        found = None if self.fence or self.quote == QUOTE_TO_THE_END else _QUOTED.match(line)
        quote = found[0] if found else self.quote
        goes_on = quote == QUOTE_TO_THE_END or (torn and fence is None)
        is_opened = fence is not None and self.fence is None
        return Open(fence, spoilers(marks) if is_opened else marks, quote if goes_on else "")


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, where it starts in the text, and what is open before it."""

    start: int
    text: str
    before: Open


def lines_from(text: str, start: int, now: Open) -> Iterator[Line]:
    """The lines of a text from a place on, where this is open."""
    while start < len(text):
        end = text.find("\n", start)
        line = Line(start, text[start : end if end >= 0 else None], now)
        yield line
        now = now.behind(line.text)
        start += len(line.text) + 1
