"""A guild on the terminal: its channels side by side as they change, or line after line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from guildgpt.text.visible import harmless
from simguild.fake import Channel, FakeDiscord, FakeMessage, User
from simguild.journal import Journal, buttons, finished
from simguild.person import FACES

COLUMN = 40  # cells at least
LONGEST = {"said": 120, "answer": 360}  # characters of a message that are shown
COLOURS = ("cyan", "magenta", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")
BOT = "bold green"
TYPING_SECONDS = 10.0
_BLANK_LINES = re.compile(r"\n\s*\n")

Kind = Literal["said", "answer", "did", "whisper"]


@dataclass(frozen=True)
class Entry:
    """One line of the story: what was written, done, or told to one member alone."""

    at: float
    where: Channel
    who: User
    kind: Kind
    text: str
    message: FakeMessage | None = None

    @property
    def to(self) -> User | None:
        """Whom the bot answers."""
        if self.message is None or not self.message.author.bot:
            return None
        if self.message.interaction is not None:
            return self.message.interaction.user
        return self.message.reference.author if self.message.reference else None

    @property
    def done(self) -> bool:
        """Whether it will not change any more."""
        return self.kind != "answer" or self.message is None or finished(self.message)


def story(journal: Journal, channels: Iterable[Channel]) -> list[Entry]:
    """Everything that has happened, oldest first."""
    entries = [Entry(one.at, one.where, one.who, "did", one.what) for one in journal.happened]
    for channel in channels:
        for one in channel.messages:
            kind: Kind = "answer" if one.author.bot else "said"
            if not one.loading:
                entries.append(Entry(one.sent, channel, one.author, kind, one.content, one))
    for interaction in journal.interactions:
        for one in interaction.sent:
            if one.ephemeral and not one.loading:
                where = interaction.channel
                entries.append(Entry(one.sent, where, interaction.user, "whisper", one.content))
    return sorted(entries, key=lambda entry: entry.at)


class Painter:
    """Turns entries into text, each member in a colour of their own."""

    def __init__(self, fake: FakeDiscord):
        self._fake = fake
        self._colours: dict[User, str] = {}

    def line(self, entry: Entry) -> Text:
        """An entry; an answer that still grows ends with a cursor."""
        message = entry.message
        if entry.kind == "did":
            return Text.assemble(self.name(entry.who), " ", (self.clean(entry.text), "italic dim"))
        if entry.kind == "whisper":
            told = Text.assemble(("only ", "dim"), self.name(entry.who), (" reads: ", "dim"))
            return told.append(self.clean(entry.text), style="italic dim")
        line = Text.assemble(self.name(entry.who))
        if entry.to is not None:
            line.append(" → ", style="dim").append_text(self.name(entry.to))
        style = "dim strike" if message is not None and message.deleted else ""
        line.append("  ").append(self.shortened(entry), style=style)
        for file in message.attachments if message is not None else ():
            line.append(f" 📎 {file.filename}, {len(file.content) / 1e6:.1f} MB", style="dim")
        if not entry.done:
            line.append(" ▌", style="bold green")
        return line

    def buttons(self, entry: Entry, pressed: Mapping[tuple[FakeMessage, str], User]) -> Text | None:
        """The buttons under a message; a pressed one wears the colour of whoever pressed it."""
        if entry.message is None or not entry.message.buttons:
            return None
        row = Text(" ")
        for kind in buttons(entry.message):
            who = pressed.get((entry.message, kind))
            style = f"black on {self._colour(who)}" if who else "on grey23"
            row.append(" ").append(
                f" {FACES[kind]} ".replace(" ", "\N{NO-BREAK SPACE}"), style=style
            )
        return row

    def name(self, user: User) -> Text:
        """Who, in their colour."""
        if user.bot:
            return Text(user.name, style=BOT)
        return Text(user.name, style=f"bold {self._colour(user)}")

    def _colour(self, user: User) -> str:
        return self._colours.setdefault(user, COLOURS[len(self._colours) % len(COLOURS)])

    def shortened(self, entry: Entry) -> str:
        """The beginning of a long message, and how long it is."""
        text, most = _BLANK_LINES.sub("\n", self.clean(entry.text)), LONGEST[entry.kind]
        if len(text) <= most:
            return text
        return f"{text[:most].rstrip()} … ({len(text):,} characters)"

    def clean(self, text: str) -> str:
        """Mentions by name, and nothing that steers the terminal."""
        for user in (self._fake.bot, *self._colours):
            text = text.replace(user.mention, f"@{user.name}")
        for channel in self._fake.world.channels.values():
            text = text.replace(channel.mention, f"#{channel.name}")
        return harmless(text, "\N{REPLACEMENT CHARACTER}")


class Screen:
    """Channels side by side. Whoever wakes up takes the column that was silent for longest."""

    def __init__(self, fake: FakeDiscord, journal: Journal, painter: Painter):
        self._fake = fake
        self._journal = journal
        self._painter = painter
        self._columns: list[Channel] = []
        self._typed: dict[Channel, tuple[int, float]] = {}  # how often, and when it was noticed
        self.footer: RenderableType = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        channels = list(self._fake.world.channels.values())
        entries = story(self._journal, channels)
        count = max(1, options.max_width // COLUMN)
        self._choose(entries, channels, count)
        layout = Layout()
        body, footer = Layout(), Layout(self.footer, size=2)
        layout.split_column(body, footer)
        width = options.max_width // len(self._columns)
        body.split_row(
            *(
                Layout(self._column(console, one, entries, width - 4, height - 4))
                for one in self._columns
            )
        )
        yield from console.render(layout, options.update(height=height))

    def _choose(self, entries: list[Entry], channels: list[Channel], count: int) -> None:
        latest = {entry.where: entry.at for entry in entries}
        shown = [one for one in self._columns if one in channels][:count]
        if not shown:
            shown = [one for one in channels if one.guild is not None][:count]
        for channel in sorted(latest, key=lambda one: latest[one]):
            if channel in shown:
                continue
            if len(shown) < count:
                shown.append(channel)
                continue
            silent = min(shown[1:] or shown, key=lambda one: latest.get(one, 0.0))
            if latest.get(silent, 0.0) < latest[channel] - 1.0:
                shown[shown.index(silent)] = channel
        self._columns = shown

    def _column(
        self, console: Console, channel: Channel, entries: list[Entry], width: int, height: int
    ) -> Panel:
        """The end of a channel's story, the newest line at the bottom."""
        lines: list[Text] = []
        pressed = {(one.message, str(one.action.kind)): one.who for one in self._journal.pressed}
        if self._is_typing(channel):
            lines.append(Text(f"{self._fake.bot.name} is typing …", style="dim green"))
        for entry in reversed([one for one in entries if one.where is channel]):
            block = list(self._painter.line(entry).wrap(console, width))
            if row := self._painter.buttons(entry, pressed):
                block += row.wrap(console, width)
            if entry.message is not None:
                block = [Text(""), *block]
            lines = [*block, *lines]
            if len(lines) >= height:
                break
        lines = [Text("")] * (height - len(lines)) + lines[-height:]
        asleep = not any(one.where is channel and not one.done for one in entries)
        return Panel(
            Group(*lines),
            title=Text(place(channel), style="bold"),
            title_align="left",
            border_style="grey42" if asleep else "green",
        )

    def _is_typing(self, channel: Channel) -> bool:
        now = self._fake.world.clock()
        count, since = self._typed.get(channel, (0, 0.0))
        if channel.typed != count:
            self._typed[channel] = count, since = channel.typed, now
        written = channel.by(self._fake.bot)
        last = written[-1].sent if written else 0.0
        return count > 0 and last < since and now - since < TYPING_SECONDS


class Transcript:
    """Line after line, each as soon as it will not change any more."""

    def __init__(self, console: Console, fake: FakeDiscord, journal: Journal, painter: Painter):
        self._console = console
        self._fake = fake
        self._journal = journal
        self._painter = painter
        self._began = fake.world.clock()
        self._told: set[tuple[float, int, str]] = set()

    def tell(self, *, all: bool = False) -> None:
        """Print what is new; with `all`, also what never came to its end."""
        channels = list(self._fake.world.channels.values())
        for entry in story(self._journal, channels):
            key = (entry.at, id(entry.message), "" if entry.message else entry.text)
            if key in self._told or not (entry.done or all):
                continue
            self._told.add(key)
            line = Text(f"{entry.at - self._began:5.1f} s  {place(entry.where)}  ", style="dim")
            line.append_text(Text(" ").join(self._painter.line(entry).split("\n")))
            edits = len(entry.message.edits) if entry.message is not None else 0
            if entry.kind == "answer" and edits > 1:
                line.append(f"  ({edits} edits)", style="dim")
            self._console.print(line, soft_wrap=True)


def place(channel: Channel) -> str:
    """A channel as people write it."""
    if channel.recipient is not None:
        return f"@ direct: {channel.recipient.name}"
    return f"↳ {channel.name[:30]}" if channel.is_thread else f"# {channel.name}"
