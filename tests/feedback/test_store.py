"""What is put into the store comes out of it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.records import StoredMessage, VersionStats
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version

from .babble import dump
from .conftest import KEY, Clock

Talk = tuple[str, StoredMessage, StoredMessage]  # the member's id, the question, the answer


async def talk(store: Store, *, user: int = 1, channel: int = 10, guild: int | None = 100) -> Talk:
    """A member's question and the answer to it."""
    member = await store.members.of_user(user)
    kind = "chain" if guild else "dm"
    conversation = await store.conversations.start(kind, guild_id=guild, channel_id=channel)
    question = await store.conversations.add_message(
        conversation_id=conversation,
        parent_id=None,
        role="user",
        text="What is a monad?",
        name="tinkerer",
        member_id=member.id,
        discord_id=1000 + user,
    )
    return member.id, question, await answer(store, question)


async def answer(
    store: Store, question: StoredMessage, text: str = "A burrito.", version: str | None = None
) -> StoredMessage:
    return await store.conversations.add_message(
        conversation_id=question.conversation_id,
        parent_id=question.id,
        role="assistant",
        text=text,
        version_id=version,
        sampling={"temperature": 0.7, "seed": None},
        stop="eos",
        synthetic=True,
    )


# Members, guilds, versions


async def test_a_member_is_made_once_and_known_again(store: Store, url: str) -> None:
    first = await store.members.of_user(80351110224678912)
    assert first.consent == "chat"
    await store.members.set_consent(first.id, "train")
    again = await store.members.of_user(80351110224678912)
    assert again == replace(first, consent="train")
    assert await store.members.by_id(first.id) == again
    assert (await store.members.of_user(2)).id != first.id
    async with await Store.open(url, key=KEY) as other:
        assert await other.members.of_user(80351110224678912) == again


async def test_members_seen_for_the_first_time_at_once_are_one(store: Store) -> None:
    found = await asyncio.gather(*(store.members.of_user(7) for _ in range(20)))
    assert len({member.id for member in found}) == 1


async def test_consent_of_nobody_and_unknown_consent(store: Store) -> None:
    with pytest.raises(RecordGone, match="no longer in the store"):
        await store.members.set_consent("nobody", "none")
    with pytest.raises(ValueError, match="maybe"):
        await store.members.set_consent("nobody", "maybe")  # type: ignore[arg-type]
    assert await store.members.by_id("nobody") is None


async def test_guild_settings_are_replaced(store: Store) -> None:
    assert await store.places.settings(5) == {}
    await store.places.save_settings(5, {"channels": [2**62], "system": "Be kind. 🦀"})
    await store.places.save_settings(5, {"feedback": False})
    assert await store.places.settings(5) == {"feedback": False}


async def test_a_version_is_registered_twice(store: Store) -> None:
    await store.versions.register(Version("starter@8f3a21c0", "starter", "/old", "8f3a21c0" * 8))
    moved = Version("starter@8f3a21c0", "starter", "/new", "8f3a21c0" * 8)
    await store.versions.register(moved)
    assert (await store.snapshot()).versions == {moved.id: moved}


# Conversations


async def test_a_version_is_registered_with_what_it_learned_from(store: Store) -> None:
    _, question, _ = await talk(store)
    version = Version("v@1", "v", "/v", "1" * 64)
    learned = [("message", question.id), ("vote", "of another store"), ("poem", "unknown")]
    for _ in range(2):
        await store.versions.register(version, learned)
    assert (await store.privacy.erase(1)).versions == ("v@1",)
    await store.versions.register(version, learned)
    assert (await dump(store))["lineage"] == []


async def test_a_message_comes_back_as_it_went_in(store: Store) -> None:
    _, question, reply = await talk(store)
    for message in (question, reply):
        assert await store.conversations.message(message.id) == message
    assert question.text == "What is a monad?"
    assert question.created_at.utcoffset() == timedelta(0)
    assert reply.sampling == {"temperature": 0.7, "seed": None}
    assert await store.conversations.message("nothing") is None
    assert await store.conversations.channel_of(question.conversation_id) == 10
    assert await store.conversations.channel_of("nothing") is None


async def test_times_are_aware_and_never_the_same_though_the_clock_stands(store: Store) -> None:
    _, question, reply = await talk(store)
    assert question.created_at < reply.created_at
    found = await store.conversations.message(reply.id)
    assert found
    assert found.created_at == reply.created_at
    assert found.created_at.tzinfo is not None


async def test_text_that_a_database_cannot_hold_is_mended(store: Store) -> None:
    _, question, _ = await talk(store)
    odd = await answer(store, question, "nul \0 half \ud83d 🦀 \u202e")
    assert odd.text == "nul \N{REPLACEMENT CHARACTER} half \N{REPLACEMENT CHARACTER} 🦀 \u202e"
    assert await store.conversations.message(odd.id) == odd


async def test_the_path_is_one_branch_from_the_root(store: Store) -> None:
    _, question, first = await talk(store)
    second = await answer(store, question, "A monoid.")
    path = [question, second]
    for number in range(60):
        path.append(
            await store.conversations.add_message(
                conversation_id=question.conversation_id,
                parent_id=path[-1].id,
                role="assistant" if number % 2 else "user",
                text=str(number),
            )
        )
    assert await store.conversations.path_to(path[-1].id) == path
    assert await store.conversations.path_to(first.id) == [question, first]
    assert await store.conversations.path_to("nothing") == []


async def test_the_same_answer_again_is_written_anew(store: Store) -> None:
    """After a crash the bot answers again, under the id that the delivery named."""
    _, question, _ = await talk(store)

    async def tell(text: str, parent: StoredMessage) -> StoredMessage:
        return await store.conversations.add_message(
            id="answer",
            conversation_id=question.conversation_id,
            parent_id=parent.id,
            role="assistant",
            text=text,
        )

    first = await tell("A bur", question)
    second = await tell("A burrito.", question)
    assert second == replace(first, text="A burrito.")
    assert await store.conversations.message("answer") == second
    with pytest.raises(StoreError):
        await tell("elsewhere", second)


async def test_a_message_needs_its_conversation_and_its_parent(store: Store) -> None:
    _, question, _ = await talk(store)
    for conversation, parent in (("nothing", None), (question.conversation_id, "nothing")):
        with pytest.raises(RecordGone, match="no longer in the store"):
            await store.conversations.add_message(
                conversation_id=conversation, parent_id=parent, role="user", text="lost"
            )
    elsewhere = await store.conversations.start("chain")
    with pytest.raises(ValueError, match="another conversation"):
        await store.conversations.add_message(
            conversation_id=elsewhere, parent_id=question.id, role="user", text="lost"
        )


async def test_any_part_of_an_answer_finds_it(store: Store) -> None:
    _, question, reply = await talk(store, user=1)
    delivery = await store.deliveries.claim(1001, "message", channel_id=10)
    assert delivery
    await store.deliveries.update(delivery.id, answer_id=reply.id, parts=(501, 502))
    for part in (501, 502):
        assert await store.conversations.message_by_discord_id(part) == reply
    assert await store.conversations.message_by_discord_id(1001) == question
    assert await store.conversations.message_by_discord_id(503) is None
    # The same messages written over by a second try: the newest answer is meant.
    newer = await answer(store, question, "A monoid.")
    again = await store.deliveries.claim(1002, "retry", channel_id=10)
    assert again
    await store.deliveries.update(again.id, answer_id=newer.id, parts=(501,))
    assert await store.conversations.message_by_discord_id(501) == newer
    assert await store.conversations.message_by_discord_id(502) == reply


async def test_the_tail_is_of_threads_and_direct_messages(store: Store) -> None:
    assert await store.conversations.channel_tail(10) is None
    await talk(store, channel=10)
    assert (
        await store.conversations.channel_tail(10) is None
    )  # replies in a channel go by what they reply to
    _, _, reply = await talk(store, user=2, channel=11, guild=None)
    assert await store.conversations.channel_tail(11) == reply


async def test_what_a_member_asked_last_in_a_channel(store: Store) -> None:
    member, question, _ = await talk(store)
    assert await store.conversations.last_question(member, 10) is None  # nothing was delivered yet
    for event, asked in ((1, question), (2, question), (3, None)):
        delivery = await store.deliveries.claim(event, "message", channel_id=10, member_id=member)
        assert delivery
        await store.deliveries.update(delivery.id, question_id=asked.id if asked else None)
    assert await store.conversations.last_question(member, 10) == question
    assert await store.conversations.last_question(member, 11) is None
    assert await store.conversations.last_question("somebody else", 10) is None
    await store.revisions.mark_deleted(1001)
    assert await store.conversations.last_question(member, 10) is None


async def test_what_a_member_deletes_is_blank_but_holds_the_tree(store: Store) -> None:
    _, question, reply = await talk(store)
    claimed = await store.deliveries.claim(1001, "message", extra={"text": "What is a monad?"})
    assert claimed
    await store.revisions.mark_deleted(1001)
    await store.revisions.mark_deleted(424242)  # never stored
    blank, kept = await store.conversations.path_to(reply.id)
    assert (blank.text, blank.name, blank.deleted) == ("", None, True)
    assert kept == reply
    assert [delivery.extra for delivery in await store.deliveries.unfinished()] == [{}]
    with pytest.raises(StoreError):
        await answer(store, question, "It asked about monads.")  # it would quote what is deleted


# Opinions


async def test_a_changed_mind_is_a_new_event_and_the_newest_counts(store: Store) -> None:
    member, question, left = await talk(store)
    right = await answer(store, question, "A monoid.")
    shown = await store.votes.add_comparison(question.id, [right.id, left.id], 77)
    assert shown.candidates == (right.id, left.id)
    assert await store.votes.comparison(shown.id) == shown
    assert await store.votes.comparison("nothing") is None
    for verdict, ranking in (("ranked", (0, 1)), ("tie", ()), ("ranked", (1, 0))):
        vote = await store.votes.cast(shown.id, member, verdict, ranking)  # type: ignore[arg-type]
    for value in (1, -1, 0, -1):
        rating = await store.ratings.add(left.id, member, value, "too short")
    other = await store.members.of_user(2)
    await store.ratings.add(left.id, other.id, 1)
    await store.ratings.add(left.id, other.id, 0)
    await store.reports.add(right.id, other.id, "rude")
    stats = await store.stats()
    assert stats.votes == {"ranked": 1, "tie": 0, "both_bad": 0, "skip": 0}
    assert (stats.up, stats.down, stats.reports, stats.comparisons) == (0, 1, 1, 1)
    events = await store.snapshot()
    assert [v.verdict for v in events.votes] == ["ranked", "tie", "ranked"]
    assert events.votes[-1] == vote
    assert [r.value for r in events.ratings] == [1, -1, 0, -1, 1, 0]
    assert rating in events.ratings


async def test_opinions_on_what_is_not_there(store: Store) -> None:
    member, question, reply = await talk(store)
    for opinion in (
        store.ratings.add("nothing", member, 1),
        store.ratings.add(reply.id, "nobody", 1),
        store.reports.add("nothing", member),
        store.votes.cast("nothing", member, "tie"),
        store.votes.add_comparison(question.id, [reply.id, "nothing"]),
        store.votes.add_comparison("nothing", [reply.id, question.id]),
    ):
        with pytest.raises(RecordGone, match="no longer in the store"):
            await opinion
    await store.revisions.mark_deleted(1001)
    with pytest.raises(RecordGone, match="no longer in the store"):
        await store.ratings.add(question.id, member, 1)


async def test_votes_that_make_no_sense(store: Store) -> None:
    member, question, left = await talk(store)
    right = await answer(store, question)
    shown = await store.votes.add_comparison(question.id, [left.id, right.id])
    for verdict, ranking in (
        ("ranked", ()),
        ("ranked", (0, 0)),
        ("ranked", (0, 2)),
        ("tie", (0, 1)),
        ("left", ()),
    ):
        with pytest.raises(ValueError, match=r"no (ranking|verdict)"):
            await store.votes.cast(shown.id, member, verdict, ranking)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rating"):
        await store.ratings.add(left.id, member, 2)
    with pytest.raises(ValueError, match="different answers"):
        await store.votes.add_comparison(question.id, [left.id, left.id])
    assert (await store.stats()).votes["ranked"] == 0


async def test_the_same_comparison_again_stays_as_it_was(store: Store) -> None:
    _, question, left = await talk(store)
    right = await answer(store, question)
    first = await store.votes.add_comparison(question.id, [left.id, right.id], id="c")
    assert await store.votes.add_comparison(question.id, [right.id, left.id], id="c") == first


async def test_stats_by_version_and_by_guild(store: Store) -> None:
    member, question, _ = await talk(store, guild=100)
    old = await answer(store, question, "old", "old@1")
    new = await answer(store, question, "new", "new@2")
    shown = await store.votes.add_comparison(question.id, [old.id, new.id])
    await store.votes.cast(shown.id, member, "ranked", (1, 0))
    await store.ratings.add(new.id, member, 1)
    await store.ratings.add(old.id, member, -1)
    await talk(store, user=2, guild=200)
    await store.members.set_consent((await store.members.of_user(3)).id, "none")
    stats = await store.stats()
    assert (stats.members, stats.conversations, stats.messages, stats.answers) == (3, 2, 6, 4)
    assert stats.consents == {"none": 1, "chat": 2, "train": 0}
    assert stats.versions == {
        "new@2": VersionStats(answers=1, up=1),
        "old@1": VersionStats(answers=1, down=1),
    }
    here, there = await store.stats(100), await store.stats(200)
    assert (here.members, here.messages, here.up, here.votes["ranked"]) == (1, 4, 1, 1)
    assert (there.members, there.messages, there.up, there.votes["ranked"]) == (1, 2, 0, 0)
    assert there.versions == {}


# Many at once


async def test_two_hundred_members_writing_at_once(store: Store) -> None:
    """Nobody is locked out, and everything is there."""
    _, question, reply = await talk(store)

    async def one(user: int) -> None:
        member = await store.members.of_user(user)
        await store.ratings.add(reply.id, member.id, 1)
        await store.conversations.add_message(
            conversation_id=question.conversation_id,
            parent_id=reply.id,
            role="user",
            text=f"and {user}?",
            member_id=member.id,
        )

    await asyncio.gather(*(one(user) for user in range(2, 202)))
    stats = await store.stats()
    assert (stats.members, stats.messages, stats.up) == (201, 202, 200)


async def test_a_cancelled_caller_breaks_nothing_off(store: Store) -> None:
    """A database in memory is one connection: to lose it would be to lose everything."""
    _, question, reply = await talk(store)
    for steps in range(12):
        task = asyncio.create_task(answer(store, question))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await store.conversations.message(reply.id) == reply


async def test_a_store_in_memory(clock: Clock) -> None:
    async with await Store.open("sqlite://", key=KEY, clock=clock) as store:
        _, question, reply = await talk(store)
        both = await asyncio.gather(store.conversations.path_to(reply.id), answer(store, question))
        assert both[0] == [question, reply]


async def test_a_plain_path_is_a_file_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "50% mine.db"
    async with await Store.open(str(path), key=KEY) as store:
        await talk(store)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0o600)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # closed: one file to copy
