"""What was reported is seen: by admins in a list, in a channel of theirs, and by the operator."""

from __future__ import annotations

import pytest

from guildgpt.bot.text import sentences as say
from simguild.fake import Channel, FakeMessage, Interaction, Permission
from simguild.journal import buttons

from .house import House

pytestmark = pytest.mark.usefixtures("unhurried")
REASON = "It is @everyone's fault."


async def report(house: House, answer: FakeMessage, reason: str = "") -> None:
    """🚩 and why."""
    clicked = await house.press(answer, "report")
    sent = await house.fake.submit(house.newcomer, clicked, {"reason": reason})
    await house.told(sent)


async def listed(house: House) -> Interaction:
    """/reports as an admin sees it."""
    return await house.command("reports", who=house.teacher)


def link(message: FakeMessage) -> str:
    """Its address."""
    guild = message.channel.guild
    assert guild
    return f"https://discord.com/channels/{guild.id}/{message.channel.id}/{message.id}"


async def test_an_admin_sees_them_newest_first_and_takes_them_off(bot: House) -> None:
    assert (await listed(bot)).responses[0].content == say.NO_REPORTS
    bot.model.answer = lambda prompt: "**Wombats**\n dig `deep` burrows."
    first = await bot.ask("What of wombats?")
    bot.model.answer = lambda prompt: "Koalas " + "climb " * 100
    second = await bot.ask("What of koalas?")
    await report(bot, first, REASON)
    await report(bot, second)
    page = (await listed(bot)).responses[0]
    assert page.ephemeral
    assert page.content.startswith("**2 reports**")
    newest, oldest = page.content.split("**2.**")
    assert link(second) in newest
    assert "Koalas climb" in newest
    assert "Reason" not in newest
    assert link(first) in oldest
    assert "> Wombats dig deep burrows." in oldest
    assert f"Reason: {REASON}" in oldest
    assert str(bot.newcomer.id) not in page.content
    assert bot.newcomer.name not in page.content

    await bot.fake.click(bot.teacher, page, resolves(page)[0])
    await bot.fake.until(lambda: page.content.startswith("**1 report**"))
    assert link(first) in page.content
    assert link(second) not in page.content
    await bot.fake.click(bot.teacher, page, resolves(page)[0])
    await bot.fake.until(lambda: page.content == say.NO_REPORTS)
    assert not page.buttons
    assert (await listed(bot)).responses[0].content == say.NO_REPORTS


def resolves(page: FakeMessage) -> list[str]:
    """The buttons that take reports off the list, in its order."""
    return [one["custom_id"] for one in page.buttons if ":resolve:" in one["custom_id"]]


async def test_many_come_in_pages(house: House) -> None:
    await house.open(questions_per_user=100)
    house.model.answer = lambda prompt: "word " * 400
    answers = [await house.ask(f"Number {n}?") for n in range(6)]
    for answer in answers:
        await report(house, answer, "x" * 500)
    page = (await listed(house)).responses[0]
    assert [link(one) in page.content for one in answers] == [False] * 2 + [True] * 4
    assert [one["label"] for one in page.buttons] == ["1", "2", "3", "4", "Older"]
    await house.press(page, "older", house.teacher)
    await house.fake.until(lambda: link(answers[0]) in page.content)
    assert [link(one) in page.content for one in answers] == [True] * 2 + [False] * 4
    await house.press(page, "newest", house.teacher)
    await house.fake.until(lambda: link(answers[5]) in page.content)


async def test_only_of_ones_own_server_and_only_for_admins(bot: House) -> None:
    answer = await bot.ask("What of wombats?")
    await report(bot, answer)
    other = bot.fake.add_guild("others")
    other.join(bot.teacher, admin=True)
    elsewhere = other.add_channel("general")
    called = await bot.fake.slash(bot.teacher, elsewhere, "reports", {})
    await bot.fake.until(lambda: called.responses[0].content)
    assert called.responses[0].content == say.NO_REPORTS


# The channel for them


@pytest.fixture
async def office(bot: House) -> Channel:
    """A channel in which reports are told."""
    channel = bot.guild.add_channel("office")
    said = await bot.command("settings", who=bot.teacher, reports=channel)
    assert said.responses[0].content.endswith(say.reports_go(channel.mention))
    return channel


async def test_new_ones_are_told_in_a_channel(bot: House, office: Channel) -> None:
    answer = await bot.ask("What of wombats?")
    clicked = await bot.press(answer, "report")
    told = (await bot.fake.until(lambda: office.by(bot.fake.bot)))[0]
    assert link(answer) in told.content
    assert "Reason" not in told.content
    await bot.fake.submit(bot.newcomer, clicked, {"reason": REASON})
    await bot.fake.until(lambda: f"Reason: {REASON}" in told.content)
    assert len(office.by(bot.fake.bot)) == 1
    assert not told.everyone  # and the house looks for pings

    denied = await bot.press(told, "seen")
    assert await bot.told(denied) == say.NOT_ADMIN
    await bot.press(told, "seen", bot.teacher)
    await bot.fake.until(lambda: say.LOOKED_AT in told.content)
    assert not told.buttons
    assert (await listed(bot)).responses[0].content == say.NO_REPORTS


async def test_the_same_channel_again_ends_that(bot: House, office: Channel) -> None:
    said = await bot.command("settings", who=bot.teacher, reports=office)
    assert said.responses[0].content.endswith(say.reports_go(None))
    await report(bot, await bot.ask("What of wombats?"))
    await bot.ask("A round trip")
    assert office.by(bot.fake.bot) == []
    assert (await listed(bot)).responses[0].content.startswith("**1 report**")


@pytest.mark.parametrize("why", ["gone", "forbidden"])
async def test_a_channel_that_cannot_be_written_to(
    bot: House, office: Channel, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    if why == "gone":
        del bot.fake.world.channels[office.id]  # before the bot hears of it
    else:
        office.deny(bot.fake.bot, Permission.SEND_MESSAGES)
    answer = await bot.ask("What of wombats?")
    await report(bot, answer)
    await bot.fake.until(lambda: "report_not_told" in caplog.text)
    assert (await listed(bot)).responses[0].content.startswith("**1 report**")


async def test_a_deleted_channel_is_forgotten(bot: House, office: Channel) -> None:
    bot.fake.world.remove_channel(office)
    await bot.fake.until(
        lambda: str(office.id) not in str(bot.rows("SELECT settings FROM guild_settings"))
    )
    await report(bot, await bot.ask("What of wombats?"))


# What becomes of them


async def test_a_report_stays_when_its_answer_was_blanked_and_goes_with_its_message(
    bot: House,
) -> None:
    """Whoever deletes the question must not hide what there is to be seen."""
    asked = await bot.say("Say hunter2xyzzy")
    answer = await bot.answer(asked)
    await report(bot, answer, "rude")
    await bot.fake.delete(asked)
    await bot.fake.until(lambda: "hunter2xyzzy" not in bot.tables())
    page = (await listed(bot)).responses[0].content
    assert link(answer) in page
    assert "no longer kept" in page
    await bot.fake.delete(answer)
    await bot.fake.until(lambda: bot.rows("SELECT * FROM reports") == [])
    assert (await listed(bot)).responses[0].content == say.NO_REPORTS


async def test_an_erasure_takes_reports_and_reasons_along(bot: House) -> None:
    answer = await bot.ask("What of wombats?", who=bot.teacher)
    await report(bot, answer, "Tilde says so")
    asked = (await bot.command("forget-me")).responses[0]
    await bot.press(asked, "forget")
    await bot.fake.until(lambda: asked.content.startswith("Done"))
    await bot.scrubbed()
    assert "Tilde" not in bot.everything()
    assert bot.rows("SELECT * FROM reports") == []
    assert list(buttons(answer))
