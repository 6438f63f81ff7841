"""Rounds: a prompt of the pool with two blind answers, voted on in a channel."""

from __future__ import annotations

import itertools

import pytest

from guildgpt.bot.answers import round_keeper
from guildgpt.bot.text import rounds as say
from guildgpt.bot.text import sentences
from guildgpt.feedback.prompts import NewPrompt, purpose_of, sha256_of
from guildgpt.feedback.records import Purpose
from simguild.fake import Channel, FakeMessage, User
from simguild.journal import buttons

from .house import House

pytestmark = pytest.mark.usefixtures("unhurried")
HOUR, DAY = 3600.0, 86_400.0
BUTTONS = ["a", "b", "tie", "both_bad"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits seconds until it is looked what is due."""
    monkeypatch.setattr(round_keeper, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(round_keeper, "FIRST_PAUSE", 0.1)


def prompts(purpose: Purpose = "train", count: int = 3) -> list[NewPrompt]:
    """Prompts for a purpose."""
    found = (f"What do wombats eat on day {number}?" for number in range(100))
    fitting = [text for text in found if purpose_of(sha256_of(text)) == purpose]
    return [NewPrompt(text, "tests", "CC0-1.0", "Somebody") for text in fitting[:count]]


async def fill(house: House, *new: NewPrompt) -> None:
    async with house.store() as store:
        await store.prompts.add(new or prompts())


@pytest.fixture
async def held(house: House) -> House:
    """The bot with prompts in its pool, and a model that never says the same twice."""
    numbers = itertools.count(1)
    house.model.answer = lambda prompt: f"Grass, for the {next(numbers)}th time."
    await fill(house)
    await house.open()
    return house


def shown(house: House, where: Channel | None = None) -> list[FakeMessage]:
    """The messages of rounds that can be voted on."""
    by = (where or house.channel).by(house.fake.bot)
    return [one for one in by if "a" in buttons(one)]


async def rounds(house: House, **options: object) -> str:
    """What `/rounds` says to an admin."""
    called = await house.command("rounds", who=house.teacher, **options)
    assert all(one.ephemeral for one in called.responses)
    return called.responses[0].content


async def opened(house: House, count: int = 1, where: Channel | None = None) -> FakeMessage:
    """The newest of so many rounds that can be voted on."""
    await house.fake.until(lambda: len(shown(house, where)) == count)
    await house.fake.until(lambda: not house.rows("SELECT 1 FROM rounds WHERE state = 'posting'"))
    return shown(house, where)[-1]


async def now(house: House, **options: object) -> FakeMessage:
    """A round that an admin wants now."""
    assert "is being written" in await rounds(house, when="now", **options)
    return await opened(house)


async def over(house: House, message: FakeMessage) -> str:
    """What its message says once it is closed."""
    await house.fake.until(lambda: not buttons(message))
    return message.content


async def vote(house: House, message: FakeMessage, kind: str, who: User | None = None) -> str:
    """What a member is told who votes."""
    return await house.told(await house.press(message, kind, who))


async def later(house: House, seconds: float) -> None:
    """It is later at Discord; the bot hears that with whatever happens there."""
    house.fake.world.ahead += seconds
    await house.command("help")


def states(house: House) -> list[str]:
    return [state for (state,) in house.rows("SELECT state FROM rounds ORDER BY created_at")]


async def test_a_round_is_shown_voted_on_and_closed(held: House) -> None:
    message = await now(held)
    assert list(buttons(message)) == BUTTONS
    assert [one["label"] for one in message.buttons] == ["A", "B", "Both good", "Both bad"]
    texts = [text for (text,) in held.rows("SELECT text FROM messages WHERE role = 'assistant'")]
    assert len(texts) == 2
    assert all(text in message.content for text in texts)
    assert "> What do wombats eat on day" in message.content
    assert "Prompt: Somebody" in message.content
    assert not message.mentions
    assert await vote(held, message, "a") == sentences.VOTED["a"]
    assert await vote(held, message, "b", held.teacher) == sentences.VOTED["b"]
    before = message.content
    await later(held, DAY)
    closed = await over(held, message)
    assert "2 voted: 1 for A, 1 for B. As even as it can be." in closed
    assert "voted" not in before
    await held.fake.until(lambda: states(held) == ["closed"])


async def test_a_vote_can_be_changed_until_the_round_closes(held: House) -> None:
    message = await now(held)
    for kind in ("a", "tie", "both_bad", "b"):
        assert await vote(held, message, kind) == sentences.VOTED[kind]
    custom_id = buttons(message)["a"]
    old = message.components
    await later(held, DAY)
    assert "1 voted: 0 for A, 1 for B." in await over(held, message)
    message.components = old  # a client that has not heard of the edit
    clicked = await held.fake.click(held.newcomer, message, custom_id)
    assert await held.told(clicked) == say.CLOSED
    message.components = []


async def test_buttons_live_through_a_restart(held: House) -> None:
    message = await now(held)
    await vote(held, message, "a")
    await held.restart()
    assert await vote(held, message, "b", held.teacher) == sentences.VOTED["b"]
    assert await vote(held, message, "b") == sentences.VOTED["b"]
    await later(held, DAY)
    assert "2 voted: 0 for A, 2 for B." in await over(held, message)
