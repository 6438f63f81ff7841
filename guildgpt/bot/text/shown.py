"""What the model wrote, fit to be shown; Markdown tables as code blocks.

Discord shows no tables, but it shows columns that are aligned. A table that is still being written
would jump with every row: it is shown when it is complete.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from guildgpt.bot.text.formatting import open_fence
from guildgpt.text.visible import SELECTOR, UNSEEN, harmless, pairs_joined

NOTHING_YET = "…"

_SHOWS_NOTHING = re.compile(
    rf"(?:\s|{UNSEEN.pattern}|{SELECTOR}|[\u200c\u200d\U000e0000-\U000e007f])*"
)


def answer_text(text: str, *, growing: bool = False) -> str:
    """What the model wrote, so far if it is `growing`, fit to be shown; '…' while there is nothing
    to see.

    What would steer a screen is taken out, tables become code blocks. A code fence that is open at
    the end is closed, one that has only just been opened is left away, as are the first marks of
    one that is being closed.
    """
    shown = tables_as_code(harmless(pairs_joined(text)), growing=growing).strip()
    while fence := open_fence(shown):
        head, _, last = shown.rpartition("\n")
        if open_fence(head) is None:  # the last line opened it; words may stand before it there
            words = last[: last.rindex(fence.run)] if fence.late else ""
            shown = f"{head}\n{words}".strip()
        elif fence.may_close(last):
            shown = head.rstrip()
        else:
            shown += fence.closing
            break
    return NOTHING_YET if _SHOWS_NOTHING.fullmatch(shown) else shown


# Tables

WIDTH = 80  # columns of a wide table; what is longer is wrapped in its cell
LEAST_COLUMN = 8
MOST_COLUMNS = 100  # a line of more would be longer than a message
_DELIMITER = re.compile(r"^[ \t>]*\|?[ \t]*:?-+[-:| \t]*$", re.MULTILINE)
_BEGINS = re.compile(r"[ \t>]*\|(?!\|)")  # two of them begin a spoiler
_NO_ROW = re.compile(r"[^|]*|[ \t>]*\|\|[^|]*")
_DELIMITING = re.compile(r"[-:| \t>]*")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Table:
    start: int  # of the lines it is written in
    end: int
    rows: Sequence[Sequence[str]]  # the first is the head
    aligned: Sequence[str]  # each column


def tables_as_code(text: str, *, growing: bool = False) -> str:
    """The text with its tables as code blocks, those in code left as they are.

    While it is `growing`, a table is left away until a line has ended that is none of its own, and
    so is what may become its first lines.
    """
    lines = text.split("\n")
    shown: list[str] = []
    place = 0
    for table in _tables(text, lines):
        if growing and table.end >= len(lines) - 1:
            return "\n".join([*shown, *lines[place : table.start]])
        quote = "> " if lines[table.start].lstrip().startswith(">") else ""
        drawn = [f"{quote}{line}" for line in ("```", *_drawn(table), "```")]
        shown += [*lines[place : table.start], *drawn]
        place = table.end
    rest = lines[place:]
    if growing:
        rest = rest[: len(rest) - _beginning(text, lines, len(rest))]
    return "\n".join([*shown, *rest])


def _tables(text: str, lines: Sequence[str]) -> list[_Table]:
    found: list[_Table] = []
    if not _DELIMITER.search(text):
        return found
    for table in SyntaxTreeNode(_reader().parse(text)).walk():
        if table.type != "table" or table.map is None:
            continue
        start, end = table.map
        end = next((line for line in range(start, end) if _NO_ROW.fullmatch(lines[line])), end)
        if end < start + 2 or open_fence("\n".join(lines[:start])):
            continue  # in what Discord takes for code, and CommonMark does not
        rows = [
            row.children
            for part in table.children
            for row in part.children
            if row.map and row.map[0] < end
        ]
        aligned = [str(cell.attrs.get("style", "text-align:left")) for cell in rows[0]]
        if len(aligned) <= MOST_COLUMNS:
            cells = [[_plain_cell(cell) for cell in row] for row in rows]
            sides = [style.removeprefix("text-align:") for style in aligned]
            found.append(_Table(start, end, cells, sides))
    return found


@cache
def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def _plain_cell(cell: SyntaxTreeNode) -> str:
    """A cell's text without its formatting: in code it would be seen as it is written."""
    text = _plain(cell).replace("```", "'''")
    return "\n".join(line.strip() for line in text.split("\n"))


def _plain(node: SyntaxTreeNode) -> str:
    if node.type == "html_inline" and _BREAK.fullmatch(node.content):
        return "\n"
    if not node.children:
        return "" if node.is_nested else node.content
    text = "".join(_plain(child) for child in node.children)
    target = str(node.attrs.get("href", text))
    return text if target == text else f"{text} ({target})"


def _drawn(table: _Table) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.MARKDOWN)
    for name, align in zip(table.rows[0], table.aligned, strict=True):
        drawn.add_column(Text(name), justify=align, overflow="fold")  # type: ignore[arg-type]
    for row in table.rows[1:]:
        drawn.add_row(*(Text(cell) for cell in row))
    page = io.StringIO()
    width = max(WIDTH, LEAST_COLUMN * len(table.aligned))
    Console(file=page, width=width, color_system=None, legacy_windows=False).print(drawn)
    return [line.rstrip() for line in page.getvalue().splitlines() if line.strip()]


def _beginning(text: str, lines: Sequence[str], most: int) -> int:
    """How many of the last lines may become the beginning of a table."""
    for count in (2, 1):
        if count > most or not _BEGINS.match(lines[-count]):
            continue
        rest = lines[len(lines) - count + 1 :]
        if all(_DELIMITING.fullmatch(line) for line in rest):
            return 0 if open_fence("\n".join(lines[:-count])) else count
    return 0
