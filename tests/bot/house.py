"""A guild on the fake Discord, the bot in it, and what tests do with both."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guildgpt.bot.adapter.marks import Marks
from guildgpt.bot.answers import service
from guildgpt.bot.answers.pacing import Pacer
from guildgpt.bot.operating.run import serve
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.feedback.store import Store
from simguild.engine import PacedEngine, echo, standing_in
from simguild.fake import Channel, FakeDiscord, FakeMessage, Guild, Interaction, User
from simguild.fake.server import PATIENCE
from simguild.journal import buttons, finished

KEY = bytes(range(32))
FAST = 4000.0  # tokens a second: an answer is there at once
SLOW = 25.0  # an answer of a hundred tokens takes seconds
WHOLE = "another one."  # how every answer ends


@dataclass
class Model:
    """What stands in for the model: makes engines, and knows all it has made."""

    rate: float = FAST
    answer: Callable[[str], str] = echo
    context: int = 4096
    dies_after: int | None = None  # tokens of every answer
    made: list[PacedEngine] = field(default_factory=list)

    def __call__(self) -> PacedEngine:
        self.made.append(PacedEngine(self.rate, self._answer, context=self.context))
        self.now.fail_after(self.dies_after)
        return self.now

    def _answer(self, prompt: str) -> str:
        return self.answer(prompt)

    @property
    def now(self) -> PacedEngine:
        """The engine in use."""
        return self.made[-1]

    @property
    def prompts(self) -> list[str]:
        """Everything it was asked, control tokens by their names."""
        return [
            engine.prompt_text(index)
            for engine in self.made
            for index in range(len(engine.prompts))
        ]


@dataclass
class House:
    """The fake, a guild with a channel, a member and an admin, and the bot."""

    fake: FakeDiscord
    folder: Path
    guild: Guild
    channel: Channel
    newcomer: User
    teacher: User  # an admin
    model: Model = field(default_factory=Model)
    settings: dict[str, Any] = field(default_factory=dict)
    ready_seconds: float = 0.05  # that discord.py waits for another guild
    open_version: Any = None  # what stands in for released versions
    marks: Marks | None = None  # of the bot that runs, once a shard of it has caught up
    _bot: asyncio.Task[None] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    # The bot

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.folder / "feedback.db"

    async def open(self, **settings: Any) -> None:
        """Start the bot; what was set earlier stays set."""
        self.settings |= settings
        told = {"token": self.fake.token, "store": str(self.database), **self.settings}
        self._stopping, self.marks = asyncio.Event(), None
        options = {"guild_ready_timeout": self.ready_seconds, "open_version": self.open_version}
        open_it = (lambda: standing_in(self.model())) if self.model else None
        self._bot = asyncio.create_task(
            serve(BotSettings(**told), open_it, self._stopping, **options)
        )
        await self.fake.until(lambda: (self._bot and self._bot.done()) or self.fake.connected)
        if self._bot.done():
            await self.close()

    async def close(self) -> None:
        """Stop the bot, if it runs; raises what it ended with."""
        bot, self._bot = self._bot, None
        self._stopping.set()
        if bot is not None:
            await bot
            await self.fake.until(lambda: not self.fake.connected)

    async def caught_up(self) -> None:
        """Wait until the bot has read all that it missed: from then on it hears everything once."""
        await self.fake.until(lambda: self.marks is not None and self.marks.complete)

    async def restart(self, **settings: Any) -> None:
        """A new bot on the same store."""
        await self.close()
        await self.open(**settings)

    @property
    def ended(self) -> bool:
        """Whether the bot has stopped by itself."""
        return self._bot is not None and self._bot.done()

    # Talking

    async def say(
        self,
        text: str,
        *,
        who: User | None = None,
        where: Channel | None = None,
        mention: bool | None = None,
        **more: Any,
    ) -> FakeMessage:
        """Write a message; it mentions the bot unless it is a direct one."""
        where = where or self.channel
        mention = where.guild is not None if mention is None else mention
        content = f"{self.fake.bot.mention} {text}" if mention else text
        return await self.fake.say(who or self.newcomer, where, content, **more)

    async def ask(self, text: str, **more: Any) -> FakeMessage:
        """Write a message, and wait for the whole answer."""
        return await self.answer(await self.say(text, **more))

    async def answer(self, asked: FakeMessage, timeout: float = PATIENCE) -> FakeMessage:
        """The whole answer to a message: its first part."""
        found = await self.fake.until(
            lambda: [one for one in self.answers(asked) if finished(one)], timeout
        )
        return found[0]

    async def begun(self, asked: FakeMessage) -> FakeMessage:
        """The answer to a message as soon as it can be seen growing."""
        found = await self.fake.until(
            lambda: [one for one in self.answers(asked) if "stop" in buttons(one)]
        )
        return found[0]

    def answers(self, asked: FakeMessage) -> list[FakeMessage]:
        """What the bot wrote to a message."""
        return [one for one in asked.channel.by(self.fake.bot) if one.reference is asked]

    async def command(self, name: str, *, who: User | None = None, **options: Any) -> Interaction:
        """Call a slash command in the channel, and wait for what the bot says."""
        where = options.pop("where", self.channel)
        called = await self.fake.slash(who or self.newcomer, where, name, options)
        await self.fake.until(lambda: called.responses and finished(called.responses[0]))
        return called

    async def press(self, message: FakeMessage, kind: str, who: User | None = None) -> Interaction:
        """Press one of the bot's buttons."""
        return await self.fake.click(who or self.newcomer, message, buttons(message)[kind])

    async def told(self, interaction: Interaction) -> str:
        """The last sentence that an interaction brought."""
        return await self.fake.until(lambda: interaction.responses[-1].content)

    # The store

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store, opened a second time."""
        async with await Store.open(str(self.database), key=KEY) as opened:
            yield opened

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What the database itself says."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    async def change(self, statement: str, *values: Any) -> None:
        """Change rows behind the bot's back."""

        def work() -> None:
            with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
                connection.execute(statement, values)

        await asyncio.to_thread(work)  # the bot must go on: it may be writing itself

    async def settled(self, count: int | None = None) -> list[str]:
        """How all events ended (`count` of them), once none is open any more."""

        def states() -> list[str]:
            return [state for (state,) in self.rows("SELECT state FROM deliveries ORDER BY id")]

        def are_settled() -> bool:
            found = states()
            is_open = {"pending", "answering"} & set(found)
            return not is_open and (len(found) == count if count is not None else bool(found))

        await self.fake.until(are_settled)
        return states()

    def tables(self) -> str:
        """All tables as text."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return "\n".join(connection.iterdump())

    async def scrubbed(self) -> None:
        """Wait until the traces of what was deleted are out of the store's files."""
        due = "SELECT value FROM facts WHERE name = 'unscrubbed'"
        await self.fake.until(lambda: not self.rows(due))

    def everything(self) -> str:
        """The same, and the files' bytes."""
        files = [path for path in self.folder.glob("feedback.db*") if path.suffix != ".key"]
        return self.tables() + "".join(path.read_bytes().decode("latin-1") for path in files)


def pace(monkeypatch: pytest.MonkeyPatch, fake: FakeDiscord, second: float) -> None:
    """Let a second of a channel's budget take so long, for the bot and for the fake alike.

    1.0 is Discord's own pace. The bot has to keep either; with the quicker one tests wait less.
    """
    quick = functools.partial(
        Pacer, per_edit=1.0 * second, window=5.0 * second, margin=0.25 * second
    )
    monkeypatch.setattr(service, "Pacer", quick)
    fake.limits.window = 5.0 * second


def copied(template: Path, folder: Path) -> None:
    """An empty store in the folder: a copy is made sooner than a new one."""
    shutil.copy(template, folder / "feedback.db")


def words(messages: Sequence[FakeMessage]) -> list[str]:
    """What they say."""
    return [one.content for one in messages]
