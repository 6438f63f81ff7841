from __future__ import annotations

import pytest

from guildgpt.chat import Comparison, Message

from .said import DEEP, SYSTEM, A, B, Q, dicts, read


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
    assert item.places == (0, 1)


def test_texts_that_begin_alike_part_at_a_whole_word(write_lines) -> None:
    row = {"chosen": "The sky is green-blue.", "rejected": "The sky is grey."}
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert [m.content for m in item.prompt] == ["The sky is"]
    assert [m.content for m in item.answers] == ["green-blue.", "grey."]


@pytest.mark.parametrize("key", ["prompt", "question", "query", "input", "instruction"])
def test_a_comparison_knows_its_question_by_every_name(write_lines, key: str) -> None:
    """Not taken for an unknown key, with what both answers begin with as the prompt."""
    row = {"system": "Be brief.", key: "Why?", "chosen": "The answer is so.", "rejected": "The no."}
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert item.prompt == (Message("system", "Be brief."), Q)
    assert [m.content for m in item.answers] == ["The answer is so.", "The no."]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": dicts(*DEEP), "chosen": "So.", "rejected": "Dunno."}, DEEP),
        ({"messages": dicts(*DEEP, A), "chosen": "So.", "rejected": "Dunno."}, DEEP),
        ({"prompt": "Why?", "messages": dicts(Q, A), "chosen": "So.", "rejected": "Dunno."}, (Q,)),
        (
            {
                "conversations": [{"from": "human", "value": "Why?"}],
                "chosen": {"from": "gpt", "value": "So."},
                "rejected": {"from": "gpt", "value": "Dunno."},
            },
            (Q,),
        ),
        (
            {"instruction": "Why?", "input": "It is.", "chosen": "So.", "rejected": "Dunno."},
            (Message("user", "Why?\n\nIt is."),),
        ),
        (
            {"history": [["Why?", "So."]], "question": "And then?", "chosen": "So.",
             "rejected": "Dunno."},
            DEEP,
        ),
        ({"prompt": "", "chosen": dicts(Q, A), "rejected": dicts(Q, B)}, (Q,)),
    ],
)  # fmt: skip
def test_a_comparison_s_prompt_in_other_columns(write_lines, row, prompt) -> None:
    (item,), _ = read(write_lines("a.jsonl", [row]))
    assert item.prompt == prompt
    assert item.answers == (A, B)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Why?", "chosen": dicts(SYSTEM, Q, A), "rejected": dicts(SYSTEM, Q, B)},
         (SYSTEM, Q)),
        ({"prompt": "Why?", "chosen": dicts(SYSTEM, A), "rejected": dicts(SYSTEM, B)}, (SYSTEM, Q)),
        ({"chosen": dicts(SYSTEM, Q, A), "rejected": dicts(SYSTEM, Q, B)}, (SYSTEM, Q)),
        ({"prompt": dicts(SYSTEM, Q), "chosen": dicts(Q, A), "rejected": dicts(Q, B)}, (SYSTEM, Q)),
        ({"prompt": "Why?", "chosen": dicts(*DEEP, A), "rejected": dicts(*DEEP, B)}, DEEP),
        ({"prompt": "And then?", "chosen": dicts(*DEEP, A), "rejected": dicts(*DEEP, B)}, DEEP),
        ({"prompt": dicts(*DEEP), "chosen": dicts(*DEEP, A), "rejected": dicts(*DEEP, B)}, DEEP),
        ({"prompt": dicts(*DEEP), "chosen": dicts(A), "rejected": dicts(B)}, DEEP),
        ({"system": "Be brief.", "prompt": "Why?", "chosen": dicts(Q, A), "rejected": dicts(Q, B)},
         (SYSTEM, Q)),
    ],
)  # fmt: skip
def test_pairs_of_several_turns_and_with_a_system_turn(write_lines, row, prompt) -> None:
    (item,), skipped = read(write_lines("a.jsonl", [row]))
    assert item.prompt == prompt
    assert item.answers == (A, B)
    assert not skipped


def test_pairs_that_part_before_their_last_turn_are_counted(write_lines) -> None:
    other = Message("system", "Be long.")
    rows = [
        {"chosen": dicts(Q, A, Q, A), "rejected": dicts(Q, B, Q, B)},
        {"prompt": "Why?", "chosen": dicts(SYSTEM, A), "rejected": dicts(other, B)},
    ]
    items, skipped = read(write_lines("a.jsonl", rows))
    assert not items
    assert skipped == {"not two single answers to one prompt": 2}
