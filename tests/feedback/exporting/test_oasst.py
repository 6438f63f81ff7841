"""Trees out of the store: what others' loaders and our own make of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from feedback.guild import Guild
from feedback.trees import KEEP, NOW, dumps, export, lines, load, node, taken_in, tree
from guildgpt.data import oasst as loader
from guildgpt.feedback.exporting.oasst import TURNS
from guildgpt.feedback.exporting.oasst_import import read
from guildgpt.feedback.exporting.view import View


def open_assistants_threads(row: dict[str, Any]) -> list[list[str]]:
    """What Open-Assistant's training loader keeps of a tree (mode `sft`, language en).

    A finished tree whose prompt passed review; of it the paths down to a leaf of which no message
    is deleted or synthetic, without an unanswered prompt at the end.
    """
    prompt = row["prompt"]
    if row["tree_state"] != "ready_for_export" or not prompt["review_result"]:
        return []
    if prompt["lang"] != "en":
        return []
    threads, stack = [], [[prompt]]
    while stack:
        path = stack.pop()
        stack += [[*path, reply] for reply in path[-1]["replies"]]
        if any(node["deleted"] or node["synthetic"] for node in path):
            continue
        if len(path) > 1 and not path[-1]["replies"]:
            whole = path if path[-1]["role"] == "assistant" else path[:-1]
            threads.append([node["text"] for node in whole])
    return threads


def test_a_tree_as_open_assistant_writes_it() -> None:
    guild = Guild()
    question = guild.say("What is TLS?")
    answer = guild.answer("A protocol.", question)
    guild.say("Since when?", answer)
    (row,) = export(guild.snapshot).rows
    assert row["message_tree_id"] == row["prompt"]["message_id"] == question.id
    assert row["tree_state"] == "ready_for_export"
    assert row["prompt"] == {
        "message_id": question.id,
        "parent_id": None,
        "user_id": None,
        "created_date": question.created_at.isoformat(),
        "text": "What is TLS?",
        "role": "prompter",
        "lang": "en",
        "review_count": 0,
        "review_result": True,
        "deleted": False,
        "rank": None,
        "synthetic": False,
        "model_name": None,
        "emojis": {},
        "labels": None,
        "replies": row["prompt"]["replies"],
    }
    (reply,) = row["prompt"]["replies"]
    assert (reply["parent_id"], reply["role"]) == (question.id, "assistant")
    assert (reply["synthetic"], reply["model_name"]) == (True, "starter@aaaaaaaa")
    assert reply["replies"][0]["replies"] == []


def test_the_types_are_those_of_open_assistants_schema() -> None:
    """Fields and types of `ExportMessageNode` in oasst-data; all but four may be null."""
    text, number, flag = (str, type(None)), (int, type(None)), (bool, type(None))
    types: dict[str, tuple[type, ...]] = dict.fromkeys(("message_id", "text", "role"), (str,))
    types |= dict.fromkeys(("parent_id", "user_id", "lang", "model_name"), text)
    types |= dict.fromkeys(("review_count", "rank"), number)
    types |= dict.fromkeys(("review_result", "deleted", "synthetic"), flag)
    types |= dict.fromkeys(("emojis", "labels"), (dict, type(None)))
    guild = Guild()
    question = guild.say("q")
    first, second = guild.answer("a", question), guild.answer("b", question)
    guild.vote(guild.compare(question, first, second), guild.member("teacher"), 0, 1)
    guild.rate(first, "teacher", 1)
    (row,) = export(guild.snapshot).rows
    for message in (row["prompt"], *row["prompt"]["replies"]):
        for key, allowed in types.items():
            assert isinstance(message[key], allowed), key


def test_open_assistants_filter_leaves_our_answers_out_and_our_reader_takes_them(
    tmp_path: Path,
) -> None:
    guild = Guild()
    question = guild.say("What is TLS?")
    guild.say("Written by a person.", question, role="assistant")
    guild.answer("Written by a model.", question)
    rows = export(guild.snapshot).rows
    assert open_assistants_threads(rows[0]) == [["What is TLS?", "Written by a person."]]

    path = tmp_path / "trees.jsonl"
    path.write_text(dumps(rows[0]) + "\n")
    threads, _, skipped = load(path, threads="all")
    assert threads == [["What is TLS?", "Written by a person."]]
    assert skipped == {"synthetic": 1}
    threads, _, skipped = load(path, threads="all", synthetic=True)
    assert sorted(thread[1] for thread in threads) == [
        "Written by a model.",
        "Written by a person.",
    ]
    assert not skipped


def test_the_messages_of_a_tree_that_nobody_judged_arrive_in_the_rows_origin(
    tmp_path: Path,
) -> None:
    guild = Guild()
    question = guild.say("What is TLS?")
    answer = guild.answer("A protocol.", question)
    (row,) = export(guild.snapshot).rows
    assert row["origin"] == []
    foreign = tree(node("q1", "Who?", node("a1", "I.")))
    path = tmp_path / "trees.jsonl"
    path.write_text(dumps(row) + "\n" + dumps(foreign) + "\n")
    keep = replace(KEEP, synthetic=True)
    ours, theirs = loader.read(path, name="t", keep=keep, skipped=Counter())
    assert ours.source.origin == {("message", question.id), ("message", answer.id)}
    assert not theirs.source.origin
    again, _ = taken_in(path, [row, foreign])
    assert export(again).rows == [row, foreign]


def test_ranks_come_from_votes_and_give_our_reader_comparisons(tmp_path: Path) -> None:
    guild = Guild()
    question = guild.say("q")
    answers = [guild.answer(text, question) for text in ("poor", "good", "fair", "alone")]
    comparison = guild.compare(question, *answers[:3])
    for name in ("newcomer", "tinkerer"):
        guild.vote(comparison, guild.member(name), 1, 2, 0)
    guild.vote(comparison, guild.member("skeptic"), 0, 2, 1)
    (row,) = export(guild.snapshot).rows
    ranks = {reply["text"]: reply["rank"] for reply in row["prompt"]["replies"]}
    assert ranks == {"good": 0, "fair": 1, "poor": 2, "alone": None}
    path = tmp_path / "trees.jsonl"
    path.write_text(dumps(row) + "\n")
    _, (found,), _ = load(path, synthetic=True)
    assert [answer.content for answer in found.answers] == ["good", "fair", "poor"]


def test_ratings_break_ties_and_equal_answers_share_a_rank() -> None:
    guild = Guild()
    question = guild.say("q")
    one, two, three = (guild.answer(text, question) for text in "abc")
    guild.vote(guild.compare(question, one, two, three), guild.member("m"), verdict="tie")

    def ranks() -> list[int]:
        return [reply["rank"] for reply in export(guild.snapshot).rows[0]["prompt"]["replies"]]

    assert ranks() == [0, 0, 0]
    guild.rate(two, "m", 1)
    assert ranks() == [1, 0, 1]
    guild.rate(three, "m", -1)
    assert ranks() == [1, 0, 2]
    guild.rate(two, "m", 0)  # taken back
    assert ranks() == [0, 0, 1]


def test_votes_on_answers_that_others_did_not_see_are_counted_apart() -> None:
    guild = Guild()
    question = guild.say("q")
    a, b, c, d = (guild.answer(text, question) for text in "abcd")
    many, few = guild.compare(question, a, b), guild.compare(question, c, d)
    for name in ("newcomer", "tinkerer"):
        guild.vote(many, guild.member(name), 1, 0)
    guild.vote(few, guild.member("skeptic"), 0, 1)
    found = export(guild.snapshot)
    replies = found.rows[0]["prompt"]["replies"]
    assert {r["text"]: r["rank"] for r in replies} == {"a": 1, "b": 0, "c": None, "d": None}
    assert found.left_out == {"vote on answers that other voters did not see": 1}
    assert len({id for kind, id in found.events if kind == "vote"}) == 2


def test_ratings_are_counted_as_emojis() -> None:
    guild = Guild()
    answer = guild.answer("a", guild.say("q"))
    for name, value in [("newcomer", 1), ("tinkerer", 1), ("skeptic", -1), ("teacher", 1)]:
        guild.rate(answer, guild.member(name), value)
    guild.rate(answer, "teacher", 0)
    (row,) = export(guild.snapshot).rows
    assert row["prompt"]["replies"][0]["emojis"] == {"+1": 2, "-1": 1}


def test_a_system_turn_stands_in_the_message_after_it_for_both_loaders(tmp_path: Path) -> None:
    guild = Guild()
    system = guild.say("Be brief.", role="system")
    question = guild.say("q", system)
    late = guild.say("Now rhyme.", guild.say("a", question, role="assistant"), role="system")
    guild.say("b", guild.say("q2", late), role="assistant")
    (row,) = export(guild.snapshot).rows
    assert row["message_tree_id"] == question.id
    assert (row["prompt"]["system"], row["prompt"]["parent_id"]) == ("Be brief.", None)
    assert open_assistants_threads(row) == [["q", "a", "q2", "b"]]
    snapshot, _ = taken_in(tmp_path / "t.jsonl", [row])
    assert load(tmp_path / "t.jsonl")[0] == [["q", "a", "q2", "b"]]
    view = View(snapshot)
    spoken = [(m.role, m.text) for m in view.path(snapshot.messages[-1].id)]
    assert spoken == [
        ("system", "Be brief."),
        ("user", "q"),
        ("assistant", "a"),
        ("system", "Now rhyme."),
        ("user", "q2"),
        ("assistant", "b"),
    ]
    assert lines(snapshot) == [dumps(row)]


def test_a_conversation_too_deep_to_be_read_is_cut(tmp_path: Path) -> None:
    guild = Guild()
    turn = guild.say("turn 0")
    for number in range(1, 3 * TURNS):
        role = "user" if number % 2 == 0 else "assistant"
        turn = guild.say(f"turn {number}", turn, role=role)
    found = export(guild.snapshot)
    assert found.left_out == {
        f"deeper than {TURNS} turns": 1,
        "reply to a message that was left out": 2 * TURNS - 1,
    }
    path = tmp_path / "deep.jsonl"
    path.write_text(dumps(found.rows[0]) + "\n")
    assert len(load(path)[0][0]) == TURNS
    snapshot = read(path, now=NOW, left_out=Counter())
    assert lines(snapshot) == [dumps(found.rows[0])]


def test_what_was_deleted_takes_its_replies_along() -> None:
    guild = Guild()
    question = guild.say("kept")
    gone = guild.answer("taken back", question, deleted=True)
    guild.say("below it", gone)
    guild.answer("", question)
    guild.answer("stays", question)
    found = export(guild.snapshot)
    assert [reply["text"] for reply in found.rows[0]["prompt"]["replies"]] == ["stays"]
    assert found.left_out == {"deleted or blank": 2, "reply to a message that was left out": 1}
    assert "taken back" not in json.dumps(found.rows)
