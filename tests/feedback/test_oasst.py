"""Trees out of the store and into it: what others' loaders and our own make of them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import oasst as loader
from guildgpt.errors import DataError
from guildgpt.feedback.oasst import TURNS, trees
from guildgpt.feedback.oasst_import import read
from guildgpt.feedback.records import Snapshot
from guildgpt.feedback.view import Export, View

from .guild import BEGIN, Guild

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def export(snapshot: Snapshot) -> Export:
    return trees(View(snapshot))


def dumps(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def lines(snapshot: Snapshot) -> list[str]:
    return [dumps(row) for row in export(snapshot).rows]


def taken_in(path: Path, rows: list[Any]) -> tuple[Snapshot, Counter[str]]:
    """What an import makes of a file of these rows."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    left_out: Counter[str] = Counter()
    return read(path, now=NOW, left_out=left_out), left_out


KEEP = loader.Keep(("en",), "best", unreviewed=False, synthetic=False)


def load(path: Path, **keep: Any) -> tuple[list[list[str]], list[Comparison], Counter[str]]:
    """What training's reader makes of a file: threads, comparisons, what it skipped."""
    skipped: Counter[str] = Counter()
    items = list(loader.read(path, name="t", keep=replace(KEEP, **keep), skipped=skipped))
    threads = [
        [m.content for m in item.messages] for item in items if isinstance(item, Conversation)
    ]
    return threads, [item for item in items if isinstance(item, Comparison)], skipped


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


# Out of the store


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
    for node in (row["prompt"], *row["prompt"]["replies"]):
        for key, allowed in types.items():
            assert isinstance(node[key], allowed), key


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


# Into the store

NODE = {"role": "prompter", "lang": "en", "review_count": 3, "review_result": True}


def node(id: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    role = "assistant" if id.startswith("a") else "prompter"
    row = {**NODE, "message_id": id, "role": role, "text": text, "deleted": False}
    below = [{**reply, "parent_id": id} for reply in replies]
    return {**row, "synthetic": False, **more, "replies": below}


def tree(prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
    state = "ready_for_export"
    return {"message_tree_id": prompt["message_id"], "tree_state": state, "prompt": prompt, **more}


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
        (["{"], "not JSON"),
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
