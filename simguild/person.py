"""`Person`: what a simulated member can do, each deed written into the journal."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from guildgpt.bot.answers.buttons import decode
from simguild.fake import Channel, FakeDiscord, FakeMessage, Interaction, Refused, User
from simguild.journal import Asked, Expects, Happened, Journal, Pressed, buttons, finished

FACES = {
    "up": "👍",
    "down": "👎",
    "again": "🔁",
    "report": "🚩",
    "stop": "⏹ Stop",
    "left": "⬅ Left",
    "right": "➡ Right",
    "a": "A",
    "b": "B",
    "tie": "Both good",
    "both_bad": "Both bad",
    "forget": "Delete everything",
    "keep": "Keep it",
}
_THREAD = re.compile(r"<#(\d+)>")


class Person:
    """One simulated member.

    `home` is the channel they are in, `thread` the one they opened. `haste` divides the seconds
    they think; `patience` is how long they wait for an answer, in seconds.
    """

    def __init__(
        self,
        fake: FakeDiscord,
        user: User,
        home: Channel,
        journal: Journal,
        chance: random.Random,
        *,
        haste: float = 1.0,
        patience: float = 60.0,
    ):
        self.fake = fake
        self.user = user
        self.home = home
        self.journal = journal
        self.chance = chance
        self.patience = patience
        self.thread: Channel | None = None
        self._haste = haste

    async def think(self, least: float = 2.0, most: float = 5.0) -> None:
        """Do nothing for so many seconds."""
        await asyncio.sleep(self.chance.uniform(least, most) / self._haste)

    async def wait(self, condition: Callable[[], Any]) -> Any:
        """Until `condition` holds; None when the patience is over."""
        with suppress(AssertionError):
            return await self.fake.until(condition, timeout=self.patience)
        return None

    # Asking

    async def ask(
        self,
        text: str,
        *,
        where: Channel | None = None,
        reply_to: FakeMessage | None = None,
        mention: bool = True,
        attachments: Sequence[tuple[str, bytes, str]] = (),
        expects: Expects = "answer",
    ) -> Asked:
        """Write a message; with `mention` it begins with the bot's name."""
        where = where or self.home
        content = f"{self.fake.bot.mention} {text}" if mention else text
        at, first = self._now(), len(where.messages)
        message = await self.fake.say(
            self.user, where, content, reply_to=reply_to, attachments=attachments
        )
        return self._asked(
            Asked(self.user, where, text, at, message=message, expects=expects, first=first)
        )

    async def ask_command(self, name: str, **options: Any) -> Asked:
        """Ask by a command: /ask, /compare, /retry."""
        at, words = self._now(), _as_typed(name, options)
        self._happened(self.home, words)
        called = await self.fake.slash(self.user, self.home, name, options, wait=False)
        one = self._asked(Asked(self.user, self.home, words, at, interaction=called))
        await self._acknowledged(called)
        return one

    async def open_thread(self, topic: str) -> Asked:
        """/chat: the thread, and the topic as its first question."""
        at = self._now()
        called = await self.fake.slash(self.user, self.home, "chat", {"topic": topic}, wait=False)
        self._happened(self.home, f"/chat {topic}")
        await self._acknowledged(called)
        if called.acknowledged_ms is not None and await self.wait(lambda: called.responses):
            self.journal.other.append(called)
            if found := _THREAD.search(called.responses[0].content):
                self.thread = self.fake.world.channels[int(found[1])]
                self._happened(self.thread, f"opened this thread: {topic}")
                return self._asked(Asked(self.user, self.thread, topic, at))
        return self._asked(Asked(self.user, self.home, f"/chat {topic}", at, interaction=called))

    async def again(self, answer: FakeMessage, expects: Expects = "answer") -> Asked | None:
        """Press 🔁; None where the button is not there."""
        at = self._now()
        clicked = await self._click(answer, "again")
        if clicked is None:
            return None
        self._happened(answer.channel, "pressed 🔁")
        one = self._asked(
            Asked(self.user, answer.channel, "🔁", at, interaction=clicked, expects=expects)
        )
        await self._acknowledged(clicked)
        return one

    async def watch(self, asked: Asked) -> FakeMessage | None:
        """Wait until an answer begins to grow."""
        growing: FakeMessage | None
        growing = await self.wait(lambda: next((one for one in asked.answers if one.content), None))
        return growing

    async def read(self, asked: Asked) -> FakeMessage | None:
        """Wait for the whole answer; None if it did not come while the patience lasted."""
        if asked.failed or not await self.wait(lambda: finished(asked.answers[0])):
            return None
        asked.seen = self._now()
        return asked.answers[0]

    # Opinions and the rest

    async def press(self, answer: FakeMessage, kind: str) -> Pressed | None:
        """Press 👍, 👎, ⬅️ and so on; None where the button is not there."""
        action, at = decode(buttons(answer).get(kind, "")), self._now()
        clicked = await self._click(answer, kind)
        if clicked is None or action is None:
            return None
        one = Pressed(self.user, answer, action, at, clicked)
        self.journal.pressed.append(one)
        self._happened(answer.channel, f"pressed {FACES[kind]}")
        await self._acknowledged(clicked)
        if clicked.acknowledged_ms is not None:
            await self.wait(lambda: one.told)
        return one

    async def explain(self, pressed: Pressed, reason: str) -> None:
        """Say why, in the form that 👎 opened."""
        if pressed.interaction.modal is None:
            return
        self._happened(pressed.message.channel, f"explained: {reason}")
        self.journal.other.append(
            await self.fake.submit(self.user, pressed.interaction, {"reason": reason})
        )

    async def command(self, name: str, **options: Any) -> Interaction:
        """A command that asks nothing: /help, /privacy, /stats, /stop."""
        self._happened(self.home, _as_typed(name, options))
        called = await self.fake.slash(self.user, self.home, name, options)
        self.journal.other.append(called)
        return called

    async def click(self, message: FakeMessage, custom_id: str) -> Interaction | None:
        """Press any other button; None where Discord would not let them."""
        with suppress(Refused):
            clicked = await self.fake.click(self.user, message, custom_id)
            self.journal.other.append(clicked)
            return clicked
        return None

    def note(self, what: str, where: Channel | None = None) -> None:
        """Something that happened, for those who watch."""
        self._happened(where or self.home, what)

    async def _click(self, message: FakeMessage, kind: str) -> Interaction | None:
        with suppress(Refused):
            custom_id = buttons(message).get(kind, "")
            return await self.fake.click(self.user, message, custom_id, wait=False)
        return None

    async def _acknowledged(self, interaction: Interaction) -> None:
        """Wait for the bot's first response, as long as Discord does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.fake.interaction_seconds):
                await interaction.acknowledged.wait()

    def _asked(self, one: Asked) -> Asked:
        self.journal.asked.append(one)
        return one

    def _happened(self, where: Channel, what: str) -> None:
        self.journal.happened.append(Happened(self._now(), self.user, where, what))

    def _now(self) -> float:
        return self.fake.world.clock()


def _as_typed(name: str, options: dict[str, Any]) -> str:
    return " ".join([f"/{name}", *map(str, options.values())])
