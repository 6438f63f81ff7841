"""Any JSON object is a row that means what it says, or is named: nothing is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation, Task
from guildgpt.data import forms
from guildgpt.data.messages import WEIGHTS
from guildgpt.data.notes import Notes
from guildgpt.data.rows import APART, CONTENT, ROLE_KEYS, clean
from guildgpt.errors import DataError

WORDS = ("Why", "is", "it?", "So", "it", "is.", "Dunno.", "\n\nHuman:", "\n\nAssistant:", "ä", "")
TEXT = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image", "tool_use", "odd"])}, optional={"text": TEXT}
    ),
    min_size=1,
    max_size=2,
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "User", "assistant", "gpt", "system", "tool", "wizard"]),
        "content": TEXT | PARTS | st.none(),
    },
    optional={
        "weight": st.sampled_from([0, 1, 0.5, False, "0"]),
        "name": TEXT,
        "tool_calls": st.sampled_from([None, [], [{"name": "f", "arguments": "Look it up."}]]),
    },
)
SHARE = st.fixed_dictionaries({"from": st.sampled_from(["human", "chatgpt"]), "value": TEXT})
TURNS = st.lists(MESSAGE | SHARE, max_size=4)
PAIRS = st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
# What sets have: a text or turns in every column, now and then something that has no place there.
VALUE = TEXT | TEXT | TURNS | PAIRS | JSON
ODD = ("id", "score", "persona", "text", "rejected_model", "messages.name")
COLUMNS = [*sorted(CONTENT | APART), *ODD]
ROW = st.dictionaries(st.sampled_from(COLUMNS), VALUE, max_size=6)
# Rows that are nearly right, so that most of them are read.
SAID = st.lists(st.sampled_from(WORDS[:7]), min_size=1, max_size=5).map(" ".join)
SAYS = SAID | st.builds(lambda text: [{"type": "text", "text": text}], SAID)


def talk(*roles: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    more = st.dictionaries(
        st.sampled_from(["name", "weight", "train", "id"]), st.sampled_from([0, 1, "Anna"])
    )
    turns = (
        st.builds(lambda said, more, role=role: {**more, "role": role, "content": said}, SAYS, more)
        for role in roles
    )
    return st.tuples(*turns).map(list)


LONG = talk("system", "user", "assistant", "user")
ANSWER = SAYS | talk("assistant") | talk("user", "assistant") | talk("system", "assistant")
BASE = (
    st.fixed_dictionaries({"prompt": SAYS | LONG, "completion": SAYS | talk("assistant")})
    | st.fixed_dictionaries({"question": SAID, "context": SAID, "output": SAID, "history": PAIRS})
    | st.fixed_dictionaries({"prompt": SAYS | LONG, "chosen": ANSWER, "rejected": ANSWER})
    | st.fixed_dictionaries({"chosen": ANSWER, "rejected": ANSWER})
    | st.fixed_dictionaries({"messages": talk("user", "assistant", "user", "assistant")})
    | st.fixed_dictionaries({"prompt": SAID, "tests": SAID})
)
MORE = st.dictionaries(st.sampled_from(COLUMNS), VALUE, max_size=1)
LIKELY = st.builds(lambda base, more: {**more, **base}, BASE, MORE)


def said(value: Any) -> Iterator[str]:
    """Every word in a value, but for who says it and of what type a part is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in (*ROLE_KEYS, "type", *WEIGHTS):
                yield from said(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from said(inner)
    elif isinstance(value, str):
        yield from clean(value).split()


@settings(max_examples=600)
@given(row=ROW | LIKELY)
def test_any_object_is_read_whole_or_named(tmp_path_factory, row: dict[str, Any]) -> None:
    path: Path = tmp_path_factory.mktemp("row") / "a.jsonl"
    path.write_text(json.dumps(row) + '\n{"prompt": "a", "completion": "b"}\n')
    notes = Notes()
    try:
        *items, _ = forms.read(path, name="a", notes=notes)
    except DataError as error:
        assert error.where == f"{path}:1"  # noqa: PT017
        assert error.remedy  # noqa: PT017
        return
    if not items:
        assert notes.skipped.total() == 1
        return
    (item,) = items
    assert not notes.skipped
    told = {word for message in item.messages for word in message.content.split()}
    told |= {"Human:", "Assistant:"}
    named = notes.unread.keys() | notes.others.keys() | APART
    for column, value in row.items():
        if column not in named:
            lost = set(said(value)) - told
            inner = any(name.startswith("messages.") for name in named)
            assert not lost or inner, (column, lost)


@settings(max_examples=300)
@given(row=LIKELY)
def test_what_is_read_means_what_it_says(tmp_path_factory, row: dict[str, Any]) -> None:
    """Roles from roles, the better answer first, and the last word an assistant's."""
    path: Path = tmp_path_factory.mktemp("row") / "a.jsonl"
    path.write_text(json.dumps(row) + '\n{"prompt": "a", "completion": "b"}\n')
    try:
        *items, _ = forms.read(path, name="a", notes=Notes())
    except DataError:
        return
    for item in items:
        if isinstance(item, Comparison):
            better, worse = item.answers
            for answer, column in ((better, "chosen"), (worse, "rejected")):
                assert answer.role == "assistant"
                assert set(answer.content.split()) <= set(said(row[column]))
            assert better.content != worse.content
        elif isinstance(item, Conversation):
            trained = [m for m in item.messages if m.role == "assistant" and m.trained]
            assert trained
            assert all(message.content for message in trained)
            turns = [m for m in row.get("messages", ()) if m["role"] == "assistant"]
            if turns and "completion" not in row:
                off = [0 in (turn.get("weight"), turn.get("train")) for turn in turns]
                answers = [m for m in item.messages if m.role == "assistant"]
                assert [not answer.trained for answer in answers] == off


def test_the_properties_see_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would show nothing: here a column is dropped in silence."""
    monkeypatch.setattr("guildgpt.data.rows.Row.left", lambda self, told: iter(()))
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Why?", "completion": "So.", "persona": "You are old, sailor."}\n')
    notes = Notes()
    (item,) = forms.read(path, name="a", notes=notes)
    assert "sailor." not in " ".join(message.content for message in item.messages)
    assert not notes.unread
    assert not notes.others


ASKS = talk("user") | talk("system", "user") | talk("user", "user")
ALONE = (
    st.fixed_dictionaries({"messages": ASKS})
    | st.fixed_dictionaries({"conversations": ASKS})
    | st.fixed_dictionaries({"prompt": SAID | ASKS})
)
BESIDE = st.dictionaries(
    st.sampled_from(["id", "source", "label", "group", "completion", "reply", "tests", "system"]),
    st.sampled_from(["a text", "So it is, my friend.", 1, None, True]),
    max_size=2,
)


@settings(max_examples=300)
@given(row=ALONE, more=BESIDE)
def test_a_prompt_is_one_alone_only_where_nothing_may_be_its_answer(
    tmp_path_factory, row: dict[str, Any], more: dict[str, Any]
) -> None:
    path: Path = tmp_path_factory.mktemp("row") / "a.jsonl"
    path.write_text(json.dumps({**more, **row}) + '\n{"prompt": "a", "completion": "b"}\n')
    notes = Notes()
    try:
        *items, _ = forms.read(path, name="a", notes=notes)
    except DataError:
        return
    for item in items:
        if isinstance(item, Task):
            assert item.messages[-1].role == "user"
            assert all(message.role != "assistant" for message in item.messages)
            if not more.get("tests"):  # with rules it is a task, whatever stands beside it
                assert not isinstance(more.get("reply"), str)
                assert "completion" not in more
    if not more:
        assert [type(item) for item in items] == [Task]
