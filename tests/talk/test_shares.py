"""Who answers a conversation: about as many as a share says, and always the same."""

from __future__ import annotations

import pytest

from guildgpt.talk.shares import version_for

CONVERSATIONS = [f"conversation {number}" for number in range(4000)]


@pytest.mark.parametrize(
    "shares",
    [{"old": 0.8, "new": 0.2}, {"old": 0.99, "new": 0.01}, {"a": 0.5, "b": 0.3, "c": 0.2}],
)
def test_the_share_is_kept_over_many(shares: dict[str, float]) -> None:
    drawn = [version_for(one, shares, 3) for one in CONVERSATIONS]
    for version, share in shares.items():
        scatter = (share * (1 - share) / len(CONVERSATIONS)) ** 0.5
        assert abs(drawn.count(version) / len(CONVERSATIONS) - share) < 4 * scatter


def test_a_conversation_stays_with_its_version_as_long_as_the_release_lasts() -> None:
    shares = {"old": 0.8, "new": 0.2}
    turned = {"new": 0.2, "old": 0.8}
    drawn = [version_for(one, shares, 3) for one in CONVERSATIONS]
    assert drawn == [version_for(one, turned, 3) for one in CONVERSATIONS]
    next_release = [version_for(one, shares, 4) for one in CONVERSATIONS]
    assert drawn != next_release  # who met the candidate is drawn anew


def test_who_serves_alone_answers_everything() -> None:
    assert {version_for(one, {"old": 1.0}, 1) for one in CONVERSATIONS} == {"old"}


def test_where_one_is_left_out_only_its_own_conversations_move() -> None:
    three = {"a": 0.5, "b": 0.3, "c": 0.2}
    two = {"a": 0.5 / 0.8, "b": 0.3 / 0.8}
    for one in CONVERSATIONS:
        before = version_for(one, three, 7)
        assert before == "c" or version_for(one, two, 7) == before
