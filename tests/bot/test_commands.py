"""Every slash command, the context menu, and what admins set for their guild."""

from __future__ import annotations

import itertools

import pytest

from guildgpt.bot.text import sentences as say
from simguild.fake import Channel, Interaction, Refused
from simguild.journal import buttons, finished

from .house import House, words


def said(called: Interaction) -> str:
    """What a command brought, which has to be one message."""
    [one] = called.responses
    return one.content


async def test_what_is_registered(bot: House) -> None:
    registered = {command["name"]: command for command in bot.fake.commands.everywhere}
    assert set(registered) == {
        *("ask", "chat", "retry", "stop", "compare", "system", "settings", "reports", "stats"),
        *("privacy", "forget-me", "help", "Ask about this", "rounds", "prompt"),
    }
    for admins in ("system", "settings", "reports", "rounds"):
        assert registered[admins]["default_member_permissions"] == str(1 << 5)
        with pytest.raises(Refused):
            await bot.fake.slash(bot.newcomer, bot.channel, admins)


async def test_ask(bot: House) -> None:
    called = await bot.command("ask", question="What is TLS?")
    assert called.acknowledged_ms is not None
    assert called.acknowledged_ms < 1000
    assert said(called).startswith("You wrote: What is TLS?")
    assert not called.responses[0].ephemeral
    assert list(buttons(called.responses[0])) == ["up", "down", "again", "report"]
    assert bot.rows("SELECT kind FROM conversations") == [("slash",)]
    # Whoever replies to it goes on.
    await bot.ask("Why?", reply_to=called.responses[0])
    assert "What is TLS?" in bot.model.prompts[-1]


async def test_ask_in_direct_messages_is_part_of_them(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    await bot.command("ask", question="My name is Ferris.", where=private)
    await bot.ask("What is my name?", where=private)
    assert "Ferris" in bot.model.prompts[-1]


async def test_chat_with_a_topic_that_is_not_answered_opens_no_thread(house: House) -> None:
    await house.open(blocked_words=["forbidden"])
    called = await house.command("chat", topic="Tell me what is forbidden")
    assert "rather not" in said(called)
    assert house.guild.threads == []


async def test_compare(bot: House) -> None:
    replies = iter(["The first.", "The second."])
    bot.model.answer = lambda prompt: next(replies)
    called = await bot.command("compare", question="What is TLS?")
    shown = said(called)
    assert "The first." in shown
    assert "The second." in shown
    assert list(buttons(called.responses[0])) == ["left", "right", "tie", "both_bad"]
    async with bot.store() as store:
        snapshot = await store.snapshot()
    [comparison] = snapshot.comparisons
    texts = {message.id: message.text for message in snapshot.messages}
    left, right = (texts[id] for id in comparison.candidates)
    assert shown.index(left) < shown.index(right)


async def test_compare_shows_both_orders(house: House) -> None:
    """Blind: which of the two was drawn first does not decide where it stands."""
    replies = itertools.cycle(["alpha", "omega"])
    house.model.answer = lambda prompt: next(replies)
    await house.open(questions_per_user=40)
    orders = set()
    while len(orders) < 2:
        where = house.guild.add_channel("another")  # each has a budget of its own
        shown = said(await house.command("compare", question="?", where=where))
        assert {"alpha", "omega"} < set(shown.split())
        orders.add(shown.index("alpha") < shown.index("omega"))


async def test_compare_needs_something_to_keep_the_vote_in(bot: House) -> None:
    await bot.command("privacy", consent="none")
    called = await bot.command("compare", question="What is TLS?")
    assert said(called) == say.CONSENT_NONE
    assert called.responses[0].ephemeral


async def test_help_and_privacy(bot: House) -> None:
    called = await bot.command("help")
    assert said(called) == say.HELP
    assert called.responses[0].ephemeral
    for command in bot.fake.commands.everywhere:
        name = command["name"]
        shown = f"`/{name}`" if command["type"] == 1 else f"*{name}*"
        assert shown in say.HELP or name == "help"
    first = said(await bot.command("privacy"))
    assert "You chose **chat** (the default)" in first
    assert "rule 21" in first
    assert "You chose **none**" in said(await bot.command("privacy", consent="none"))
    assert "do not train" in said(await bot.command("privacy", consent="train"))
    assert "You chose **train**" in said(await bot.command("privacy"))
    await bot.restart(train_on_members=True, retention_days=7)
    told = said(await bot.command("privacy"))
    assert "may be used to improve me" in told
    assert "after 7 days" in told
    assert "rule 21" in told


async def test_stats_are_a_guilds_own(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    await bot.press(answer, "up")
    other = bot.fake.add_guild("gardeners")
    other.join(bot.newcomer)
    roses = other.add_channel("roses")
    await bot.fake.until(lambda: bot.fake.connected)
    assert "**1** answers in 1 conversations\n👍 1 · 👎 0" in said(await bot.command("stats"))
    assert "**0** answers" in said(await bot.command("stats", where=roses))


# The context menu


async def asked_about(bot: House, where: Channel, message: object, question: str) -> Interaction:
    """The menu's entry on a message, and its form filled in."""
    opened = await bot.fake.context_menu(bot.newcomer, where, "Ask about this", message)  # type: ignore[arg-type]
    assert opened.modal is not None
    sent = await bot.fake.submit(bot.newcomer, opened, {"question": question})
    await bot.fake.until(lambda: finished(sent.responses[0]))
    return sent


async def test_ask_about_a_message(bot: House) -> None:
    message = await bot.say("Monads are burritos.", who=bot.teacher, mention=False)
    sent = await asked_about(bot, bot.channel, message, "Is that so?")
    assert said(sent).startswith("You wrote: teacher: Monads are burritos.\nnewcomer: Is that so?")
    async with bot.store() as store:
        quoted = await store.conversations.message_by_discord_id(message.id)
        teacher = await store.members.of_user(bot.teacher.id)
    assert quoted is not None
    assert (quoted.text, quoted.member_id) == ("Monads are burritos.", teacher.id)


async def test_ask_about_an_answer(bot: House) -> None:
    answer = await bot.ask("What is TLS?")
    await asked_about(bot, bot.channel, answer, "Shorter, please")
    assert bot.model.prompts[-1].count("What is TLS?") == 2  # asked, and echoed; not quoted again


async def test_ask_about_a_message_of_who_wants_nothing_kept(bot: House) -> None:
    await bot.command("privacy", who=bot.teacher, consent="none")
    message = await bot.say("Monads are burritos.", who=bot.teacher, mention=False)
    bot.model.answer = lambda prompt: "No."
    await asked_about(bot, bot.channel, message, "Is that so?")
    assert "Monads are burritos." in bot.model.prompts[-1]
    assert "burritos" not in bot.tables()


async def test_ask_about_a_picture(bot: House) -> None:
    picture = [("cat.png", b"\x89PNG", "image/png")]
    message = await bot.fake.say(bot.teacher, bot.channel, attachments=picture)
    called = await bot.fake.context_menu(bot.newcomer, bot.channel, "Ask about this", message)
    assert said(called) == say.NO_TEXT


# What admins set


async def test_it_answers_only_in_the_channels_it_is_given(bot: House) -> None:
    pond, elsewhere = bot.guild.add_channel("pond"), bot.guild.add_channel("elsewhere")
    await bot.fake.until(lambda: bot.fake.connected)
    told = said(await bot.command("settings", who=bot.teacher, channel=pond))
    assert told == say.rules([pond.mention], feedback=True)
    await bot.ask("Here?", where=pond)
    await bot.say("And here?", where=elsewhere)
    called = await bot.command("ask", question="Here?", where=elsewhere)
    assert said(called) == say.OTHER_CHANNEL
    assert called.responses[0].ephemeral
    assert said(await bot.command("chat", where=elsewhere)) == say.OTHER_CHANNEL
    assert words(elsewhere.by(bot.fake.bot)) == []
    assert elsewhere.typed == 0

    await bot.command("chat", where=pond, topic="Cats")
    [thread] = bot.guild.threads
    await bot.fake.until(lambda: finished(thread.messages[0]))

    told = said(await bot.command("settings", who=bot.teacher, everywhere=True))
    assert told == say.rules([], feedback=True)
    await bot.ask("And now?", where=elsewhere)


async def test_feedback_can_be_switched_off(bot: House) -> None:
    told = said(await bot.command("settings", who=bot.teacher, feedback=False))
    assert told == say.rules([], feedback=False)
    answer = await bot.ask("What is TLS?")
    assert list(buttons(answer)) == ["again", "report"]
    await bot.restart(feedback=False)
    await bot.command("settings", who=bot.teacher, feedback=True)
    answer = await bot.ask("What is TLS?")
    assert list(buttons(answer)) == ["up", "down", "again", "report"]


async def test_what_is_set_without_changes_is_only_shown(bot: House) -> None:
    assert said(await bot.command("settings", who=bot.teacher)) == say.rules([], feedback=True)
    assert bot.rows("SELECT COUNT(*) FROM guild_settings") == [(0,)]
