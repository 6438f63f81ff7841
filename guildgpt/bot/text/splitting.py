"""A long answer becomes several messages, and stays the same ones while it grows.

What is open at the end of one (a code fence, bold, a spoiler, a quote) is closed there and opened
again in the next. The parts are found from left to right. Where a part ends depends only on the
text up to the first character that no longer fits, so a part that has another one after it never
changes again.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from guildgpt.bot.text.breaks import end_of_part, first_seen
from guildgpt.bot.text.formatting import ROOM, SPOILER, begin_line, seen_in, spoilers
from guildgpt.bot.text.lengths import utf16_len
from guildgpt.bot.text.lines import LONGEST_RUN, Fence, Line, Open, lines_from

LIMIT = 2000  # UTF-16 units, as Discord counts a message's content
LEAST_LIMIT = 200  # below it, added fences would leave too little room for the text


@dataclass(frozen=True, slots=True)
class Piece:
    """One message: what is shown is `opening + body + closing`; the body alone is the text's."""

    opening: str
    body: str
    closing: str

    def __str__(self) -> str:
        return f"{self.opening}{self.body}{self.closing}"


def split(text: str, limit: int = LIMIT) -> list[str]:
    """Messages of at most `limit` UTF-16 units that hold `text`; none of them is empty.

    Breaks fall at the end of a paragraph, else of a line, a sentence, a word, where one of these
    lies in the second half of the part, rather outside of formatted words; never inside a
    character, and inside a link or a cluster of characters only where it alone is too long. A code
    fence is closed at the end of a part and opened again, with its language, in the next; so are
    bold, spoilers and the like, and quotes. A spoiler that is open at the end of the text is closed
    there. Whitespace at the breaks is dropped.

    As `text` grows at its end only the last part changes; parts are added, none is taken back.
    A text without anything visible gives no part. ValueError for a limit below 200.
    """
    return [str(piece) for piece in pieces(text, limit)]


def pieces(text: str, limit: int = LIMIT) -> Iterator[Piece]:
    """What `split` shows, with what is added to it apart from the text."""
    if limit < LEAST_LIMIT:
        raise ValueError(f"a part of {limit} UTF-16 units is too short; the least is {LEAST_LIMIT}")
    text = text.rstrip()
    now = Open()
    start = first_seen(text, 0)
    while start < len(text):
        stop, lines = _window(text, start, now, limit)
        end = len(text) if stop is None else end_of_part(text[:stop], start, lines)
        body = text[start:end].rstrip()
        behind = _behind(start + len(body), lines, text[start + len(body) : stop])
        next_start = _next_start(text, end, behind.fence, limit)
        if next_start == len(text):  # nobody waits for what would close the rest
            hides = not body.endswith(SPOILER)  # else nothing is hidden yet
            behind = Open(behind.fence, spoilers(behind.marks) if hides else ())
        yield Piece(now.opening, body, behind.closing)
        now, start = behind, next_start


def _window(text: str, start: int, now: Open, limit: int) -> tuple[int | None, list[Line]]:
    """The end of the first character that does not fit (None if all do), and the lines to there."""
    room = limit - utf16_len(now.opening)
    seen = {mark[0] for mark in now.marks}
    lines: list[Line] = []
    for line in lines_from(text, start, now):
        fence = line.before.fence
        fitting = bisect_left(
            range(len(line.text) + 1),
            True,
            key=lambda length: _is_too_long(line.text[:length].rstrip(), fence, seen, room),
        )
        if fitting <= len(line.text):
            lines.append(replace(line, text=line.text[:fitting]))
            return line.start + fitting, lines
        lines.append(line)
        room -= utf16_len(line.text) + 1
        if fence is None:
            seen |= seen_in(line.text)
    return None, lines


def _is_too_long(line: str, fence: Fence | None, seen: set[str], room: int) -> bool:
    """Whether a line does not fit with what closes all that is open in it, however it goes on;
    `seen` are the characters of marks that came before it."""
    if fence:
        closing = len(fence.closing)
    else:
        runs = re.findall(r"`{3,}|~{3,}", line)
        closing = 3 + min(max(map(len, runs)), LONGEST_RUN) if runs else 0
        seen = seen | seen_in(line)
    marks = sum(ROOM[character] for character in seen)
    return line != "" and utf16_len(line) + closing + marks > room


def _behind(end: int, lines: Sequence[Line], rest: str) -> Open:
    """What is open where the text of a part ends, and goes on in `rest`, as far as it is known."""
    last = [line for line in lines if line.start < end][-1]
    rest_of_line, _, below = rest.partition("\n")
    torn = bool(rest_of_line.strip())
    behind = last.before.behind(last.text[: end - last.start], torn=torn)
    if torn or behind.fence:
        return behind
    return replace(behind, marks=begin_line(below.partition("\n")[0], behind.marks))


def _next_start(text: str, place: int, fence: Fence | None, limit: int) -> int:
    """The start of the next part's text; in code its first line keeps its indentation."""
    seen = first_seen(text, place)
    line = max(text.rfind("\n", place, seen) + 1, place)
    is_kept = fence and utf16_len(text[line:seen]) <= limit // 4
    return line if is_kept else seen
