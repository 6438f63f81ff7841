"""What a candidate's rounds say of it, and what follows from that."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from guildgpt.feedback.decision import Decision as Outcome
from guildgpt.feedback.decision import DecisionSettings
from guildgpt.feedback.observations import CastVote, ClosedRound, Place, decide_rounds, value_of
from guildgpt.feedback.records import Ballots, Decision
from guildgpt.feedback.rows import utcnow
from guildgpt.feedback.store import Store

WHY = {
    "preferred": "members prefer it",
    "not_preferred": "members do not prefer it by the margin",
    "undecided": "undecided after all rounds",
}


async def look(
    store: Store, decision: Decision, *, now: datetime | None = None
) -> tuple[Decision, Outcome]:
    """What the closed rounds of a canary say, and the decision as it is then.

    Once they have said something it stands, whatever is voted or erased afterwards. A candidate
    that is not preferred answers nobody any more: whoever serves has the whole share again. One
    that is preferred waits for the operator.
    """
    rounds = [_closed(one, decision) for one in await store.rounds.ballots(decision_id=decision.id)]
    counted = [one for one in rounds if one is not None]
    # A terminal's rounds are advice; where a guild has held any, they are not looked at.
    place: Place = "guild" if any(one.place == "guild" for one in counted) else "terminal"
    settings = DecisionSettings.model_validate(
        {
            key: decision.settings[key]
            for key in DecisionSettings.model_fields & decision.settings.keys()
        }
    )
    outcome = decide_rounds(counted, place, settings, now=now or utcnow())
    if outcome.state == "open" or decision.state != "canary":
        return decision, outcome
    after = await store.decisions.change(
        decision.id,
        expected=["canary"],
        state=outcome.state,
        result=asdict(outcome),
        why=WHY[outcome.state],
    )
    if outcome.state != "preferred" and after.baseline_id:
        await store.releases.add({after.baseline_id: 1.0}, "drop", after.why or "")
    return after, outcome


def _closed(ballots: Ballots, decision: Decision) -> ClosedRound | None:
    """The round's votes as votes on the candidate; None if it did not meet who serves."""
    pair = ballots.versions
    if set(pair) != {decision.candidate_id, decision.baseline_id} or len(set(pair)) < 2:
        return None
    at = pair.index(decision.candidate_id)
    votes = [(vote, value_of(vote.verdict, vote.ranking, at)) for vote in ballots.votes]
    return ClosedRound(
        "terminal" if ballots.round.place == "terminal" else "guild",
        tuple(
            CastVote(vote.member_id or vote.id, vote.created_at, value)
            for vote, value in votes
            if value is not None
        ),
    )
