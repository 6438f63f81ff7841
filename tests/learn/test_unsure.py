"""Pairs on which the heads of a reward model disagree wait for rounds to learn from."""

from __future__ import annotations

import json

import pytest
import torch

from guildgpt.learn import unsure
from guildgpt.learn.turn import UNSURE, propose_pairs, take_turn
from guildgpt.learn.unsure import disagreement

from .conftest import Guild
from .test_learn_cli import typed

REWARD = """\
[reward]
epochs = 1
batch_size = 4
lora = {rank = 4, alpha = 8}
checkpoint_minutes = 0
dtype = "float32"
evaluations = 0

"""


@pytest.fixture
def eager(guild: Guild, monkeypatch: pytest.MonkeyPatch) -> Guild:
    """A few votes are enough, and a few pairs."""
    monkeypatch.setattr(unsure, "LEAST", 8)
    monkeypatch.setattr(unsure, "WRITTEN", 8)
    monkeypatch.setattr(unsure, "KEPT", 4)
    guild.recipe.write_text(REWARD + guild.recipe.read_text(), encoding="utf-8")
    text = guild.recipe.read_text()
    head, rest = text.split('name = "tiny-learn"')
    guild.recipe.write_text('name = "tiny-learn"' + rest + "\n" + head, encoding="utf-8")
    return guild


def test_heads_that_agree_are_sure_and_heads_that_do_not_are_not() -> None:
    differences = torch.tensor(
        [
            [2.0, 2.0, 2.0],  # of one mind
            [3.0, 2.0, 1.0],  # more or less
            [1.0, -1.0, 0.0],  # at odds
            [0.0, 0.0, 0.0],  # nothing to tell them apart
        ]
    )
    found = disagreement(differences)
    assert found[0] == 0
    assert found[3] == 0
    assert 0 < found[1] < found[2]
    assert found[2] == pytest.approx(1.0)
    spread = (2 / 3) ** 0.5
    assert found[1] == pytest.approx(spread / (4 + spread**2) ** 0.5)


def test_pairs_that_it_is_unsure_of_are_put_down(eager: Guild) -> None:
    eager.do(lambda store: eager.vote(store, 10))
    count = propose_pairs(eager.options())
    waiting = eager.do(lambda store: store.proposals.waiting())
    assert len(waiting) == count
    assert 0 < count <= 4
    assert [one.unsure for one in waiting] == sorted((o.unsure for o in waiting), reverse=True)
    [serving] = eager.do(lambda store: store.releases.current())
    train = {
        one.id for one in eager.do(lambda store: store.prompts.all()) if one.purpose == "train"
    }
    for one in waiting:
        first, second = one.answers
        assert {first.version_id, second.version_id} == {serving.version_id}
        assert first.text != second.text
        assert one.prompt_id in train
    assert not (eager.folder / "learn" / UNSURE).exists()  # it learned from votes


def test_of_too_few_votes_nothing_is_proposed(guild: Guild) -> None:
    guild.do(lambda store: guild.vote(store, 3))
    assert propose_pairs(guild.options()) == 0
    assert guild.do(lambda store: store.proposals.waiting()) == []


def test_a_turn_that_ends_proposes_and_what_a_killed_one_left_goes(eager: Guild) -> None:
    eager.do(lambda store: eager.vote(store, 12))
    left = eager.folder / "learn" / UNSURE / "feedback.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text("a vote")
    decision = take_turn(eager.options())
    assert not left.exists()
    if decision.state == "canary":  # rounds decide now: nothing is proposed
        assert eager.do(lambda store: store.proposals.waiting()) == []
        eager.do(lambda store: eager.vote(store, 60, decision, for_candidate=1.0))
        assert take_turn(eager.options()).state == "promoted"
    [serving] = eager.do(lambda store: store.releases.current())
    waiting = eager.do(lambda store: store.proposals.waiting())
    assert waiting
    assert {answer.version_id for one in waiting for answer in one.answers} == {serving.version_id}


def test_the_command_and_the_share(eager: Guild) -> None:
    eager.do(lambda store: eager.vote(store, 10))
    told = json.loads(typed(eager, "propose", "--share", "0.25", "--json"))
    assert told["proposals"] > 0
    assert eager.do(lambda store: store.proposals.share()) == 0.25
