"""What people delete and edit on Discord is deleted and edited in the store, without a trace."""

from __future__ import annotations

import json

import pytest

from guildgpt.bot.adapter import client
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.exporting.exports import FORMS, export
from guildgpt.feedback.exporting.view import Switches
from guildgpt.talk.moderation import REFUSAL
from simguild.fake import FakeMessage
from simguild.journal import finished

from .house import SLOW, House

SECRET = "hunter2xyzzy"
PREVIEW = {"type": "link", "url": "https://example.org", "title": "An example"}


async def exported(house: House) -> str:
    """The rows of all forms, every switch on."""
    async with house.store() as store:
        snapshot = await store.snapshot()
    switches = Switches(members=True, slash=True)
    return json.dumps([export(snapshot, form, switches=switches).rows for form in FORMS])


async def opted_in(house: House, answer: str) -> None:
    """Members whose text may leave, and a model that always says the same."""
    house.model.answer = lambda prompt: answer
    for who in (house.newcomer, house.teacher):
        await house.command("privacy", consent="train", who=who)


async def gone(house: House, trace: str) -> None:
    """Wait until nothing of it stands in any table or file while the store is open."""
    await house.fake.until(lambda: trace not in house.tables())
    await house.scrubbed()
    await house.fake.until(lambda: trace not in house.everything())
    assert trace not in await exported(house)


# Deleted answers

LONG = "".join(f"Wombats number {n} dig. " for n in range(200))  # several messages


@pytest.mark.parametrize("part", [0, 1, -1])
async def test_an_answer_is_blanked_whichever_of_its_messages_is_deleted(
    house: House, part: int
) -> None:
    await house.open(max_tokens=2000)
    await opted_in(house, LONG)
    await house.ask("Tell me")
    await house.settled()
    parts = house.channel.by(house.fake.bot)
    assert len(parts) > 2
    await house.press(parts[-1], "up")
    assert "Wombats" in await exported(house)
    await house.fake.delete(parts[part])
    await gone(house, "Wombats")
    assert house.rows("SELECT COUNT(*) FROM ratings") == [(0,)]
    house.model.answer = lambda prompt: "Yes."
    await house.ask("Really?", reply_to=next(one for one in parts if not one.deleted))
    assert "Wombats" not in house.model.prompts[-1]
    assert "Tell me" in house.model.prompts[-1]
    if not parts[-1].deleted:
        assert await house.told(await house.press(parts[-1], "up")) == say.RECORD_GONE


async def test_a_comparison_takes_both_answers_and_the_votes_along(bot: House) -> None:
    await opted_in(bot, "Wombats dig deep burrows.")
    answers = iter(["Wombats dig deep burrows.", "Wombats are round and slow."])
    bot.model.answer = lambda prompt: next(answers)
    called = await bot.command("compare", question="What of wombats then?")
    await bot.press(called.responses[0], "left")
    assert "burrows" in await exported(bot)
    await bot.fake.delete(called.responses[0])
    await gone(bot, "burrows")
    await gone(bot, "round and slow")
    assert bot.rows("SELECT COUNT(*) FROM votes") == [(0,)]
    assert bot.rows("SELECT COUNT(*) FROM comparisons") == [(0,)]


async def test_the_answer_to_a_command_and_a_second_try(bot: House) -> None:
    await opted_in(bot, "Wombats dig deep burrows.")
    called = await bot.command("ask", question="Tell me")
    bot.model.answer = lambda prompt: "Koalas climb tall eucalypts."
    again = await bot.press(called.responses[0], "again")
    await bot.fake.until(lambda: finished(again.responses[0]))
    await bot.fake.delete(called.responses[0])
    await gone(bot, "burrows")
    assert "eucalypts" in bot.tables()
    await bot.fake.delete(again.responses[0])
    await gone(bot, "eucalypts")


async def test_many_at_once(bot: House) -> None:
    await opted_in(bot, "Wombats dig deep burrows.")
    first, second = await bot.ask("One?"), await bot.ask("Two?")
    await bot.fake.purge([first, second])
    await gone(bot, "burrows")


async def test_an_answer_deleted_while_it_grows_is_not_kept(house: House) -> None:
    house.model.rate, house.model.answer = SLOW, lambda prompt: "Wombats dig. " * 30
    await house.open()
    asked = await house.say("Tell me")
    begun = await house.begun(asked)
    await house.fake.delete(begun)
    await house.settled()
    assert "Wombats" not in house.tables()
    assert house.answers(asked) == []


async def test_a_message_that_the_bot_itself_takes_back_says_nothing_about_its_answer(
    house: House,
) -> None:
    """After a crash an answer may have become shorter."""
    house.model.rate, house.model.answer = SLOW, lambda prompt: LONG
    await house.open(max_tokens=2000)
    asked = await house.say("Tell me")
    await house.begun(asked)
    await house.fake.until(lambda: len(house.channel.by(house.fake.bot)) > 1)
    await house.fake.until(lambda: len(house.rows("SELECT * FROM parts")) > 1)
    # Slow enough that the bot is connected, and hears of what it takes back.
    house.model.rate, house.model.answer = 2.0, lambda prompt: "Wombats dig."
    await house.restart()
    await house.settled()
    await house.fake.until(lambda: len(house.channel.by(house.fake.bot)) == 1)
    house.model.answer = lambda prompt: "Heard."
    await house.ask("A round trip through everything that was heard")
    assert "Wombats dig." in house.tables()


async def test_what_quotes_a_deleted_question_goes_and_what_does_not_stays(bot: House) -> None:
    await opted_in(bot, "Noted.")
    first = await bot.say(f"The password is {SECRET}")
    answer = await bot.answer(first)
    bot.model.answer = lambda prompt: f"It was {SECRET.upper()}, I think."
    second = await bot.ask("What was it?", reply_to=answer, who=bot.teacher)
    bot.model.answer = lambda prompt: "You are welcome."
    await bot.ask("Thank you", reply_to=second, who=bot.teacher)
    for one in (answer, second):
        await bot.press(one, "up", bot.teacher)
    await bot.fake.delete(first)
    await gone(bot, SECRET)
    await gone(bot, SECRET.upper())
    tables = bot.tables()
    assert all(text in tables for text in ("Noted.", "What was it?", "You are welcome."))
    assert bot.rows("SELECT COUNT(*) FROM ratings") == [(1,)]


# Edits


async def test_an_edited_question_is_what_it_is_now(bot: House) -> None:
    await opted_in(bot, f"{SECRET} is not a good password.")
    asked = await bot.say(f"Is {SECRET} good?")
    answer = await bot.answer(asked)
    await bot.press(answer, "up", bot.teacher)
    bot.model.answer = lambda prompt: "Yes."
    await bot.fake.edit_by_user(asked, f"{bot.fake.bot.mention} Is a long one good?")
    await gone(bot, SECRET)
    await bot.ask("Sure?", reply_to=answer, who=bot.teacher)
    assert "Is a long one good?" in bot.model.prompts[-1]
    assert SECRET not in bot.model.prompts[-1]


async def test_an_answer_to_what_stood_there_before_is_no_example(bot: House) -> None:
    """It stays in the conversation where somebody has gone on from it, but would teach an answer to
    another question."""
    await opted_in(bot, "Noted.")
    asked = await bot.say("What is two and two?")
    answer = await bot.answer(asked)
    await bot.press(answer, "up")
    await bot.ask("Thank you", reply_to=answer, who=bot.teacher)
    assert "Noted." in await exported(bot)
    await bot.fake.edit_by_user(asked, f"{bot.fake.bot.mention} What is  two and two?")
    await bot.fake.until(lambda: bot.rows("SELECT edited_at FROM messages")[0][0])
    assert "Noted." in await exported(bot)
    await bot.fake.edit_by_user(asked, f"{bot.fake.bot.mention} What is three and three?")
    await bot.fake.until(lambda: "three" in bot.tables())
    assert "Noted." in bot.tables()
    assert "Noted." not in await exported(bot)


@pytest.mark.parametrize("intent", [True, False])
async def test_updates_that_are_no_edits_change_nothing(house: House, intent: bool) -> None:
    house.fake.message_content = intent
    await house.open(message_content_intent=intent)
    asked = await house.say("See https://example.org about wombats")
    await house.answer(asked)
    other = await house.say("Koalas climb. https://example.org", mention=False)
    opened = await house.fake.context_menu(house.teacher, house.channel, "Ask about this", other)
    await house.fake.submit(house.teacher, opened, {"question": "What?"})
    await house.settled(2)
    before = house.rows("SELECT text, edited_at FROM messages ORDER BY id")
    for message in (asked, other):
        await house.fake.preview(message, PREVIEW)
    await house.ask("A round trip")
    known = house.rows("SELECT text, edited_at FROM messages ORDER BY id")
    assert set(before) <= set(known)


async def test_a_preview_after_an_edit_is_not_taken_for_another(house: House) -> None:
    """Without the intent its text is hidden, and only the time says that it is an old edit."""
    house.fake.message_content = False
    await house.open()
    other = await house.say("Koalas climb.", mention=False)
    await house.fake.edit_by_user(other, "Koalas climb trees.")
    opened = await house.fake.context_menu(house.teacher, house.channel, "Ask about this", other)
    await house.fake.submit(house.teacher, opened, {"question": "What?"})
    await house.settled()
    await house.fake.preview(other, PREVIEW)
    await house.ask("A round trip")
    assert "Koalas climb trees." in house.tables()


async def test_a_mention_that_is_edited_out_takes_the_text_along(house: House) -> None:
    """Nobody tells the bot what it says now; what it said is gone."""
    house.fake.message_content = False
    await house.open()
    await opted_in(house, "Noted.")
    asked = await house.say(f"The password is {SECRET}")
    await house.answer(asked)
    await house.fake.edit_by_user(asked, "Nothing for you.")
    await gone(house, SECRET)
    assert "Nothing for you" not in house.tables()


async def test_with_the_intent_the_new_text_is_kept_without_a_mention(bot: House) -> None:
    await opted_in(bot, "Noted.")
    asked = await bot.say(f"The password is {SECRET}")
    await bot.answer(asked)
    await bot.restart(message_content_intent=True)
    await bot.fake.edit_by_user(asked, "Nothing for you.")
    await gone(bot, SECRET)
    assert "Nothing for you" in bot.tables()


async def test_a_quoted_message_is_followed_too(bot: House) -> None:
    await bot.restart(message_content_intent=True)
    await opted_in(bot, "Noted.")
    said = await bot.say(f"The password is {SECRET}", mention=False)
    asked = await bot.say("What does that mean?", reply_to=said, who=bot.teacher)
    await bot.answer(asked)
    assert SECRET in bot.tables()
    await bot.fake.edit_by_user(said, "The password is elsewhere")
    await gone(bot, SECRET)
    assert "The password is elsewhere" in bot.tables()
    await bot.fake.delete(said)
    await gone(bot, "The password is elsewhere")


async def test_what_nobody_may_keep_is_not_kept_in_an_answer(bot: House) -> None:
    await bot.restart(message_content_intent=True)
    await bot.command("privacy", consent="none")
    said = await bot.say(f"The password is {SECRET}", mention=False)
    bot.model.answer = lambda prompt: f"{SECRET} is a password."
    asked = await bot.say("What does that mean?", reply_to=said, who=bot.teacher)
    answer = await bot.answer(asked)
    assert SECRET in answer.content
    assert not answer.buttons
    await bot.settled()
    assert SECRET not in bot.tables()
    assert "What does that mean?" in bot.tables()


# Edits while the question waits, or is being answered


async def waiting(house: House, text: str) -> FakeMessage:
    """A question that waits for another one, which is being answered."""
    house.model.rate = SLOW
    await house.open(workers=1, blocked_words=["forbidden"])
    await house.begun(await house.say("First?", who=house.teacher))
    asked = await house.say(text)
    await house.fake.until(lambda: text in house.tables())
    return asked


async def test_a_question_that_waits_is_answered_as_it_is_then(house: House) -> None:
    asked = await waiting(house, f"Is {SECRET} good?")
    await house.fake.edit_by_user(asked, f"{house.fake.bot.mention} Is a long one good?")
    answer = await house.answer(asked)
    assert "You wrote: Is a long one good?" in answer.content
    assert answer.buttons
    await gone(house, SECRET)
    assert not any(SECRET in prompt for prompt in house.model.prompts)


async def test_a_word_that_is_edited_in_is_held(house: House) -> None:
    asked = await waiting(house, "Is it good?")
    await house.fake.edit_by_user(asked, f"{house.fake.bot.mention} The forbidden?")
    answer = await house.answer(asked)
    assert answer.content == REFUSAL
    assert not any("forbidden" in prompt for prompt in house.model.prompts)


async def test_an_answer_to_the_old_text_is_not_kept_where_it_quotes_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANEW_SECONDS", 0.0)  # too late for another answer
    house.model.rate = SLOW
    await house.open()
    asked = await house.say(f"Is {SECRET} good?")
    await house.begun(asked)
    await house.fake.edit_by_user(asked, f"{house.fake.bot.mention} Is a long one good?")
    await house.answer(asked)
    await gone(house, SECRET)
    assert "Is a long one good?" in house.tables()
    assert house.rows("SELECT COUNT(*) FROM messages WHERE role = 'assistant'") == [(0,)]


async def test_a_thread_quotes_what_it_hangs_from(bot: House) -> None:
    """What the channel said above a thread was told in it, though it is another conversation."""
    await opted_in(bot, "Noted.")
    first = await bot.say(f"The password is {SECRET}")
    answer = await bot.answer(first)
    thread = await bot.fake.open_thread(bot.teacher, bot.channel, "More", start=answer)
    bot.model.answer = lambda prompt: f"It was {SECRET}."
    await bot.ask("What was it?", who=bot.teacher, where=thread)
    assert SECRET in bot.model.prompts[-1]
    await bot.settled()
    await bot.fake.delete(first)
    await gone(bot, SECRET)
    assert "What was it?" in bot.tables()
