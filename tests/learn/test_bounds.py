"""Each bound of a gate: kept by equals, missed by what is clearly worse."""

from __future__ import annotations

import numpy as np
import pytest

from guildgpt.data.constrained import held_out_prompts
from guildgpt.data.starter import starter_facts
from guildgpt.evaluate.bits import Bits
from guildgpt.evaluate.config import GateConfig
from guildgpt.evaluate.head_to_head import win_rate
from guildgpt.evaluate.intervals import Share
from guildgpt.learn.answering import FACTS, PROMPTS, UNSAFE, Answered, Answers, constrained
from guildgpt.learn.bounds import Measure, failures
from guildgpt.learn.judge import Judged
from guildgpt.learn.measures import of_answers, of_judge, of_weights
from guildgpt.learn.weights import Read

CONFIG = GateConfig()
REFUSAL = "I can't help with that."
GOOD = tuple(range(40))
LOOP = (1, 2, 3, 4) * 20


def said(text: str = "Yes.", ids: tuple[int, ...] = GOOD, ended: bool = True) -> Answered:
    return Answered(text, ids, ended)


def answers(
    *, ids: tuple[int, ...] = GOOD, ended: bool = True, right: int = 60, safe: int = 40
) -> Answers:
    """A model that is right on so many facts and declines so many unsafe requests."""
    facts = starter_facts()
    return {
        PROMPTS: [said(ids=ids, ended=ended)] * 48,
        FACTS: [said(one.answers[0] if n < right else "?") for n, one in enumerate(facts)],
        UNSAFE: [said(REFUSAL if n < safe else "First, take") for n in range(60)],
        **{
            constrained(name): [said("A short answer, nothing else.")] * len(some)
            for name, some in held_out_prompts(CONFIG.constrained).items()
        },
    }


def measured(ours: Answers, theirs: Answers | None = None) -> dict[str, Measure]:
    return {one.name: one for one in of_answers(ours, theirs or answers(), CONFIG)}


def test_the_same_answers_pass() -> None:
    found = measured(answers())
    assert {one.state for one in found.values()} == {"passed"}
    assert found["length"].difference == pytest.approx(1.0)
    assert found["facts"].candidate == found["facts"].serving == 0.6
    assert failures(list(found.values())) == ""


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("loops", answers(ids=LOOP)),
        ("ends", answers(ended=False)),
        ("length", answers(ids=(1, 2))),
        ("length", answers(ids=tuple(range(400)))),
        ("facts", answers(right=20)),
        ("safe", answers(safe=10)),
    ],
)
def test_what_is_clearly_worse_fails_in_words(name: str, worse: Answers) -> None:
    found = measured(worse)
    assert found[name].state == "failed"
    assert "of who serves" in found[name].why
    assert found[name].title in failures(list(found.values()))
    better = measured(answers(), worse)  # the other way round it is an improvement
    assert better[name].state == ("failed" if name == "length" else "passed")


def test_constraints_that_are_broken() -> None:
    ours, theirs = answers(), answers()
    for name, some in held_out_prompts(CONFIG.constrained).items():
        ours[constrained(name)] = [said("")] * len(some)
        theirs[constrained(name)] = [said("")] * len(some)
    assert measured(ours, theirs)["kept"].state == "passed"
    kept = measured(answers())["kept"]
    assert 0 < (kept.candidate or 0) < 1
    assert kept.count == 2 * CONFIG.constrained


def test_a_little_worse_is_no_failure() -> None:
    """Four facts of a hundred may be chance."""
    found = measured(answers(right=56))
    assert found["facts"].state == "passed"
    assert found["facts"].difference == pytest.approx(-0.04)


@pytest.mark.parametrize(("name", "base"), [("facts", {"right": 3}), ("safe", {"safe": 0})])
def test_a_set_that_the_base_already_fails_says_nothing(name: str, base: dict[str, int]) -> None:
    found = measured(answers(**base), answers(**base))[name]
    assert found.state == "not measured"
    assert "this set says nothing" in found.why
    assert found.serving is not None
    assert found.serving < 0.1


def test_sets_that_are_switched_off_are_not_measured() -> None:
    config = GateConfig(prompts=0, constrained=0, facts=0, unsafe=0)
    assert {one.state for one in of_answers({}, {}, config)} == {"not measured"}


def read(nats: float, logprob: float, speaks: tuple[int, ...] = (1,)) -> Read:
    bits = [Bits(1, 10, 40, nats + number % 3) for number in range(20)]
    return Read(bits, [logprob + number % 5 for number in range(20)], speaks)


def test_bits_and_kl() -> None:
    same = read(40, -30)
    bits, kl = of_weights(same, same, same, CONFIG)
    assert (bits.state, kl.state) == ("passed", "passed")
    assert bits.difference == 0
    assert kl.candidate == 0
    bits, kl = of_weights(read(60, -30), same, read(40, -200), CONFIG)
    assert (bits.state, kl.state) == ("failed", "failed")
    assert "bits a byte" in bits.why
    assert kl.candidate == pytest.approx(170)
    assert "170.0 nats an answer away from the ancestor" in kl.why


def test_what_no_weights_tell_is_said() -> None:
    same = read(40, -30)
    bits, kl = of_weights(same, same, read(40, -30, speaks=(2,)), CONFIG)
    assert (bits.state, kl.state) == ("passed", "not measured")
    assert "other tokens" in kl.why
    assert [one.why for one in of_weights("no weights", same, same, CONFIG)] == ["no weights"] * 2


def judged(candidate: float, right: Share, votes: int = 500) -> Judged:
    chance = np.random.default_rng(0)
    scores = chance.normal(candidate, 1, 60)
    lengths = np.full(60, 20.0)
    wins = win_rate(scores, chance.normal(0, 1, 60), lengths, lengths, np.arange(60))
    return Judged(50, votes, wins, right)


SURE, COIN = Share(200, 0.75, 0.68, 0.81), Share(200, 0.51, 0.44, 0.58)


def test_a_judge_that_prefers_who_serves_drops_the_candidate() -> None:
    assert of_judge(judged(1, SURE), CONFIG).state == "passed"
    assert of_judge(judged(0, SURE), CONFIG).state == "passed"
    found = of_judge(judged(-1, SURE), CONFIG)
    assert found.state == "failed"
    assert "the judge prefers it on" in found.why


def test_a_judge_that_agrees_with_nobody_only_advises() -> None:
    found = of_judge(judged(-1, COIN), CONFIG)
    assert found.state == "advisory"
    assert "the judge agrees with nobody: it is right on 51.0% of 200 pairs" in found.why
    assert failures([found]) == ""


def test_below_150_votes_a_judge_only_advises() -> None:
    found = of_judge(judged(-1, SURE, votes=149), CONFIG)
    assert found.state == "advisory"
    assert "only 149 votes" in found.why
    assert of_judge(judged(-1, SURE, votes=150), CONFIG).state == "failed"


def test_without_a_judge_that_is_said() -> None:
    found = of_judge("no votes were set aside", CONFIG)
    assert (found.state, found.why) == ("not measured", "no votes were set aside")
