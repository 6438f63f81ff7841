"""Votes that were cast once it was told who wrote which.

On the web page a candidate meets who serves in somebody's own chat, and when the decision is over
the chat tells whose each answer is. A vote that comes only then, out of an outbox or out of a
window that stood open, is kept, and is no blind one. Rounds take no vote any more by then.
"""

from __future__ import annotations

from guildgpt.feedback.records import OPEN_STATES, Decision, Snapshot, StoredComparison


def late_votes(snapshot: Snapshot) -> set[str]:
    """The votes that were cast so, by their ids."""
    authors = {one.id: one.version_id for one in snapshot.messages}
    chats = {one.id for one in snapshot.conversations if one.kind == "web"}
    asked = {one.id for one in snapshot.messages if one.conversation_id in chats}
    of_rounds = {one.comparison_id for one in snapshot.rounds}
    told = {}  # when, by comparison
    for one in snapshot.comparisons:
        if one.question_id not in asked or one.id in of_rounds:
            continue
        pair = {authors.get(answer) for answer in one.candidates}
        tried = _tried(one, [by for by in snapshot.decisions if pair == _between(by)])
        if tried and tried.state not in OPEN_STATES:
            told[one.id] = tried.updated_at
    return {
        vote.id
        for vote in snapshot.votes
        if vote.comparison_id in told and vote.created_at > told[vote.comparison_id]
    }


def _tried(comparison: StoredComparison, decisions: list[Decision]) -> Decision | None:
    """The decision in which the comparison was made: the newest that had begun by then."""
    at = comparison.created_at
    begun = [one for one in decisions if at is not None and one.created_at <= at]
    return max(begun, key=lambda one: one.created_at, default=None)


def _between(decision: Decision) -> set[str | None]:
    return {decision.candidate_id, decision.baseline_id}
