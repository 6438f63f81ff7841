"""`/system`: what holds where, and texts that leave no room for a question."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guildgpt.bot.operating import run
from guildgpt.bot.text import sentences as say
from guildgpt.errors import GuildError
from guildgpt.talk.fitting import Room
from simguild.fake import Channel
from simguild.fake.world import FORUM, PUBLIC_THREAD
from simguild.journal import finished

from .house import House
from .test_engine import Real, gguf  # noqa: F401 (a fixture)

CRAB, GARDENER, POET = "You are a crab.", "You are a gardener.", "You are a poet."
THAI = "สวัสดีครับผมชื่อเฟอร์ริส" * 90


async def system(bot: House, **options: object) -> str:
    """What `/system` says to an admin."""
    called = await bot.command("system", who=bot.teacher, **options)
    assert called.responses
    assert all(one.ephemeral for one in called.responses)
    return "\n".join(one.content for one in called.responses)


async def told(bot: House, where: Channel | None = None) -> str:
    """The system text that the model is told with a question."""
    await bot.ask("Who are you?", where=where or bot.channel)
    found = re.search(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", bot.model.prompts[-1], re.DOTALL)
    return found[1] if found else ""


async def test_one_text_for_the_server(house: House) -> None:
    await house.open(system=CRAB)
    assert await told(house) == CRAB
    assert await system(house, text=GARDENER) == say.system_set(None)
    await house.restart()
    assert await told(house) == GARDENER
    assert await told(house, house.fake.open_dm(house.newcomer)) == CRAB
    assert await system(house, reset=True) == say.system_cleared(None)
    assert await told(house) == CRAB


async def test_it_is_shown(house: House) -> None:
    await house.open(system=CRAB)
    shown = await system(house)
    assert shown == say.system_now(None, None, [], None)
    assert CRAB not in shown  # the operator's own is not the admins' to read
    await system(house, text=GARDENER)
    assert await system(house) == f"What I am told here:\n>>> {GARDENER}"
    assert await told(house) == GARDENER  # showing it changes nothing


async def test_a_long_one_is_shown_whole(bot: House) -> None:
    text = " ".join(f"word{n}" for n in range(250))[:2000]
    await system(bot, text=text)
    shown = await system(bot)
    assert re.findall(r"word\d+", shown) == re.findall(r"word\d+", text)


@pytest.mark.parametrize("text", [" ", "\u200b", "\u3164\n"])
async def test_a_blank_text_is_none(bot: House, text: str) -> None:
    await system(bot, text=GARDENER)
    assert await system(bot, text=text) == say.SYSTEM_BLANK
    assert await told(bot) == GARDENER


# Channels


async def test_a_channel_has_its_own(house: House) -> None:
    await house.open(system=CRAB)
    pond = house.guild.add_channel("pond")
    await system(house, text=GARDENER)
    assert await system(house, text=POET, channel=pond) == say.system_set(pond.id)
    await house.restart()
    assert await told(house, pond) == POET
    assert await told(house) == GARDENER
    shown = await system(house)
    assert shown.startswith(f"Of their own have instructions: {pond.mention}.\n")
    assert shown.endswith(GARDENER)
    assert POET in await system(house, channel=pond)
    assert await system(house, channel=pond, reset=True) == say.system_cleared(pond.id)
    assert await told(house, pond) == GARDENER
    assert POET not in await system(house, channel=pond)


async def test_a_thread_follows_its_channel_or_its_own(bot: House) -> None:
    await system(bot, text=POET, channel=bot.channel)
    await bot.command("chat", topic="Cats")
    [thread] = bot.guild.threads
    await bot.fake.until(lambda: finished(thread.messages[0]))
    assert await told(bot, thread) == POET
    await system(bot, text=GARDENER, channel=thread)
    assert await told(bot, thread) == GARDENER
    assert await told(bot) == POET


async def test_a_forum_has_one_for_its_posts(bot: House) -> None:
    forum = bot.guild.add_channel("help", kind=FORUM)
    post = bot.guild.add_channel("How?", kind=PUBLIC_THREAD, parent=forum)
    post.owner = bot.newcomer
    post.tell("THREAD_CREATE")
    await system(bot, text=POET, channel=forum)
    assert await told(bot, post) == POET


async def test_commands_and_comparisons_follow_it(bot: House) -> None:
    await system(bot, text=POET, channel=bot.channel)
    for name in ("ask", "compare"):
        await bot.command(name, question="Who are you?")
        assert POET in bot.model.prompts[-1]
    await bot.command("retry")
    assert POET in bot.model.prompts[-1]


async def test_a_deleted_channel_takes_its_text_with_it(bot: House) -> None:
    pond, lake = bot.guild.add_channel("pond"), bot.guild.add_channel("lake")
    for channel in (pond, lake):
        await system(bot, text=f"{POET} {channel.name}", channel=channel)
    bot.fake.world.remove_channel(pond)
    await bot.fake.until(lambda: f"{POET} pond" not in bot.tables())
    assert f"{POET} lake" in bot.tables()
    assert pond.mention not in await system(bot)
    await bot.close()
    bot.fake.world.remove_channel(lake)
    await bot.open()
    await bot.fake.until(lambda: POET not in bot.tables())


# Texts that are too long


async def test_a_text_that_leaves_no_room_is_refused_with_the_numbers(house: House) -> None:
    house.model.context = 512
    await house.open(system=CRAB)
    text = "word " * 350
    shown = await system(house, text=text)
    takes = int(re.search(r"it takes (\d+) of the 512 tokens", shown)[1])  # type: ignore[index]
    assert 350 <= takes < 400
    assert shown == say.system_too_long(Room(takes, 512, 128, 96))
    assert "An answer needs 128 of them and a question 96, so a text may take 288" in shown
    assert await told(house) == CRAB
    # As much as it says is taken, and questions are answered beside it.
    assert await system(house, text="word " * 250) == say.system_set(None)
    assert (await told(house)).startswith("word word")
    await house.ask("What? " * 200)


async def test_the_same_for_a_channel(house: House) -> None:
    house.model.context = 512
    await house.open()
    assert "of the 512 tokens" in await system(house, text="word " * 350, channel=house.channel)
    assert house.rows("SELECT * FROM guild_settings") == []


@pytest.fixture
async def real(house: House, monkeypatch: pytest.MonkeyPatch) -> Real:
    """The house with a real engine; nobody looks whether it lives."""
    monkeypatch.setattr(run, "LOOK_SECONDS", 1e6)
    return Real(house)


async def test_thai_takes_many_tokens(real: Real, starter: Path) -> None:
    await real.open(starter, context=4096, slots=1, max_tokens=512)
    shown = await system(real.house, text=THAI[:2000])
    assert re.match(r"I cannot follow that text: it takes \d,\d{3} of the 4,096 tokens", shown)
    assert await system(real.house, text=THAI[:400]) == say.system_set(None)


async def test_it_is_set_although_the_engine_had_died(real: Real, gguf: Path) -> None:  # noqa: F811
    await real.open(gguf)
    await real.kill()
    assert await system(real.house, text=POET) == say.system_set(None)
    await real.answered("What is TLS?")


async def test_nothing_is_set_while_no_engine_opens(real: Real, gguf: Path) -> None:  # noqa: F811
    await real.open(gguf)
    away = gguf.rename(gguf.with_suffix(".away"))
    await real.kill()
    assert await system(real.house, text=POET) == say.SYSTEM_UNCHECKED
    assert real.house.rows("SELECT * FROM guild_settings") == []
    assert await system(real.house) == say.system_now(None, None, [], None)
    away.rename(gguf)
    assert await system(real.house, text=POET) == say.system_set(None)


async def test_an_old_text_in_a_smaller_context_loses_no_question(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.open(system=CRAB)
    long = "word " * 390
    await system(house, text=long)
    await system(house, text=POET + long, channel=house.channel)
    house.model.context = 512
    await house.restart()
    caplog.clear()
    assert await told(house) == CRAB
    assert "system_text_too_long" in caplog.text
    shown = await system(house)
    assert "⚠️ I do not follow it but what is more general: it takes 3" in shown
    assert "of the 512 tokens I can hold" in shown
    assert "⚠️" in await system(house, channel=house.channel)
    # A channel without its own room falls back to the server's, once that fits.
    await system(house, text=GARDENER)
    assert await told(house) == GARDENER
    assert "⚠️" not in await system(house)


async def test_beside_a_full_text_every_question_is_answered(house: House) -> None:
    """A name and a question of rare signs may need more than is kept free for a question."""
    house.model.context = 256
    await house.open()
    await system(house, text="wor " * 130)
    house.newcomer.name = "ก" * 32
    await house.ask("Hello", who=house.teacher)
    replied = house.channel.by(house.fake.bot)[-1]
    for length in (10, 100, 1900):
        await house.ask("ก " * (length // 2), reply_to=replied)


# The operator's own


async def test_the_operators_own_is_checked_at_the_start(house: House) -> None:
    house.model.context = 512
    with pytest.raises(GuildError, match=r"`system` takes 4.. of the 512 tokens") as refused:
        await house.open(system="word " * 400)
    assert refused.value.where == "system"
    assert "an answer needs 128 of them and a question 96" in refused.value.what
    assert "Shorten it to 288 tokens" in (refused.value.remedy or "")
    assert "or raise `context`" in (refused.value.remedy or "")


def test_numbers_that_people_read() -> None:
    told = say.system_too_long(Room(5980, 4096, 512, 256))
    assert "it takes 5,980 of the 4,096 tokens I can hold" in told
    assert "a text may take 3,328: about 56% of yours" in told
