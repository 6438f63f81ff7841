"""Many people and one model: fair turns, and a sentence for whom there is none."""

from __future__ import annotations

import re

from simguild.fake import User

from .house import SLOW, House, words


def people(house: House, count: int) -> list[User]:
    """More members."""
    made = [house.fake.add_user(f"member_{number}") for number in range(count)]
    for one in made:
        house.guild.join(one)
    return made


def waiting(house: House) -> int:
    """Questions that are answered or wait for their turn."""
    [(count,)] = house.rows("SELECT COUNT(*) FROM deliveries WHERE state = 'answering'")
    return int(count)


async def test_who_asks_before_the_last_answer_is_told_to_wait(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1)
    await house.begun(await house.say("One?"))
    await house.say("Two?")
    await house.fake.until(lambda: waiting(house) == 2)
    third = await house.say("Three?")
    told = (await house.answer(third)).content
    assert re.fullmatch(
        r"One thing after another, please: ask again in \d+ (seconds|minutes)\.", told
    )
    called = await house.command("ask", question="Four?")
    assert called.responses[0].content.startswith("One thing after another")
    assert called.responses[0].ephemeral


async def test_who_asks_too_often_is_told_to_wait(house: House) -> None:
    await house.open(questions_per_user=2, questions_seconds=60)
    for _ in range(2):
        await house.ask("What is TLS?")
    told = (await house.ask("What is TLS?")).content
    assert re.fullmatch(r"One thing after another, please: ask again in \d\d seconds\.", told)
    await house.ask("What is TLS?", who=house.teacher)
    assert len(house.model.prompts) == 3


async def test_when_the_queue_is_full_it_says_how_long_it_will_take(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1, queue_bound=1)
    first, second, third = people(house, 3)
    await house.begun(await house.say("One?", who=first))
    await house.say("Two?", who=second)
    await house.fake.until(lambda: waiting(house) == 2)
    told = (await house.answer(await house.say("Three?", who=third))).content
    assert re.fullmatch(
        r"Many people are asking at once\. Please try again in \d+ (seconds|minutes)\.", told
    )


async def test_turns_go_round_the_guilds(house: House) -> None:
    house.model.rate, house.model.answer = 100.0, lambda prompt: "word " * 20
    await house.open(workers=1)
    other = house.fake.add_guild("gardeners")
    roses = other.add_channel("roses")
    other.join(house.teacher)
    await house.fake.until(lambda: house.fake.connected)
    for one in people(house, 4):
        await house.say(f"rust {one.name}", who=one)
    await house.fake.until(lambda: house.rows("SELECT COUNT(*) FROM deliveries") == [(4,)])
    await house.say("roses", who=house.teacher, where=roses)
    await house.fake.until(lambda: len(house.model.prompts) == 5)
    assert "roses" in "".join(house.model.prompts[1:3])


async def test_it_types_while_one_waits(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1)
    await house.begun(await house.say("One?", who=house.teacher))
    before = house.channel.typed
    asked = await house.say("Two?")
    await house.fake.until(lambda: house.channel.typed > before)
    assert asked.reacted_ms is not None


async def test_many_sentences_keep_the_channels_budget(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1, queue_bound=0)
    for one in people(house, 6):
        await house.say("Me, too?", who=one)
    await house.fake.until(lambda: len(house.channel.by(house.fake.bot)) >= 5)
    assert house.fake.rate_limited == 0
    assert (
        sum(one.startswith("Many people") for one in words(house.channel.by(house.fake.bot))) >= 4
    )
