"""What a candidate's rounds say of it, and what follows from that."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from guildgpt.feedback.decision import DecisionSettings, Standing
from guildgpt.feedback.observations import Where, decide_rounds
from guildgpt.feedback.records import Decision
from guildgpt.feedback.rows import utcnow
from guildgpt.feedback.store import Store

WHY = {
    "preferred": "members prefer it",
    "not_preferred": "members do not prefer it by the margin",
    "undecided": "undecided after all rounds",
}


async def look(
    store: Store, decision: Decision, *, now: datetime | None = None
) -> tuple[Decision, Standing]:
    """What the closed rounds of a canary say, and the decision as it is then.

    Once they have said something it stands, whatever is voted or erased afterwards. A candidate
    that is not preferred answers nobody any more: whoever serves has the whole share again. One
    that is preferred waits for the operator.
    """
    candidate, pair = decision.candidate_id or "", {decision.candidate_id, decision.baseline_id}
    cast = await store.rounds.ballots(decision_id=decision.id)
    counted = [one for one in cast if set(one.versions) == pair]  # it met who serves
    # A terminal's rounds are advice; where a guild has held any, they are not looked at.
    guild = any(one.round.place != "terminal" for one in counted)
    where: Where = "guild" if guild else "terminal"
    settings = DecisionSettings.model_validate(
        {
            key: decision.settings[key]
            for key in DecisionSettings.model_fields & decision.settings.keys()
        }
    )
    outcome = decide_rounds(counted, candidate, where, settings, now=now or utcnow())
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
