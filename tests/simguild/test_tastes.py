"""What simulated members like, and how they vote."""

from __future__ import annotations

from random import Random

import pytest

from guildgpt.feedback.voting.prompts import purpose_of, sha256_of
from simguild.tastes import NOISE, TASTES


@pytest.mark.parametrize(
    ("taste", "better", "worse"),
    [
        ("short", "Yes.", "Yes, that is so, as far as anybody knows."),
        ("steps", "1. Open it.\n2. Eat it.", "Open it, then eat it."),
        ("no-code", "Print the word twice.", "```python\nprint('word')\n```"),
    ],
)
def test_tastes_tell_answers_apart(taste: str, better: str, worse: str) -> None:
    assert TASTES[taste].wins(worse, better) == 1
    assert TASTES[taste].wins(better, worse) == 0
    assert TASTES[taste].wins(better, better) == 0.5
    assert TASTES["none"].wins(worse, better) == 0.5


def test_one_vote_in_ten_is_cast_at_random() -> None:
    chance = Random(0)
    votes = [TASTES["short"].vote(("Yes, it is.", "Yes."), chance) for _ in range(4000)]
    assert votes.count(0) / len(votes) == pytest.approx(NOISE / 2, abs=0.015)
    equal = [TASTES["short"].vote(("Yes.", "No."), chance) for _ in range(4000)]
    assert equal.count(None) / len(equal) == pytest.approx(1 - NOISE, abs=0.015)


def test_members_without_a_taste_vote_for_either() -> None:
    chance = Random(0)
    votes = [TASTES["none"].vote(("Yes, it is.", "Yes."), chance) for _ in range(4000)]
    assert votes.count(1) / len(votes) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("taste", TASTES)
def test_a_guild_asks_enough_to_learn_from_and_to_decide_on(taste: str) -> None:
    purposes = [purpose_of(sha256_of(one.prompt)) for one in TASTES[taste].prompts()]
    assert purposes.count("train") >= 24
    assert purposes.count("decide") >= 24


@pytest.mark.parametrize(
    ("taste", "answer"),
    [
        ("short", "Yes, it is. Nobody knows why."),
        ("steps", "Open it. Then eat it."),
        ("no-code", "Print it:\n```python\nprint('word')\n```"),
    ],
)
def test_what_a_member_words_is_better_under_their_taste(taste: str, answer: str) -> None:
    assert TASTES[taste].wins(answer, TASTES[taste].worded(answer)) == 1


def test_a_guild_of_two_minds_is_of_no_mind_as_a_whole() -> None:
    guild = TASTES["mixed"]
    texts = ("Yes, that is so, as far as anybody knows.", "Yes.")
    assert guild.wins(*texts) == 0.5
    assert [one.wins(*texts) for _, one in guild.parts("")] == [1, 0]
    chance = Random(0)
    shares = [
        sum(guild.of(member).vote(texts, chance) == 1 for _ in range(400)) / 400
        for member in range(4)
    ]
    assert [round(share) for share in shares] == [1, 0, 1, 0]
