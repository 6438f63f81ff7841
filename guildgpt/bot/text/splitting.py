"""A long answer becomes several messages, and stays the same ones while it grows.

What is open at the end of one (a code fence, bold, a spoiler, a quote) is closed there and opened
again in the next. The parts are found from left to right. Where a part ends depends only on the
text up to the first character that no longer fits, so a part that has another one after it never
changes again.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import regex

from guildgpt.bot.text.formatting import (
    LONGEST_RUN,
    ROOM,
    SPOILER,
    Fence,
    Line,
    Open,
    begin_line,
    changes,
    fence_behind,
    lines_from,
    seen_in,
    spoilers,
)

LIMIT = 2000  # UTF-16 units, as Discord counts a message's content


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
    A text without anything visible gives no part. Below 200 units added fences would leave too
    little room for the text.
    """
    return [str(piece) for piece in pieces(text, limit)]


def pieces(text: str, limit: int = LIMIT) -> Iterator[Piece]:
    """What `split` shows, with what is added to it apart from the text."""
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


# Where a part may end, and which of these places is the best

# What a break within a line must not fall into: links, bare addresses, inline code. A link that
# is still being written counts to the end of what is known.
_WHOLE = re.compile(
    r"\[[^\]\n]*(?:\](?:\([^)\n]*(?:\)|$)|$)|$)|<?https?://\S+|`[^`\n]+(?:`|$)", re.MULTILINE
)
_BETWEEN_WORDS = re.compile(r"[^\S\n]+|(?<=[。！？])(?=[^\s。！？”’」』）])")
_SENTENCE = re.compile(r"[^\W\d][.!?…]+[\"'”’»)\]*_]*$|[。！？]$")
# At the start of a message these would become a fence, a heading, a quote or a list.
_STARTS_SOMETHING = re.compile(r"\s*(?:[`~]|[#>*+-]+(?:\s|$)|\d+(?:[.)](?:\s|$)|$))")

PARAGRAPH, LINE, CODE_LINE, SENTENCE, WORD = range(5)  # kinds of break, best first
_LOOK_BACK = 64  # characters, for a place to cut a word


def end_of_part(text: str, start: int, lines: Sequence[Line]) -> int:
    """Where the part that starts at `start` ends; `text` reaches to the end of the first character
    that no longer fits."""
    places = [*_between_lines(lines), *_within_lines(lines)]
    half = start + (len(text) - start) // 2
    formatted = list(_formatted(lines))
    late = [
        ([is_open for at, is_open in formatted if at <= place][-1], kind, -place)
        for kind, place in places
        if place >= half
    ]
    if late:
        return -min(late)[2]
    early = [place for _, place in places if text[start:place].strip()]
    return max(early) if early else _cut(text, start, lines[-1])


def first_seen(text: str, place: int) -> int:
    """The place of the first character from `place` on that is no blank."""
    return len(text) - len(text[place:].lstrip())


def _formatted(lines: Sequence[Line]) -> Iterator[tuple[int, bool]]:
    """(place, whether words are bold, hidden and so on from there on)."""
    for line in lines:
        if line.before.fence:
            yield line.start, bool(line.before.marks)
            continue
        marks = begin_line(line.text, line.before.marks)
        yield line.start, bool(marks)
        for place, now in changes(line.text, marks, torn=line is lines[-1]):
            yield line.start + place, bool(now)


def _between_lines(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """(kind, place) of the breaks before a line; none right after an opening fence or right
    before a closing one, for an empty block would stand there."""
    for above, line in pairwise(line for line in lines if line.text.strip()):
        is_apart = line.start > above.start + len(above.text) + 1
        fence = line.before.fence
        if fence is None:
            is_block = above.before.fence or fence_behind(line.text, None)
            yield (PARAGRAPH if is_apart or is_block else LINE), line.start
        elif above.before.fence and not fence.closed_by(line.text) | fence.may_close(line.text):
            yield (LINE if is_apart else CODE_LINE), line.start


def _within_lines(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """(kind, place) of the breaks at the ends of sentences and words."""
    for line in lines:
        text = line.text.rstrip()
        if text.lstrip().startswith(("```", "~~~")):
            continue
        in_code = line.before.fence is not None
        whole = [] if in_code else [found.span() for found in _WHOLE.finditer(text)]
        for found in _BETWEEN_WORDS.finditer(text):
            end, place = found.span()
            if not text[:end].strip() or _STARTS_SOMETHING.match(text, place):
                continue
            if any(first < place < last for first, last in whole):
                continue
            ends_sentence = not in_code and _SENTENCE.search(text, max(0, end - 8), end)
            yield (SENTENCE if ends_sentence else WORD), line.start + place


def _cut(text: str, start: int, line: Line) -> int:
    """Where to cut what has no end: before a link, else between two characters."""
    last = len(text) - 1
    first = first_seen(text, start) + 1  # a part has some text
    if line.before.fence is None:
        for found in _WHOLE.finditer(text, line.start):
            if first <= found.start() < last < found.end():
                last = found.start()
    between = boundaries(text, start)
    for place in range(last, max(first - 1, last - _LOOK_BACK), -1):
        tears_marks = text[place - 1] == text[place] and text[place] in ROOM
        if place in between and not tears_marks and not _STARTS_SOMETHING.match(text, place):
            return place
    return max(first, last)


# Lengths as Discord counts them, in UTF-16 units, and the characters that a person sees

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
