"""What stands around a question: replies, forwards, threads, roles, embeds, pictures and marks."""

from __future__ import annotations

import pytest

from guildgpt.bot.adapter.reading import Reader
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.exporting.view import Switches, View
from simguild.fake import Channel, FakeMessage, User
from simguild.fake.world import FORUM

from .house import House, words

PICTURE = ("crab.png", b"\x89PNG\r\n\x1a\n\0\0", "image/png")
NOTES = ("notes.txt", b"Crabs moult in spring.", "text/plain")


@pytest.fixture
async def reading(house: House) -> House:
    """The bot with the message content intent, after it has read what it may have missed: from then
    on it hears everything once."""
    house.model.answer = lambda prompt: "I see."
    await house.open(message_content_intent=True)
    await house.caught_up()
    return house


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the messages that the bot asks Discord for."""
    asked: list[int] = []
    fetch = Reader._fetched

    async def noted(self: Reader, channel: object, message_id: int) -> object:
        asked.append(message_id)
        return await fetch(self, channel, message_id)

    monkeypatch.setattr(Reader, "_fetched", noted)
    return asked


def owners(house: House, text: str) -> list[tuple[str | None, str | None]]:
    """Of the rows with this text: whose they are, by the bot's code, and the name they carry."""
    return house.rows("SELECT member_id, name FROM messages WHERE text LIKE ?", f"%{text}%")


def asked_last(house: House) -> str:
    """The last turn that the model was told."""
    return house.model.prompts[-1].rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]


async def member_id(house: House, user: User) -> str:
    async with house.store() as store:
        return (await store.members.of_user(user.id)).id


async def consents_to_nothing(house: House, user: User) -> None:
    await house.command("privacy", who=user, consent="none")


# Roles


async def test_its_role_is_its_name(reading: House) -> None:
    asked = await reading.say(f"{reading.guild.bot_role.mention} What is TLS?", mention=False)
    await reading.answer(asked)
    assert asked_last(reading) == "What is TLS?"


async def test_another_role_is_not(reading: House) -> None:
    role = reading.guild.add_role("keepers")
    other = await reading.say(f"{role.mention} What is TLS?", mention=False)
    await reading.ask("And SSH?")
    assert reading.answers(other) == []


async def test_without_the_intent_its_role_gets_a_sentence(bot: House) -> None:
    """Discord hands over what mentions the bot as a user, and nothing of what names its role."""
    bot.fake.message_content = False
    role = bot.guild.bot_role.mention
    for who in (bot.newcomer, bot.newcomer, bot.teacher):
        await bot.say(f"{role} What is TLS?", mention=False, who=who)
    await bot.fake.until(lambda: len(bot.channel.by(bot.fake.bot)) == 2)
    answer = await bot.ask(f"{role} What is SSH?")
    assert answer.content.startswith("You wrote: What is SSH?\n")
    assert words(bot.channel.by(bot.fake.bot))[:-1] == [say.NEED_MY_NAME] * 2
    assert len(bot.model.prompts) == 1


# Forwards


async def test_a_forward_in_a_direct_message_is_what_is_asked_about(bot: House) -> None:
    said = await bot.say("Monads are burritos.", mention=False, who=bot.teacher)
    private = bot.fake.open_dm(bot.newcomer)
    asked = await bot.fake.forward(bot.newcomer, said, private)
    answer = await bot.answer(asked)
    assert answer.content.startswith("You wrote: Monads are burritos.\n")
    await bot.ask("Is that so?", where=private)
    assert "forwarded message: Monads are burritos." in bot.model.prompts[-1]
    assert "newcomer: Is that so?" in bot.model.prompts[-1]


async def test_a_forward_with_files_and_embeds(bot: House) -> None:
    said = await bot.say("Look.", mention=False, who=bot.teacher, attachments=[NOTES, PICTURE])
    await bot.fake.preview(said, {"type": "rich", "title": "The Crab", "description": "Ten legs."})
    asked = await bot.fake.forward(bot.newcomer, said, bot.fake.open_dm(bot.newcomer))
    await bot.answer(asked)
    for part in ("Look.", "The Crab", "Ten legs.", "moult in spring", "the picture crab.png"):
        assert part in bot.model.prompts[-1]


async def test_words_with_a_mention_belong_to_the_forward_before_them(reading: House) -> None:
    said = await reading.say("Monads are burritos.", mention=False, who=reading.teacher)
    elsewhere = reading.guild.add_channel("elsewhere")
    await reading.fake.forward(reading.newcomer, said, elsewhere)
    await reading.say("Unrelated.", where=elsewhere, who=reading.teacher, mention=False)
    await reading.ask("Is that so?", where=elsewhere)
    assert "teacher: Monads are burritos." in reading.model.prompts[-1]
    assert owners(reading, "burritos") == [(await member_id(reading, reading.teacher), "teacher")]
    await reading.ask("And what is TLS?", where=elsewhere)
    assert "burritos" not in reading.model.prompts[-1]


async def test_a_forward_that_was_followed_by_other_words_is_over(reading: House) -> None:
    said = await reading.say("Monads are burritos.", mention=False, who=reading.teacher)
    await reading.fake.forward(reading.newcomer, said, reading.channel)
    await reading.say("Funny.", mention=False)
    await reading.ask("What is TLS?")
    assert "burritos" not in reading.model.prompts[-1]


async def test_a_reply_to_a_forward_reads_it(reading: House) -> None:
    hidden = reading.guild.add_channel("hidden")
    hidden.deny(reading.fake.bot, 1 << 10)  # the bot does not see the channel
    said = await reading.say("Monads are burritos.", mention=False, where=hidden)
    forward = await reading.fake.forward(reading.newcomer, said, reading.channel)
    await reading.ask("Is that so?", reply_to=forward, who=reading.teacher)
    assert "forwarded message: Monads are burritos." in reading.model.prompts[-1]
    # Whose words they are nobody says: they stay with who brought them, and never leave.
    assert owners(reading, "burritos") == [
        (await member_id(reading, reading.newcomer), "forwarded message")
    ]
    async with reading.store() as store:
        for user in (reading.newcomer, reading.teacher):
            await store.members.set_consent((await store.members.of_user(user.id)).id, "train")
        view = View(await store.snapshot(), Switches(members=True))
    [forwarded] = [one for one in view.messages.values() if "burritos" in one.text]
    assert view.refusal(forwarded) == "text that a member only passed on"
    await reading.fake.delete(forward)
    await reading.fake.until(lambda: "burritos" not in reading.tables())


async def test_forwarded_words_of_who_wants_nothing_kept(reading: House) -> None:
    await consents_to_nothing(reading, reading.teacher)
    said = await reading.say("Monads are burritos.", mention=False, who=reading.teacher)
    await reading.fake.forward(reading.newcomer, said, reading.channel)
    await reading.ask("Is that so?")
    assert "burritos" in reading.model.prompts[-1]
    await reading.settled()
    assert "burritos" not in reading.tables()


async def test_a_forward_of_the_bots_own_words_elsewhere_asks_nothing(reading: House) -> None:
    answer = await reading.ask("What is TLS?")
    elsewhere = reading.guild.add_channel("elsewhere")
    forward = await reading.fake.forward(reading.newcomer, answer, elsewhere)
    await reading.ask("And SSH?", where=elsewhere, who=reading.teacher)
    assert reading.answers(forward) == []


# Threads


async def thread_of(house: House, said: FakeMessage | None, name: str = "Crabs at home") -> Channel:
    """A thread that the teacher opens."""
    return await house.fake.open_thread(house.teacher, house.channel, name, start=said)


async def test_a_thread_is_about_the_message_it_began_with(
    reading: House, fetched: list[int]
) -> None:
    said = await reading.say("I keep crabs.", mention=False, who=reading.teacher)
    thread = await thread_of(reading, said)
    await reading.ask("What do they eat?", where=thread)
    assert "teacher: Crabs at home\n\nI keep crabs." in reading.model.prompts[-1]
    assert "newcomer: What do they eat?" in reading.model.prompts[-1]
    assert "keep crabs" not in reading.model.prompts[-1].rpartition("newcomer:")[2]

    answer = await reading.ask("And drink?", where=thread)
    assert "I keep crabs." in reading.model.prompts[-1]
    assert "What do they eat?" not in reading.model.prompts[-1]
    await reading.ask("Why?", where=thread, reply_to=answer)
    assert reading.model.prompts[-1].count("I keep crabs.") == 1
    assert "And drink?" in reading.model.prompts[-1]
    assert fetched == [said.id]
    assert owners(reading, "I keep crabs.") == [
        (await member_id(reading, reading.teacher), "teacher")
    ]

    await reading.fake.delete(said)
    await reading.fake.until(lambda: "I keep crabs." not in reading.tables())
    await reading.ask("And sleep?", where=thread)
    assert "keep crabs" not in reading.model.prompts[-1]


async def test_a_command_in_a_thread_knows_it_too(reading: House) -> None:
    said = await reading.say("I keep crabs.", mention=False, who=reading.teacher)
    thread = await thread_of(reading, said)
    for name in ("ask", "compare"):
        await reading.command(name, where=thread, question="What do they eat?")
        assert "I keep crabs." in reading.model.prompts[-1]
    await reading.command("retry", where=thread)
    assert "I keep crabs." in reading.model.prompts[-1]


async def test_a_forum_post_is_about_its_first_message(reading: House, fetched: list[int]) -> None:
    forum = reading.guild.add_channel("help", kind=FORUM)
    post = await reading.fake.post(reading.teacher, forum, "My crab is sad", "It hides all day.")
    await reading.ask("What can one do?", where=post)
    assert "teacher: My crab is sad\n\nIt hides all day." in reading.model.prompts[-1]
    await reading.ask("And at night?", where=post)
    assert "It hides all day." in reading.model.prompts[-1]
    assert fetched == [post.id]


async def test_a_post_that_begins_with_a_question_for_the_bot(reading: House) -> None:
    forum = reading.guild.add_channel("help", kind=FORUM)
    content = f"It hides all day. {reading.fake.bot.mention}, why?"
    post = await reading.fake.post(reading.teacher, forum, "My crab is sad", content)
    await reading.answer(post.messages[0])
    assert "<|im_start|>user\nMy crab is sad\n\nIt hides all day." in reading.model.prompts[-1]
    await reading.ask("And at night?", where=post)
    assert "My crab is sad" in reading.model.prompts[-1]
    assert "It hides all day." in reading.model.prompts[-1]


@pytest.mark.parametrize("private", [False, True])
async def test_of_a_thread_without_a_beginning_the_title_is_known(
    reading: House, private: bool
) -> None:
    thread = await reading.fake.open_thread(
        reading.teacher, reading.channel, "Crabs at home", private=private
    )
    await reading.ask("What do they eat?", where=thread)
    assert "title of the thread: Crabs at home" in reading.model.prompts[-1]


async def test_without_the_intent_the_title_is_known(bot: House) -> None:
    bot.fake.message_content = False
    said = await bot.say("I keep crabs.", mention=False, who=bot.teacher)
    thread = await thread_of(bot, said)
    await bot.ask("What do they eat?", where=thread)
    assert "teacher: Crabs at home" in bot.model.prompts[-1]
    assert "I keep crabs." not in bot.model.prompts[-1]


async def test_a_thread_that_hangs_from_an_answer_goes_on_from_it(reading: House) -> None:
    answer = await reading.ask("My crab is called Ferris.")
    await reading.settled()
    thread = await thread_of(reading, answer)
    for _ in range(2):
        await reading.ask("What is it called?", where=thread, who=reading.teacher)
        assert "My crab is called Ferris." in reading.model.prompts[-1]
        assert answer.content.splitlines()[0] in reading.model.prompts[-1]
    assert reading.rows("SELECT COUNT(*) FROM messages WHERE role = 'assistant'") == [(3,)]


async def test_a_thread_of_who_wants_nothing_kept(reading: House, fetched: list[int]) -> None:
    await consents_to_nothing(reading, reading.teacher)
    said = await reading.say("I keep crabs.", mention=False, who=reading.teacher)
    thread = await thread_of(reading, said)
    for _ in range(2):
        await reading.ask("What do they eat?", where=thread)
        assert "I keep crabs." in reading.model.prompts[-1]
    await reading.settled()
    assert "keep crabs" not in reading.tables()


async def test_a_bare_mention_in_a_thread_is_about_its_beginning(reading: House) -> None:
    said = await reading.say("Do crabs sleep?", mention=False, who=reading.teacher)
    thread = await thread_of(reading, said, "Do crabs…")
    await reading.ask("", where=thread)
    assert asked_last(reading) == "Do crabs sleep?"


# Replies


async def test_embeds_of_a_webhook_are_read(reading: House) -> None:
    embed = {
        "title": "Build failed",
        "description": "on main",
        "fields": [{"name": "Step", "value": "make test"}],
        "footer": {"text": "CI"},
    }
    said = await reading.fake.webhook(reading.channel, "Builder", embeds=[embed])
    await reading.ask("What went wrong?", reply_to=said)
    assert "Builder: Build failed\non main\nStep: make test\nCI" in reading.model.prompts[-1]
    assert owners(reading, "Build failed") == [(None, "Builder")]


async def test_words_of_a_bot_and_previews_of_links_are_read(reading: House) -> None:
    other = reading.fake.add_user("poller")
    other.bot = True
    reading.guild.join(other)
    said = await reading.say("Vote now!", who=other, mention=False)
    await reading.ask("On what?", reply_to=said)
    assert "poller: Vote now!" in reading.model.prompts[-1]

    linked = await reading.say("https://crabs.example", mention=False, who=reading.teacher)
    await reading.fake.preview(
        linked, {"type": "link", "title": "All about crabs", "description": "Ten legs."}
    )
    await reading.ask("How many legs?", reply_to=linked)
    assert (
        "teacher: https://crabs.example\n\nAll about crabs\nTen legs." in reading.model.prompts[-1]
    )


async def test_a_poll_is_read(reading: House) -> None:
    asked = await reading.fake.poll(
        reading.teacher, reading.channel, "Best <:crab:123456789012345678> food?", ["Algae", "Fish"]
    )
    poll = "Best :crab: food?\n- Algae\n- Fish"
    await reading.ask("Which would you take?", reply_to=asked)
    assert f"teacher: {poll}" in reading.model.prompts[-1]
    assert owners(reading, "Algae") == [(await member_id(reading, reading.teacher), "teacher")]
    private = reading.fake.open_dm(reading.newcomer)
    to_it = await reading.fake.poll(
        reading.newcomer, private, "Best <:crab:123456789012345678> food?", ["Algae", "Fish"]
    )
    await reading.answer(to_it)
    assert asked_last(reading) == poll


async def test_the_preview_of_a_link_is_nobodys_own_words(reading: House) -> None:
    linked = await reading.say("https://crabs.example", mention=False, who=reading.teacher)
    await reading.fake.preview(linked, {"type": "link", "title": "All about crabs"})
    await reading.ask("How many legs?", reply_to=linked)
    async with reading.store() as store:
        await store.members.set_consent(
            (await store.members.of_user(reading.teacher.id)).id, "train"
        )
        view = View(await store.snapshot(), Switches(members=True))
    [quoted] = [one for one in view.messages.values() if "about crabs" in one.text]
    assert view.refusal(quoted) == "text that a member only passed on"


async def test_text_in_components_is_read(reading: House) -> None:
    said = await reading.fake.webhook(reading.channel, "Builder")
    said.components = [
        {"type": 17, "id": 1, "components": [{"type": 10, "id": 2, "content": "Build failed"}]}
    ]
    await reading.ask("What went wrong?", reply_to=said)
    assert "Builder: Build failed" in reading.model.prompts[-1]


async def test_the_bots_own_words_come_from_the_store_alone(reading: House) -> None:
    reading.model.answer = lambda prompt: "xyzzy" if "secret" in prompt else "I see."
    answer = await reading.ask("What is the secret?")
    await reading.settled()
    clicked = await reading.command("forget-me")
    await reading.fake.click(
        reading.newcomer, clicked.responses[0], clicked.responses[0].buttons[0]["custom_id"]
    )
    await reading.fake.until(lambda: "xyzzy" not in reading.tables())
    await reading.ask("And?", reply_to=answer, who=reading.teacher)
    assert "xyzzy" not in reading.model.prompts[-1]
    opened = await reading.fake.context_menu(
        reading.teacher, reading.channel, "Ask about this", answer
    )
    asked = await reading.fake.submit(reading.teacher, opened, {"question": "What is it?"})
    await reading.told(asked)
    assert "xyzzy" in reading.model.prompts[-1]  # it stands in the channel, but is not kept again
    await reading.settled()
    assert "xyzzy" not in reading.tables()


async def test_a_bare_mention_as_a_reply_is_about_the_message(reading: House) -> None:
    said = await reading.say("What is TLS?", mention=False, who=reading.teacher)
    answer = await reading.ask("", reply_to=said)
    assert asked_last(reading) == "What is TLS?"
    await reading.command("retry")
    assert asked_last(reading) == "What is TLS?"
    await reading.ask("Shorter?", reply_to=answer)
    assert "What is TLS?" in reading.model.prompts[-1]
    assert owners(reading, "What is TLS?")[0] == (
        await member_id(reading, reading.teacher),
        "teacher",
    )


async def test_a_bare_mention_as_a_reply_to_an_answer_lets_it_go_on(reading: House) -> None:
    first = await reading.ask("What is TLS?")
    await reading.ask("", reply_to=first)
    assert "What is TLS?" in reading.model.prompts[-1]
    assert (
        reading.model.prompts[-1]
        .rstrip()
        .endswith("<|im_start|>user\nPlease go on.<|im_end|>\n<|im_start|>assistant")
    )


async def test_a_bare_mention_about_nothing_is_told_so(reading: House) -> None:
    said = await reading.say("👋", mention=False, attachments=[PICTURE], who=reading.teacher)
    picture = await reading.say("", mention=False, attachments=[PICTURE], who=reading.teacher)
    for more in ({}, {"reply_to": picture}):
        asked = await reading.say("", **more)
        await reading.fake.until(lambda asked=asked: words(reading.answers(asked)) == [say.EMPTY])
    await reading.ask("", reply_to=said)
    assert asked_last(reading).startswith("👋")
    assert len(reading.model.prompts) == 1


async def test_files_of_the_replied_to_message_are_read(house: House) -> None:
    await house.open(message_content_intent=True, attachments=2, attachment_bytes=12)
    files = [NOTES, PICTURE, NOTES]
    said = await house.say("My notes.", mention=False, who=house.teacher, attachments=files)
    await house.ask("What do they do?", reply_to=said)
    prompt = house.model.prompts[-1]
    assert "teacher: My notes.\n\nnotes.txt:\n```\nCrabs moult" in prompt
    assert prompt.count("Crabs moult") == 1
    assert "in spring" not in prompt
    assert "you cannot see it: the picture crab.png, the file notes.txt" in prompt

    only = await house.say("", mention=False, who=house.teacher, attachments=[NOTES])
    opened = await house.fake.context_menu(house.newcomer, house.channel, "Ask about this", only)
    asked = await house.fake.submit(house.newcomer, opened, {"question": "What is it?"})
    await house.told(asked)
    assert "Crabs moult" in house.model.prompts[-1]

    none = await house.say("", mention=False, attachments=[("a.zip", b"PK\0\0", "x/zip")])
    opened = await house.fake.context_menu(house.newcomer, house.channel, "Ask about this", none)
    asked = await house.fake.submit(house.newcomer, opened, {"question": "What is it?"})
    assert await house.told(asked) == say.NO_TEXT
    assert len(house.model.prompts) == 2


# What cannot be seen


async def test_pictures_alone_get_a_sentence(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    sent = [
        (await bot.say("", where=private, attachments=[PICTURE]), "picture"),
        (await bot.say("", where=private, stickers=["Wave"]), "sticker"),
        (await bot.say("", where=private, attachments=[("a.mp4", b"\0", "video/mp4")]), "video"),
        (await bot.say("", where=private, attachments=[("a.zip", b"PK\0", "x/zip")]), "file"),
        (await bot.fake.speak(bot.newcomer, private), "recording"),
        (await bot.say("", attachments=[PICTURE]), "picture"),
    ]
    for message, kind in sent:
        await bot.fake.until(lambda one=message: bot.answers(one))
        assert words(bot.answers(message)) == [say.CANNOT_SEE[kind]]
    assert bot.model.prompts == []


async def test_with_words_the_model_is_told_what_it_cannot_see(bot: House) -> None:
    await bot.ask("What is this?", attachments=[PICTURE], stickers=["Wave"])
    line = "(Attached, but you cannot see it: the picture crab.png, the sticker Wave)"
    assert f"What is this?\n\n{line}<|im_end|>" in bot.model.prompts[-1]


async def test_a_picture_as_a_reply_is_about_the_message(reading: House) -> None:
    said = await reading.say("Which crab is this?", mention=False, who=reading.teacher)
    await reading.ask("", reply_to=said, attachments=[PICTURE])
    assert "teacher: Which crab is this?" in reading.model.prompts[-1]
    assert "the picture crab.png" in reading.model.prompts[-1]


# Marks


async def test_marks_are_read_in_words_and_kept_so(bot: House) -> None:
    role = bot.guild.add_role("crab keepers")
    text = f"<:ferris:123> Do {role.mention} meet in {bot.channel.mention} at <t:1618953630:R>?"
    spoken = ":ferris: Do @crab keepers meet in #general at 21:20 UTC on 2021-04-20?"
    answer = await bot.ask(text)
    assert answer.content.startswith(f"You wrote: {spoken}\n")
    assert bot.rows("SELECT text FROM messages WHERE role = 'user'") == [(spoken,)]
    called = await bot.command("ask", question=text)
    assert called.responses[0].content.startswith(f"You wrote: {spoken}\n")


async def test_so_are_those_in_quoted_words(reading: House) -> None:
    text = f"Ask {reading.newcomer.mention} in {reading.channel.mention}."
    said = await reading.say(text, mention=False, who=reading.teacher)
    await reading.ask("Whom?", reply_to=said)
    assert "teacher: Ask @newcomer in #general." in reading.model.prompts[-1]
    assert "newcomer in #general" not in reading.tables()
