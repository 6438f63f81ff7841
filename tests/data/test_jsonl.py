from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation, Message
from guildgpt.data import jsonl
from guildgpt.errors import DataError

Q, A, B = Message("user", "Why?"), Message("assistant", "So."), Message("assistant", "Dunno.")
DEEP = (Q, A, Message("user", "And then?"))


def read(path) -> tuple[list[Conversation | Comparison], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(jsonl.read(path, name="jsonl", skipped=skipped)), skipped


def dicts(*messages: Message) -> list[dict[str, str]]:
    return [message.as_dict() for message in messages]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": dicts(Q, A)},
        {
            "messages": [
                {"role": "prompter", "content": " Why?\r\n"},
                {"role": "bot", "content": "So."},
            ]
        },
        {"messages": [{"role": "human", "content": "Why?"}, {"role": "model", "content": "So."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "output": "So."},
        {"instruction": "Why?", "context": None, "response": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"prompt": dicts(Q), "completion": dicts(A)},
        {"prompt": dicts(Q), "completion": "So.", "label": True},
        {"prompt": "Why?", "completion": "So.", "rating": 5, "nested": {"a": []}},
    ],
)
def test_every_form_of_a_conversation(write_lines, row) -> None:
    (item,), skipped = read(write_lines("a.jsonl", [row]))
    assert isinstance(item, Conversation)
    assert item.messages == (Q, A)
    assert str(item.source) == "a.jsonl:1"
    assert not skipped


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Why?", "chosen": "So.", "rejected": "Dunno."}, (Q,)),
        ({"prompt": dicts(Q), "chosen": dicts(A), "rejected": dicts(B)}, (Q,)),
        ({"prompt": dicts(*DEEP), "chosen": "So.", "rejected": dicts(B)}, DEEP),
        ({"prompt": dicts(Q), "chosen": dicts(Q, A), "rejected": dicts(Q, B)}, (Q,)),
        ({"chosen": dicts(Q, A), "rejected": dicts(Q, B)}, (Q,)),
        ({"chosen": dicts(*DEEP, A), "rejected": dicts(*DEEP, B), "prompt": None}, DEEP),
        ({"chosen": "Why? So.", "rejected": "Why? Dunno."}, (Q,)),
    ],
)
def test_every_form_of_a_comparison(write_lines, row, prompt) -> None:
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert isinstance(item, Comparison)
    assert item.prompt == prompt
    assert item.answers == (A, B)
    assert item.pairs() == [(A, B)]


def test_texts_that_begin_alike_part_at_a_whole_word(write_lines) -> None:
    row = {"chosen": "The sky is green-blue.", "rejected": "The sky is grey."}
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert [m.content for m in item.prompt] == ["The sky is"]
    assert [m.content for m in item.answers] == ["green-blue.", "grey."]


def test_context_system_and_group(write_lines) -> None:
    row = {"instruction": "Sum up.", "input": "Long text.", "output": "Short."}
    path = write_lines(
        "a.jsonl", [{**row, "system": "Be kind.", "group": 7}, {**row, "group": "g"}]
    )
    (one, two), _ = read(path)
    assert [m.role for m in one.messages] == ["system", "user", "assistant"]
    assert one.messages[0].content == "Be kind."
    assert one.messages[1].content == "Sum up.\n\nLong text."
    assert (one.source.group, two.source.group) == ("7", "g")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "empty conversation"),
        ({"messages": dicts(Q)}, "no assistant turn"),
        ({"messages": dicts(Q, Message("assistant", "  "))}, "empty answer"),
        ({"prompt": "", "completion": "So."}, "empty prompt"),
        ({"prompt": "Why?", "completion": "No.", "label": False}, "labelled bad"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "So. "}, "both answers are the same"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": ""}, "empty answer"),
        ({"prompt": " ", "chosen": "So.", "rejected": "Or."}, "empty prompt"),
        ({"chosen": "So.", "rejected": "Or."}, "empty prompt"),
        (
            {"prompt": "Why?", "chosen": dicts(A, Q, A), "rejected": dicts(B)},
            "not two single answers to one prompt",
        ),
        (
            {"chosen": dicts(Q, A, Q, A), "rejected": dicts(Q, B)},
            "not two single answers to one prompt",
        ),
    ],
)
def test_useless_rows_are_counted_never_silent(write_lines, row, reason: str) -> None:
    items, skipped = read(write_lines("a.jsonl", [row, {"messages": dicts(Q, A)}]))
    assert len(items) == 1
    assert skipped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Why?", "answer": "So."}, "(question, answer)"),
        ({}, "(none)"),
        ({"messages": "Why?"}, "`messages` is a text"),
        ({"messages": ["Why?"]}, "`messages` is a list of other things"),
        ({"messages": [{"role": "user"}]}, "only the keys role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "'wizard' is no role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "is no role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "`content` is a list"),
        ({"instruction": 1, "output": "So."}, "`instruction` is a number"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": None}, "`rejected` is null"),
        ({"prompt": {"a": 1}, "completion": "So."}, "`prompt` is an object"),
        ({"messages": dicts(Q, A), "group": [1]}, "`group` is a list"),
    ],
)
def test_rows_of_no_known_form_are_errors(write_lines, row, said: str) -> None:
    path = write_lines("a.jsonl", [{"messages": dicts(Q, A)}, "", row])
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.where == f"{path}:3"
    assert said in str(caught.value)
    assert caught.value.remedy


CONTENT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).map(str.strip)
TURN = st.builds(Message, st.sampled_from(["user", "assistant"]), CONTENT.filter(bool))


@given(st.lists(TURN, max_size=4), TURN.map(lambda m: Message("assistant", m.content)))
def test_messages_come_back_as_they_were(tmp_path_factory, turns, answer) -> None:
    messages = (*turns, answer)
    path = tmp_path_factory.mktemp("trip") / "a.jsonl"
    path.write_text(json.dumps({"messages": dicts(*messages)}, ensure_ascii=False), "utf-8")
    (item,), _ = read(path)
    assert item.messages == messages


def test_the_real_files(shared_data) -> None:
    threads, skipped = read(shared_data("oasst1-en-train.threads.jsonl"))
    assert (len(threads), skipped.total()) == (3168, 0)
    pairs, skipped = read(shared_data("oasst1-en-train.pairs.jsonl"))
    assert (len(pairs), skipped.total()) == (2088, 0)
    assert all(len(pair.pairs()) == 1 for pair in pairs)
