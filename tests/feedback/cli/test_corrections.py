"""`guildgpt feedback corrections` as an operator meets it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store

from .asking import read_rows, refused, told

MEMBER = 80351110224678912


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


def offered(path: Path, *texts: str) -> list[str]:
    """Ids of corrections that a member offered."""

    async def offer() -> list[str]:
        url = f"sqlite:///{path}"
        async with await Store.open(url, key=member_key(url)) as opened:
            member = await opened.members.of_user(MEMBER)
            place = await opened.conversations.start("round", source="web")
            asked = await opened.conversations.add_message(
                conversation_id=place, parent_id=None, role="user", text="What is TLS?"
            )
            ids = []
            for number, text in enumerate(texts):
                answer = await opened.conversations.add_message(
                    conversation_id=place,
                    parent_id=asked.id,
                    role="assistant",
                    text=f"No idea, for the {number}th time.",
                    synthetic=True,
                )
                made = await opened.corrections.offer(answer.id, member.id, text, "CC0-1.0")
                ids.append(made.id)
            return ids

    return asyncio.run(offer())


def test_what_waits_is_reviewed_and_leaves(store: Path) -> None:
    first, second, third = offered(store, "A protocol.", "[bold]Nonsense.", "A handshake.")
    shown = told("corrections", "list", "--store", store)
    for words in ("What is TLS?", "for the 1th time", "[bold]Nonsense.", "CC0-1.0", first[:8]):
        assert words in shown
    assert "refused" in told("corrections", "refuse", second[:12], "--store", store)
    told("corrections", "accept", first, third, "--store", store)
    assert "Nothing waits." in told("corrections", "list", "--store", store)
    found = json.loads(told("corrections", "list", "--all", "--store", store, "--json"))
    assert [one["state"] for one in found] == ["accepted", "refused", "accepted"]
    assert found[0]["said"][-1] == {"role": "assistant", "text": "No idea, for the 0th time."}
    assert "member_id" not in found[0]
    out = store.with_name("rows.jsonl")
    told("export", "sft", "--out", out, "--store", store)
    assert [row["messages"][-1]["content"] for row in read_rows(out)] == [
        "A protocol.",
        "A handshake.",
    ]


def test_an_id_that_is_none_or_several(store: Path) -> None:
    offered(store, "A protocol.", "A handshake.")
    error = refused("corrections", "accept", "xyz", "--store", store)
    assert "no corrections" in error.what
    assert "list --all" in str(error.remedy)
    assert "Type more" in str(refused("corrections", "accept", "", "--store", store).remedy)


def test_a_store_without_any(store: Path) -> None:
    offered(store)
    assert "Nothing waits." in told("corrections", "list", "--store", store)
    assert "Nobody has worded" in told("corrections", "list", "--all", "--store", store)
    assert json.loads(told("corrections", "list", "--store", store, "--json")) == []
