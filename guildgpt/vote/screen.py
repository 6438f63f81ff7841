"""How a pair is shown: side by side where there is room, below each other elsewhere."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from guildgpt.feedback.records import Candidate
from guildgpt.terminal import say, visible
from guildgpt.vote.markdown import PLAIN, Answer
from guildgpt.vote.session import Played

SIDE_BY_SIDE = 100  # columns, so that each answer has half of them
WIDEST = 200
GAP = "   "
LEGEND = (
    ("a ←", "A is better"),
    ("b →", "B is better"),
    ("t", "tie"),
    ("x", "both bad"),
    ("s", "skip"),
    ("e", "write a better one"),
    ("u", "undo"),
    ("q", "quit"),
)


class Screen:
    """What the person sees; `asks` is whether somebody is there to press a key."""

    def __init__(self, console: Console, *, asks: bool):
        self.console = console
        self.asks = asks
        console.push_theme(PLAIN)

    def pair(self, played: Played, number: int, of: int | None, note: str = "") -> None:
        """A round: its prompt and both answers, in the order that was drawn."""
        width = min(self.console.width, WIDEST)
        title = f"Round {number}" + (f" of {of}" if of else "") + (f", {note}" if note else "")
        prompt = visible(played.prompt.text)
        prompt.stylize("bold")
        parts: list[RenderableType] = [Text(), Rule(Text(title), align="left", style="dim"), prompt]
        panels = [_panel(name, answer) for name, answer in zip("AB", played.answers, strict=True)]
        if width >= SIDE_BY_SIDE:
            row = Table.grid(expand=True, padding=(0, 1, 0, 0), pad_edge=False)
            row.add_column(ratio=1)
            row.add_column(ratio=1)
            row.add_row(*panels)
            parts.append(row)
        else:
            parts += panels
        if self.asks:
            parts.append(_legend(width))
        self.console.print(Group(*parts), width=width)

    def note(self, text: str) -> None:
        """A line of our own."""
        line = visible(text)
        line.stylize("dim")
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def say(self, *lines: str) -> None:
        """Lines that are to be seen."""
        say(self.console, *lines)


def _panel(name: str, answer: Candidate) -> Panel:
    parts: list[RenderableType] = [Answer(answer.text)]
    if answer.stop == "length":
        parts.append(Text("… (cut off)", style="dim"))
    return Panel(Group(*parts), title=Text(name, style="bold"), title_align="left")


def _legend(width: int) -> Text:
    """What each key says; a key and its meaning stay on one line."""
    lines = [Text()]
    for key, meaning in LEGEND:
        entry = Text.assemble((key, "bold"), " ", meaning)
        if lines[-1] and lines[-1].cell_len + len(GAP) + entry.cell_len > width:
            lines.append(Text())
        lines[-1].append(GAP if lines[-1] else "").append_text(entry)
    return Text("\n").join(lines)
