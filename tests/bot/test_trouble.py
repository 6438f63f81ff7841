"""Bad input and bad luck: one friendly sentence or a stated silence, and nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import discord
import pytest

from guildgpt.bot.adapter import reaching
from guildgpt.bot.operating import run
from guildgpt.bot.text import sentences as say
from guildgpt.errors import EngineError, StoreError
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.store import Store
from simguild.engine import PacedEngine
from simguild.fake import Permission
from simguild.journal import buttons, finished

from .house import FAST, SLOW, House, words

# What people write

NOTHING = ["", " ", "\u200b\u200d\u2060", "\u202e\u2066 \u3164", "\U000e0041\ufe0f"]


async def test_an_empty_mention(bot: House) -> None:
    for number, text in enumerate(NOTHING):
        where = bot.guild.add_channel(f"number-{number}")  # each with a budget of its own
        assert (await bot.ask(text, where=where)).content == say.EMPTY
    assert set(await bot.settled()) == {"skipped"}
    assert bot.model.prompts == []


async def test_a_wall_of_2000_characters(bot: House) -> None:
    wall = "🦀" * (989 - len(bot.fake.bot.mention) // 2)
    asked = await bot.say(wall)
    assert (await bot.answer(asked)).content.startswith("You wrote: 🦀🦀🦀")
    assert wall in bot.model.prompts[-1]


async def test_what_cannot_be_seen_reaches_neither_model_nor_store(bot: House) -> None:
    await bot.ask("a\u200bb\u202ec\u2066d\ufeff שלום 👩\u200d💻")
    assert "abcd שלום 👩\u200d💻" in bot.model.prompts[-1]
    assert bot.rows("SELECT text FROM messages WHERE role = 'user'") == [("abcd שלום 👩\u200d💻",)]


@pytest.mark.parametrize("content", [b"word " * (5 << 20), b"\x7fELF\0\0", b"\xff\xfe\xfd"])
async def test_a_file_that_cannot_be_read(bot: House, content: bytes) -> None:
    assert len(content) in (25 << 20, 6, 3)
    await bot.ask("What is this?", attachments=[("thing.txt", content, "text/plain")])
    prompt = bot.model.prompts[-1]
    assert "(Attached, but you cannot see it: the file thing.txt)" in prompt
    assert "word word" not in prompt


async def test_a_file_that_is_gone(bot: House) -> None:
    file = ("thing.txt", b"text", "text/plain")
    bot.fake.world.files = _Forgetful()
    await bot.ask("What is this?", attachments=[file])
    assert "you cannot see it: the file thing.txt" in bot.model.prompts[-1]


class _Forgetful(dict[int, Any]):
    """Keeps nothing."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass


# What is deleted


async def test_a_question_deleted_mid_answer(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    asked = await house.say("The secret is xyzzy.")
    begun = await house.begun(asked)
    await house.fake.delete(asked)
    await house.fake.until(lambda: begun.deleted)
    await house.settled()
    assert house.channel.by(house.fake.bot) == []
    assert house.model.now.cancelled == 1
    assert "xyzzy" not in house.tables()


async def test_a_question_deleted_while_it_waits(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1)
    await house.begun(await house.say("What is TLS?", who=house.teacher))
    asked = await house.say("The secret is xyzzy.")
    await house.fake.until(lambda: "xyzzy" in house.tables())
    await house.fake.delete(asked)
    await house.fake.until(lambda: "skipped" in str(house.rows("SELECT state FROM deliveries")))
    assert len(house.model.prompts) == 1
    assert house.answers(asked) == []
    assert house.rows("SELECT text FROM messages WHERE deleted") == [("",)]


async def test_a_question_deleted_before_it_is_claimed(bot: House) -> None:
    """The file takes its time; the deletion is there before the question."""
    bot.fake.world.files = _Forgetful()
    files = [(f"{number}.txt", b"text", "text/plain") for number in range(4)]
    asked = await bot.say("The secret is xyzzy.", attachments=files)
    await bot.fake.delete(asked)
    await bot.settled()
    assert bot.channel.by(bot.fake.bot) == []
    assert bot.rows("SELECT COUNT(*) FROM messages WHERE text LIKE '%xyzzy%'") == [(0,)]


async def test_an_answered_question_deleted_later(bot: House) -> None:
    asked = await bot.say("The secret is xyzzy.")
    bot.model.answer = lambda prompt: "I see."
    answer = await bot.answer(asked)
    await bot.settled()  # until then the answer would go with its question
    await bot.fake.delete(asked)
    await bot.fake.until(lambda: bot.rows("SELECT 1 FROM messages WHERE deleted"))
    assert bot.rows("SELECT COUNT(*) FROM messages WHERE text LIKE '%xyzzy%'") == [(0,)]
    # The answer stays, and can be gone on from.
    await bot.ask("And?", reply_to=answer)
    assert "xyzzy" not in bot.model.prompts[-1]
    assert await bot.told(await bot.press(answer, "again")) == say.RECORD_GONE


async def test_messages_that_a_moderator_clears_away(bot: House) -> None:
    asked = [await bot.say(f"Secret {number}.") for number in range(2)]
    for one in asked:
        await bot.answer(one)
    ids = [str(one.id) for one in asked]
    place = {"channel_id": str(bot.channel.id), "guild_id": str(bot.guild.id)}
    bot.fake.world.publish("MESSAGE_DELETE_BULK", {"ids": ids, **place}, guild=bot.guild)
    await bot.fake.until(lambda: bot.rows("SELECT COUNT(*) FROM messages WHERE deleted") == [(2,)])


async def test_an_answer_deleted_mid_answer(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    await house.fake.delete(begun)
    assert await house.settled() == ["done"]
    assert house.model.now.cancelled == 1
    assert house.channel.by(house.fake.bot) == []


# What is not allowed


async def test_a_channel_it_may_not_write_in(bot: House) -> None:
    bot.channel.deny(bot.fake.bot, Permission.SEND_MESSAGES)
    asked = await bot.say("What is TLS?")
    assert await bot.settled() == ["failed"]
    assert bot.answers(asked) == []
    bot.channel.allow(bot.fake.bot, Permission.SEND_MESSAGES)
    await bot.ask("And now?")


async def test_a_channel_whose_history_it_may_not_read(bot: House) -> None:
    """It may not reply there, but it may speak."""
    bot.channel.deny(bot.fake.bot, Permission.READ_MESSAGE_HISTORY)
    await bot.say("What is TLS?")
    await bot.settled()
    [answer] = bot.channel.by(bot.fake.bot)
    assert answer.content.startswith("You wrote: What is TLS?")
    assert answer.reference is None


async def test_who_blocks_direct_messages(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    bot.newcomer.blocks_dms = True
    await bot.say("What is TLS?", where=private)
    assert await bot.settled() == ["failed"]
    bot.newcomer.blocks_dms = False
    await bot.ask("And now?", where=private)


# Interactions whose time is over


async def test_an_interaction_that_is_over_before_it_is_heard(bot: House) -> None:
    called = await bot.fake.slash(
        bot.newcomer, bot.channel, "ask", {"question": "What?"}, wait=False
    )
    bot.fake.expire(called)
    assert await bot.settled() == ["done"]
    assert called.failed
    assert bot.channel.by(bot.fake.bot) == []
    await bot.ask("Are you there?")


async def test_commands_that_are_over_before_they_are_heard(
    bot: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "guildgpt.bot")
    names = ("stats", "privacy", "help", "forget-me")
    for name in names:
        called = await bot.fake.slash(bot.newcomer, bot.channel, name, {}, wait=False)
        bot.fake.expire(called)
    await bot.fake.until(lambda: caplog.messages.count("not_told") == len(names))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    await bot.ask("Are you there?")


async def test_a_click_that_is_over_before_it_is_heard_counts(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    clicked = await bot.fake.click(bot.newcomer, answer, buttons(answer)["up"], wait=False)
    bot.fake.expire(clicked)
    await bot.fake.until(lambda: bot.rows("SELECT 1 FROM ratings"))
    await bot.ask("Are you there?")


async def test_an_interaction_that_ends_mid_answer_goes_on_in_the_channel(house: House) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "What?"})
    begun = await house.fake.until(lambda: called.responses[0])
    house.fake.expire(called)
    await house.fake.until(lambda: finished(begun))
    assert begun.content.endswith("another one.")
    assert house.channel.by(house.fake.bot) == [begun]


async def test_an_interaction_that_ends_before_the_first_word(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "What?"})
    house.fake.expire(called)
    await house.fake.until(lambda: words(house.channel.by(house.fake.bot))[1])
    await house.fake.until(lambda: finished(house.channel.by(house.fake.bot)[1]))
    assert await house.settled() == ["done"]


# The engine


async def test_an_engine_that_dies_mid_answer_is_opened_again(house: House) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    house.model.now.fail_after(20)
    house.model.rate = FAST
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    await house.fake.until(lambda: len(house.model.made) == 2)
    await house.answer(asked)
    assert begun.content.endswith("another one.")
    assert house.answers(asked) == [begun]
    assert list(buttons(begun)) == ["up", "down", "again", "report"]
    assert house.rows("SELECT COUNT(*) FROM messages") == [(2,)]


async def test_an_engine_that_dies_in_a_comparison_is_opened_again(bot: House) -> None:
    bot.model.now.fail_after(5)
    called = await bot.command("compare", question="What is TLS?")
    assert called.responses[0].content.count("another one.") == 2
    assert len(bot.model.made) == 2


async def test_an_engine_that_is_down(bot: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("the engine would not start")

    bot.model.now.fail_after(0)
    with monkeypatch.context() as broken:
        broken.setattr(PacedEngine, "__init__", refuse)
        asked = await bot.say("What is TLS?")
        answer = await bot.answer(asked)
        assert answer.content == say.ENGINE_DOWN
        assert not answer.buttons
        called = await bot.command("ask", question="And now?")
        assert called.responses[0].content == say.ENGINE_DOWN
        assert called.responses[0].ephemeral
    assert await bot.settled() == ["failed", "failed"]
    called = await bot.command("retry")
    assert called.responses[0].content.startswith("You wrote: And now?")


async def test_an_engine_that_dies_in_every_answer(house: House) -> None:
    house.model.rate, house.model.dies_after = SLOW * 2, 20
    house.model.answer = lambda prompt: "It is a long story. " * 20
    await house.open()
    asked = await house.say("Tell me a story")
    begun = await house.begun(asked)
    sorry = await house.fake.until(lambda: house.channel.by(house.fake.bot)[1])
    assert sorry.content == say.ENGINE_DOWN
    assert begun.content.startswith("It is a long story.")
    assert begun.content.endswith(" …")
    assert not begun.buttons
    assert await house.settled() == ["failed"]


# The database


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store gives up sooner, and the bot tries again sooner."""
    opened = functools.partial(Store.open, patience=0.2)
    monkeypatch.setattr(run, "Store", SimpleNamespace(open=opened))
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.1)


@contextlib.asynccontextmanager
async def locked(house: House) -> AsyncIterator[None]:
    """Another program writes, and does not end."""
    other = sqlite3.connect(house.database, isolation_level=None, check_same_thread=False)
    with contextlib.closing(other):
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")  # the bot may be writing
        yield
        other.execute("ROLLBACK")


class Broken:
    """A database that fails: whatever it is asked, or whatever is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._monkeypatch = monkeypatch

    @contextlib.asynccontextmanager
    async def __call__(self, what: str, *methods: str) -> AsyncIterator[None]:
        async def fail(*_: object, **__: object) -> None:
            raise StoreError(what)

        with self._monkeypatch.context() as broken:
            for method in methods:
                broken.setattr(Database, method, fail)
            yield


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """`async with broken("the disk is full", "write"):`"""
    return Broken(monkeypatch)


TROUBLES = {
    "locked": (),
    "full": ("the disk is full", "write"),
    "read-only": ("the database is read-only", "write"),
    "gone": ("the database server cannot be reached", "read", "write"),
}


@pytest.fixture(params=TROUBLES)
async def troubled(
    request: pytest.FixtureRequest, house: House, broken: Broken, impatient: None
) -> tuple[House, Any]:
    """The bot, and the way to trouble its database."""
    await house.open()
    trouble = TROUBLES[request.param]
    return house, (lambda: broken(*trouble)) if trouble else (lambda: locked(house))


async def test_a_database_in_trouble_when_asked(troubled: tuple[House, Any]) -> None:
    bot, trouble = troubled
    before = await bot.ask("Before?")
    await bot.settled()
    async with trouble():
        asked = await bot.say("What is TLS?")
        assert (await bot.answer(asked)).content == say.STORE_DOWN
        called = await bot.command("ask", question="What is TLS?")
        assert called.responses[0].content == say.STORE_DOWN
        for kind in ("up", "down", "report"):
            assert await bot.told(await bot.press(before, kind)) == say.STORE_DOWN
    assert bot.rows("SELECT COUNT(*) FROM ratings") == [(0,)]
    assert await bot.told(await bot.press(before, "up")) == say.RATED_UP
    await bot.ask("And now?", reply_to=before)
    assert "Before?" in bot.model.prompts[-1]


async def test_a_database_in_trouble_mid_answer(troubled: tuple[House, Any]) -> None:
    """The answer is given, and written down as soon as that can be."""
    bot, trouble = troubled
    bot.model.rate, bot.model.answer = 40.0, lambda prompt: "It is what keeps a secret."
    await bot.restart()
    asked = await bot.say("What is TLS?")
    await bot.fake.until(lambda: bot.model.now.active)
    async with trouble():
        answer = await bot.answer(asked)
        assert answer.content == "It is what keeps a secret."
        assert list(buttons(answer)) == ["up", "down", "again", "report"]
        assert bot.rows("SELECT COUNT(*) FROM messages WHERE role = 'assistant'") == [(0,)]
    assert await bot.settled() == ["done"]
    assert await bot.told(await bot.press(answer, "up")) == say.RATED_UP
    await bot.ask("Why?", reply_to=answer)
    assert "What is TLS?" in bot.model.prompts[-1]


async def test_a_database_in_trouble_when_a_message_is_repeated(
    house: House, broken: Broken
) -> None:
    """The message is being answered: nobody is told that it cannot be."""
    house.model.rate = SLOW * 2
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    async with broken("the disk is full", "write"):
        house.fake.drop(duplicate=True)
        await house.fake.until(lambda: house.fake.gateway_server.resumed)
        await house.answer(asked)
    assert house.channel.by(house.fake.bot) == [begun]


async def test_a_comparison_whose_answers_cannot_be_kept_yet(house: House, impatient: None) -> None:
    house.model.rate = 60.0
    await house.open()
    called = await house.fake.slash(house.newcomer, house.channel, "compare", {"question": "?"})
    await house.fake.until(lambda: house.model.now.active == 2)
    async with locked(house):
        shown = await house.fake.until(lambda: called.responses[0])
    await house.settled()
    assert await house.told(await house.press(shown, "left")) == say.VOTED["left"]


async def test_a_slow_database_is_acknowledged_in_time(house: House) -> None:
    await house.open()
    answer = await house.ask("What is TLS?")
    async with locked(house):
        voted = await house.press(answer, "up")
        assert voted.acknowledged_ms is not None
        assert voted.acknowledged_ms < 2500
    assert await house.told(voted) == say.RATED_UP
    assert house.rows("SELECT COUNT(*) FROM ratings") == [(1,)]


async def test_a_question_is_acknowledged_before_a_slow_claim_and_answered_once(
    bot: House,
) -> None:
    async with locked(bot):
        called = await bot.fake.slash(bot.newcomer, bot.channel, "ask", {"question": "What?"})
        assert called.acknowledged_ms is not None
        assert called.responses == []  # it thinks
        bot.fake.drop(duplicate=5)  # the same interaction once more
        await bot.fake.until(lambda: bot.fake.connected)
    await bot.fake.until(lambda: finished(called.responses[0]))
    assert await bot.settled(1) == ["done"]
    assert len(bot.model.prompts) == len(called.responses) == 1


# Discord itself


async def test_discord_cannot_be_reached_for_a_moment(
    bot: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "PAUSES", (0.05,))
    request = discord.http.HTTPClient.request
    failures = iter([aiohttp.ServerDisconnectedError(), OSError("no route"), TimeoutError()])

    async def flaky(self: Any, route: Any, **more: Any) -> Any:
        if route.path.endswith("/messages") and (failure := next(failures, None)):
            raise failure
        return await request(self, route, **more)

    monkeypatch.setattr(discord.http.HTTPClient, "request", flaky)
    answer = await bot.ask("What is TLS?")
    assert answer.content.endswith("another one.")
    assert next(failures, None) is None
