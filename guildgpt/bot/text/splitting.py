"""A long answer becomes several messages, and stays the same ones while it grows.

What is open at the end of one (a code fence, bold, a spoiler, a quote) is closed there and opened
again in the next. The parts are found from left to right. Where a part ends depends only on the
text up to the first character that no longer fits, so a part that has another one after it never
changes again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from guildgpt.bot.text.formatting import (
    ROOM,
    SPOILER,
    Marks,
    after,
    begin_line,
    changes,
    seen_in,
    spoilers,
)

LIMIT = 2000  # UTF-16 units, as Discord counts a message's content
LEAST_LIMIT = 200  # below it, added fences would leave too little room for the text

# A fence longer than this, or with more behind it, is text: it bounds what a part must add.
_LONGEST_RUN = 16
_OPENS = re.compile(
    rf"[ \t]*(?:(?P<ticks>`{{3,{_LONGEST_RUN}}})(?!`)(?P<info>[^`]{{0,80}})"
    rf"|(?P<tildes>~{{3,{_LONGEST_RUN}}})(?!~)(?P<more>.{{0,80}}))"
)
# "Run this: ```sh" at the end of a line, which Discord takes for a fence and CommonMark does not.
_OPENS_LATE = re.compile(
    rf"(?:(?!```).)*[^`](?P<ticks>`{{3,{_LONGEST_RUN}}})(?P<info>[\w+#.-]{{0,40}})[ \t\r]*"
)
# A spoiler's end may stand right behind: Discord hides whole blocks so.
_CLOSES = re.compile(
    rf"[ \t]*(`{{3,{_LONGEST_RUN}}}|~{{3,{_LONGEST_RUN}}})(?:[ \t\r]*|\|\|.*)", re.DOTALL
)
_QUOTED = re.compile(r"(>>>|>) ")
_LANGUAGE = re.compile(r"\s*([\w+#.-]{1,40})(?:\s|$)")

# What a break within a line must not fall into: links, bare addresses, inline code. A link that
# is still being written counts to the end of what is known.
_WHOLE = re.compile(
    r"\[[^\]\n]*(?:\](?:\([^)\n]*(?:\)|$)|$)|$)|<?https?://\S+|`[^`\n]+(?:`|$)", re.MULTILINE
)
_SPACES = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(r"[^\W\d][.!?…]+[\"'”’»)\]*_]*$|[。！？]$")
_IDEOGRAPHIC = re.compile(r"(?<=[。！？])(?=[^\s。！？”’」』）])")
# At the start of a message these would become a fence, a heading, a quote or a list.
_STARTS_SOMETHING = re.compile(r"\s*(?:[`~]|[#>*+-]+(?:\s|$)|\d+(?:[.)](?:\s|$)|$))")

_CHARACTER = regex.compile("[\ud800-\udbff][\udc00-\udfff]|\\X")  # two halves are one, too

PARAGRAPH, LINE, CODE_LINE, SENTENCE, WORD = range(5)  # kinds of break, best first
_LOOK_BACK = 64  # characters, for a place to cut a word


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


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int  # of the text, without its line end
    fence: Fence | None  # open where the line starts
    marks: Marks  # the same


@dataclass(frozen=True, slots=True)
class Part:
    """One message: what is shown is `opening + body + closing`; the body alone is the text's."""

    opening: str
    body: str
    closing: str

    def __str__(self) -> str:
        return f"{self.opening}{self.body}{self.closing}"


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
    end, used = 0, 1
    while used + utf16_len(text[end]) <= limit:
        used += utf16_len(text[end])
        end += 1
    words = [place for place in range(end // 2, end + 1) if text[place].isspace()]
    between = [place for place in _boundaries(text, 0) if place <= end]
    return text[: max(words or between or [end])].rstrip() + "…"


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
    return [str(part) for part in parts(text, limit)]


def parts(text: str, limit: int = LIMIT) -> Iterator[Part]:
    """What `split` shows, with what is added to it apart from the text."""
    if limit < LEAST_LIMIT:
        raise ValueError(f"a part of {limit} UTF-16 units is too short; the least is {LEAST_LIMIT}")
    now = Open()
    start = _skip(text, 0, None, limit)
    while start < len(text):
        stop, lines = _window(text, start, now, limit)
        end = len(text) if stop is None else _end(text, start, stop, lines)
        body = text[start:end].rstrip()
        if not body:
            return
        after_it = _behind(body, now, text[start + len(body) : stop])
        next_start = _skip(text, end, after_it.fence, limit)
        if next_start >= len(text):  # nobody waits for what would close the rest
            hides = not body.endswith(SPOILER)  # else nothing is hidden yet
            after_it = Open(after_it.fence, spoilers(after_it.marks) if hides else ())
        yield Part(now.opening, body, after_it.closing)
        now, start = after_it, next_start


def open_fence(text: str, fence: Fence | None = None) -> Fence | None:
    """The code fence that is open at the end of `text`, if `fence` is open at its start."""
    for line in text.split("\n"):
        fence = _after(line, fence)
    return fence


def may_close(line: str, fence: Fence) -> bool:
    """Whether a line closes the fence, or is on the way to when more of it comes."""
    marks = line.strip()
    return bool(marks) and len(marks) <= _LONGEST_RUN and set(marks) == {fence.run[0]}


def _behind(body: str, before: Open, rest: str) -> Open:
    """What is open behind `body` (which was begun with `before`), and goes on in `rest`, as far as
    that is known."""
    blank, _, _ = rest.partition(rest.strip()) if rest.strip() else (rest, "", "")
    torn = bool(rest.strip()) and "\n" not in blank  # inside the last line
    fence, marks, quote = before.fence, before.marks, before.quote
    lines = body.split("\n")
    for number, line in enumerate(lines, start=1):
        if quote != ">>> " and fence is None:
            quoted = _QUOTED.match(line)
            quote = quoted[0] if quoted else (quote if number == 1 else "")
        fence, marks = _past(line, fence, marks, torn=torn and number == len(lines))
    if fence is None and not torn:
        marks = begin_line("" if blank.count("\n") > 1 else rest.strip().split("\n")[0], marks)
    goes_on = quote == ">>> " or (torn and fence is None)
    return Open(fence, marks, quote if goes_on else "")


def _past(
    line: str, fence: Fence | None, marks: Marks, *, torn: bool = False
) -> tuple[Fence | None, Marks]:
    """What is open behind a line, given what was open before it."""
    now = _after(line, fence)
    if fence is None and now is None:
        return None, after(line, begin_line(line, marks), torn=torn)
    if fence is None and now is not None:  # words may stand before the fence
        words = line[: line.rindex(now.run)] + "."  # for what is opened right before the fence
        return now, spoilers(after(words, begin_line(line, marks)))
    if fence is not None and now is None:
        return None, after(line[line.rindex(fence.run) + len(fence.run) :], marks)
    return now, marks


def _after(line: str, fence: Fence | None) -> Fence | None:
    if fence is not None:
        return None if _closes(line, fence) else fence
    if found := _OPENS.fullmatch(line):
        language = _LANGUAGE.match(found["info"] or found["more"] or "")
        return Fence(found["ticks"] or found["tildes"], language[1] if language else "")
    if found := _OPENS_LATE.fullmatch(line):
        quoted = line.startswith("> ")
        return Fence(found["ticks"], found["info"], late=True, quoted=quoted)
    return None


def _closes(line: str, fence: Fence) -> bool:
    if found := _CLOSES.fullmatch(line):
        return found[1].startswith(fence.run)
    return fence.late and line.rstrip().endswith((fence.run, fence.run + SPOILER))


def _reserve(line: str, fence: Fence | None, seen: set[str]) -> int:
    """Units to keep free for closing what is open in the line, however the line goes on; `seen` are
    the characters of marks that came before it."""
    if fence is not None:
        return len(fence.closing) + sum(ROOM[character] for character in seen)
    runs = [len(run) for run in re.findall(r"`{3,}|~{3,}", line)]
    fences = 3 + min(max(runs), _LONGEST_RUN) if runs else 0
    return fences + sum(ROOM[character] for character in seen | seen_in(line))


def _window(text: str, start: int, now: Open, limit: int) -> tuple[int | None, list[_Line]]:
    """The end of the first character that does not fit (None if all do), and the lines to there."""
    used, fence, marks = utf16_len(now.opening), now.fence, now.marks
    seen = {mark[0] for mark in marks}
    lines: list[_Line] = []
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        lines.append(_Line(start, end, fence, marks))
        if used + utf16_len(line.rstrip()) + _reserve(line, fence, seen) > limit and line.strip():
            return start + _overflow(line, used, fence, limit, seen), lines
        used += utf16_len(line) + 1
        if fence is None:
            seen |= seen_in(line)
        fence, marks = _past(line, fence, marks)
        start = end + 1
    return None, lines


def _overflow(line: str, used: int, fence: Fence | None, limit: int, seen: set[str]) -> int:
    """How much of the line it takes not to fit."""
    fences, marks = _reserve("", fence, set()), seen
    run, before = 0, ""
    for index, character in enumerate(line):
        used += utf16_len(character)
        run = run + 1 if character == before else 1
        before = character
        if fence is None:
            marks = marks | seen_in(line[max(0, index - 3) : index + 1])
            if run >= 3 and character in "`~":
                fences = max(fences, 3 + min(run, _LONGEST_RUN))
        reserve = fences + sum(ROOM[mark] for mark in marks)
        if used + reserve > limit and not character.isspace():
            return index + 1
    raise AssertionError("the line was known not to fit")


def _end(text: str, start: int, stop: int, lines: list[_Line]) -> int:
    """Where the part that starts at `start` ends; decided from text[:stop] alone."""
    text = text[:stop]
    places = [*_between_lines(text, lines), *_within_lines(text, lines)]
    half = start + (stop - start) // 2
    formatted = _formatted(text, lines)
    late = [
        (any(first < place < last for first, last in formatted), kind, -place)
        for kind, place in places
        if place >= half
    ]
    if late:
        return -min(late)[2]
    early = [place for _, place in places if text[start:place].strip()]
    return max(early) if early else _cut(text, start, lines[-1])


def _formatted(text: str, lines: list[_Line]) -> list[tuple[int, int]]:
    """From where to where words are bold, hidden and so on; what is not yet closed goes on to the
    end of what is known."""
    found: list[tuple[int, int]] = []
    opened: int | None = None
    for line in lines:
        states = [(0, line.marks)]
        if line.fence is None:
            content = text[line.start : line.end]
            begun = begin_line(content, line.marks)
            states = [(0, begun), *changes(content, begun)]
        for place, marks in states:
            if marks and opened is None:
                opened = line.start + place
            elif not marks and opened is not None:
                found.append((opened, line.start + place))
                opened = None
    if opened is not None:
        found.append((opened, len(text) + 1))
    return found


def _between_lines(text: str, lines: list[_Line]) -> Iterator[tuple[int, int]]:
    """(kind, place) of the breaks before a line; none right after an opening fence or right
    before a closing one, for an empty block would stand there."""
    before: _Line | None = None
    blank = False
    for line in lines:
        content = text[line.start : line.end]
        if not content.strip():
            blank = True
            continue
        inside = line.fence is not None
        if before is None or (inside and before.fence is None):
            pass
        elif line.fence is not None:
            if not _closes(content, line.fence) and not may_close(content, line.fence):
                yield (LINE if blank else CODE_LINE), line.start
        else:
            block = before.fence is not None or _after(content, None) is not None
            yield (PARAGRAPH if blank or block else LINE), line.start
        before, blank = line, False


def _within_lines(text: str, lines: list[_Line]) -> Iterator[tuple[int, int]]:
    """(kind, place) of the breaks at the ends of sentences and words."""
    for line in lines:
        content = text[line.start : line.end].rstrip()
        if content.lstrip().startswith(("```", "~~~")):
            continue
        whole = [] if line.fence else [found.span() for found in _WHOLE.finditer(content)]
        matches = [*_SPACES.finditer(content), *_IDEOGRAPHIC.finditer(content)]
        for found in matches:
            place = found.end()
            if not content[: found.start()].strip() or _STARTS_SOMETHING.match(content, place):
                continue
            if any(first < place < last for first, last in whole):
                continue
            before = content[max(0, found.start() - 8) : found.start()]
            sentence = line.fence is None and _SENTENCE.search(before)
            yield (SENTENCE if sentence else WORD), line.start + place


def _cut(text: str, start: int, line: _Line) -> int:
    """Where to cut what has no end: before a link, else between two characters."""
    last = len(text) - 1
    first = start + len(text[start:]) - len(text[start:].lstrip()) + 1  # a part has some text
    if line.fence is None:
        for found in _WHOLE.finditer(text, line.start):
            if first <= found.start() < last < found.end():
                last = found.start()
    boundaries = _boundaries(text, start)
    for place in range(last, max(first - 1, last - _LOOK_BACK), -1):
        marks = text[place - 1] == text[place] and text[place] in ROOM
        if place in boundaries and not marks and not _STARTS_SOMETHING.match(text, place):
            return place
    return max(first, last)


def _boundaries(text: str, start: int) -> set[int]:
    """The ends of what a person sees as one character: a letter with its accents, an emoji of
    several, a flag."""
    return {found.end() for found in _CHARACTER.finditer(text, start)}


def _skip(text: str, place: int, fence: Fence | None, limit: int) -> int:
    """The start of the next part's text; in code its first line keeps its indentation."""
    found = place
    while found < len(text) and text[found].isspace():
        found += 1
    if fence is None:
        return found
    line = text.rfind("\n", place, found) + 1 or place
    return line if utf16_len(text[line:found]) <= limit // 4 else found
