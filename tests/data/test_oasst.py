from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation
from guildgpt.data import oasst
from guildgpt.data.oasst import Keep
from guildgpt.errors import DataError

DEFAULT = Keep(("en",), "best", unreviewed=False, synthetic=False)
EVERYTHING = replace(DEFAULT, lang=(), unreviewed=True, synthetic=True, deleted=True)


def message(text: str, *replies: dict[str, Any], rank: int | None = None, **more: Any) -> dict:
    """A message whose role follows from its first letter: q a question, a an answer."""
    role = "prompter" if text.startswith("q") else "assistant"
    row = {"message_id": text, "text": text, "role": role, "lang": "en", "rank": rank}
    row |= {"review_result": True, "deleted": False, "synthetic": False}
    return {**row, **more, "replies": list(replies)}


def tree(prompt: dict[str, Any]) -> dict[str, Any]:
    """A line of a trees file."""
    state = "ready_for_export"
    return {"message_tree_id": prompt["message_id"], "tree_state": state, "prompt": prompt}


def flatten(prompt: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    """The lines of the messages file that says the same."""
    row = {key: value for key, value in prompt.items() if key != "replies"}
    rows = [{**row, "parent_id": parent, "tree_state": "ready_for_export"}]
    for reply in prompt["replies"]:
        rows += flatten(reply, prompt["message_id"])
    return rows


def read(path: Path, keep: Keep = DEFAULT) -> tuple[list[str], list[str], Counter[str]]:
    """Threads and comparisons as short strings, and what was skipped."""
    skipped: Counter[str] = Counter()
    threads, comparisons = [], []
    for item in oasst.read(path, name="oasst", keep=keep, skipped=skipped):
        if isinstance(item, Conversation):
            threads.append(" ".join(m.content for m in item.messages))
        else:
            prompt = " ".join(m.content for m in item.prompt)
            comparisons.append(f"{prompt}: {' > '.join(m.content for m in item.answers)}")
    return threads, comparisons, skipped


TREE = message(
    "q",
    message("a-unranked"),
    message("a-second", message("q-more", message("a-more")), rank=1),
    message(
        "a-first",
        message("q-then", message("a-third", rank=2), message("a-fourth", rank=3)),
        message("q-other", message("a-other")),
        message("q-alone"),
        rank=0,
    ),
)


def test_the_best_thread_follows_the_lowest_ranks(write_lines) -> None:
    threads, comparisons, skipped = read(write_lines("t.jsonl", [tree(TREE)]))
    assert threads == ["q a-first q-then a-third"]
    assert comparisons == ["q: a-first > a-second", "q a-first q-then: a-third > a-fourth"]
    assert not skipped


def test_all_threads_are_the_longest_paths_that_end_with_an_answer(write_lines) -> None:
    threads, _, _ = read(write_lines("t.jsonl", [tree(TREE)]), replace(DEFAULT, threads="all"))
    assert threads == [
        "q a-first q-then a-third",
        "q a-first q-then a-fourth",
        "q a-first q-other a-other",
        "q a-second q-more a-more",
        "q a-unranked",
    ]


def test_an_unanswered_question_at_the_end_is_left_off(write_lines) -> None:
    prompt = message("q", message("a", message("q-alone")))
    path = write_lines("t.jsonl", [tree(prompt)])
    assert read(path)[0] == ["q a"]
    assert read(path, replace(DEFAULT, threads="all"))[0] == ["q a"]


def test_unranked_replies_stay_in_file_order(write_lines) -> None:
    prompt = message("q", message("a-one"), message("a-two"))
    threads, comparisons, _ = read(write_lines("t.jsonl", [tree(prompt)]))
    assert threads == ["q a-one"]
    assert comparisons == []


def test_ranks_are_kept_and_ties_give_no_comparison(write_lines) -> None:
    path = write_lines(
        "t.jsonl",
        [
            tree(
                message("q", message("a", rank=2), message("a2", rank=0), message("a3", rank=2.0))
            ),
            tree(message("q2", message("a4", rank=1), message("a5", rank=1))),
        ],
    )
    items = oasst.read(path, name="oasst", keep=DEFAULT, skipped=Counter())
    (comparison,) = [item for item in items if isinstance(item, Comparison)]
    assert comparison.ranks == (0, 2, 2)
    assert [m.content for m in comparison.answers] == ["a2", "a", "a3"]
    assert pairs(comparison) == 2
    assert (comparison.source.name, comparison.source.row) == ("oasst", 1)


@pytest.mark.parametrize(
    ("fault", "reason", "keep"),
    [
        ({"deleted": True}, "deleted", replace(DEFAULT, deleted=True)),
        ({"lang": "de"}, "other language", replace(DEFAULT, lang=("en", "de"))),
        ({"lang": "de"}, "other language", replace(DEFAULT, lang=())),
        ({"review_result": False}, "not passed in review", replace(DEFAULT, unreviewed=True)),
        ({"review_result": None}, "not passed in review", replace(DEFAULT, unreviewed=True)),
        ({"synthetic": True}, "synthetic", replace(DEFAULT, synthetic=True)),
    ],
)
def test_a_faulty_message_takes_its_replies_with_it(write_lines, fault, reason, keep) -> None:
    bad = message("a-bad", message("q-below", message("a-below")), rank=0, **fault)
    prompt = message("q", bad, message("a-good", rank=1))
    path = write_lines("t.jsonl", [tree(prompt)])
    threads, comparisons, skipped = read(path)
    assert threads == ["q a-good"]
    assert comparisons == []
    assert skipped == {reason: 1, "reply to a skipped message": 2}
    threads, comparisons, skipped = read(path, keep)
    assert threads == ["q a-bad q-below a-below"]
    assert comparisons == ["q: a-bad > a-good"]
    assert not skipped


def test_a_faulty_prompt_takes_the_whole_tree(write_lines) -> None:
    rows = [tree(message("q", message("a"), deleted=True)), tree(message("q2", message("  ")))]
    threads, _, skipped = read(write_lines("t.jsonl", rows))
    assert threads == []
    assert skipped == {
        "deleted": 1,
        "reply to a skipped message": 1,
        "empty answer": 1,
        "no assistant turn": 1,
    }


def test_fields_that_old_exports_lack_count_as_harmless(write_lines) -> None:
    prompt = {"message_id": "1", "text": "q", "role": "prompter"}
    prompt["replies"] = [{"message_id": "2", "text": "a", "role": "assistant", "parent_id": "1"}]
    assert read(write_lines("t.jsonl", [{"prompt": prompt}]))[0] == ["q a"]


def test_an_unfinished_tree_is_left_out(write_lines) -> None:
    path = write_lines("t.jsonl", [{**tree(message("q", message("a"))), "tree_state": "growing"}])
    assert read(path)[2] == {"unfinished tree": 1, "reply to a skipped message": 1}
    assert read(path, replace(DEFAULT, unreviewed=True))[0] == ["q a"]


def test_odd_shapes_are_counted(write_lines) -> None:
    path = write_lines(
        "t.jsonl",
        [tree(message("a-starts", message("q"))), tree(message("q1", message("q2"), message("a")))],
    )
    threads, _, skipped = read(path)
    assert threads == ["q1 a"]
    assert skipped == {
        "begins with an answer": 1,
        "reply to a skipped message": 1,
        "the same role twice in a row": 1,
    }


def test_orphans_in_a_messages_file_are_counted(write_lines) -> None:
    rows = [{**row, "parent_id": "gone"} for row in flatten(message("q-lost"))]
    rows += flatten(message("q", message("a")))
    threads, _, skipped = read(write_lines("m.jsonl", rows))
    assert threads == ["q a"]
    assert skipped == {"its parent is not in the file": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "wizard"}, "'wizard' is no role"),
        ({"text": 5}, "`text` is a number"),
        ({"rank": "best"}, "`rank` is a text"),
        ({"rank": 0.5}, "`rank` is a number"),
        ({"rank": True}, "`rank` is true or false"),
        ({"replies": "none"}, "`replies`"),
    ],
)
def test_wrong_types_are_errors(write_lines, change, said: str) -> None:
    path = write_lines("t.jsonl", ["", json.dumps(tree(message("q", {**message("a"), **change})))])
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.where == f"{path}:2"
    assert said in str(caught.value)
    assert caught.value.remedy


def test_files_that_are_no_forest_are_errors(write_lines) -> None:
    twice = flatten(message("q")) * 2
    with pytest.raises(DataError, match="stands in line 1"):
        read(write_lines("m.jsonl", twice))
    circle = [
        {**flatten(message("q"))[0], "parent_id": "a"},
        {**flatten(message("a"))[0], "parent_id": "q"},
    ]
    with pytest.raises(DataError, match="circle"):
        read(write_lines("m.jsonl", circle))
    for id, said in ((None, "is null"), (" ", "is empty"), (7, "is a number")):
        with pytest.raises(DataError, match=rf"m\.jsonl:1: `message_id` {said}"):
            read(write_lines("m.jsonl", [{**flatten(message("q"))[0], "message_id": id}]))
    with pytest.raises(DataError, match="neither a tree nor a message"):
        read(write_lines("m.jsonl", [{"instruction": "Why?"}]))


def test_a_thread_deeper_than_the_stack_is_read(write_lines) -> None:
    rows = [message("q0")]
    for turn in range(1, 3000):
        rows.append(message(f"{'qa'[turn % 2]}{turn}", parent_id=rows[-1]["message_id"]))
    threads, _, _ = read(write_lines("m.jsonl", rows))
    assert len(threads[0].split()) == 3000


FAULTS: list[dict[str, Any]] = [{}, {}, {}, {"deleted": True}, {"lang": "fr"}, {"synthetic": True}]


@st.composite
def forests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Trees of random shape, ranks and faults; every text is its message's own."""
    number = iter(range(10_000))

    def grow(role: str, depth: int) -> dict[str, Any]:
        replies = draw(st.integers(0, 3)) if depth else 0
        other = "a" if role == "q" else "q"
        ranks = draw(st.permutations(range(replies)))
        ranked = role == "q" and draw(st.booleans())
        children = [grow(other, depth - 1) for _ in range(replies)]
        for child, rank in zip(children, ranks, strict=True):
            child["rank"] = rank if ranked else None
        return message(f"{role}{next(number)}", *children, **draw(st.sampled_from(FAULTS)))

    return [grow("q", 3) for _ in range(draw(st.integers(1, 3)))]


@settings(max_examples=40, deadline=None)
@given(forests(), st.sampled_from(["best", "all"]), st.randoms(use_true_random=False))
def test_flat_and_nested_say_the_same(tmp_path_factory, forest, threads, random) -> None:
    folder = tmp_path_factory.mktemp("forest")
    nested, flat = folder / "t.jsonl", folder / "m.jsonl"
    nested.write_text("".join(json.dumps(tree(prompt)) + "\n" for prompt in forest))
    lists = [flatten(prompt) for prompt in forest]
    mixed = []  # the trees' lines interleaved, each tree's own in order
    while any(lists):
        mixed.append(random.choice([rows for rows in lists if rows]).pop(0))
    flat.write_text("".join(json.dumps(row) + "\n" for row in mixed))
    keep = replace(DEFAULT, threads=threads)
    one, other = read(nested, keep), read(flat, keep)
    assert [sorted(rows) for rows in one[:2]] == [sorted(rows) for rows in other[:2]]
    assert one[2] == other[2]
    used = " ".join(one[0] + one[1]).replace(":", "").split()
    faulty = [row["message_id"] for t in forest for row in flatten(t) if bad(row)]
    assert not set(used) & set(faulty)


def pairs(comparison: Comparison) -> int:
    """How many pairs of answers have a better one."""
    places = comparison.places
    return sum(one < other for one in places for other in places)


def bad(row: dict[str, Any]) -> bool:
    return row["deleted"] or row["synthetic"] or row["lang"] != "en"


def test_the_real_files_flat_and_nested_say_the_same(shared_data) -> None:
    flat = shared_data("oasst1-en-dev.messages.jsonl")
    nested = shared_data("oasst1-en-dev.trees.jsonl.gz")
    for keep in (DEFAULT, replace(DEFAULT, threads="all"), EVERYTHING):
        one, other = read(flat, keep), read(nested, keep)
        assert one[:2] == other[:2]
    assert len(one[0]) == 130


def test_the_real_ranks_are_all_there(shared_data) -> None:
    def counted(name: str, keep: Keep) -> tuple[int, int]:
        items = oasst.read(shared_data(name), name="oasst", keep=keep, skipped=Counter())
        comparisons = [item for item in items if isinstance(item, Comparison)]
        return len(comparisons), sum(map(pairs, comparisons))

    assert counted("oasst1-en-dev.messages.jsonl", EVERYTHING) == (283, 711)
    assert counted("oasst1-en-dev.messages.jsonl", DEFAULT) == (281, 707)
    assert counted("oasst1-en-100.trees.jsonl.gz", EVERYTHING)[1] == 754
    assert counted("oasst1-en-100.trees.jsonl.gz", DEFAULT)[1] == 732


def test_the_real_synthetic_messages_are_left_out(shared_data) -> None:
    path = shared_data("oasst1-en-100.trees.jsonl.gz")
    threads, _, skipped = read(path)
    assert len(threads) == 95
    assert skipped == {"synthetic": 5, "reply to a skipped message": 17}
    assert len(read(path, replace(DEFAULT, synthetic=True))[0]) == 100


def test_a_feedback_exports_tree_says_what_it_rests_on(write_lines) -> None:
    """Its own messages too; the ids of other trees' messages are no events of a store."""
    judged = {**tree(TREE), "origin": ["vote:v1", "rating:r1"]}
    path = write_lines("trees.jsonl", [judged, tree(message("q-other", message("a")))])
    rows = list(oasst.read(path, name="oasst", keep=DEFAULT, skipped=Counter()))
    messages = {("message", row["message_id"]) for row in flatten(TREE)}
    whole = {("vote", "v1"), ("rating", "r1")} | messages
    assert [row.source.origin for row in rows] == [whole, whole, whole, frozenset()]
