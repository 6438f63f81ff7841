"""Who edits a question gets its answer anew, in the place of the old one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guildgpt.bot.adapter import client
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.messages.deliveries import Deliveries
from guildgpt.feedback.records import Delivery
from guildgpt.talk.moderation import REFUSAL
from simguild.fake import FakeMessage, User
from simguild.fake.world import FORUM
from simguild.journal import buttons, finished

from .house import SLOW, House, words

PREVIEW = {"type": "link", "url": "https://example.org", "title": "An example"}


async def edit(house: House, asked: FakeMessage, text: str, *, mention: bool = True) -> None:
    """Its author edits a message."""
    mention = mention and asked.channel.guild is not None
    await house.fake.edit_by_user(asked, f"{house.fake.bot.mention} {text}" if mention else text)


async def says(house: House, asked: FakeMessage, text: str) -> FakeMessage:
    """The one message that the bot wrote to another one, once it is whole and says that."""

    def found() -> FakeMessage | None:
        answers = house.answers(asked)
        whole = answers and finished(answers[0]) and text in answers[0].content
        return answers[0] if whole else None

    answer = await house.fake.until(found, 60)
    assert answer is not None
    await house.settled()
    assert house.answers(asked) == [answer]
    return answer


async def asks_nothing_more(house: House, who: User) -> None:
    """Whatever an edit may lead to has been begun: the bot has heard another question since."""
    before = len(house.model.prompts)
    await house.ask("A round trip", where=house.fake.open_dm(who), who=who)
    assert len(house.model.prompts) == before + 1


async def test_an_edited_question_is_answered_in_place(bot: House) -> None:
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "You wrote: What is TSL?")
    await bot.press(first, "up", bot.teacher)
    old = buttons(first)["up"]
    await edit(bot, asked, "What is TLS?")
    answer = await says(bot, asked, "You wrote: What is TLS?")
    assert answer is first
    assert list(buttons(answer)) == ["up", "down", "again", "report"]
    assert buttons(answer)["up"] != old
    assert "TSL" not in bot.tables()
    assert bot.rows("SELECT COUNT(*) FROM ratings") == [(0,)]
    await bot.press(answer, "up", bot.teacher)
    [(text,)] = bot.rows(
        "SELECT text FROM messages JOIN ratings ON message_id = messages.id WHERE value = 1"
    )
    assert "What is TLS?" in text
    await bot.ask("Sure?", reply_to=answer)
    assert bot.model.prompts[-1].count("What is TLS?") == 2
    await bot.command("retry")
    assert await bot.settled() == ["done"] * 3


async def test_even_after_a_restart(bot: House) -> None:
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "TSL")
    await bot.restart()
    await edit(bot, asked, "What is TLS?")
    assert await says(bot, asked, "You wrote: What is TLS?") is first


async def test_an_answer_that_grows_is_written_over(house: House) -> None:
    house.model.rate = SLOW
    await house.open()
    asked = await house.say("What is TSL?")
    begun = await house.begun(asked)
    await edit(house, asked, "What is SSL?")
    await house.fake.until(lambda: len(house.model.prompts) == 2)
    await edit(house, asked, "What is TLS?")
    answer = await says(house, asked, "You wrote: What is TLS?")
    assert answer is begun
    assert house.model.now.cancelled == 2
    assert house.rows("SELECT text FROM messages WHERE role = 'user'") == [("What is TLS?",)]
    [(text,)] = house.rows("SELECT text FROM messages WHERE role = 'assistant'")
    assert text.startswith("You wrote: What is TLS?")


async def test_many_edits_at_once(bot: House) -> None:
    asked = await bot.say("What is 0?")
    await bot.answer(asked)
    for number in range(1, 8):
        await edit(bot, asked, f"What is {number}?")
    await says(bot, asked, "You wrote: What is 7?")
    assert bot.rows("SELECT text FROM messages WHERE role = 'user'") == [("What is 7?",)]
    assert len(bot.rows("SELECT 1 FROM messages WHERE role = 'assistant' AND NOT deleted")) == 1


async def test_an_edit_while_the_question_is_claimed(
    bot: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One work on it, not two: that would be one question more than a member may have waiting."""
    claim, told = Deliveries.claim, asyncio.Event()

    async def slow_claim(
        store: Deliveries, event_id: int, *more: Any, **extra: Any
    ) -> Delivery | None:
        claimed = await claim(store, event_id, *more, **extra)
        if event_id == asked.id:
            await told.wait()
        return claimed

    monkeypatch.setattr(Deliveries, "claim", slow_claim)
    asked = await bot.say("What is TSL?")
    await bot.fake.until(lambda: "TSL" in bot.tables())
    await edit(bot, asked, "What is TLS?")
    await bot.fake.until(lambda: "TLS" in bot.tables())
    await asks_nothing_more(bot, bot.teacher)
    told.set()
    await says(bot, asked, "You wrote: What is TLS?")
    assert len(bot.model.prompts) == 2
    assert "TSL" not in bot.tables()


async def test_the_new_answer_may_be_longer_or_shorter(house: House) -> None:
    await house.open(max_tokens=2000)
    house.model.answer = lambda prompt: ("Long. " * (900 if "long" in prompt else 1)) + "End."
    asked = await house.say("Something short")
    first = await says(house, asked, "End.")
    for text, most in (("Something long", 3), ("Briefly", 1), ("Once more long", 3)):
        await edit(house, asked, text)
        await house.fake.until(lambda most=most: len(house.channel.by(house.fake.bot)) == most)
        await house.settled()
        parts = house.channel.by(house.fake.bot)
        assert parts[0] is first
        assert parts[-1].content.endswith("End.")
        assert [bool(part.buttons) for part in parts] == [False] * (most - 1) + [True]


@pytest.mark.parametrize(("text", "sentence"), [("The forbidden?", REFUSAL), ("", say.EMPTY)])
async def test_what_was_refused_is_answered_in_the_refusals_place(
    house: House, text: str, sentence: str
) -> None:
    await house.open(blocked_words=["forbidden"])
    asked = await house.say(text)
    refusal = await says(house, asked, sentence)
    await edit(house, asked, "What is TLS?")
    assert await says(house, asked, "You wrote: What is TLS?") is refusal
    assert buttons(refusal)
    await edit(house, asked, "The forbidden?")
    assert await says(house, asked, REFUSAL) is refusal
    assert not buttons(refusal)
    assert "You wrote" not in house.tables()
    assert not any("forbidden" in prompt for prompt in house.model.prompts)


async def test_no_old_answer_stays_below_a_question_that_is_refused_now(house: House) -> None:
    """Others of the same member's refusals may be left unsaid; this one takes an answer's place."""
    await house.open(questions_per_user=2, questions_seconds=600.0)
    asked = await house.say("What is TSL?")
    first = await says(house, asked, "TSL")
    await house.ask("And SSH?")
    told = await house.say("And HTTP?")
    await house.fake.until(lambda: "One thing after another" in words(house.answers(told))[0])
    await edit(house, asked, "What is TLS?")
    assert await says(house, asked, "One thing after another") is first
    assert not buttons(first)


async def test_a_mention_may_come_later(bot: House) -> None:
    bot.fake.message_content = False
    asked = await bot.say("What is TLS?", mention=False)
    await edit(bot, asked, "What is SSL?", mention=False)
    await edit(bot, asked, "What is TLS?")
    await says(bot, asked, "You wrote: What is TLS?")
    assert len(bot.model.prompts) == 1


async def test_who_went_on_keeps_the_ground_under_their_feet(bot: House) -> None:
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "TSL")
    await bot.ask("Sure?", reply_to=first, who=bot.teacher)
    shown = first.content
    await edit(bot, asked, "What is TLS?")
    await asks_nothing_more(bot, bot.newcomer)
    assert first.content == shown

    private = bot.fake.open_dm(bot.teacher)
    asked = await bot.say("My name is Feris.", where=private, who=bot.teacher)
    await bot.answer(asked)
    await bot.ask("What is my name?", where=private, who=bot.teacher)
    await edit(bot, asked, "My name is Ferris.")
    await asks_nothing_more(bot, bot.newcomer)
    await bot.ask("And now?", where=private, who=bot.teacher)
    assert "My name is Ferris." in bot.model.prompts[-1]


async def test_the_last_of_a_conversation_is_answered_anew(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    await bot.ask("My name is Ferris.", where=private)
    asked = await bot.say("What is my nam?", where=private)
    await bot.answer(asked)
    await edit(bot, asked, "What is my name?")
    await says(bot, asked, "You wrote: What is my name?")
    assert "My name is Ferris." in bot.model.prompts[-1]
    await bot.ask("Thanks!", where=private)
    for text, count in (("My name is Ferris.", 2), ("my name?", 2), ("my nam?", 0)):
        assert bot.model.prompts[-1].count(text) == count


async def test_old_questions_stay(bot: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANEW_SECONDS", 0.0)
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "TSL")
    unheard = await bot.say("Just so.", mention=False)
    for one in (asked, unheard):
        await edit(bot, one, "What is TLS?")
    await asks_nothing_more(bot, bot.newcomer)
    assert "TSL" in first.content
    assert bot.answers(unheard) == []


async def test_what_is_no_edit_asks_nothing(bot: House) -> None:
    asked = await bot.say("See https://example.org")
    first = await says(bot, asked, "example.org")
    await bot.fake.preview(asked, PREVIEW)
    await edit(bot, asked, "See  https://example.org")
    await bot.fake.preview(asked, PREVIEW)
    await asks_nothing_more(bot, bot.newcomer)
    await edit(bot, asked, "Look at https://example.org")
    await says(bot, asked, "You wrote: Look at")
    await bot.restart()
    await bot.fake.preview(asked, PREVIEW)
    await asks_nothing_more(bot, bot.teacher)
    assert first.content.startswith("You wrote: Look at")


async def test_who_wants_nothing_kept_is_answered_anew_all_the_same(bot: House) -> None:
    await bot.command("privacy", consent="none")
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "You wrote: What is TSL?")
    await edit(bot, asked, "What is TLS?")
    assert await says(bot, asked, "You wrote: What is TLS?") is first
    assert bot.rows("SELECT COUNT(*) FROM messages") == [(0,)]
    assert "What is" not in bot.tables()


async def test_who_wants_nothing_kept_any_more_has_no_edit_kept(bot: House) -> None:
    said = await bot.say("Monads are burritos.", mention=False, who=bot.teacher)
    await bot.ask("Truly?", reply_to=said)
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "You wrote: What is TSL?")
    for who in (bot.newcomer, bot.teacher):
        await bot.command("privacy", who=who, consent="none")
    await bot.fake.edit_by_user(said, f"{bot.fake.bot.mention} Monads are xyzzy.")
    for text in ("What is xyzzy?", "What is TLS, xyzzy?"):
        await edit(bot, asked, text)
        assert await says(bot, asked, f"You wrote: {text}") is first
    await bot.fake.until(lambda: "burritos" not in bot.tables())
    for text in ("xyzzy", "TSL"):
        assert text not in bot.tables()


async def test_what_it_replies_to_is_told_again(house: House) -> None:
    await house.open(message_content_intent=True)
    await house.command("privacy", who=house.teacher, consent="none")
    said = await house.say("Monads are burritos.", mention=False, who=house.teacher)
    asked = await house.say("Is that truly so?", reply_to=said)
    await house.answer(asked)
    await edit(house, asked, "Is that so?")
    await says(house, asked, "Is that so?")
    assert "Monads are burritos." in house.model.prompts[-1]


async def test_a_rewriting_that_was_cut_off_is_taken_up_again(house: House) -> None:
    await house.open()
    asked = await house.say("What is TSL?")
    first = await says(house, asked, "TSL")
    house.model.rate = SLOW
    house.model.made.clear()
    await house.restart()
    await edit(house, asked, "What is TLS?")
    await house.fake.until(lambda: "stop" in buttons(first))
    house.model.rate = 4000.0
    await house.restart()
    assert await says(house, asked, "You wrote: What is TLS?") is first
    assert await house.settled() == ["done"]


async def test_an_answer_that_somebody_deleted_meanwhile_stays_away(bot: House) -> None:
    """It has no place any more: it is neither written elsewhere nor kept."""
    asked = await bot.say("What is TSL?")
    first = await says(bot, asked, "TSL")
    await bot.close()
    await bot.fake.delete(first)
    await bot.open()
    await edit(bot, asked, "What is TLS?")
    await bot.fake.until(lambda: len(bot.model.prompts) == 2)
    assert await bot.settled() == ["done"]
    assert [one for one in bot.channel.by(bot.fake.bot) if not one.deleted] == []
    assert "You wrote" not in bot.tables()


async def test_first_messages_keep_their_titles(house: House) -> None:
    house.model.answer = lambda prompt: "I see."
    await house.open(message_content_intent=True)
    forum = house.guild.add_channel("help", kind=FORUM)
    content = f"It hids. {house.fake.bot.mention}, why?"
    post = await house.fake.post(house.teacher, forum, "My crab is sad", content)
    await house.answer(post.messages[0])
    await house.fake.edit_by_user(post.messages[0], content.replace("hids", "hides"))
    await house.fake.until(lambda: len(house.model.prompts) == 2)
    assert "My crab is sad\n\nIt hides." in house.model.prompts[-1]

    said = await house.say("I kep crabs.", mention=False, who=house.teacher)
    thread = await house.fake.open_thread(house.teacher, house.channel, "Crabs", start=said)
    await house.ask("What do they eat?", where=thread)
    await house.fake.edit_by_user(said, "I keep crabs.")
    await house.fake.until(lambda: "I keep crabs." in house.tables())
    await house.ask("And drink?", where=thread)
    assert "teacher: Crabs\n\nI keep crabs." in house.model.prompts[-1]
    assert words(house.answers(said)) == []
