from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation, Message, Source, Task
from guildgpt.data.dataset import build, distinct_names
from guildgpt.data.notes import Notes
from guildgpt.data.provenance import Provenance
from guildgpt.data.source import Loaded
from guildgpt.data.spec import SourceSpec
from guildgpt.data.split import split_side
from guildgpt.errors import DataError


def row(text: str, name: str = "a", number: int = 0) -> Conversation:
    turns = (Message("user", text), Message("assistant", f"On {text}."))
    return Conversation(turns, Source(name, f"{name}.jsonl", number))


def pair(text: str, name: str = "a") -> Comparison:
    answers = (Message("assistant", "Yes."), Message("assistant", "No."))
    return Comparison((Message("user", text),), answers, source=Source(name))


def loaded(name: str, texts, *, weight: float = 1.0, pairs=(), skipped=None) -> Loaded:
    spec = SourceSpec(source=f"jsonl:{name}.jsonl", weight=weight)
    rows = [row(text, name, number) for number, text in enumerate(texts, start=1)]
    comparisons = [pair(text, name) for text in pairs]
    notes = Notes(Counter(skipped or {}))
    return Loaded(spec, Provenance(name), rows, comparisons, [], notes)


def questions(items) -> Counter[str]:
    return Counter(item.messages[0].content for item in items)


NUMBERS = [f"question {i}" for i in range(400)]


def test_a_row_is_either_trained_on_or_held_out() -> None:
    data = build([loaded("a", NUMBERS, pairs=NUMBERS)], held_out=0.2)
    train, held_out = questions(data.train), questions(data.held_out["a"])
    assert set(train) | set(held_out) == set(NUMBERS)
    assert not set(train) & set(held_out)
    assert 40 < len(held_out) < 120
    assert {c.prompt[0].content for c in data.held_out_comparisons} == set(held_out)
    assert {c.prompt[0].content for c in data.train_comparisons} == set(train)
    report = data.report["a"]
    assert report.rows == report.train + report.held_out == 800


def test_duplicates_count_for_the_first_source() -> None:
    data = build([loaded("a", ["x", "y", "x"]), loaded("b", ["y", "z"])], held_out=0)
    assert questions(data.train) == {"x": 1, "y": 1, "z": 1}
    assert {c.source.name for c in data.train if c.messages[0].content == "y"} == {"a"}
    assert (data.report["a"].duplicates, data.report["b"].duplicates) == (1, 1)


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0, 1.5, 2.0, 2.75])
def test_weight_is_how_often_a_row_is_seen(weight: float) -> None:
    data = build([loaded("a", NUMBERS, weight=weight)], held_out=0)
    counts = questions(data.train)
    whole = int(weight)
    assert set(counts.values()) <= {whole, whole + 1}
    assert data.report["a"].train == len(data.train)
    assert len(data.train) == pytest.approx(weight * 400, abs=40)
    if whole == weight:
        assert len(data.train) == weight * 400
    assert data.report["a"].unused == 400 - len(counts)


def test_the_half_of_a_weight_is_always_the_same_half() -> None:
    one = build([loaded("a", NUMBERS, weight=0.5)], seed=1)
    two = build([loaded("b", ["other"]), loaded("a", NUMBERS[::-1], weight=0.5)], seed=2)
    once = questions(c for c in two.train if c.source.name == "a")
    assert questions(one.train) == once
    more = build([loaded("a", NUMBERS, weight=1.5)])
    assert {text for text, count in questions(more.train).items() if count == 2} == set(once)


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    sources = [loaded("a", NUMBERS, weight=1.5), loaded("b", ["x", "y"])]
    one, same, other = (build(sources, seed=seed) for seed in (0, 0, 1))
    assert one.train == same.train
    assert one.train != other.train
    assert questions(one.train) == questions(other.train)
    assert one.held_out == other.held_out


def test_the_epoch_is_well_mixed() -> None:
    sources = [loaded("a", NUMBERS), loaded("b", [f"b {i}" for i in range(400)])]
    first = build(sources, held_out=0).train[:400]
    assert 150 < sum(c.source.name == "a" for c in first) < 250


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.text(max_size=3), min_size=1, max_size=30),
    st.sets(st.text(max_size=3), max_size=30),
    st.floats(0, 0.5),
)
def test_other_sources_move_no_row_to_the_other_side(texts, others, share) -> None:
    try:
        alone = build([loaded("a", sorted(texts))], held_out=share)
    except DataError:
        return  # everything was held out
    together = build([loaded("b", sorted(others)), loaded("a", sorted(texts))], held_out=share)
    train, held_out = questions(together.train), questions(chain(*together.held_out.values()))
    assert set(questions(alone.train)) <= set(train)
    assert set(questions(alone.held_out["a"])) <= set(held_out)
    assert not set(train) & set(held_out)


def test_a_limited_held_out_set_is_chosen_by_hash_and_the_rest_stays_unused() -> None:
    free = build([loaded("a", NUMBERS)], held_out=0.3)
    capped = build([loaded("a", NUMBERS)], held_out=0.3, held_out_limit=10)
    shuffled = build([loaded("a", NUMBERS[::-1])], held_out=0.3, held_out_limit=10)
    assert questions(capped.train) == questions(free.train)
    assert len(capped.held_out["a"]) == 10
    assert questions(capped.held_out["a"]) == questions(shuffled.held_out["a"])
    assert set(questions(capped.held_out["a"])) < set(questions(free.held_out["a"]))
    assert capped.report["a"].unused == len(free.held_out["a"]) - 10


def test_sources_of_one_name_are_told_apart() -> None:
    data = build([loaded("a", ["x"]), loaded("a", ["y"], skipped={"deleted": 3})], held_out=0)
    assert [item.name for item in data.provenance] == ["a", "a-2"]
    assert list(data.report) == list(data.held_out) == ["a", "a-2"]
    assert {c.source.name for c in data.train} == {"a", "a-2"}
    assert data.report["a-2"].skipped == {"deleted": 3}
    assert data.report["a-2"].train == 1


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b"]), max_size=8))
def test_distinct_names(names: list[str]) -> None:
    result = distinct_names(names)
    assert len(set(result)) == len(names)
    for position, name in enumerate(names):
        if name not in names[:position]:
            assert result[position] == name
        assert result[position].startswith(name)


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="no row is left"):
        build([loaded("a", [])])


def test_the_real_sets_share_their_sides(shared_data) -> None:
    """oasst1's trees as flat messages and as nested trees are one set of rows, on one side each."""
    from guildgpt.data.source import load

    sources = [
        load(SourceSpec.parse(f"oasst:{shared_data(name)}"))
        for name in ("oasst1-en-dev.messages.jsonl", "oasst1-en-dev.trees.jsonl.gz")
    ]
    data = build(sources, held_out=0.2)
    assert data.report["oasst-2"].duplicates == data.report["oasst-2"].rows == 411
    openings = {c.messages[0].content for c in data.held_out["oasst"]}
    assert {c.prompt[0].content for c in data.held_out_comparisons} <= openings
    assert all(split_side(c, 0.2) == "train" for c in data.train)
    assert not openings & {c.messages[0].content for c in data.train}


def test_tasks_fall_on_the_side_of_their_question() -> None:
    source = loaded("a", NUMBERS[:100])
    rules = {"tests": "assert f()"}
    source.tasks.extend(
        Task((Message("user", text),), Source("b", rules=rules))
        for text in [*NUMBERS[:200], NUMBERS[0]]
    )
    data = build([source], held_out=0.2)
    train, held_out = questions(data.train_tasks), questions(data.held_out_tasks)
    assert set(train) | set(held_out) == set(NUMBERS[:200])
    assert questions(data.train) <= train
    assert questions(data.held_out["a"]) <= held_out
    assert {task.source.name for task in data.train_tasks} == {"a"}
    assert data.report["a"].rows == 301
    assert data.report["a"].duplicates == 1
    only = loaded("a", [])
    only.tasks.extend(source.tasks)
    assert len(build([only], held_out=0).train_tasks) == 200
