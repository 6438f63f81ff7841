"""Holding rounds on the fake Discord: what tests of them have in common."""

from __future__ import annotations

import itertools

from guildgpt.feedback.records import Purpose
from guildgpt.feedback.voting.prompts import NewPrompt, purpose_of, sha256_of
from simguild.fake import Channel, FakeMessage, User
from simguild.journal import buttons

from .house import House

HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0


def prompts(purpose: Purpose = "train", count: int = 3) -> list[NewPrompt]:
    """Prompts for a purpose."""
    found = (f"What do wombats eat on day {number}?" for number in range(100))
    fitting = [text for text in found if purpose_of(sha256_of(text)) == purpose]
    return [NewPrompt(text, "tests", "CC0-1.0", "Somebody") for text in fitting[:count]]


async def fill(house: House, *new: NewPrompt) -> None:
    """Put prompts into the pool."""
    async with house.store() as store:
        await store.prompts.add(new or prompts())


def never_twice(house: House) -> None:
    """The model never says the same twice."""
    numbers = itertools.count(1)
    house.model.answer = lambda prompt: f"Grass, number {next(numbers)}."


def shown(house: House, where: Channel | None = None) -> list[FakeMessage]:
    """The messages of rounds that can be voted on."""
    by = (where or house.channel).by(house.fake.bot)
    return [one for one in by if "a" in buttons(one)]


async def rounds(house: House, when: str | None = None, **options: object) -> str:
    """What `/rounds` says to an admin."""
    called = await house.command(
        "rounds", who=house.teacher, **({"when": when} if when else {}), **options
    )
    assert all(one.ephemeral for one in called.responses)
    return called.responses[0].content


async def opened(house: House, count: int = 1, where: Channel | None = None) -> FakeMessage:
    """The newest of so many rounds that can be voted on."""
    await house.fake.until(lambda: len(shown(house, where)) == count)
    await house.fake.until(lambda: not {"posting", "closing"} & set(states(house)))
    return shown(house, where)[-1]


async def now(house: House, **options: object) -> FakeMessage:
    """A round that an admin wants now: the only one that can be voted on then."""
    before = len(states(house))
    assert "is being written" in await rounds(house, "now", **options)
    await house.fake.until(lambda: len(states(house)) > before)
    return await opened(house)


async def over(house: House, message: FakeMessage) -> str:
    """What its message says once it is closed."""
    await house.fake.until(lambda: not buttons(message))
    await house.fake.until(lambda: "closing" not in states(house))
    return message.content


async def vote(house: House, message: FakeMessage, kind: str, who: User | None = None) -> str:
    """What a member is told who votes."""
    return await house.told(await house.press(message, kind, who))


async def later(house: House, seconds: float) -> None:
    """It is later at Discord; the bot hears that with whatever happens there."""
    house.fake.world.ahead += seconds
    await house.command("help")


def states(house: House) -> list[str]:
    """Those of all rounds."""
    return [state for (state,) in house.rows("SELECT state FROM rounds ORDER BY created_at")]
