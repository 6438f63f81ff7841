"""What a turn learns from: votes, corrections and ratings, each as the rows of its kind."""

from __future__ import annotations

import json
from pathlib import Path

from feedback.guild import Guild
from guildgpt.data import SourceSpec, load
from guildgpt.feedback.exporting.exports import write_lines
from guildgpt.feedback.exporting.learnable import ROWS, learnable, take, taken_before
from guildgpt.feedback.store import Store


def opinionated() -> Guild:
    """A vote, a correction and two ratings, all on what nobody typed to the bot."""
    guild = Guild()
    anna = guild.member("anna")
    question = guild.say("What is water?")
    wet, dry = guild.answer("Wet.", question), guild.answer("Dry.", question)
    guild.vote(guild.compare(question, wet, dry), anna, 0, 1)
    guild.correct(dry, anna, "Hydrogen and oxygen.")
    guild.rate(wet, anna, 1)
    guild.rate(dry, anna, -1, "No!")
    return guild


def test_every_signal_becomes_rows_of_its_kind(tmp_path: Path) -> None:
    guild = opinionated()
    export, taken = learnable(guild.snapshot)
    assert (taken.comparisons, taken.corrections, taken.ratings) == (2, 1, 2)
    write_lines(tmp_path / "rows.jsonl", export.rows)
    rows = load(SourceSpec(source=f"jsonl:{tmp_path / 'rows.jsonl'}"))
    pairs = {tuple(one.content for one in row.answers) for row in rows.comparisons}
    assert pairs == {("Wet.", "Dry."), ("Hydrogen and oxygen.", "Dry.")}
    imitated = {(row.messages[-1].content, row.rated) for row in rows.conversations}
    assert imitated == {("Hydrogen and oxygen.", False), ("Wet.", True)}
    assert [row.messages[-1].content for row in rows.rejected] == ["Dry."]
    assert not rows.skipped
    assert "No!" not in json.dumps(export.rows)  # why somebody rates is their own text
    kinds = {kind for kind, _ in export.events}
    assert kinds == {"message", "vote", "comparison", "correction", "rating"}
    assert all(row["origin"] for row in export.rows)


def test_a_stage_that_reads_no_ratings_rests_on_none() -> None:
    export, taken = learnable(opinionated().snapshot, ratings=False)
    assert taken.ratings == 0
    assert not any("label" in row for row in export.rows)
    assert not any(kind == "rating" for kind, _ in export.events)


def test_nothing_but_ratings_and_nothing_but_corrections() -> None:
    guild = Guild()
    anna = guild.member("anna")
    answer = guild.answer("Wet.", guild.say("What is water?"))
    guild.rate(answer, anna, 1)
    _, taken = learnable(guild.snapshot)
    assert (taken.comparisons, taken.corrections, taken.ratings) == (0, 0, 1)

    guild = Guild()
    anna = guild.member("anna")
    guild.correct(guild.answer("Wet.", guild.say("What is water?")), anna, "H2O.")
    export, taken = learnable(guild.snapshot)
    assert (taken.comparisons, taken.corrections, taken.ratings) == (1, 1, 0)
    assert sum("messages" in row for row in export.rows) == 1


def test_members_own_questions_need_both_switches() -> None:
    guild = Guild()
    members = {"anna": guild.member("anna", "train"), "ben": guild.member("ben", "chat")}
    for name, member in members.items():
        asked = guild.say(f"{name} asks", kind="chain", member_id=member)
        guild.rate(guild.answer("So.", asked), member, 1)
    off, taken = learnable(guild.snapshot)
    assert (off.rows, taken.ratings) == ([], 0)
    assert taken.left_out == {
        "text of members (the operator's switch is off)": 1,
        "text of a member with consent chat": 1,
    }
    on, taken = learnable(guild.snapshot, members=True)
    assert [row["prompt"][0]["content"] for row in on.rows] == ["anna asks"]
    assert taken.left_out == {"text of a member with consent chat": 1}


async def test_rows_are_taken_once(store: Store, tmp_path: Path) -> None:
    await store.add_snapshot(opinionated().snapshot)
    folder = tmp_path / "turn"
    first = await take(store, folder)
    assert (first.comparisons, first.ratings) == (1, 2)
    written = (folder / ROWS).read_bytes()
    assert taken_before(folder) == first
    assert await take(store, folder, ratings=False) == first
    assert (folder / ROWS).read_bytes() == written
