"""HTML of a question-and-answer site as the Markdown that a chat model writes.

By the standard library's parser, which reads whatever it is given: tags that are never closed or
were never opened change the form of a text, and lose nothing of it.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLANKS = re.compile(r"\s+")
_ENDLESS = re.compile(r"&#[0-9]{1000,};?")  # no character's number, and more than `int` reads
# What begins markup, and what each needs behind it. Where that is not, the parser would look for
# it to the end of the text from every beginning: for minutes, in a text of some hundred kilobytes.
_MARKUP = (("<", re.compile(">")), ("<!--", re.compile(r"--\s*>")))
_ONE_WORD = re.compile(r"[+\-\N{MINUS SIGN}]?\w+")
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*"}
_SPANS = {"code": "`", "sup": "^", "sub": "_"}  # whose end tag says how they are written
_CELLS = frozenset({"td", "th"})
_BLOCKS = frozenset({"p", "div", "table", "tr", "ul", "ol", "blockquote", "hr", "dl", "dt", "dd"})
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_HIDDEN = frozenset({"script", "style"})


def markdown(html: str) -> str:
    """The text of a piece of HTML: paragraphs, lists, quotes, headings and code as Markdown has
    them, of tables a line a row; of links the text, of pictures nothing."""
    writer = _Writer()
    writer.feed(_closed(_ENDLESS.sub("\N{REPLACEMENT CHARACTER}", html)))
    writer.close()
    writer.end()
    return "\n".join(writer.lines).strip("\n")


def _closed(html: str) -> str:
    """The same with what begins markup that never ends as text."""
    for begin, end in _MARKUP:
        last = max((found.end() for found in end.finditer(html)), default=0)
        html = html[:last] + html[last:].replace(begin, f"&lt;{begin[1:]}")
    return html


class _Writer(HTMLParser):
    """Writes lines as tags come by."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self.inline: list[str] = []  # of the paragraph under way
        self.said = False  # whether it has text, not marks alone
        self.spans: list[tuple[str, int]] = []  # that are open in it, and where in it they begin
        self.cells = 0  # of the table's row under way
        self.open: list[tuple[str, str]] = []  # quotes and items, and what their lines begin with
        self.bullet = ""  # of an item that has no line yet
        self.numbers: list[int | None] = []  # of each open list the last number; None for bullets
        self.apart = False  # whether the next block stands apart from the last one
        self.code: list[str] | None = None
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        if tag in _HIDDEN:
            self.hidden += 1
        elif self.code is not None:
            self.code += ["\n"] if tag == "br" else []
        elif tag == "pre":
            self._paragraph()
            self.apart = not self.bullet
            self.code = []
        elif tag in _SPANS:
            self._span(tag)
        elif tag in _MARKS:
            self.inline.append(_MARKS[tag])
        elif tag in _CELLS:
            self.inline.append(" | " if self.cells else "")
            self.cells += 1
        elif tag == "br":
            self.inline.append("\n")
        elif tag == "li":
            self._item()
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._block(tag)

    def handle_endtag(self, tag: str) -> None:
        """See `HTMLParser`."""
        if tag in _HIDDEN:
            self.hidden = max(self.hidden - 1, 0)
        elif tag == "pre":
            self._code()
        elif self.code is not None:
            return
        elif tag in _SPANS:
            self._close_span(tag)
        elif tag in _MARKS:
            self.inline.append(_MARKS[tag])
        elif tag in ("li", "blockquote"):
            self._close(tag)
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._paragraph()
            if tag in ("ul", "ol"):
                self._close("li")
                if self.numbers:
                    self.numbers.pop()
            self.apart = tag != "tr"

    def handle_data(self, data: str) -> None:
        """See `HTMLParser`."""
        if self.code is not None:
            self.code.append(data)
        elif not self.hidden:
            self.inline.append(_BLANKS.sub(" ", data))
            self.said = self.said or not data.isspace()

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """A comment up to the next `>`, as browsers take it; the parser raises for most words."""
        return self.parse_bogus_comment(i, report)

    def end(self) -> None:
        """There is no more."""
        self._code()
        self._paragraph()

    def _span(self, tag: str) -> None:
        """Code begins, or what is raised or lowered; at a line's beginning that is small print."""
        before = next((part[-1] for part in reversed(self.inline) if part), " ")
        if tag == "code" or not before.isspace():
            self.spans.append((tag, len(self.inline)))
            self.inline.append(_SPANS[tag])

    def _close_span(self, tag: str) -> None:
        """The innermost open span of this name ends, and what is open in it."""
        names = [name for name, _ in self.spans]
        if tag not in names:
            return
        place = len(names) - 1 - names[::-1].index(tag)
        start = self.spans[place][1]
        del self.spans[place:]
        self.inline[start:] = [_spanned(tag, "".join(self.inline[start + 1 :]))]

    def _block(self, tag: str) -> None:
        self._paragraph()
        if tag in ("table", "tr"):
            self.cells = 0
        if tag == "tr":
            return
        self.apart = not self.bullet and not (tag in ("ul", "ol") and self.numbers)
        if tag in _HEADINGS:
            self.inline.append(f"{_HEADINGS[tag]} ")
        elif tag == "hr":
            self._put(["---"])
        elif tag == "blockquote":
            self.open.append((tag, "> "))
        elif tag in ("ul", "ol"):
            self.numbers.append(0 if tag == "ol" else None)

    def _item(self) -> None:
        self._paragraph()
        if self.open and self.open[-1][0] == "li" and len(self.numbers) <= self._items():
            self._close("li")
        number = None
        if self.numbers and self.numbers[-1] is not None:
            number = self.numbers[-1] = self.numbers[-1] + 1
        self.bullet = f"{number}. " if number else "- "
        self.open.append(("li", " " * len(self.bullet)))

    def _items(self) -> int:
        return sum(name == "li" for name, _ in self.open)

    def _close(self, tag: str) -> None:
        """The innermost open quote or item of this name ends, and what is open in it."""
        self._paragraph()
        self.bullet = ""
        names = [name for name, _ in self.open]
        if tag in names:
            del self.open[len(names) - 1 - names[::-1].index(tag) :]
        self.apart = tag == "blockquote"

    def _code(self) -> None:
        if self.code is None:
            self._paragraph()
            return
        text, self.code = "".join(self.code).strip("\n"), None
        fence = "```"
        while fence in text:
            fence += "`"
        if text.strip():
            self._put([fence, *text.split("\n"), fence])
        self.apart = True

    def _paragraph(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self.inline).split("\n")]
        said, self.said = self.said, False
        self.inline, self.spans = [], []
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        if said:
            self._put(lines)

    def _put(self, lines: list[str]) -> None:
        """A block's lines, as far in as the quotes and items that are open."""
        if self.apart and self.lines:
            outer = self.open[:-1] if self.bullet else self.open
            self.lines.append("".join(mark for _, mark in outer).rstrip())
        self.apart = False
        for line in lines:
            lead = "".join(mark for _, mark in self.open)
            if self.bullet:
                lead = lead[: len(lead) - len(self.bullet)] + self.bullet
                self.bullet = ""
            self.lines.append((lead + line).rstrip())


def _spanned(tag: str, text: str) -> str:
    """Code between as many backticks as it takes; what is raised or lowered behind its mark, in
    brackets unless it is one word."""
    if not text.strip():
        return text
    if tag == "code":
        ticks = "`"
        while ticks in text:
            ticks += "`"
        pad = " " if "`" in (text[0], text[-1]) else ""
        return f"{ticks}{pad}{text}{pad}{ticks}"
    return _SPANS[tag] + (text if _ONE_WORD.fullmatch(text) else f"({text.strip()})")
