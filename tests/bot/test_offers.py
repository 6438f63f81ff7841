"""A member gives a prompt for the rounds: in a form, under the rule that stands beside it."""

from __future__ import annotations

import pytest

from guildgpt.bot.answers.offers import LONGEST, WAITING
from guildgpt.bot.text import rounds as say
from guildgpt.bot.text import sentences
from guildgpt.feedback.people.policy import RULE_21
from simguild.fake import Interaction, Refused
from simguild.fake.forms import text_inputs, ticks

from .house import House

BOTH = (say.MINE, say.CC0)
TEXT = "What do wombats eat?"


async def form(house: House) -> Interaction:
    """The form, open."""
    called = await house.fake.slash(house.newcomer, house.channel, "prompt")
    assert called.modal is not None
    return called


async def offered(house: House, text: str = TEXT, ticked: tuple[str, ...] = BOTH) -> str:
    """What a member is told who fills it in."""
    sent = await house.fake.submit(
        house.newcomer, await form(house), {"prompt": text}, ticked=ticked, forged=True
    )
    told = await house.told(sent)
    assert sent.responses[0].ephemeral
    return told


def kept(house: House) -> list[tuple[str, ...]]:
    """The prompts of the pool."""
    return house.rows("SELECT text, source, licence, state FROM prompts ORDER BY created_at")


async def test_the_form_states_the_rule_and_asks_for_both_ticks(bot: House) -> None:
    called = await form(bot)
    assert called.modal is not None
    assert RULE_21 in str(called.modal)
    [(_, field, _)] = text_inputs(called.modal)
    assert field["max_length"] == LONGEST
    [(_, group, _)] = ticks(called.modal)
    assert [one["value"] for one in group["options"]] == list(BOTH)
    assert "CC0" in str(group)
    assert (group["min_values"], group["max_values"]) == (2, 2)
    with pytest.raises(Refused):  # Discord's own client does not send it
        await bot.fake.submit(bot.newcomer, called, {"prompt": TEXT}, ticked=[say.MINE])
    sent = await bot.fake.submit(bot.newcomer, called, {"prompt": TEXT}, ticked=BOTH)
    assert await bot.told(sent) == say.OFFERED


async def test_it_waits_for_the_operator(bot: House) -> None:
    assert await offered(bot, f" {TEXT}\u202e ") == say.OFFERED
    assert kept(bot) == [(TEXT, "member", "CC0-1.0", "offered")]
    async with bot.store() as store:
        member = await store.members.of_user(bot.newcomer.id)
        [prompt] = await store.prompts.all("offered")
        assert prompt.member_id == member.id
    assert await offered(bot, TEXT.upper()) == say.OFFERED_BEFORE


async def test_nothing_is_kept_of_what_may_not_be_taken(house: House) -> None:
    await house.open(blocked_words=["forbidden"])
    for ticked in ((), (say.MINE,), (say.CC0,)):
        assert await offered(house, ticked=ticked) == say.NOT_TICKED
    assert await offered(house, "\u200b ") == say.NO_PROMPT
    assert "rather not" in await offered(house, "Say what is forbidden")
    await house.command("privacy", consent="none")
    assert await offered(house) == sentences.CONSENT_NONE
    assert kept(house) == []


async def test_so_many_may_wait(bot: House) -> None:
    for number in range(WAITING):
        assert await offered(bot, f"{TEXT} Part {number}") == say.OFFERED
    assert await offered(bot) == say.TOO_MANY_OFFERED


async def test_mentions_lose_their_ids(bot: House) -> None:
    await offered(bot, f"Who is <@{bot.teacher.id}>?")
    assert str(bot.teacher.id) not in bot.tables()


async def test_forget_me_takes_it_back(bot: House) -> None:
    await offered(bot)
    asked = await bot.command("forget-me")
    await bot.press(asked.responses[0], "forget")
    await bot.fake.until(lambda: kept(bot) == [])
