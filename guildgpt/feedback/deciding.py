"""What a candidate's rounds say of it, and what follows from that."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from guildgpt.errors import StoreError
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
    that is preferred waits for the operator. What a terminal or too few people say is advice: it
    changes nothing.
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
    if outcome.state == "open" or outcome.operator_decides or decision.state != "canary":
        return decision, outcome
    why = WHY[outcome.state]
    if outcome.state != "preferred":
        await _withdraw(store, decision, why)
    after = await store.decisions.change(
        decision.id, expected=["canary"], state=outcome.state, result=asdict(outcome), why=why
    )
    return after, outcome


async def try_out(store: Store, decision: Decision, candidate_id: str, share: float) -> Decision:
    """Let a candidate answer its share of the conversations, beside whoever serves.

    Done again it changes nothing. Raises StoreError where nobody serves, or the candidate does.
    """
    current = await store.releases.current()
    serving = current[0] if current else None
    if serving is None or serving.version_id == candidate_id:
        raise StoreError(
            f"{candidate_id} serves already" if serving else "no version serves yet",
            remedy="Put one into service: guildgpt versions serve MODEL",
        )
    if all(one.version_id != candidate_id for one in current):
        shares = {serving.version_id: 1 - share, candidate_id: share}
        await store.releases.add(shares, "canary")
    return await store.decisions.change(
        decision.id,
        expected=["training", "canary"],
        state="canary",
        candidate_id=candidate_id,
        baseline_id=serving.version_id,
    )


async def promote(store: Store, decision: Decision, why: str) -> Decision:
    """The candidate answers from now on. Raises StoreError if something that it learned from was
    erased: that must not go on living in it."""
    assert decision.candidate_id
    known = await store.versions.by_id(decision.candidate_id)
    if known is not None and known.erased_at:
        raise StoreError(
            f"{known.id} learned from something that was erased since",
            remedy="Make a clean one: guildgpt learn --again",
        )
    await store.releases.add({decision.candidate_id: 1.0}, "promote", why)
    return await store.decisions.change(decision.id, state="promoted", why=why)


async def drop(store: Store, decision: Decision, why: str) -> Decision:
    """The candidate answers nobody any more, and there is room for the next."""
    await _withdraw(store, decision, why)
    return await store.decisions.change(decision.id, state="dropped", why=why)


async def _withdraw(store: Store, decision: Decision, why: str) -> None:
    """Whoever serves beside the candidate has the whole share again; before the decision says so,
    for whoever is killed in between does it again."""
    current = await store.releases.current()
    staying = [one for one in current if one.version_id != decision.candidate_id]
    if staying and len(staying) < len(current):
        await store.releases.add({staying[0].version_id: 1.0}, "drop", why)
