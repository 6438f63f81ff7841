"""How versions stand, as the store has it."""

from __future__ import annotations

import pytest

from guildgpt.feedback.records import Candidate
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.pool import starter_pool
from guildgpt.feedback.voting.standings import standings


async def test_versions_stand_by_what_was_said_of_their_answers(store: Store) -> None:
    assert await standings(store) == {}
    await store.prompts.add(starter_pool())
    prompts = await store.prompts.all()
    members = [(await store.members.of_account("terminal", name)).id for name in ("anna", "ben")]
    answers = [Candidate("yes", "new@11111111"), Candidate("no", "old@22222222")]
    for number, prompt in enumerate(prompts[:6]):
        round = await store.rounds.open(prompt, answers, "web")
        for member in members:
            await store.votes.cast(round.comparison_id, member, "ranked", (1, 0))
            if number:  # the newest counts
                await store.votes.cast(round.comparison_id, member, "ranked", (0, 1))
    skipped = await store.rounds.open(prompts[7], answers, "web")
    await store.votes.cast(skipped.comparison_id, members[0], "skip")
    found = await standings(store)
    new, old = found["new@11111111"], found["old@22222222"]
    assert new.votes == old.votes == 12
    assert new.wins is not None
    assert (new.wins.count, new.wins.of) == (5, 6)
    assert new.score is not None
    assert old.score is not None
    assert new.score.points == pytest.approx(-old.score.points)
    assert new.score.points > 0 > new.score.low
