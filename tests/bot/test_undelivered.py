"""What Discord does not take: answers get through as soon as they can, or it is said why not."""

from __future__ import annotations

import pytest

from guildgpt.bot.adapter import reaching
from guildgpt.bot.answers import answering
from guildgpt.bot.text import sentences as say
from simguild.fake import FakeMessage, Permission
from simguild.fake.trouble import Answer, cloudflare, html, refusal, torn
from simguild.journal import buttons, finished

from .house import FAST, SLOW, House, words

SEND = "POST /channels/{channel}/messages"
EDIT = "PATCH /channels/{channel}/messages/{message}"
ORIGINAL = "PATCH /webhooks/{app}/{token}/messages/{message}"
FOLLOW_UP = "POST /webhooks/{app}/{token}"
STORY = "It is a long story about a crab and a gopher who meet by the sea. "
RATED = ["up", "down", "again", "report"]

PASSING: dict[str, Answer] = {
    "Cloudflare": cloudflare(),
    "Cloudflare, until when": cloudflare(retry_after=1),
    "Cloudflare's own status": html(403),
    "503": html(503),
    "503 in JSON": refusal(503, 0, "Service Unavailable"),
    "reset": torn(),
    "reset when it was done": torn(done=True),
    "504 when it was done": html(504, done=True),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again sooner."""
    monkeypatch.setattr(reaching, "PAUSES", (0.05,))
    monkeypatch.setattr(answering, "LONGEST_PAUSE", 0.05)


@pytest.fixture(params=PASSING)
def passing(request: pytest.FixtureRequest) -> Answer:
    """What stands in the way for a while."""
    return PASSING[request.param]


def said(house: House) -> list[FakeMessage]:
    """All that the bot said in the channel."""
    return house.channel.by(house.fake.bot)


# What passes


async def test_the_end_of_an_answer_gets_through(house: House, passing: Answer) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    trouble = house.fake.trouble(EDIT, passing)
    await house.fake.until(lambda: trouble.met >= 2)
    await house.fake.until(lambda: not house.model.now.active)
    assert "stop" in buttons(begun) or passing.done
    trouble.over()
    await house.answer(asked)
    assert await house.settled() == ["done"]
    assert begun.content.endswith("another one.")
    assert list(buttons(begun)) == RATED
    assert said(house) == [begun]


async def test_a_first_word_gets_through_once(house: House, passing: Answer) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    trouble = house.fake.trouble(SEND, passing, times=2)
    asked = await house.say("What is TLS?")
    answer = await house.answer(asked)
    assert await house.settled() == ["done"]
    assert trouble.met == 2
    assert answer.content.endswith("another one.")
    assert list(buttons(answer)) == RATED
    assert said(house) == [answer]


async def test_every_part_of_a_long_answer_gets_through_once(house: House) -> None:
    house.model.answer = lambda prompt: STORY * 100
    await house.open(max_tokens=3000)
    house.fake.trouble("*", torn(done=True), times=3)
    house.fake.trouble(SEND, torn(done=True), times=3)
    await house.say("Tell me a story.")
    assert await house.settled() == ["done"]
    assert " ".join(words(said(house))) == (STORY * 100).strip()


async def test_an_answer_to_a_command_gets_through(house: House, passing: Answer) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "What?"})
    begun = await house.fake.until(lambda: called.responses[0])
    trouble = house.fake.trouble(ORIGINAL, passing, times=1)
    await house.fake.until(lambda: trouble.met == 1)
    await house.fake.until(lambda: finished(begun))
    assert begun.content.endswith("another one.")
    assert list(buttons(begun)) == RATED
    assert called.responses == said(house) == [begun]


@pytest.mark.parametrize("way", [torn(done=True), html(504, done=True)])
async def test_every_part_of_an_answer_to_a_command_gets_through_once(
    house: House, way: Answer
) -> None:
    """Further messages of an interaction have no nonce: those that are there are looked for."""
    house.model.answer = lambda prompt: STORY * 100
    await house.open(max_tokens=3000)
    await house.say("Something else, whose messages are not this answer's.")
    await house.settled(1)
    trouble = house.fake.trouble(FOLLOW_UP, way, times=2)
    before = said(house)
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "Tell me."})
    assert await house.settled(2) == ["done"] * 2
    assert trouble.met == 2
    assert " ".join(words(called.responses)) == (STORY * 100).strip()
    assert said(house) == before + called.responses


async def test_where_nobody_can_look_a_part_may_come_twice_but_none_is_lost(house: House) -> None:
    house.model.answer = lambda prompt: STORY * 50
    house.channel.deny(house.fake.bot, Permission.READ_MESSAGE_HISTORY)
    await house.open(max_tokens=3000)
    house.fake.trouble(FOLLOW_UP, torn(), times=1)
    called = await house.fake.slash(house.newcomer, house.channel, "ask", {"question": "Tell me."})
    assert await house.settled(1) == ["done"]
    assert " ".join(words(called.responses)) == (STORY * 50).strip()


async def test_cloudflare_holds_up_everything(house: House) -> None:
    """What stands before Discord counts all requests of an address, whatever they are about."""
    elsewhere = house.guild.add_channel("elsewhere")
    house.model.rate = SLOW * 2
    await house.open()
    begun = [await house.say("What is TLS?"), await house.say("And SSH?", where=elsewhere)]
    for one in begun:
        await house.begun(one)
    trouble = house.fake.trouble(EDIT, cloudflare(retry_after=2), times=1)
    for one in begun:
        await house.answer(one)
    assert trouble.met == 1
    assert house.fake.rate_limited == 0


async def test_it_gives_up_after_a_stated_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "PATIENCE_SECONDS", 0.3)
    house.model.rate = SLOW * 2
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    trouble = house.fake.trouble(EDIT, cloudflare())
    assert await house.settled() == ["failed"]
    trouble.over()
    # The button that is left stops nothing, says so, and is gone.
    told = await house.press(begun, "stop")
    assert await house.told(told) == say.NOTHING_TO_STOP
    await house.fake.until(lambda: not begun.buttons)
    await house.ask("And now?")


# What does not


async def told_in_its_place(house: House, begun: FakeMessage, sentence: str) -> None:
    """The answer that was begun says only that, and has no button."""
    await house.fake.until(lambda: begun.content == sentence)
    assert await house.settled() == ["failed"]
    assert not begun.buttons
    assert said(house) == [begun]


async def test_automod_does_not_let_the_end_pass(house: House) -> None:
    house.guild.blocked_words = ["gopher"]
    house.model.rate, house.model.answer = SLOW, lambda prompt: STORY * 4
    await house.open()
    asked = await house.say("Tell me a story.")
    begun = await house.begun(asked)
    await told_in_its_place(house, begun, say.WITHHELD)
    # Nobody has read it: it is neither told to the model later nor exported.
    assert house.rows("SELECT text, deleted FROM messages WHERE role = 'assistant'") == [("", 1)]
    house.model.answer = lambda prompt: "Yes."
    await house.ask("And then?", reply_to=begun)
    assert "gopher" not in house.model.prompts[-1]


async def test_automod_does_not_let_any_of_it_pass(house: House) -> None:
    house.guild.blocked_words = ["gopher"]
    house.model.answer = lambda prompt: STORY
    await house.open()
    asked = await house.say("Tell me a story.")
    await told_in_its_place(house, await house.answer(asked), say.WITHHELD)
    called = await house.command("ask", question="Tell me a story.")
    assert words(called.responses) == [say.WITHHELD]
    assert not called.responses[0].buttons


async def test_automod_stops_half_a_word_only(house: House) -> None:
    """The text grows past what it stopped: AutoMod looks for whole words, and the answer passes."""
    house.guild.blocked_words = ["sea. it is a long story"]
    house.model.rate, house.model.answer = SLOW, lambda prompt: STORY * 2
    await house.open()
    asked = await house.say("Tell me a story.")
    begun = await house.begun(asked)
    trouble = house.fake.trouble(EDIT, refusal(400, 200000, "Blocked"), times=1)
    house.guild.blocked_words = []
    await house.answer(asked)
    assert trouble.met == 1
    assert begun.content == (STORY * 2).strip()
    assert list(buttons(begun)) == RATED


async def test_automod_does_not_let_a_part_pass_that_an_engine_left(house: House) -> None:
    house.model.rate, house.model.dies_after = SLOW, 30
    house.model.answer = lambda prompt: STORY * 20
    await house.open()
    begun = await house.begun(await house.say("Tell me a story."))
    house.guild.blocked_words = ["story"]
    await told_in_its_place(house, begun, say.ENGINE_DOWN)


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (400, 50035, say.NOT_TAKEN),  # an invalid form
        (413, 40005, say.NOT_TAKEN),  # too large
        (400, 200001, say.WITHHELD),  # AutoMod, about a title
        (400, 240000, say.WITHHELD),  # the filter of harmful links
    ],
)
async def test_whatever_is_refused_is_said(
    house: House, status: int, code: int, sentence: str
) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    begun = await house.begun(await house.say("What is TLS?"))
    # An edit on the way, and the last one.
    house.fake.trouble(EDIT, refusal(status, code, "No"), times=2)
    await told_in_its_place(house, begun, sentence)


@pytest.mark.parametrize(("status", "code"), [(400, 160005), (400, 50083), (403, 50013)])
async def test_where_it_may_not_go_on_is_said_below_the_answer(
    house: House, status: int, code: int
) -> None:
    """A locked thread, an archived one, a permission that was taken away for a moment."""
    house.model.rate = SLOW
    await house.open()
    begun = await house.begun(await house.say("What is TLS?"))
    house.fake.trouble(EDIT, refusal(status, code, "No"), times=1)
    assert await house.settled() == ["failed"]
    assert begun.content.startswith("You wrote")
    assert begun.content.endswith(say.MAY_NOT_GO_ON)
    assert not begun.buttons
    assert house.model.now.cancelled == 1


async def test_it_may_not_write_any_more(house: House) -> None:
    """What there is of the answer stays, without the button, and says that it ends there."""
    house.model.rate, house.model.answer = FAST / 10, lambda prompt: STORY * 100
    await house.open(max_tokens=3000)
    asked = await house.say("Tell me a story.")
    begun = await house.begun(asked)
    house.channel.deny(house.fake.bot, Permission.SEND_MESSAGES)
    assert await house.settled() == ["failed"]
    assert house.model.now.cancelled == 1
    assert begun.content.startswith(STORY)
    assert begun.content.endswith(say.MAY_NOT_GO_ON)
    assert said(house) == [begun]
    assert not begun.buttons


async def test_it_may_not_even_see_the_channel_any_more(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    begun = await house.begun(await house.say("What is TLS?"))
    house.channel.deny(house.fake.bot, Permission.VIEW_CHANNEL)
    assert await house.settled() == ["failed"]
    house.channel.allow(house.fake.bot, Permission.VIEW_CHANNEL)
    assert house.model.now.cancelled == 1
    told = await house.press(begun, "stop")
    assert await house.told(told) == say.NOTHING_TO_STOP
    await house.fake.until(lambda: not begun.buttons)


@pytest.mark.parametrize("locked", [False, True])
async def test_a_thread_that_is_closed_mid_answer(house: House, locked: bool) -> None:
    house.model.rate = SLOW
    await house.open(message_content_intent=True)
    await house.command("chat", topic="What is TLS?")
    [thread] = house.guild.threads
    begun = await house.fake.until(lambda: thread.messages[0])
    thread.archived, thread.locked = True, locked
    thread.tell("THREAD_UPDATE")
    assert await house.settled() == ["failed"]
    assert house.model.now.cancelled == 1
    assert thread.by(house.fake.bot) == [begun]
    thread.archived = thread.locked = False
    thread.tell("THREAD_UPDATE")
    told = await house.press(begun, "stop")
    assert await house.told(told) == say.NOTHING_TO_STOP
    await house.fake.until(lambda: not begun.buttons)
