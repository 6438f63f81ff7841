"""Prompts with constraints: drawn anew for training, fixed for measuring, never both."""

from __future__ import annotations

from guildgpt.constraints.drawing import witness
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.trained import TRAINED
from guildgpt.data.constrained import held_out_prompts, questions, training_prompts
from guildgpt.data.files import read_records
from guildgpt.data.split import normalised
from guildgpt.data.starter import FOLDER


def test_no_question_that_is_measured_on_is_trained_on() -> None:
    train, held_out = questions("train"), questions("held_out")
    assert len(set(train)) == len(train) >= 1500
    assert len(set(held_out)) == len(held_out) >= 500
    assert not set(train) & set(held_out)
    rows = [row for _, row in read_records(FOLDER / "topics.jsonl")]
    topics = [normalised(row["topic"]) for row in rows]
    assert len(topics) == len(set(topics))
    assert {row["side"] for row in rows} == {"train", "held_out"}
    asked = {one.question for one in training_prompts(3000, seed=5)}
    measured = {one.question for some in held_out_prompts(500).values() for one in some}
    assert asked <= set(train)
    assert measured <= set(held_out)


def test_held_out_kinds_are_in_no_training_prompt() -> None:
    for one in training_prompts(1000, seed=0):
        assert {type(constraint) for constraint in one.constraints} <= set(TRAINED)
    sets = held_out_prompts(500)
    kinds = {"known kinds": set(TRAINED), "held-out kinds": set(HELD_OUT)}
    for name, prompts in sets.items():
        assert len(prompts) == len({normalised(one.prompt) for one in prompts}) == 500
        assert {type(c) for one in prompts for c in one.constraints} == kinds[name]


def test_training_is_drawn_anew_and_measuring_is_fixed() -> None:
    assert training_prompts(50, seed=1) == training_prompts(50, seed=1)
    first, second = ({one.prompt for one in training_prompts(50, seed)} for seed in (1, 2))
    assert len(first) == 50
    assert len(first & second) < 10
    assert held_out_prompts(20)["known kinds"] == held_out_prompts(500)["known kinds"][:20]


def test_every_prompt_asks_its_question_and_can_be_kept() -> None:
    for one in training_prompts(300, seed=3):
        assert one.question in one.prompt
        assert one.prompt != one.question
        assert witness(one.constraints) is not None


def test_some_hundred_different_constraints_are_drawn() -> None:
    drawn = {c for one in training_prompts(1000, seed=4) for c in one.constraints}
    assert len(drawn) > 250
