"""What people press under an answer or a comparison, also long after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from guildgpt.bot.answers.buttons import Action, Kind, decode, encode
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version
from simguild.fake import FakeMessage
from simguild.journal import buttons

from .house import KEY, House

pytestmark = pytest.mark.usefixtures("unhurried")
PRESSED: dict[Kind, str] = {
    "up": say.RATED_UP,
    "left": say.VOTED["left"],
    "right": say.VOTED["right"],
    "tie": say.VOTED["tie"],
    "both_bad": say.VOTED["both_bad"],
}


async def ratings(house: House) -> list[tuple[int, str | None]]:
    """All rating events, oldest first."""
    return house.rows("SELECT value, reason FROM ratings ORDER BY created_at")


async def votes(house: House) -> list[tuple[str, str]]:
    """All votes, oldest first."""
    return house.rows("SELECT verdict, ranking FROM votes ORDER BY created_at")


async def compared(house: House) -> FakeMessage:
    """A comparison to vote on."""
    return (await house.command("compare", question="What is TLS?")).responses[0]


async def test_up(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    clicked = await bot.press(answer, "up")
    assert await bot.told(clicked) == say.RATED_UP
    assert clicked.responses[0].ephemeral
    assert await ratings(bot) == [(1, None)]


async def test_down_asks_why(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    clicked = await bot.press(answer, "down")
    assert clicked.modal is not None
    assert await ratings(bot) == [(-1, None)]
    sent = await bot.fake.submit(bot.newcomer, clicked, {"reason": "It was \u202ewrong."})
    assert await bot.told(sent) == say.REASON_NOTED
    assert (await ratings(bot))[-1] == (-1, "It was wrong.")

    clicked = await bot.press(answer, "down", bot.teacher)
    sent = await bot.fake.submit(bot.teacher, clicked, {"reason": ""})
    assert await bot.told(sent) == say.RATED_DOWN
    assert {reason for _, reason in (await ratings(bot))[-2:]} == {None}


async def test_a_changed_mind_is_a_new_event_and_the_last_one_counts(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    for kind in ("up", "down", "up"):
        await bot.press(answer, kind)
    assert await ratings(bot) == [(1, None), (-1, None), (1, None)]
    shown = await compared(bot)
    for kind in ("left", "tie", "right"):
        await bot.press(shown, kind)
    assert await votes(bot) == [("ranked", "[0, 1]"), ("tie", "[]"), ("ranked", "[1, 0]")]
    async with bot.store() as store:
        stats = await store.stats()
    assert (stats.up, stats.down, sum(stats.votes.values())) == (1, 0, 1)


async def test_everybody_has_a_vote_of_their_own(bot: House) -> None:
    shown = await compared(bot)
    await bot.press(shown, "both_bad")
    await bot.press(shown, "left", bot.teacher)
    async with bot.store() as store:
        stats = await store.stats()
    assert (stats.votes["both_bad"], stats.votes["ranked"]) == (1, 1)


async def test_report(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    clicked = await bot.press(answer, "report", bot.teacher)
    assert clicked.modal is not None
    assert bot.rows("SELECT reason FROM reports") == [(None,)]
    sent = await bot.fake.submit(bot.teacher, clicked, {"reason": ""})
    assert await bot.told(sent) == say.REPORTED
    clicked = await bot.press(answer, "report", bot.teacher)
    sent = await bot.fake.submit(bot.teacher, clicked, {"reason": "It was \u202ewrong."})
    assert await bot.told(sent) == say.REASON_NOTED
    assert bot.rows("SELECT reason FROM reports") == [("It was wrong.",)]


async def test_old_buttons_work_after_a_restart(bot: House) -> None:
    answer, shown = await bot.ask("What is TLS?"), await compared(bot)
    for _ in range(2):
        await bot.restart()
        for message, kinds in ((answer, ("up",)), (shown, ("left", "tie"))):
            for kind in kinds:
                told = await bot.told(await bot.press(message, kind))
                assert told == PRESSED[kind]  # type: ignore[index]
        assert (await bot.press(answer, "report")).modal is not None
        clicked = await bot.press(answer, "down")
        sent = await bot.fake.submit(bot.newcomer, clicked, {"reason": "Too short."})
        assert await bot.told(sent) == say.REASON_NOTED
        clicked = await bot.press(answer, "again")
        assert (await bot.told(clicked)).startswith("You wrote: What is TLS?")
    assert len(await ratings(bot)) == 6
    assert len(await votes(bot)) == 4


async def test_what_a_version_long_gone_wrote_is_rated_as_its_own(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    await bot.close()
    async with bot.store() as store:
        await store.versions.register(Version("older@00000000", "older", "", "0" * 64))
    await bot.change("UPDATE messages SET version_id = 'older@00000000' WHERE role = 'assistant'")
    await bot.open()
    assert await bot.told(await bot.press(answer, "up")) == say.RATED_UP
    async with bot.store() as store:
        versions = (await store.stats()).versions
    assert versions["older@00000000"].up == 1


async def test_when_the_record_is_gone_it_says_so(bot: House) -> None:
    answer, shown = await bot.ask("What is TLS?"), await compared(bot)
    await bot.close()
    later = datetime.now(UTC) + timedelta(days=200)
    async with await Store.open(str(bot.database), key=KEY, clock=lambda: later) as store:
        await store.privacy.retain(180)
    await bot.open()
    for message in (answer, shown):
        for kind in buttons(message):
            clicked = await bot.press(message, kind)
            assert await bot.told(clicked) == say.RECORD_GONE
            assert clicked.responses[-1].ephemeral


async def test_a_reason_for_an_answer_that_is_gone_meanwhile(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    clicked = await bot.press(answer, "down")
    async with bot.store() as store:
        await store.privacy.erase(bot.newcomer.id)
    sent = await bot.fake.submit(bot.newcomer, clicked, {"reason": "It was wrong."})
    assert await bot.told(sent) == say.RECORD_GONE


def forge(message: FakeMessage, *custom_ids: str) -> None:
    """Hang other buttons under a message, as a modified client could."""
    message.components = [
        {
            "type": 1,
            "components": [
                {"type": 2, "style": 2, "label": "x", "custom_id": id} for id in custom_ids
            ],
        }
    ]


async def test_a_button_copied_to_another_channel_does_nothing(bot: House) -> None:
    answer, shown = await bot.ask("The secret is xyzzy."), await compared(bot)
    elsewhere = bot.guild.add_channel("elsewhere")
    there = await bot.ask("Hello?", where=elsewhere)
    asked = len(bot.model.prompts)
    for copied in [*buttons(answer).values(), *buttons(shown).values()]:
        forge(there, copied)
        clicked = await bot.fake.click(bot.newcomer, there, copied)
        assert await bot.told(clicked) == say.WRONG_PLACE
    assert await ratings(bot) == await votes(bot) == bot.rows("SELECT 1 FROM reports") == []
    assert len(bot.model.prompts) == asked


async def test_a_forged_id_is_too_old(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    kinds: tuple[Kind, ...] = ("up", "down", "again", "report", "left", "right", "tie", "both_bad")
    for kind in kinds:
        forged = encode(Action(kind, "12345678-1234-4678-9234-567812345678"))
        forge(answer, forged)
        clicked = await bot.fake.click(bot.newcomer, answer, forged)
        assert await bot.told(clicked) == say.RECORD_GONE


async def test_the_stop_button_of_another_channel_stops_nothing(house: House) -> None:
    house.model.rate = 25.0
    await house.open()
    growing = await house.begun(await house.say("What is TLS?", who=house.teacher))
    elsewhere = house.guild.add_channel("elsewhere")
    there = await house.begun(await house.say("Hello?", where=elsewhere))
    copied = buttons(growing)["stop"]
    forge(there, copied)
    clicked = await house.fake.click(house.teacher, there, copied)
    assert await house.told(clicked) == say.NOTHING_TO_STOP


async def test_buttons_that_are_not_ours_are_left_alone(bot: House) -> None:
    bot.fake.interaction_seconds = 0.2
    answer = await bot.ask("What is TLS?")
    for custom_id in ("guildgpt:2:up:AAAAAAAAAAAAAAAAAAAAAA", "x", "guildgpt:1:"):
        assert decode(custom_id) is None
        forge(answer, custom_id)
        assert (await bot.fake.click(bot.newcomer, answer, custom_id)).failed
    await bot.ask("Are you there?")


async def test_who_wants_nothing_kept_cannot_vote_but_report(bot: House) -> None:
    answer, shown = await bot.ask("What is TLS?"), await compared(bot)
    await bot.command("privacy", who=bot.teacher, consent="none")
    for message, kind in ((answer, "up"), (answer, "down"), (shown, "left")):
        assert await bot.told(await bot.press(message, kind, bot.teacher)) == say.CONSENT_NONE
    clicked = await bot.press(answer, "report", bot.teacher)
    assert await bot.told(clicked) == say.REPORTED_UNNAMED
    assert bot.rows("SELECT member_id FROM reports") == [(None,)]
    assert await ratings(bot) == await votes(bot) == []


async def test_a_click_that_a_resumed_session_repeats_counts_once(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    await bot.press(answer, "up")
    bot.fake.drop(duplicate=True)
    await bot.fake.until(lambda: bot.fake.gateway_server.resumed == 1)
    await bot.ask("Are you there?")
    assert await ratings(bot) == [(1, None)]
