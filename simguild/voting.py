"""Rounds as members see them on Discord: what they read, how they vote, whether that counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

from guildgpt.bot.text.shown import answer_text
from guildgpt.feedback.records import Ballots
from guildgpt.feedback.store import Store
from simguild.fake import Channel, FakeDiscord, FakeMessage
from simguild.journal import Journal, buttons, kind_of
from simguild.person import Person
from simguild.tastes import Taste

WAVERING = 0.15  # of the votes are changed
_ROUND = re.compile(r"\n\n\*\*A\*\*\n(.*)\n\n\*\*B\*\*\n(.*)\n\n(?:\*Which|\*\*Closed)", re.DOTALL)


def open_rounds(channel: Channel) -> list[FakeMessage]:
    """The messages there that can be voted on."""
    return [one for one in channel.messages if not one.deleted and "a" in buttons(one)]


def answers(message: FakeMessage) -> tuple[str, str]:
    """A and B, as a round's message shows them. ValueError if it shows no two answers."""
    found = _ROUND.search(message.content)
    if found is None:
        raise ValueError(f"this shows no two answers: {message.content!r}")
    return found[1], found[2]


async def vote(me: Person, message: FakeMessage, taste: Taste) -> None:
    """Vote by the taste, seeing only what Discord shows; some say something else first."""
    await me.think()
    if me.chance.random() < WAVERING:
        await me.press(message, me.chance.choice(("a", "b", "tie", "both_bad")))
        await me.think()
    best = taste.vote(answers(message), me.chance)
    await me.press(message, "tie" if best is None else "ab"[best])


async def miscounted(fake: FakeDiscord, journal: Journal, store: Store) -> list[str]:
    """The closed rounds in which another vote counts than a member cast last, or for another answer
    than the one that was shown, in words."""
    wrong = []
    for held in await store.rounds.ballots():
        message = fake.world.messages[held.round.discord_id or 0]
        cast = {
            (await store.members.of_user(one.who.id)).id: one.verdict
            for one in journal.noted
            if one.message is message
        }
        counted = {one.member_id: kind_of(one.verdict, one.ranking) for one in held.votes}
        if counted != cast:
            wrong.append(f"of {message.content!r}: {cast} was said, {counted} counts")
        kept = [answer_text(text) for text, _ in await written(store, held)]
        if kept != [*answers(message)]:
            wrong.append(f"of {message.content!r}: {kept} is kept")
    return wrong


async def written(store: Store, held: Ballots) -> list[tuple[str, str | None]]:
    """A round's answers in the order shown, and the version that wrote each."""
    comparison = await store.votes.comparison(held.round.comparison_id)
    ids = comparison.candidates if comparison else ()
    found = [await store.conversations.message(id) for id in ids]
    return [(one.text, one.version_id) for one in found if one is not None]


async def unsigned(store: Store) -> list[str]:
    """The answers of which nobody knows what version wrote them."""
    known = {one.id for one in await store.versions.all()}
    said = (await store.snapshot()).messages
    return [one.text for one in said if one.role == "assistant" and one.version_id not in known]


def given_away(fake: FakeDiscord, journal: Journal, versions: Iterable[str]) -> list[str]:
    """Whatever Discord showed of the bot's that names one of the versions, by its id or hash."""
    whispered = chain.from_iterable(one.sent for one in journal.interactions)
    names = [part for id in versions for part in (id, id.partition("@")[2]) if part]
    return [
        text
        for message in {*fake.world.messages.values(), *whispered}
        if message.author.bot
        for text in (message.content, *message.edits, str(message.components))
        if any(name in text for name in names)
    ]
