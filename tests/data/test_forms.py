from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.chat import Comparison, Conversation, Message, Rejected, Task
from guildgpt.data import forms
from guildgpt.data.notes import Notes
from guildgpt.errors import DataError

from .said import DEEP, SYSTEM, A, B, Q, dicts, read


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
        ({"messages": [{"role": "system", "content": "Be kind."}]}, "no assistant turn"),
        ({"messages": dicts(Q), "completion": None}, "no assistant turn"),
        ({"messages": dicts(Q), "reply": "So it is, my friend."}, "no assistant turn"),
        ({"messages": dicts(Q, Message("assistant", "  "))}, "empty answer"),
        ({"prompt": "", "completion": "So."}, "empty prompt"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No.", "label": 0}, "labelled bad"),
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
        ({"title": "Why?", "body": "So."}, "(title, body)"),
        ({}, "(none)"),
        ({"messages": "Why?"}, "`messages` is a text"),
        ({"messages": ["Why?"]}, "`messages` is a list of other things"),
        ({"messages": [{"role": "user"}]}, "only the keys role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "'wizard' is no role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "is no role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "a part of a message is of the type 'text'",
        ),
        ({"instruction": 1, "output": "So."}, "`instruction` is a number"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": None}, "(prompt, chosen; null: rejected)"),
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


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"ask": "Why is it?", "chosen": "The sky.", "rejected": "The sea."}, "ask"),
        ({"topic": "What is it about", "chosen": "The sky.", "rejected": "The sea."}, "topic"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "Or.", "context": ["a"]}, "context"),
        ({"prompt": "Why?", "completion": "So.", "response": "Otherwise."}, "response"),
        ({"prompt": dicts(Q), "completion": "So.", "context": "It rains."}, "context"),
        ({"messages": dicts(Q, A), "context": "It rains."}, "context"),
        ({"messages": dicts(Q, A), "history": [["Hi", "Hello"]]}, "history"),
        ({"messages": dicts(Q, A), "chosen": "So.", "rejected": None}, None),
        ({"messages": [SYSTEM.as_dict(), *dicts(Q, A)], "system": "Be kind."}, "system"),
        ({"chosen": "So.", "rejected": "Or.", "prompt": "Why?", "output": "Another."}, "output"),
    ],
)
def test_what_was_said_is_never_left_unread(write_lines, row, column: str | None) -> None:
    """A row is refused by the name of its column; what is told anyway is no loss."""
    path = write_lines("a.jsonl", [row])
    if column is None:
        assert read(path)[0]
        return
    with pytest.raises(DataError, match=f"`{column}`") as caught:
        read(path)
    assert caught.value.where == f"{path}:1"


def test_columns_that_repeat_what_is_read_are_no_loss(write_lines) -> None:
    rows = [
        {"prompt": "Why? ", "prompt_id": "4f", "messages": dicts(Q, A), "category": "Open QA"},
        {"prompt": "Why?", "response": "So.", "chosen": "So.", "rejected": "Dunno."},
        {"messages": dicts(Q, A), "system": "", "history": [], "tools": None, "input": ""},
    ]
    notes = Notes()
    path = write_lines("a.jsonl", rows)
    assert len(list(forms.read(path, name="a", notes=notes))) == 3
    assert not notes.unread
    assert [*notes.others] == ["prompt_id", "category"]


def test_other_columns_that_hold_sentences_are_counted(write_lines) -> None:
    row = {
        "prompt": "Why?",
        "completion": "So.",
        "persona": "You are an old sailor.",
        "created": "2024-01-02 10:00:00",
        "url": "https://example.org/?q=1",
        "scores": [1, 2],
    }
    path = write_lines("a.jsonl", [row, {**row, "persona": None, "note": "なぜ"}])
    notes = Notes()
    assert len(list(forms.read(path, name="a", notes=notes))) == 2
    assert notes.unread == {"persona": 1, "note": 1}


@pytest.mark.parametrize("label", [False, 0, 0.0, -1, "false", " False", "0", "0.0", "bad", "no"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "completion": "So."},
        {"messages": dicts(Q, A)},
        {"instruction": "Why?", "output": "So."},
    ],
)
def test_what_is_labelled_bad_is_nothing_to_imitate(write_lines, row, label) -> None:
    (bad, other), skipped = read(write_lines("a.jsonl", [{**row, "label": label}, row]))
    assert isinstance(bad, Rejected)
    assert isinstance(other, Conversation)
    assert bad.messages == other.messages
    assert not skipped


@pytest.mark.parametrize("label", [True, 1, 1.0, "true", "1", "good", None, ""])
def test_what_is_labelled_good_or_not_at_all_is_kept(write_lines, label) -> None:
    row = {"prompt": "Why?", "completion": "So.", "label": label}
    items, skipped = read(write_lines("a.jsonl", [row]))
    assert (len(items), skipped) == (1, {})


@pytest.mark.parametrize("label", [4, "sports", [1], 0.5])
def test_a_label_that_says_neither_is_an_error(write_lines, label) -> None:
    path = write_lines("a.jsonl", [{"messages": dicts(Q, A), "label": label}])
    with pytest.raises(DataError, match="neither good nor bad") as caught:
        read(path)
    assert caught.value.where == f"{path}:1"


@pytest.mark.parametrize("off", [{"weight": 0}, {"train": False}, {"loss": 0.0}, {"weight": "0"}])
def test_an_answer_of_weight_0_is_shown_and_not_trained_on(write_lines, off) -> None:
    light = [Q.as_dict(), {**A.as_dict(), **off}]
    usual = [{**Q.as_dict(), "weight": 0}, {**A.as_dict(), "weight": 1}]  # as SlimOrca's
    rows = [{"messages": [*light, *dicts(Q, B)]}, {"messages": light}, {"messages": usual}]
    rows += [{"prompt": "Why?", "chosen": [light[1]], "rejected": "Dunno."}]
    (partly, whole), skipped = read(write_lines("a.jsonl", rows))
    assert [message.trained for message in partly.messages] == [True, False, True, True]
    assert [message.trained for message in whole.messages] == [True, True]
    assert skipped == {"every answer has the weight 0": 1, "an answer has the weight 0": 1}


def test_a_weight_that_is_neither_0_nor_1_is_named(write_lines) -> None:
    notes = Notes()
    path = write_lines("a.jsonl", [{"messages": [Q.as_dict(), {**A.as_dict(), "weight": 0.3}]}])
    (row,) = forms.read(path, name="a", notes=notes)
    assert row.messages == (Q, A)
    assert [*notes.others] == ["messages.weight"]


def test_turns_of_tools_and_pictures_are_left_out_and_counted(write_lines) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]}
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": 1}]}
    rows = [
        {"messages": [Q.as_dict(), call, {"role": "tool", "content": "sunny"}, A.as_dict()]},
        {"conversations": [Q.as_dict(), {"from": "function_call", "value": "f()"}]},
        {"conversations": [Q.as_dict(), {"from": "observation", "value": "1"}]},
        {"messages": dicts(Q, A), "tools": [{"name": "look", "description": "Look it up."}]},
        {"messages": [Q.as_dict(), use]},
        {"messages": [asked, A.as_dict()]},
        {"prompt": "Why?", "chosen": [call], "rejected": "Dunno."},
        {"messages": dicts(Q, A), "tools": []},
    ]  # fmt: skip
    items, skipped = read(write_lines("a.jsonl", rows))
    assert len(items) == 1
    assert skipped == {"calls tools": 6, "has pictures or sound": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": None, "prompt": "Why?", "completion": "So."},
        {"messages": [], "prompt": "Why?", "completion": "So."},
        {"messages": dicts(Q, A), "prompt": None, "completion": None, "chosen": None},
        {"messages": dicts(Q, A), "chosen": None, "rejected": None},
        {"messages": dicts(Q, A), "chosen": "", "rejected": ""},
        {"instruction": None, "prompt": "Why?", "completion": "So."},
        {"instruction": "Why?", "input": None, "output": None, "response": "So."},
        {"prompt": "Why?", "completion": "So.", "system": None, "history": None, "group": None},
        {"conversations": None, "messages": dicts(Q, A)},
        {"system_prompt": None, "question": "Why?", "response": "So."},
    ],
)
def test_a_null_column_is_no_column(write_lines, row) -> None:
    (item,), skipped = read(write_lines("a.jsonl", [row]))
    assert item.messages == (Q, A)
    assert not skipped


TALK = "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: And then?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": f"{TALK} So.", "rejected": f"{TALK} Dunno."},
        {"chosen": f"{TALK} So.", "rejected": f"{TALK} Dunno.", "prompt": None},
        {"prompt": TALK, "response": " So.", "chosen": " So.", "rejected": " Dunno."},
        {"prompt": TALK, "chosen": f"{TALK} So.", "rejected": f"{TALK} Dunno."},
    ],
)
def test_the_turns_of_hh_rlhf(write_lines, row) -> None:
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert item.prompt == DEEP
    assert item.answers == (A, B)


def test_hh_rlhf_s_turns_in_other_forms_and_its_useless_rows(write_lines) -> None:
    fork = "\n\nHuman: Why?\n\nAssistant: Dunno.\n\nHuman: Oh?\n\nAssistant: Yes."
    rows = [
        {"prompt": TALK, "completion": " So."},
        {"chosen": f"{TALK} So.", "rejected": fork},
        {"chosen": f"{TALK} So.", "rejected": TALK},
    ]
    (item,), skipped = read(write_lines("a.jsonl", rows))
    assert item.messages == (*DEEP, A)
    assert skipped == {"not two single answers to one prompt": 2}
    (item,), _ = read(write_lines("b.jsonl", [{"prompt": "Human: who?", "completion": "So."}]))
    assert item.messages[0].content == "Human: who?"  # one mark makes no talk


SAID = [{"type": "text", "text": "Why?"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": SAID}, A.as_dict()]},
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
                      {"role": "assistant", "content": [{"type": "output_text", "text": "So."}]}]},
        {"prompt": SAID, "completion": [{"type": "text", "text": "So."}]},
        {"conversations": [{"from": "User", "value": "Why?"}, {"from": "chatgpt", "value": "So."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "bing", "value": "So."}]},
        {"conversations": [{"role": "USER", "text": "Why?"}, {"from": "GPT", "content": "So."}]},
        {"conversation": [{"speaker": "human", "text": "Why?"}, A.as_dict()]},
        {"messages": [{"role": "user", "content": "Why?", "from": None, "value": None},
                      {"role": "assistant", "content": "So.", "tool_calls": None}]},
        {"messages": json.dumps(dicts(Q, A))},  # as a table has a list
    ],
)  # fmt: skip
def test_messages_in_other_dialects(write_lines, row) -> None:
    notes = Notes()
    (item,) = forms.read(write_lines("a.jsonl", [row]), name="a", notes=notes)
    assert item.messages == (Q, A)
    assert not notes.skipped
    assert not notes.others


def test_a_row_that_is_a_list_of_messages(write_lines) -> None:
    """As nanochat keeps them."""
    (one, two), skipped = read(write_lines("a.jsonl", [dicts(Q, A), dicts(SYSTEM, Q, A)]))
    assert (one.messages, two.messages) == ((Q, A), (SYSTEM, Q, A))
    assert not skipped


def test_parts_of_a_text_stand_below_one_another(write_lines) -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "text", "text": "A passage. "}]
    (item,), _ = read(
        write_lines("a.jsonl", [{"messages": [{"role": "user", "content": parts}, A.as_dict()]}])
    )
    assert item.messages[0].content == "Look:\nA passage."


def test_alpaca_s_history_are_earlier_turns(write_lines) -> None:
    row = {
        "system": "Be kind.",
        "history": [["Why?", "So."]],
        "instruction": "And",
        "input": "then?",
        "output": "So.",
    }
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert item.messages == (
        Message("system", "Be kind."),
        Q,
        A,
        Message("user", "And\n\nthen?"),
        A,
    )
    (item,), _ = read(write_lines("b.jsonl", [{**row, "history": dicts(Q, A)}]))
    assert len(item.messages) == 5
    with pytest.raises(DataError, match="`history` is a list of other things"):
        read(write_lines("c.jsonl", [{**row, "history": [["Why?", 3]]}]))


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
    assert all(pair.places == (0, 1) for pair in pairs)


# --- tasks ---------------------------------------------------------------------------------------

TESTS = ["assert f(1) == 2", "assert f(0) == 1"]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Why?", "tests": TESTS}, (Q,)),
        ({"question": "Why?", "completion": None, "format": "json"}, (Q,)),
        ({"messages": dicts(SYSTEM, Q), "tests": "assert f()"}, (SYSTEM, Q)),
        ({"messages": dicts(*DEEP), "format": ["ends"]}, DEEP),
        ({"prompt": dicts(*DEEP), "format": ["ends"]}, DEEP),
        ({"system": "Be brief.", "prompt": "Why?", "tests": "assert f()"}, (SYSTEM, Q)),
    ],
)
def test_a_prompt_with_rules_and_no_answer_is_a_task(write_lines, row, prompt) -> None:
    (item,), skipped = read(write_lines("a.jsonl", [row]))
    assert item == Task(prompt, item.source)
    assert item.prompt == prompt
    wanted = {key: value for key, value in row.items() if key in ("tests", "format")}
    assert item.source.rules == wanted
    assert not skipped


def test_rows_with_answers_keep_their_rules_as_they_stand(write_lines) -> None:
    rows = [
        {"prompt": "Why?", "completion": "So.", "tests": TESTS, "format": None},
        {"prompt": "Why?", "chosen": "So.", "rejected": "Dunno.", "format": {"odd": 1}},
        {"prompt": "Why?", "completion": "So.", "tests": [], "format": " "},
    ]
    (said, compared, plain), _ = read(write_lines("a.jsonl", rows))
    assert isinstance(said, Conversation)
    assert said.source.rules == {"tests": TESTS}
    assert isinstance(compared, Comparison)
    assert compared.source.rules == {"format": {"odd": 1}}
    assert plain.source.rules == {}


def test_a_prompt_alone_is_what_a_policy_is_asked(write_lines) -> None:
    rows = [
        {"prompt": "Why?"},
        {"prompt": [{"role": "user", "content": "Why?"}], "id": "a1", "system": "Be brief."},
        {"instruction": "Sum up.", "input": "A text.", "score": 3},
    ]
    items, skipped = read(write_lines("a.jsonl", rows))
    assert all(isinstance(item, Task) and not item.source.rules for item in items)
    assert [[m.content for m in item.prompt] for item in items] == [
        ["Why?"],
        ["Be brief.", "Why?"],
        ["Sum up.\n\nA text."],
    ]
    assert not skipped


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "gpt": "So."},
        {"prompt": "Why?", "completion": None},
        {"prompt": "Why?", "texts": ["So."]},
        {"prompt": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    ],
)
def test_an_answer_under_another_name_is_not_lost(write_lines, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*no known form"):
        read(write_lines("a.jsonl", [row]))


def test_a_prompt_without_rules_and_a_blank_one_with_some(write_lines) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*no known form"):
        read(write_lines("a.jsonl", [{"prompt": "Why?", "tests": "", "format": []}]))
    _, skipped = read(write_lines("b.jsonl", [{"prompt": " ", "tests": TESTS}]))
    assert skipped == {"empty conversation": 1}
