"""What a candidate's rounds say of it, and what follows from that."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime

from guildgpt.errors import DecidedMeanwhile
from guildgpt.feedback.records import Decision
from guildgpt.feedback.storage.rows import utcnow
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import DecisionSettings, Standing
from guildgpt.feedback.versions.observations import Where, decide_rounds
from guildgpt.feedback.versions.releases import Settled
from guildgpt.feedback.voting.teaching import Teaching

WHY = {
    "preferred": "members prefer it",
    "not_preferred": "members do not prefer it by the margin",
    "undecided": "undecided after all rounds",
}


async def look(
    store: Store, decision: Decision, *, now: datetime | None = None
) -> tuple[Decision, Standing]:
    """What the closed rounds of a canary say, and the decision as it is then.

    What a round said when it closed stays, and what they have decided stands, whatever is voted or
    erased afterwards. A candidate that is not preferred answers nobody any more: whoever serves has
    the whole share again. One that is preferred waits for the operator. What a terminal or too few
    people say is advice: it changes nothing. Who votes by position is not heard: in what is advised
    from now on, of rounds as `means.py` has it.
    """
    candidate, pair = decision.candidate_id or "", {decision.candidate_id, decision.baseline_id}
    cast = await store.rounds.ballots(decision_id=decision.id)
    teaching, without = Teaching.of(decision.settings), await store.voters.excluded()
    counted = [
        replace(one, votes=tuple(vote for vote in one.votes if vote.member_id not in without))
        for one in cast  # in which it met who serves, in a guild that decides
        if set(one.versions) == pair and teaching.counts(one.round.guild_id)
    ]
    means = await store.rounds.means(decision.id)
    # A terminal's rounds are advice; where a guild has held any, they are not looked at.
    where: Where = "guild" if means else "terminal"
    settings = DecisionSettings.model_validate(
        {
            key: decision.settings[key]
            for key in DecisionSettings.model_fields & decision.settings.keys()
        }
    )
    now = now or utcnow()
    outcome = decide_rounds(counted, candidate, where, settings, now=now, means=means)
    if outcome.state == "open" or outcome.operator_decides or decision.state != "canary":
        return decision, outcome
    why, result = WHY[outcome.state], asdict(outcome)
    if outcome.state == "preferred":
        after = await store.decisions.change(
            decision.id, expected=["canary"], state="preferred", result=result, why=why
        )
        return after, outcome
    settles = Settled(decision.id, ["canary"], outcome.state, result)
    with suppress(DecidedMeanwhile):
        await store.releases.add({decision.baseline_id or "": 1.0}, "drop", why, settles=settles)
    return await store.decisions.by_id(decision.id) or decision, outcome


def in_words(standing: Standing) -> str:
    """What the rounds say so far, in one or two sentences."""
    if standing.mean is None:
        return "No round has been counted yet."
    unit = "day" if standing.operator_decides else "round"
    many = standing.rounds != 1
    counted = (
        f"{standing.rounds:,} {unit}{'s' * many} {'say' if many else 'says'} {standing.mean:.0%} "
        f"for the candidate ({standing.low:.0%} to {standing.high:.0%})."
    )
    said = {
        "preferred": "Members prefer it.",
        "not_preferred": "Members do not prefer it by the margin.",
        "undecided": "That stays undecided.",
        "open": "That is not clear yet",
    }[standing.state]
    if standing.state == "open":
        more = standing.likely_needed
        said += f"; likely {more:,} more." if more else "."
    advice = " It is advice: too few people voted, or at a terminal." * standing.operator_decides
    return f"{counted} {said}{advice}"
