"""Trees into the store: everything that a row carries leaves again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.guild import BEGIN, Guild
from feedback.trees import NOW, export, lines, load, node, taken_in, tree
from guildgpt.errors import DataError
from guildgpt.feedback.records import Snapshot

TREES = [
    tree(
        node(
            "q1",
            "What is TLS?",
            node("a1", "A protocol.", node("q2", "Since when?"), rank=1),
            node("a2", "A layer.", rank=0, synthetic=True, model_name="someone's"),
            node("a3", "No idea."),
            created_date="2023-02-07T17:29:24.727400+00:00",
            user_id="73ac9010",
            detoxify={"toxicity": 0.0005416299100033939, "threat": 3.4e-05},
            labels={"name": ["spam", "quality"], "value": [0.0, 1 / 3], "count": [3, 3]},
            emojis={"name": ["+1"], "count": [9]},
            events={"emoji": [{"type": "emoji", "user_id": None}]},
            zebra={"of": "somebody else"},
        ),
        origin="a test",
    ),
    tree(node("q3", "Hallo?", node("a4", "Ja.", review_result=None), lang="de")),
]


def test_everything_a_row_carries_leaves_again(tmp_path: Path) -> None:
    snapshot, left_out = taken_in(tmp_path / "t.jsonl.gz", TREES)
    assert not left_out
    assert export(snapshot).rows == TREES
    assert [c.kind for c in snapshot.conversations] == ["import", "import"]
    assert snapshot.conversations[0].source == "t.jsonl.gz"
    by_id = {message.id: message for message in snapshot.messages}
    assert by_id["q1"].created_at == datetime(2023, 2, 7, 17, 29, 24, 727400, tzinfo=UTC)
    assert by_id["q3"].created_at == NOW
    assert (by_id["a2"].rank, by_id["a2"].synthetic) == (0, True)
    assert by_id["a2"].version_id is None
    assert by_id["q2"].parent_id == "a1"


def flat(prompt: dict[str, Any], tree_id: str, parent: str | None = None) -> list[dict[str, Any]]:
    row = {key: value for key, value in prompt.items() if key != "replies"}
    row |= {"parent_id": parent, "message_tree_id": tree_id, "tree_state": "ready_for_export"}
    below = (flat(reply, tree_id, prompt["message_id"]) for reply in prompt["replies"])
    return [row, *(item for rows in below for item in rows)]


def test_flat_messages_make_the_same_conversations(tmp_path: Path) -> None:
    rows = [row for item in TREES for row in flat(item["prompt"], item["message_tree_id"])]
    nested, _ = taken_in(tmp_path / "t.jsonl", TREES)
    snapshot, left_out = taken_in(tmp_path / "m.jsonl", rows)
    assert not left_out

    def told(one: Snapshot) -> list[tuple[Any, ...]]:
        return [(m.id, m.parent_id, m.role, m.text, m.rank, m.created_at) for m in one.messages]

    assert told(snapshot) == told(nested)
    again, _ = taken_in(tmp_path / "again.jsonl", lines(snapshot))
    assert lines(again) == lines(snapshot)


def test_imported_ranks_stay_until_members_vote(tmp_path: Path) -> None:
    """Then the imported ranking is one vote among theirs."""
    snapshot, _ = taken_in(tmp_path / "t.jsonl", TREES[:1])
    guild = Guild()
    guild.rows = snapshot
    by_id = {message.id: message for message in snapshot.messages}
    comparison = guild.compare(by_id["q1"], by_id["a2"], by_id["a1"])
    guild.vote(comparison, guild.member("newcomer"), 1, 0)

    def ranks() -> dict[str, Any]:
        replies = export(guild.snapshot).rows[0]["prompt"]["replies"]
        return {reply["message_id"]: reply.get("rank") for reply in replies}

    assert ranks() == {"a1": 0, "a2": 0, "a3": None}  # one for either
    guild.vote(comparison, guild.member("skeptic"), 1, 0)
    assert ranks() == {"a1": 0, "a2": 1, "a3": None}


def test_ratings_are_added_to_imported_emojis(tmp_path: Path) -> None:
    snapshot, _ = taken_in(tmp_path / "t.jsonl", TREES[:1])
    guild = Guild()
    guild.rows = snapshot
    guild.rate(snapshot.messages[0], guild.member("newcomer"), 1)
    assert export(guild.snapshot).rows[0]["prompt"]["emojis"] == {"+1": 10}


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    rows = [
        *flat(node("q1", "q", node("a1", " ", node("q2", "below")), node("a2", "a")), "q1"),
        *flat(node("q3", "gone", node("a3", "below"), deleted=True), "q3"),
        {**node("a9", "orphan"), "parent_id": "elsewhere"},
    ]
    snapshot, left_out = taken_in(tmp_path / "m.jsonl", rows)
    assert [message.id for message in snapshot.messages] == ["q1", "a2"]
    assert [conversation.id for conversation in snapshot.conversations] == ["q1"]
    assert left_out == {
        "no text": 1,
        "deleted": 1,
        "its parent is not in the file": 1,
        "reply to a message that was left out": 2,
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{"], "JSON is broken here"),
        ([{"instruction": "x"}], "neither a tree nor a message"),
        ([tree({"message_id": "q", "role": "prompter"})], "neither a tree nor a message"),
        ([tree(node("q", "q")), tree(node("q", "again"))], "in the file already"),
        ([{**node("q", "q")}, {**node("q", "q")}], "stands in line 1 already"),
        ([{**node("q", "q"), "text": 7}], "`text` is a number"),
        ([{**node("q", "q"), "message_id": None}], "`message_id` is null"),
        ([{**node("q", "q"), "parent_id": ["x"]}], "`parent_id` is a list"),
        ([{**node("q", "q"), "role": "judge"}], "'judge' is no role"),
        ([{**node("q", "q"), "rank": 0.5}], "`rank` is a number"),
        ([{**node("q", "q"), "rank": 10**12}], "`rank` is a number"),
        ([tree({**node("q", "q"), "replies": "none"})], "`replies` is not a list"),
        (
            [{**node("q1", "q"), "parent_id": "q2"}, {**node("q2", "q"), "parent_id": "q1"}],
            "in a circle",
        ),
    ],
)
def test_faults_are_told_with_file_and_line(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        taken_in(tmp_path / "t.jsonl", rows)
    assert "t.jsonl" in str(error.value.where)
    assert error.value.remedy


def test_what_no_database_holds_is_replaced(tmp_path: Path) -> None:
    line = json.dumps(tree(node("q", "half \ud83d, nul \0", rank=1.0))).replace("1.0", "NaN")
    snapshot, _ = taken_in(tmp_path / "t.jsonl", [line])
    (message,) = snapshot.messages
    assert message.text == "half \ufffd, nul \ufffd"
    assert (message.rank, message.extra["oasst"]["rank"]) == (None, None)


# Out, in and out again

texts = st.text(st.characters(), min_size=1, max_size=12)  # halves of surrogate pairs among them

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)

extras = st.dictionaries(
    st.sampled_from(
        ["lang", "review_result", "model_name", "detoxify", "labels", "emojis", "user_id", "system"]
    )
    | st.text(max_size=6).map(lambda key: f"x{key}"),
    values,
    max_size=4,
)


@st.composite
def guilds(draw: st.DrawFn) -> Guild:
    """Trees of operators' questions and models' answers, with votes and ratings of all kinds."""
    guild = Guild(lang=draw(st.sampled_from(["", "en", "de"])))
    members = [guild.member(name) for name in ("newcomer", "tinkerer", "skeptic")]
    turns = [guild.say(draw(texts))]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([None, *turns]))
        role = draw(st.sampled_from(["user", "assistant", "system"]))
        more = {"deleted": draw(st.integers(0, 9)) == 0}
        if parent is not None and role == "assistant" and draw(st.booleans()):
            turns.append(guild.answer(draw(texts), parent, **more))
        else:
            turns.append(guild.say(draw(texts), parent, role=role, **more))
    answers = [turn for turn in turns if turn.role == "assistant" and turn.parent_id]
    for answer in answers:
        siblings = [other for other in answers if other.parent_id == answer.parent_id]
        if draw(st.booleans()):
            guild.rate(answer, draw(st.sampled_from(members)), draw(st.sampled_from([-1, 0, 1])))
        if len(siblings) > 1 and draw(st.booleans()):
            question = next(turn for turn in turns if turn.id == answer.parent_id)
            comparison = guild.compare(question, *siblings)
            for member in members:
                verdict = draw(st.sampled_from(["ranked", "ranked", "tie", "both_bad", "skip"]))
                ranking = draw(st.permutations(range(len(siblings)))) if verdict == "ranked" else []
                guild.vote(comparison, member, *ranking, verdict=verdict)
    return guild


@given(guild=guilds())
def test_export_import_export_is_the_same_byte_for_byte(
    guild: Guild, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "stable.jsonl"
    first = lines(guild.snapshot)
    snapshot, left_out = taken_in(path, first)
    assert not left_out
    assert lines(snapshot) == first
    # The same from the rows in any order, as a database may give them.
    snapshot.messages.reverse()
    snapshot.conversations.reverse()
    assert lines(snapshot) == first
    # What is exported loads in training's reader, whatever it holds.
    load(path, lang=(), synthetic=True, threads="all")


@st.composite
def files(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Trees as anybody may write them, with keys that nobody knows."""
    count = 0

    def message(depth: int) -> dict[str, Any]:
        nonlocal count
        count += 1
        row = {"message_id": f"m{count}", "text": draw(texts), **draw(extras)}
        row["role"] = draw(st.sampled_from(["prompter", "assistant", "user", "system"]))
        row |= draw(st.fixed_dictionaries({}, optional={"rank": st.none() | st.integers(0, 5)}))
        row |= draw(st.fixed_dictionaries({}, optional={"created_date": st.none() | texts}))
        row |= draw(st.fixed_dictionaries({}, optional={"deleted": st.booleans()}))
        row["replies"] = [message(depth + 1) for _ in range(draw(st.integers(0, 3 - depth)))]
        return row

    return [tree(message(0), **draw(extras)) for _ in range(draw(st.integers(1, 3)))]


@given(rows=files())
def test_import_export_import_is_the_same_byte_for_byte(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign.jsonl"
    once, _ = taken_in(path, rows)
    first = lines(once)
    again, left_out = taken_in(path, first)
    assert not left_out
    assert lines(again) == first


def test_the_order_of_a_file_is_kept(tmp_path: Path) -> None:
    """Also behind trees of our own, which come after imported ones."""
    rows = [tree(node(f"q{n}", "q", *(node(f"a{n}{m}", "a") for m in "cab"))) for n in (2, 1, 3)]
    snapshot, _ = taken_in(tmp_path / "t.jsonl", rows)
    guild = Guild()
    guild.rows = snapshot
    guild.say("ours", created_at=BEGIN.replace(year=1999))
    found = export(guild.snapshot).rows
    assert [row["message_tree_id"] for row in found][:3] == ["q2", "q1", "q3"]
    assert found[:3] == rows
    assert found[3]["prompt"]["text"] == "ours"
