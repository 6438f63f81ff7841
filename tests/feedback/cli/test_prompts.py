"""`guildgpt feedback prompts` as an operator meets it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from guildgpt.errors import DataError, GuildError
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt

from .asking import refused, told

MEMBER = 80351110224678912


def submitted(path: Path, *texts: str) -> list[str]:
    """Ids of prompts that a member submitted."""

    async def submit() -> list[str]:
        url = f"sqlite:///{path}"
        async with await Store.open(url, key=member_key(url)) as store:
            member = await store.members.of_user(MEMBER)
            new = [NewPrompt(text, "discord", "CC0-1.0") for text in texts]
            made = [await store.prompts.submit(member.id, one) for one in new]
            return [one.id for one in made if one]

    return asyncio.run(submit())


def test_prompts_are_taken_and_listed(tmp_path: Path) -> None:
    store = tmp_path / "feedback.db"
    assert "taken into the pool: 210 (101 to decide, 109 to learn from)" in told(
        "prompts", "add", "starter", "--store", store
    )
    again = json.loads(told("prompts", "add", "starter", "--store", store, "--json"))
    assert again == {"decide": 0, "train": 0, "already_there": 210, "left_out": {}}
    shown = told("prompts", "list", "--store", store)
    assert "What is a firewall?" in shown
    assert "210 accepted" in shown
    (row, *_) = json.loads(told("prompts", "list", "--store", store, "--json"))
    assert row["licence"] == "CC0-1.0"
    assert not row["submitted"]
    assert "member_id" not in row


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    store, path = tmp_path / "feedback.db", tmp_path / "ours.txt"
    path.write_text("One?\n" + 400 * "x" + "\n", encoding="utf-8")
    said = told("prompts", "add", path, "--licence", "own", "--store", store)
    assert "taken into the pool: 1 (" in said
    assert "left out, over 300 characters: 1" in said

    path.write_text(400 * "x", encoding="utf-8")
    error = refused("prompts", "add", path, "--licence", "own", "--store", store)
    assert error.remedy == "left out, over 300 characters: 1"
    assert "under which licence" in refused("prompts", "add", path, kind=DataError).what


def test_members_prompts_wait_for_the_operator(tmp_path: Path) -> None:
    store = tmp_path / "feedback.db"
    good, bad, also = submitted(store, "What do quokkas eat?", "Say something rude", "Why?")
    shown = told("prompts", "list", "--offered", "--store", store)
    assert "3 offered" in shown
    assert "accept ID…" in shown
    said = told("prompts", "accept", good[:12], also, "--store", store)
    assert f"accepted: {good[:8]} What do quokkas eat?" in said
    told("prompts", "refuse", bad, "--store", store)
    assert "nobody submitted one" in told("prompts", "list", "--offered", "--store", store)
    rows = json.loads(told("prompts", "list", "--store", store, "--json"))
    assert {row["id"]: row["state"] for row in rows} == {
        good: "accepted",
        bad: "refused",
        also: "accepted",
    }
    assert all(row["submitted"] for row in rows)
    assert str(MEMBER) not in json.dumps(rows)


@pytest.mark.parametrize(
    ("ids", "what"),
    [(["zz"], "no prompts have an id"), (["", "zz"], "2 prompts have an id")],
)
def test_an_id_that_names_no_prompt_changes_none(tmp_path: Path, ids: list[str], what: str) -> None:
    store = tmp_path / "feedback.db"
    offered = submitted(store, "What do quokkas eat?", "Why?")
    error = refused("prompts", "accept", offered[0], *ids, "--store", store)
    assert what in error.what
    rows = json.loads(told("prompts", "list", "--store", store, "--json"))
    assert {row["state"] for row in rows} == {"offered"}


def test_an_empty_pool_says_how_to_fill_it(tmp_path: Path) -> None:
    store = tmp_path / "feedback.db"
    submitted(store)
    assert "prompts add oasst1" in told("prompts", "list", "--store", store)
    assert "no feedback store yet" in refused("prompts", "list", "--store", tmp_path / "n.db").what
    with pytest.raises(GuildError, match="no feedback store"):
        raise refused("prompts", "accept", "a", "--store", tmp_path / "n.db")
