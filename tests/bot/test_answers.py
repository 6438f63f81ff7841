"""Questions and their answers: who is answered where, and how an answer grows."""

from __future__ import annotations

import pytest

from guildgpt.bot.answers.pacing import Pacer
from guildgpt.bot.text import sentences as say
from simguild.fake import Permission
from simguild.fake.limits import utf16_length
from simguild.journal import buttons, finished

from .house import SLOW, House, pace, words


async def test_a_mention_is_answered_as_a_reply(bot: House) -> None:
    asked = await bot.say("What is TLS?")
    answer = await bot.answer(asked)
    assert answer.content.startswith("You wrote: What is TLS?")
    assert list(buttons(answer)) == ["up", "down", "again", "report"]
    assert bot.answers(asked) == [answer]
    assert bot.channel.typed >= 1
    assert asked.reacted_ms is not None
    assert asked.reacted_ms < 1000
    assert await bot.settled() == ["done"]


async def test_what_is_not_meant_for_it_is_left_alone(bot: House) -> None:
    await bot.say("Just between us.", mention=False)
    other = bot.fake.add_user("other_bot")
    other.bot = True
    bot.guild.join(other)
    await bot.say("Beep?", who=other)
    first = await bot.say("I am here.", mention=False, who=bot.teacher)
    await bot.say("Indeed.", mention=False, reply_to=first)
    await bot.ask("And you?")
    assert len(bot.channel.by(bot.fake.bot)) == 1
    assert "between us" not in bot.tables()


async def test_a_reply_to_it_goes_on(bot: House) -> None:
    first = await bot.ask("My name is Ferris.")
    await bot.settled(1)
    await bot.ask("What is my name?", reply_to=first, mention=False)
    assert "My name is Ferris." in bot.model.prompts[-1]
    assert first.content in bot.model.prompts[-1]


async def test_every_part_of_an_answer_can_be_replied_to(house: House) -> None:
    bot = house
    await bot.open(max_tokens=2000)
    bot.model.answer = lambda prompt: "word " * 500
    first = await bot.ask("Tell me a lot.")
    await bot.settled()
    second = bot.channel.by(bot.fake.bot)[1]
    assert first is not second
    await bot.ask("Go on.", reply_to=second)
    assert "Tell me a lot." in bot.model.prompts[-1]


async def test_a_mention_out_of_the_blue_remembers_nothing(bot: House) -> None:
    await bot.ask("My name is Ferris.")
    await bot.ask("What is my name?")
    assert "Ferris" not in bot.model.prompts[-1]


async def test_direct_messages_are_one_conversation(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    for text in ("My name is Ferris.", "What is my name?"):
        asked = await bot.say(text, where=private)
        await bot.answer(asked)
        await bot.settled()
    assert "Ferris" in bot.model.prompts[-1]


async def test_nothing_is_shared_between_people_and_channels(bot: House) -> None:
    secret = await bot.ask("The secret is xyzzy.", where=bot.fake.open_dm(bot.newcomer))
    elsewhere = bot.guild.add_channel("elsewhere")
    await bot.ask("The secret is xyzzy.", who=bot.teacher)
    await bot.ask("What is the secret?", where=bot.fake.open_dm(bot.teacher), who=bot.teacher)
    await bot.ask("What is the secret?", where=elsewhere)
    await bot.ask("What is the secret?")
    assert [prompt for prompt in bot.model.prompts if "xyzzy" in prompt] == bot.model.prompts[:2]

    # A reply that claims to be to a message of another channel.
    await bot.settled(5)
    forged = await bot.say("What is the secret?", where=elsewhere, reply_to=secret)
    await bot.answer(forged)
    assert "xyzzy" not in bot.model.prompts[-1]


async def test_several_speakers_are_told_apart(bot: House) -> None:
    first = await bot.ask("I like cats.")
    await bot.settled(1)
    await bot.ask("And I like dogs.", reply_to=first, who=bot.teacher)
    assert "newcomer: I like cats." in bot.model.prompts[-1]
    assert "teacher: And I like dogs." in bot.model.prompts[-1]
    assert "newcomer:" not in bot.model.prompts[0]


async def test_people_are_called_by_their_names_and_kept_without_them(bot: House) -> None:
    bot.model.answer = lambda prompt: "Roses are red."
    await bot.ask(f"A poem for {bot.teacher.mention}, please")
    assert "A poem for @teacher, please" in bot.model.prompts[-1]
    assert "teacher" not in bot.tables()


async def test_what_a_question_replies_to_is_read(house: House) -> None:
    bot = house
    await bot.open(message_content_intent=True)
    said = await bot.say("Monads are burritos.", mention=False, who=bot.teacher)
    await bot.ask("Is that so?", reply_to=said)
    assert "teacher: Monads are burritos." in bot.model.prompts[-1]
    assert "newcomer: Is that so?" in bot.model.prompts[-1]


async def test_a_thread_is_one_conversation(house: House) -> None:
    await house.open(message_content_intent=True)
    opened = await house.command("chat", topic="My name is Ferris.")
    [thread] = house.guild.threads
    assert opened.responses[0].content == say.here(thread.mention)
    assert opened.responses[0].ephemeral
    assert thread.name == "My name is Ferris."
    assert house.newcomer in thread.members
    await house.fake.until(lambda: finished(thread.messages[0]))
    await house.settled(1)

    asked = await house.say("What is my name?", where=thread, mention=False)
    await house.answer(asked)
    await house.settled(2)
    assert "Ferris" in house.model.prompts[-1]
    house.guild.join(house.teacher)
    await house.ask("And mine?", where=thread, mention=False, who=house.teacher)
    assert "newcomer: What is my name?" in house.model.prompts[-1]


async def test_without_the_intent_a_thread_needs_a_mention(bot: House) -> None:
    bot.fake.message_content = False
    await bot.command("chat")
    [thread] = bot.guild.threads
    assert thread.name == say.chat_with("newcomer")
    for _ in range(3):
        await bot.say("Can you hear me?", where=thread, mention=False)
    asked = await bot.say("And now?", where=thread)
    await bot.answer(asked)
    sentences = [one for one in words(thread.by(bot.fake.bot)) if one == say.NEED_MENTION]
    assert len(sentences) == 1


async def test_an_answer_grows_by_edits_at_discords_pace(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace(monkeypatch, house.fake, 1.0)
    house.model.rate = 60.0
    await house.open()
    asked = await house.say("What is TLS?")
    answer = await house.begun(asked)
    assert list(buttons(answer)) == ["stop"]
    await house.answer(asked)
    assert 1 <= len(answer.edits) <= 4
    for before, after in zip(answer.edits, answer.edits[1:], strict=False):
        assert after.startswith(before.rstrip("…"))
    assert house.fake.rate_limited == 0


async def test_many_answers_in_one_channel_keep_its_budget(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace(monkeypatch, house.fake, 1.0)
    house.model.rate = 60.0
    await house.open(workers=4, slots=4)
    asked = [await house.say(f"Question {number}?") for number in range(4)]
    for one in asked:
        await house.answer(one)
    assert house.fake.rate_limited == 0


async def test_who_is_told_429_slows_down(bot: House, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed = []
    monkeypatch.setattr(Pacer, "slow_down", lambda self, *told: slowed.append(told))
    bot.fake.limits.messages, bot.fake.limits.window = 0, 0.3
    asked = await bot.say("What is TLS?")
    await bot.fake.until(lambda: bot.fake.rate_limited)
    bot.fake.limits.messages = 5
    await bot.answer(asked)
    assert slowed == [(bot.channel.id, 1.0)] * bot.fake.rate_limited


async def test_a_long_answer_is_split_and_its_fences_reopened(house: House) -> None:
    bot = house
    await bot.open(max_tokens=2000)
    code = "\n".join(f"print({number})  # 🦀🦀🦀🦀" for number in range(150))
    bot.model.answer = lambda prompt: f"Look:\n```python\n{code}\n```\nThat was it."
    asked = await bot.say("A program, please")
    await bot.answer(asked)
    await bot.settled()
    parts = bot.channel.by(bot.fake.bot)
    assert len(parts) >= 2
    for part in parts:
        assert utf16_length(part.content) <= 2000
        assert part.content.count("```") % 2 == 0
    assert parts[1].content.startswith("```python\n")
    assert [bool(part.buttons) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [part.reference for part in parts] == [asked] + [None] * (len(parts) - 1)
    together = "\n".join(words(parts))
    assert all(f"print({number}) " in together for number in range(150))


async def test_a_fence_that_is_never_closed_is_closed(bot: House) -> None:
    bot.model.answer = lambda prompt: "```python\nprint(1)"
    answer = await bot.ask("A program, please")
    assert answer.content == "```python\nprint(1)\n```"


async def test_an_answer_of_nothing_is_a_sentence(bot: House) -> None:
    bot.model.answer = lambda prompt: " \n\u200b"
    answer = await bot.ask("Say nothing")
    assert answer.content == say.NO_WORDS
    assert not answer.buttons
    assert bot.rows("SELECT COUNT(*) FROM messages WHERE role = 'assistant'") == [(0,)]


async def test_text_files_are_read(bot: House) -> None:
    files = [
        ("main.rs", b"fn main() {}", "text/plain"),
        ("cat.png", b"\x89PNG\r\n\x1a\n\0\0", "image/png"),
    ]
    await bot.ask("What is this?", attachments=files)
    assert "main.rs:\n```rust\nfn main() {}\n```" in bot.model.prompts[-1]
    assert "(Attached, but you cannot see it: the picture cat.png)" in bot.model.prompts[-1]

    called = await bot.command("ask", question="And this?", file=("a.py", b"x = 1", "text/plain"))
    assert called.responses[0].content.startswith("You wrote: And this?")
    assert "a.py:\n```python\nx = 1\n```" in bot.model.prompts[-1]


async def test_of_long_and_many_files_a_part_is_read(house: House) -> None:
    await house.open(attachments=2, attachment_bytes=100)
    files = [(f"{number}.txt", b"%d! " % number * 50, "text/plain") for number in range(3)]
    await house.ask("What are these?", attachments=files)
    prompt = house.model.prompts[-1]
    assert prompt.count("0! ") == 33
    assert "the rest of the file is left out" in prompt
    assert "you cannot see it: the file 2.txt" in prompt


async def test_a_long_conversation_loses_its_oldest_exchanges(house: House) -> None:
    house.model.context = 400
    house.model.answer = lambda prompt: "I see."
    await house.open(max_tokens=50, system="Be brief.")
    private = house.fake.open_dm(house.newcomer)
    for number in range(4):
        await house.ask(f"Fact number {number} is {'a' * 600}", where=private)
        await house.settled(number + 1)
    last = house.model.prompts[-1]
    assert "Fact number 3" in last
    assert "Fact number 2" in last
    assert "Be brief." in last
    assert "Fact number 0" not in last


@pytest.mark.parametrize("way", ["button", "command"])
async def test_the_asker_stops_an_answer(house: House, way: str) -> None:
    house.model.rate = SLOW
    await house.open()
    asked = await house.say("What is TLS?")
    answer = await house.begun(asked)
    if way == "button":
        told = await house.told(await house.press(answer, "stop"))
    else:
        told = await house.told(await house.command("stop"))
    assert told == say.STOPPED
    await house.answer(asked)
    assert answer.content.endswith(" …")
    assert "another one" not in answer.content
    await house.settled(1)
    assert house.model.now.cancelled == 1
    assert list(buttons(answer)) == ["up", "down", "again", "report"]
    [(text, stop)] = house.rows("SELECT text, stop FROM messages WHERE role = 'assistant'")
    assert stop == "cancelled"
    assert text
    assert "…" not in text


async def test_others_cannot_stop_it_but_an_admin_can(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    skeptic = house.fake.add_user("skeptic")
    house.guild.join(skeptic)
    asked = await house.say("What is TLS?")
    answer = await house.begun(asked)
    assert await house.told(await house.press(answer, "stop", skeptic)) == say.NOT_YOURS
    called = await house.command("stop", who=house.teacher)
    assert called.responses[0].content == say.NOT_YOURS
    assert "stop" in buttons(answer)
    assert await house.told(await house.press(answer, "stop", house.teacher)) == say.STOPPED
    await house.answer(asked)


async def test_a_waiting_question_can_be_stopped(house: House) -> None:
    house.model.rate = SLOW
    await house.open(workers=1)
    first = await house.say("What is TLS?", who=house.teacher)
    await house.begun(first)
    await house.say("And what is SSH?")
    await house.fake.until(
        lambda: house.rows("SELECT 1 FROM deliveries WHERE state='answering'")[1:]
    )
    called = await house.command("stop")
    assert called.responses[0].content == say.STOPPED
    await house.fake.until(lambda: say.STOPPED in words(house.channel.by(house.fake.bot)))
    assert len(house.model.prompts) == 1


async def test_there_is_nothing_to_stop(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    await bot.settled()
    assert (await bot.command("stop")).responses[0].content == say.NOTHING_TO_STOP
    assert "stop" not in buttons(answer)


async def test_again_by_the_button(bot: House) -> None:
    replies = iter(["The first.", "The second."])
    bot.model.answer = lambda prompt: next(replies)
    first = await bot.ask("What is TLS?")
    await bot.settled(1)
    clicked = await bot.press(first, "again")
    second = await bot.fake.until(lambda: finished(clicked.responses[0]) and clicked.responses[0])
    await bot.settled(2)
    assert (first.content, second.content) == ("The first.", "The second.")
    assert bot.model.prompts[0] == bot.model.prompts[1]
    assert bot.rows("SELECT COUNT(DISTINCT parent_id), COUNT(*) FROM messages") == [(1, 3)]

    clicked = await bot.press(first, "again", bot.teacher)
    assert await bot.told(clicked) == say.NOT_YOURS
    assert clicked.responses[-1].ephemeral


async def test_again_by_the_command_even_after_a_restart(bot: House) -> None:
    called = await bot.command("retry")
    assert called.responses[0].content == say.NOTHING_TO_RETRY
    assert called.responses[0].ephemeral
    await bot.ask("What is TLS?")
    await bot.settled()
    await bot.restart()
    called = await bot.command("retry")
    assert called.responses[0].content.startswith("You wrote: What is TLS?")
    elsewhere = bot.guild.add_channel("elsewhere")
    called = await bot.command("retry", where=elsewhere)
    assert called.responses[0].content == say.NOTHING_TO_RETRY


async def test_answers_are_kept_with_how_they_were_made(house: House) -> None:
    await house.open(temperature=0.25, max_tokens=99)
    await house.ask("What is TLS?")
    await house.settled(1)
    async with house.store() as store:
        snapshot = await store.snapshot()
    question, answer = snapshot.messages
    assert answer.parent_id == question.id
    assert answer.synthetic
    assert answer.stop == "eos"
    assert answer.version_id == "stand-in"
    assert answer.sampling is not None
    assert (answer.sampling["temperature"], answer.sampling["max_tokens"]) == (0.25, 99)
    assert answer.version_id in snapshot.versions


async def test_a_webhook_is_nobody(bot: House) -> None:
    """Bridges to other networks write through webhooks; what they carry is not for the bot."""
    bridge = bot.fake.add_user("bridge")
    bridge.bot = True
    bot.channel.allow(bridge, Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES)
    bot.guild.join(bridge)
    await bot.say("hello from IRC", who=bridge)
    answer = await bot.ask("hello from here")
    await bot.settled(1)
    assert bot.channel.by(bot.fake.bot) == [answer]
