"""Where a part of a long text may end, and which of these places is the best."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from guildgpt.bot.text.formatting import ROOM, begin_line, changes
from guildgpt.bot.text.lengths import boundaries
from guildgpt.bot.text.lines import Line, fence_behind

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
