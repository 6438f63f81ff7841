"""Lost connections, crashes and restarts: nothing is lost, and nothing is answered twice."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from discord.gateway import KeepAliveHandler

from guildgpt.bot.adapter import marks
from guildgpt.bot.adapter.client import GuildClient
from guildgpt.bot.operating import run
from guildgpt.bot.text import sentences as say
from simguild.fake import FakeMessage
from simguild.fake.trouble import html
from simguild.journal import buttons, finished

from .house import FAST, SLOW, WHOLE, House, words

# Lost connections

LOSSES: dict[str, dict[str, Any]] = {
    "cut": {},
    "cut, repeated": {"duplicate": 5},
    "session gone": {"resume": False},
    "op 7": {"op": 7},
    "op 7, repeated": {"op": 7, "duplicate": 5},
    "op 9, may resume": {"invalid": True},
    "op 9, may not": {"invalid": False},
    "4000": {"code": 4000},
    "4009": {"code": 4009},
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_every_message_has_one_answer_whatever_is_lost(bot: House, loss: str) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    asked = [await bot.say("Before?"), await bot.say("Before?", where=private)]
    for one in asked:
        await bot.answer(one)
    bot.fake.drop(**LOSSES[loss])
    asked += [await bot.say("Meanwhile?"), await bot.say("Meanwhile?", where=private)]
    for one in asked:
        await bot.answer(one)
    asked.append(await bot.say("After?"))
    await bot.answer(asked[-1])
    await bot.settled(5)
    assert [len(bot.answers(one)) for one in asked] == [1] * 5


async def test_an_answer_goes_on_while_the_connection_is_lost(house: House) -> None:
    house.model.rate = 60.0
    await house.open()
    asked = await house.say("What is TLS?")
    await house.begun(asked)
    house.fake.drop()
    answer = await house.answer(asked)
    assert "another one" in answer.content
    assert len(house.model.prompts) == 1


async def test_a_gap_is_not_hidden_by_what_is_heard_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is heard before the missed messages were read must not pass for all there was."""
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.02)
    await house.open()
    await house.ask("Before?")
    await house.close()
    missed = await house.say("Meanwhile?")
    trouble = house.fake.trouble("GET /channels/{channel}/messages", html(503))
    await house.open()
    await house.ask("After?")
    await house.close()  # everything it would save is saved now
    trouble.over()
    await house.open()
    await house.answer(missed)


async def test_what_comes_while_it_gets_ready_is_answered_once(house: House) -> None:
    house.ready_seconds = 0.4
    house.model.rate = 60.0
    await house.open()
    asked = await house.say("What is TLS?")
    await house.answer(asked)
    await house.settled()
    assert len(house.model.prompts) == len(house.answers(asked)) == 1


# The bot is started anew

UNFINISHED = (
    "UPDATE deliveries SET state = 'answering', extra = json_object('member_id', member_id)"
)


async def finished_after(house: House, begun: FakeMessage) -> None:
    """The answer that was begun is there, whole and alone, after the bot was started anew."""
    assert list(buttons(begun)) == ["stop"]
    house.model.rate = FAST
    await house.restart()
    await house.fake.until(lambda: finished(begun))
    assert begun.content.endswith(WHOLE)
    await house.settled()
    own = [one for one in begun.channel.by(house.fake.bot) if one.content != say.here("")]
    assert own == [begun]


@pytest.fixture
async def slow(house: House) -> House:
    """The bot with a model that takes its time."""
    house.model.rate = SLOW * 2
    await house.open()
    return house


@pytest.mark.parametrize("private", [False, True])
async def test_a_message_mid_answer(slow: House, private: bool) -> None:
    where = slow.fake.open_dm(slow.newcomer) if private else slow.channel
    asked = await slow.say("What is TLS?", where=where)
    begun = await slow.begun(asked)
    await finished_after(slow, begun)
    assert slow.answers(asked) == [begun]
    assert slow.rows("SELECT COUNT(*) FROM messages") == [(2,)]
    assert slow.model.prompts[0] == slow.model.prompts[1]


async def test_a_command_mid_answer(slow: House) -> None:
    called = await slow.fake.slash(slow.newcomer, slow.channel, "ask", {"question": "What?"})
    begun = await slow.fake.until(lambda: called.responses[0])
    await finished_after(slow, begun)
    assert called.responses == [begun]


async def test_a_command_whose_time_is_over_mid_answer(slow: House) -> None:
    called = await slow.fake.slash(slow.newcomer, slow.channel, "ask", {"question": "What?"})
    begun = await slow.fake.until(lambda: called.responses[0])
    slow.fake.expire(called)
    await finished_after(slow, begun)


async def test_a_thread_mid_answer(slow: House) -> None:
    await slow.command("chat", topic="What is TLS?")
    [thread] = slow.guild.threads
    await slow.fake.until(lambda: thread.messages[0].content)
    await finished_after(slow, thread.messages[0])


async def test_another_try_mid_answer(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    bot.model.rate = SLOW
    await bot.restart()
    clicked = await bot.press(answer, "again")
    begun = await bot.fake.until(lambda: clicked.responses[0])
    bot.model.rate = FAST
    await bot.restart()
    await bot.fake.until(lambda: finished(begun))
    assert begun.content == answer.content
    assert bot.channel.by(bot.fake.bot) == [answer, begun]


async def test_a_comparison_mid_answer(slow: House) -> None:
    called = await slow.fake.slash(slow.newcomer, slow.channel, "compare", {"question": "What?"})
    await slow.fake.until(lambda: slow.model.now.active == 2)
    await slow.restart()
    shown = await slow.fake.until(lambda: called.responses[0])
    assert shown.content.count(WHOLE) == 2
    assert list(buttons(shown)) == ["left", "right", "tie", "both_bad"]
    assert slow.channel.by(slow.fake.bot) == [shown]


async def test_what_an_earlier_try_wrote_beyond_the_end_is_taken_back(house: House) -> None:
    house.model.answer = lambda prompt: "word " * 500
    await house.open(max_tokens=2000)
    asked = await house.say("Tell me a lot.")
    answer = await house.answer(asked)
    await house.settled()
    assert len(house.channel.by(house.fake.bot)) == 2
    await house.close()
    await house.change("DELETE FROM messages WHERE role = 'assistant'")
    await house.change(UNFINISHED)
    house.model.answer = lambda prompt: "Short."
    await house.open()
    await house.settled()
    assert words(house.channel.by(house.fake.bot)) == ["Short."] == [answer.content]


async def test_questions_that_wait_are_answered_after_a_restart(slow: House) -> None:
    await slow.restart(workers=1, waiting_per_user=3)
    asked = [await slow.say(f"Question {number}?") for number in range(3)]
    await slow.fake.until(lambda: slow.rows("SELECT COUNT(*) FROM deliveries") == [(3,)])
    slow.model.rate = FAST
    # Whom it had let in it does not send away now.
    await slow.restart(queue_bound=0, waiting_per_user=1, questions_per_user=1)
    for one in asked:
        await slow.answer(one)
    assert [len(slow.answers(one)) for one in asked] == [1, 1, 1]
    assert all(WHOLE in one.content for one in slow.channel.by(slow.fake.bot))


async def test_killed_between_writing_and_noting_it(slow: House) -> None:
    """Discord knows the nonce, and gives the message that is there already."""
    asked = await slow.say("What is TLS?")
    begun = await slow.begun(asked)
    await slow.close()
    await slow.change("DELETE FROM parts")
    slow.model.rate = FAST
    await slow.open()
    await slow.fake.until(lambda: finished(begun))
    assert begun.content.endswith(WHOLE)
    assert slow.answers(asked) == [begun]


async def test_killed_between_writing_more_to_a_command_and_noting_it(house: House) -> None:
    """There no nonce tells: the message that is there already is looked for."""
    house.model.rate, house.model.answer = FAST / 8, lambda prompt: "Once more. " * 600 + WHOLE
    await house.open(max_tokens=4000)
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "What?"})
    await house.fake.until(lambda: len(called.responses) == 3)
    await house.close()
    await house.change("DELETE FROM parts WHERE position > 0")
    house.model.rate = FAST
    await house.open()
    await house.fake.until(lambda: finished(called.responses[-1]))
    assert await house.settled() == ["done"]
    assert " ".join(words(called.responses)) == "Once more. " * 600 + WHOLE
    assert [bool(one.buttons) for one in called.responses][:-1].count(True) == 0


async def test_killed_between_keeping_the_answer_and_noting_it(bot: House) -> None:
    """What was read, and perhaps rated, stays as it is."""
    asked = await bot.say("What is TLS?")
    answer = await bot.answer(asked)
    await bot.press(answer, "up")
    await bot.settled()
    text = answer.content
    await bot.close()
    await bot.change(UNFINISHED)
    bot.model.answer = lambda prompt: "Something else."
    await bot.open()
    assert await bot.settled() == ["done"]
    assert answer.content == text
    assert len(bot.model.prompts) == 1
    assert bot.answers(asked) == [answer]


async def test_killed_between_claiming_and_keeping_the_question(house: House) -> None:
    asked = await house.say("What is TLS?")
    async with house.store() as store:
        member = await store.members.of_user(house.newcomer.id)
        extra = {"member_id": member.id, "name": "newcomer", "text": "What is TLS?"}
        place = {"guild_id": house.guild.id, "channel_id": house.channel.id}
        await store.deliveries.claim(asked.id, "message", extra=extra, **place)
    await house.open()
    assert (await house.answer(asked)).content.startswith("You wrote: What is TLS?")


async def test_who_wants_nothing_kept_is_asked_to_ask_again(slow: House) -> None:
    await slow.command("privacy", consent="none")
    asked = await slow.say("The secret is xyzzy.")
    begun = await slow.begun(asked)
    assert "xyzzy" not in slow.tables()
    await slow.restart()
    await slow.fake.until(lambda: begun.content == say.ASK_AGAIN)
    await slow.settled()
    assert slow.answers(asked) == [begun]


async def test_nothing_is_open_after_a_question_was_deleted_or_a_member_erased(
    slow: House,
) -> None:
    slow.model.rate = 5.0
    await slow.restart()
    asked = [await slow.say("What is TLS?"), await slow.say("What is TLS?", who=slow.teacher)]
    await slow.fake.until(lambda: slow.model.now.active == 2)
    await slow.close()
    async with slow.store() as store:
        await store.revisions.mark_deleted(asked[0].id)
        await store.privacy.erase(slow.teacher.id)
    await slow.open()
    assert await slow.settled() == ["skipped"]


# What was said while it was away


async def test_what_was_said_while_it_was_away_is_answered_once(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    first = await bot.ask("Before?")
    await bot.ask("Before?", where=private)
    await bot.command("chat")
    [thread] = bot.guild.threads
    await bot.close()
    new = bot.guild.add_channel("new")
    asked = [
        await bot.say("Meanwhile?"),
        await bot.say("Meanwhile?", mention=False, reply_to=first),
        await bot.say("Meanwhile?", where=new),
        await bot.say("Meanwhile?", where=thread),
        await bot.say("Meanwhile?", where=private),
    ]
    await bot.say("Not for the bot.", mention=False)
    for _ in range(2):
        await bot.open(questions_per_user=50, waiting_per_user=50)
        for one in asked:
            await bot.answer(one)
        await bot.settled()
        await bot.close()
    assert [len(bot.answers(one)) for one in asked] == [1] * len(asked)


async def test_what_was_answered_and_erased_is_not_answered_again(bot: House) -> None:
    """Of an erased question no claim is left, and a killed process saves no mark."""
    asked = await bot.ask("What is TLS?")
    await bot.settled(1)
    question = asked.reference
    assert question is not None
    erased = (await bot.command("forget-me")).responses[0]
    await bot.press(erased, "forget")
    await bot.fake.until(lambda: erased.content != say.FORGET_ASK)
    await bot.close()
    assert bot.rows("SELECT count(*) FROM deliveries") == [(0,)]
    await bot.change("UPDATE channel_marks SET last_seen = ?", question.id - 1)
    missed = await bot.say("And what is SSH?")
    await bot.open()
    await bot.answer(missed)
    assert len(bot.answers(question)) == 1


async def test_more_than_a_page_of_what_was_said(bot: House) -> None:
    await bot.ask("Before?")
    await bot.close()
    for number in range(120):
        await bot.say(f"Chatter {number}.", mention=False)
    asked = await bot.say("Meanwhile?")
    await bot.open()
    await bot.answer(asked)


async def test_what_is_too_long_ago_is_left_alone(
    bot: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bot.ask("Before?")
    await bot.close()
    old = await bot.say("Yesterday?")
    monkeypatch.setattr(marks, "CATCH_UP_SECONDS", -1.0)
    await bot.open()
    await bot.caught_up()
    await bot.settled(1)
    assert bot.answers(old) == []


async def test_at_its_first_start_it_answers_nothing_old(house: House) -> None:
    old = await house.say("Before you came?")
    await asyncio.sleep(0.01)  # Discord's clock goes in milliseconds
    await house.open()
    await house.ask("And now?")
    await house.restart()
    await house.caught_up()
    await house.settled(1)
    assert house.answers(old) == []


async def test_a_channel_it_may_not_read_does_not_stop_it(bot: House) -> None:
    hidden, other = bot.guild.add_channel("hidden"), bot.guild.add_channel("other")
    for channel in (hidden, other):
        await bot.ask("Before?", where=channel)
    await bot.close()
    await bot.say("Meanwhile?", where=hidden)
    asked = await bot.say("Meanwhile?", where=other)
    hidden.deny(bot.fake.bot, 1 << 10)  # seeing it
    await bot.open()
    await bot.answer(asked)


async def test_stopped_while_it_connects_it_leaves_no_thread(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """discord.py keeps a connection alive from a thread, and forgets one that is not made yet."""
    is_connecting = asyncio.Event()

    async def wait_for_its_turn(*_: Any, **__: Any) -> None:  # every five seconds a shard may
        is_connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(GuildClient, "before_identify_hook", wait_for_its_turn)
    house.fake.limits.heartbeat_seconds = 3600.0
    before = threading.enumerate()
    opening = asyncio.create_task(house.open())
    await is_connecting.wait()
    begun = [one for one in threading.enumerate() if one not in before]
    (heartbeat,) = [one for one in begun if isinstance(one, KeepAliveHandler)]
    await house.close()
    opening.cancel()
    await asyncio.to_thread(heartbeat.join, 30)
    assert not heartbeat.is_alive()
