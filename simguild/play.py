"""`make guild-demo`: watch a simulated guild for a minute, then see what is left of it.

The bot runs in a process of its own with the starter model; it talks to a Discord of ours on
127.0.0.1, and the members are scripts. Nothing here leaves the machine, and nobody is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.model.starter import starter_gguf
from simguild import members
from simguild.fake import FakeDiscord
from simguild.journal import Journal, missing_opinions, percentile
from simguild.members import Script, live
from simguild.person import Person
from simguild.process import BotProcess, guildgpt
from simguild.screen import Painter, Screen, Transcript

# Who is there, and in which channel they are.
CAST: Mapping[str, tuple[str, Script]] = {
    "newcomer": ("general", members.newcomer),
    "judge": ("general", members.judge),
    "regular": ("general", members.regular),
    "shy": ("general", members.shy),
    "impatient": ("workshop", members.impatient),
    "waverer": ("workshop", members.waverer),
    "prankster": ("workshop", members.prankster),
    "leaver": ("general", members.leaver),
    "regretful": ("workshop", members.regretful),
    "private": ("general", members.private),
}
SETTINGS = {
    "model": "starter",
    "max_tokens": "60",
    "message_content_intent": "true",
    "queue_bound": "50",
}
PAUSE = (3.0, 9.0)  # seconds between two rounds of a member
FRAMES = 6.0  # a second
LAST_WORDS = 45.0  # seconds for the answers that are still on their way, after the minute


@dataclass(frozen=True)
class Check:
    """Something that must hold, and where it did not."""

    what: str
    faults: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, and exit with status 1 if anything broke."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    console = Console()
    try:
        starter_gguf(on_progress=lambda line: console.print(line, highlight=False))
        with tempfile.TemporaryDirectory(prefix="guild-demo-") as folder:
            broken = asyncio.run(play(console, Path(folder), given.seconds, given.seed))
    except GuildError as error:
        console.print(Text(str(error), style="red"))
        raise SystemExit(1) from None
    raise SystemExit(1 if broken else 0)


async def play(
    console: Console,
    folder: Path,
    seconds: float,
    seed: int,
    settings: Mapping[str, object] = SETTINGS,
    engine: str = "",
) -> list[str]:
    """The guild, for so many seconds; then its statistics. Returns what broke, in words."""
    async with FakeDiscord() as fake:
        bot = BotProcess(fake, folder, engine=engine, settings=settings)
        journal = Journal()
        people = _gather(fake, journal, seed)
        _introduce(console, seconds)
        try:
            with console.status("The bot starts …"):
                await bot.start()
            await _live(console, fake, journal, people, seconds)
        except BaseException:
            await bot.kill()
            raise
        status = await bot.stop()
        await _show_statistics(console, bot)
        checks = await checked(fake, journal, bot, status)
    return show_checks(console, journal, checks, bot)


def _gather(fake: FakeDiscord, journal: Journal, seed: int) -> list[tuple[Person, Script]]:
    """A guild with two channels and everybody in it."""
    guild = fake.add_guild("the simulated guild")
    homes = {name: guild.add_channel(name) for name in ("general", "workshop")}
    people = []
    for name, (home, script) in CAST.items():
        user = fake.add_user(name)
        guild.join(user)
        chance = random.Random(f"{seed} {name}")
        people.append((Person(fake, user, homes[home], journal, chance), script))
    return people


def _introduce(console: Console, seconds: float) -> None:
    words = Text.assemble(
        ("A simulated guild, ", "bold"),
        f"for {seconds:g} seconds. The bot is the real one, with the starter model, in a process ",
        "of its own;\nDiscord is played by a server on this machine, and its members are scripts: ",
        f"{', '.join(CAST)}.",
    )
    console.print(Panel(words, border_style="green"))


async def _live(
    console: Console,
    fake: FakeDiscord,
    journal: Journal,
    people: Sequence[tuple[Person, Script]],
    seconds: float,
) -> None:
    """Let them live, and show it; then what was asked is still answered."""
    clock = fake.world.clock
    began = clock()
    over = began + seconds
    lives = [asyncio.create_task(live(person, script, PAUSE)) for person, script in people]

    def footer() -> Table:
        return _footer(fake, journal, clock() - began, seconds)

    with shown(console, fake, journal, footer) as show:
        while clock() < over:
            show()
            await asyncio.sleep(1 / FRAMES)
        for one in lives:
            one.cancel()
        ended = await asyncio.gather(*lives, return_exceptions=True)
        while journal.faults and clock() < over + LAST_WORDS:
            show()
            await asyncio.sleep(1 / FRAMES)
        show()
    for problem in ended:
        if isinstance(problem, Exception):
            raise problem


@contextmanager
def shown(
    console: Console, fake: FakeDiscord, journal: Journal, footer: Callable[[], RenderableType]
) -> Iterator[Callable[[], None]]:
    """The guild on the screen, or line after line; something to call for every frame."""
    painter = Painter(fake)
    if not console.is_terminal:
        yield Transcript(console, fake, journal, painter).tell
        return
    screen = Screen(fake, journal, painter)
    with Live(screen, console=console, auto_refresh=False) as view:

        def show() -> None:
            screen.footer = footer()
            view.refresh()

        yield show


def _footer(fake: FakeDiscord, journal: Journal, elapsed: float, seconds: float) -> Table:
    """How far the minute is, and what has been counted."""
    heard = percentile(_heard(journal), 50)
    broken = len(fake.violations)
    figures = Text.assemble(
        (f" {_count(journal.asked, 'question')}", "bold"),
        f" · {sum(bool(one.answers) for one in journal.asked)} answered",
        f" · {_count(journal.noted, 'opinion')} noted",
        "" if heard != heard else f" · heard after {heard:.0f} ms",
        (f" · {broken} limits broken", "green" if not broken else "bold red"),
    )
    if elapsed > seconds:
        figures.append(" · the last answers come in", style="dim")
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=seconds, completed=min(elapsed, seconds), width=24)
    row.add_row(f" {min(elapsed, seconds):2.0f} s", bar, figures)
    return row


def _heard(journal: Journal) -> list[float]:
    """Milliseconds to the first sign of life for everything that members did."""
    written = [one for one in journal.asked if one.message and one.expects != "silence"]
    times = [one.acknowledged_ms for one in written]
    times += [one.acknowledged_ms for one in journal.interactions]
    return [time for time in times if time is not None]


async def _show_statistics(console: Console, bot: BotProcess) -> None:
    """What an operator would see."""
    command = ["feedback", "stats", "--store", bot.store]
    console.print(Rule(style="green"))
    console.print(Text(f"$ guildgpt {' '.join(command)}", style="bold"), soft_wrap=True)
    console.print(Text(await guildgpt(*command, width=console.width)), soft_wrap=True)


async def checked(fake: FakeDiscord, journal: Journal, bot: BotProcess, status: int) -> list[Check]:
    """What was looked at, and what was found wrong."""
    async with await Store.open(bot.store, key=member_key(bot.store)) as store:
        missing = await missing_opinions(journal, store)
    asked = [one for one in journal.asked if not one.failed and one.expects != "silence"]
    silent = [one for one in journal.asked if one.expects == "silence"]
    disturbed = [one.fault for one in silent if one.fault]
    wrong = [one for one in journal.faults if one not in disturbed]
    late = [f"{one.user.name} waited in vain" for one in journal.interactions if one.failed]
    limited = [f"{fake.rate_limited} requests came too fast"] if fake.rate_limited else []
    ended = [f"it ended with status {status}"] if status else []
    return [
        Check(f"{_count(asked, 'question')}, each answered exactly once", wrong),
        Check(f"{_count(silent, 'message')} not meant for it, left alone", disturbed),
        Check(f"{len(journal.interactions)} clicks and commands, each heard within 3 s", late),
        Check(
            f"{_count(journal.noted, 'opinion')} acknowledged, all of them in the store", missing
        ),
        Check("no limit of Discord's broken, nobody pinged", list(fake.violations)),
        Check("never told to slow down (429)", limited),
        Check("the bot ended when it was asked to", ended),
    ]


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


def show_checks(
    console: Console, journal: Journal, checks: Sequence[Check], bot: BotProcess
) -> list[str]:
    """Say what was looked at; returns what broke, in words."""
    console.print(Rule(style="green"))
    broken = []
    for check in checks:
        mark, style = ("✗", "bold red") if check.faults else ("✓", "bold green")
        console.print(Text.assemble((f"{mark} ", style), check.what))
        for fault in check.faults[:5]:
            console.print(Text(f"    {fault}", style="red"))
        broken += check.faults
    heard = _heard(journal)
    if heard:
        middle, slow = (percentile(heard, percent) for percent in (50, 99))
        console.print(Text(f"  heard after {middle:.0f} ms (median), {slow:.0f} ms (99 %)"))
    if broken:
        console.print(Text(f"The end of the bot's log:\n{bot.tail()}", style="dim"))
    return broken


if __name__ == "__main__":
    main()
