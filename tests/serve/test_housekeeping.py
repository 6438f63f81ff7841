"""What a server deletes beside answering."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guildgpt.feedback.records import ConversationKind
from guildgpt.feedback.store import Store
from guildgpt.serve.housekeeping import CLEAN_SECONDS, REWRITE_AT_LATEST, Housekeeping

from .conftest import STORE_KEY


class Time:
    """A clock and a watch that go together, when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self) -> float:
        return self.seconds

    def clock(self) -> datetime:
        return datetime(2026, 8, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


async def say(store: Store, kind: ConversationKind, text: str) -> None:
    place = await store.conversations.start(kind, source="tests")
    await store.conversations.add_message(
        conversation_id=place, parent_id=None, role="user", text=text
    )


async def said(store: Store) -> set[str]:
    return {one.text for one in (await store.snapshot()).messages}


async def test_old_chats_and_what_expired_go_and_nothing_else(tmp_path: Path) -> None:
    time = Time()
    url = f"sqlite:///{tmp_path / 'f.db'}"
    async with await Store.open(url, key=STORE_KEY, clock=time.clock) as store:
        keeping = Housekeeping(lambda: store, lambda: False, 30, time.watch)
        await say(store, "web", "an old chat")
        await say(store, "chain", "what the bot keeps")
        await store.accounts.invite("voter", lasts=timedelta(days=7))
        await store.responses.add("resp_1", "local", None, {})
        await keeping.once(store)
        assert len(await said(store)) == 2
        time.seconds += 31 * 24 * 3600
        await say(store, "web", "a new chat")
        await keeping.once(store)
        assert await said(store) == {"what the bot keeps", "a new chat"}
        assert await store.responses.of("resp_1", "local") is None
        assert not store.traces.in_log
        assert not store.traces.in_file
        assert b"an old chat" not in (tmp_path / "f.db").read_bytes()


@pytest.mark.parametrize("busy", [True, False])
async def test_the_file_is_written_anew_when_nobody_waits(busy: bool, tmp_path: Path) -> None:
    time = Time()
    url = f"sqlite:///{tmp_path / 'f.db'}"
    async with await Store.open(url, key=STORE_KEY, clock=time.clock) as store:
        keeping = Housekeeping(lambda: store, lambda: busy, 30, time.watch)
        await keeping.once(store)
        await store.responses.add("resp_1", "local", None, {})
        time.seconds += 31 * 24 * 3600
        await keeping.once(store)
        assert not store.traces.in_log
        assert store.traces.in_file is busy
        time.seconds += CLEAN_SECONDS + REWRITE_AT_LATEST
        await keeping.once(store)
        assert not store.traces.in_file
